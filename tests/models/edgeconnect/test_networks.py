"""Numbers of weights, and EdgeConnect's networks against PyTorch's layers."""

import itertools

import keras
import numpy as np
import pytest

from facehal.models.edgeconnect.config import EdgeConnectConfig, NetworkConfig
from facehal.models.edgeconnect.networks import (
    Discriminator,
    Generator,
    edge_generator,
    picture_generator,
)

# In millions, as counted from the authors' program: 10.76, 10.77, 2.76; compact 3.04 for both
# generators together, .17.
SIZES = {
    "default": (10_761_089, 10_774_595, 2_762_752, 2_763_776),
    "compact": (1_516_369, 1_521_435, 174_592, 174_848),
}


def trained(network: keras.Model) -> int:
    """Values that are trained; the vectors of spectral normalisation are not."""
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


@pytest.mark.parametrize("size", SIZES)
def test_numbers_of_weights(size):
    config = NetworkConfig(**EdgeConnectConfig.SIZES[size])
    networks = (
        edge_generator(config.width, config.blocks),
        picture_generator(config.width, config.blocks),
        *(Discriminator(inputs, config.discriminator_width) for inputs in (2, 3)),
    )
    assert tuple(map(trained, networks)) == SIZES[size]


def test_numbers_of_weights_by_hand():
    w = 64
    ends = 2 * 16 * (2 * w * w + 8 * w * w) + (2 + 4 + 2 + 1) * w  # down and up, with biases
    blocks = 8 * 2 * 9 * (4 * w) ** 2
    edges = 49 * 3 * w + w + 49 * w + 1
    pictures = 49 * 4 * w + w + 49 * w * 3 + 3 + 8 * 2 * 4 * w  # and the blocks' biases
    critic = sum(16 * a * b for a, b in itertools.pairwise((3, w, 2 * w, 4 * w, 8 * w, 1)))
    assert (ends + blocks + edges, ends + blocks + pictures) == SIZES["default"][:2]
    assert critic == SIZES["default"][3]


def pictures(channels: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).random((2, side, side, channels), np.float32)


def copied(theirs, ours: keras.Model) -> keras.Model:
    """The discriminator with PyTorch's weights and singular vectors."""
    # Copies: JAX would look on while PyTorch writes on.
    state = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
    for number in range(1, 6):
        layer, name = ours.get_layer(f"conv{number}"), f"conv{number}.0"
        layer.kernel.assign(state[f"{name}.weight_orig"].transpose(2, 3, 1, 0))
        layer.u.assign(state[f"{name}.weight_u"])
        v = state[f"{name}.weight_v"].reshape(-1, 4, 4)
        layer.v.assign(v.transpose(1, 2, 0).ravel())
    return ours


@pytest.mark.core
@pytest.mark.parametrize("training", [False, True])
def test_discriminator_is_pytorchs(reference, training):
    """All five maps, in inference and in training."""
    theirs = reference.discriminator(3, 4)
    ours = copied(theirs, Discriminator(3, 4))
    x = pictures(3)
    for _ in range(2):  # twice: the state of the first call counts in the second
        theirs.train(training)
        wanted = reference.run(theirs, x)
        found = [np.asarray(one) for one in ours(x, training=training)]
        for a, b in zip(found, wanted, strict=True):
            assert a.shape == b.shape
            apart = np.abs(a - b).max() / np.abs(b).max()
            print(f"map {apart:.1e} apart")
            assert apart < 1e-5  # achieved: 8e-7
    assert [one.shape[1:] for one in found] == [
        *((16, 16, 4), (8, 8, 8), (4, 4, 16), (3, 3, 32), (2, 2, 1))
    ]


@pytest.mark.core
def test_training_tells_from_inference(reference):
    """The proof above proves nothing if a power iteration changed nothing."""
    network, x = copied(reference.discriminator(3, 4), Discriminator(3, 4)), pictures(3)
    still, training = (np.asarray(network(x, training=t)[-1]) for t in (False, True))
    assert np.abs(still - training).max() > 1e-4 * np.abs(still).max()


@pytest.mark.core
@pytest.mark.parametrize("spectral", [False, True])
def test_round_trip(spectral, tmp_path):
    network = Generator(3, 1, 4, 1, "sigmoid", spectral, name="network")
    network(pictures(3), training=True)
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    assert again.get_config() == network.get_config()
    x = pictures(3, 48)
    y = np.asarray(network(x))
    assert y.shape == (2, 48, 48, 1) and y.dtype == np.float32 and 0 < y.min() < y.max() < 1
    np.testing.assert_array_equal(np.asarray(again(x)), y)


@pytest.mark.core
def test_pictures_are_in_the_unit_interval():
    network = picture_generator(4, 1)
    kernel = np.random.default_rng(1).standard_normal((7, 7, 4, 3))
    network.get_layer("exit").kernel.assign(kernel)
    y = np.asarray(network(pictures(4)))
    assert 0 <= y.min() < 0.01 and 0.99 < y.max() <= 1
