"""Parameter counts as published, shapes, and what a model makes of a face."""

import itertools

import keras
import numpy as np
import pytest

from facehal.errors import ConfigError
from facehal.models import from_dict
from facehal.models.deepfillv1.config import DeepFillConfig
from facehal.models.deepfillv1.model import DeepFill
from facehal.models.deepfillv1.networks import (
    GLOBAL,
    LOCAL,
    coarse_network,
    critic,
    refinement_network,
)

# Coarse, refinement; global and local critic.
GENERATORS = {"default": (1_448_227, 2_153_315), "compact": (363_539, 540_979)}
CRITICS = {"default": (2_733_441, 4_339_329), "compact": (171_873, 272_289)}


@pytest.mark.parametrize("size", GENERATORS)
def test_parameters(size):
    """1.45 M + 2.15 M as published, 0.90 M compact; critics 7.0 M at 256."""
    config = DeepFillConfig.from_dict({"size": size}).network
    side, c = config.resolution, config.width
    generators = (coarse_network(side, c), refinement_network(side, c))
    assert tuple(one.count_params() for one in generators) == GENERATORS[size]
    judges = (
        critic(side, config.critic_width, GLOBAL, "global"),
        critic(side // 2, config.critic_width, LOCAL, "local"),
    )
    assert tuple(one.count_params() for one in judges) == CRITICS[size]
    for network in generators:
        assert network.input_shape == (None, side, side, 5)
        assert network.output_shape == (None, side, side, 3)
        assert network.get_layer(index=-1).output.dtype == "float32"


def test_parameters_of_the_coarse_network_by_hand():
    """Section 2 of the specification: kernels of 5×5 first, then 3×3, biases everywhere."""
    c = 32
    channels = [5, c, 2 * c, 2 * c, *[4 * c] * 9, 2 * c, 2 * c, c, c // 2, 3]
    kernels = [25, *[9] * 16]
    pairs = zip(kernels, itertools.pairwise(channels), strict=True)
    assert sum(k * a * b + b for k, (a, b) in pairs) == GENERATORS["default"][0]


def test_layers():
    network = refinement_network(32, 4)
    convolutions = {x.name: x for x in network.layers if isinstance(x, keras.layers.Conv2D)}
    assert len(convolutions) == 25
    rates = {x.dilation_rate[0]: name for name, x in convolutions.items()}
    assert rates == {1: "allconv17"} | {
        rate: f"xconv{n}_atrous" for n, rate in zip((7, 8, 9, 10), (2, 4, 8, 16), strict=True)
    }
    others = {n: x.activation.__name__ for n, x in convolutions.items()}
    assert {n: a for n, a in others.items() if a != "elu"} == {
        "pmconv6": "relu",
        "allconv17": "linear",
    }


def test_sizes_that_cannot_be():
    for text, network in (
        ("resolution is a multiple of 8", {"resolution": 100}),
        ("resolution cannot be 8", {"resolution": 8}),
        ("width is even", {"width": 15}),
    ):
        with pytest.raises(ConfigError, match=text):
            from_dict({"model": "deepfillv1", "network": network})
    with pytest.raises(ValueError, match="multiple of 8"):
        DeepFill(12)


@pytest.mark.core
def test_a_hole_is_filled_from_the_face_alone(masks, shuffled):
    """What stood in the hole cannot be known; what is known comes out as it went in."""
    model = DeepFill(32, 4)
    shuffled(model.coarse, model.refinement)
    random = np.random.default_rng(0)
    faces = random.random((3, 32, 32, 3), np.float32)
    known = masks(3, 32)[..., None].astype(np.float32)
    picture = np.asarray(
        model.predict_on_batch({"masked_faces": faces * known, "masks": known})["32"]
    )
    inside = known[..., 0] == 1
    np.testing.assert_allclose(picture[inside], faces[inside], rtol=0, atol=1e-6)
    assert picture[~inside].std() > 0.02
    other = np.asarray(
        model.predict_on_batch({"masked_faces": faces[::-1] * known, "masks": known})["32"]
    )
    assert np.abs(other[~inside] - picture[~inside]).max() > 0.02


@pytest.mark.core
def test_both_stages_are_the_published_ones(
    published, masks, shuffled, torch_weights, record_property
):
    """In pictures whose blue comes first, against PyTorch. Achieved: 3e-6, TensorFlow and JAX."""
    import torch
    from keras import ops

    model = DeepFill(64, 4)
    shuffled(model.coarse, model.refinement)
    random = np.random.default_rng(0)
    hole = 1.0 - masks(2, 64)[..., None].astype(np.float32)
    known = (2.0 * random.random((2, 64, 64, 3), np.float32) - 1.0) * (1.0 - hole)
    ours = model.completed(ops.convert_to_tensor(known), ops.convert_to_tensor(hole))
    reversed_known = known[..., ::-1].transpose(0, 3, 1, 2).astype(np.float64)
    theirs = published.painted(
        torch_weights(model.coarse, model.refinement),
        torch.tensor(reversed_known),
        torch.tensor(hole.transpose(0, 3, 1, 2).astype(np.float64)),
    )
    apart = 0.0
    for a, b in zip(ours, theirs, strict=True):
        b = b.detach().numpy().transpose(0, 2, 3, 1)[..., ::-1]
        assert b.std() > 0.05 and np.abs(b).max() <= 1
        assert (np.abs(b) < 1).mean() > 0.5  # not cut off
        apart = max(apart, np.abs(ops.convert_to_numpy(a) - b).max())
    record_property("pictures_apart", apart)
    print(f"pictures {apart:.1e} apart")
    assert apart < 1e-5
