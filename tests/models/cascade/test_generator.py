"""Parameter counts, shapes and round trips of the generators."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from facehal.layers import convolution
from facehal.models.cascade.blocks import build_generator
from facehal.models.cascade.cascade import Cascade
from facehal.models.cascade.config import CascadeConfig, NetworkConfig
from facehal.models.cascade.generator import Generator, channels_at

RESOLUTIONS = (8, 16, 32, 64, 128)
# By size: parameters (with the statistics of batch normalisation) at 8, 16, 32, 64 and 128.
PARAMETERS = {
    "paper": (16_566_787, 42_541_059, 57_854_979, 61_678_083, 62_631_171),
    "standard": (590_307, 1_506_819, 2_041_923, 2_174_691, 2_207_379),
    "compact": (264_515, 672_771, 909_699, 968_259, 982_563),
    "tiny": (17_747, 43_779, 58_083, 61_491, 62_259),
}


def network_config(size: str) -> NetworkConfig:
    return NetworkConfig(**CascadeConfig.SIZES[size])


def generator(size: str, resolution: int) -> Generator:
    config = replace(network_config(size), resolutions=RESOLUTIONS)
    return build_generator(RESOLUTIONS.index(resolution), config)


@pytest.fixture(
    scope="module",
    params=[pytest.param(x, marks=[pytest.mark.core] * (x == "tiny")) for x in PARAMETERS],
)
def generators(request):
    """All five of a size. Their values do not matter here, and drawing 241 M takes a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "HeNormal", lambda seed=None: keras.initializers.Zeros())
        networks = {n: generator(request.param, n) for n in RESOLUTIONS}
    return request.param, networks


def test_parameters_and_shapes(generators):
    size, networks = generators
    assert tuple(n.count_params() for n in networks.values()) == PARAMETERS[size]
    for resolution, network in networks.items():
        assert network.input_shape == (None, resolution, resolution, 3 if resolution == 8 else 6)
        assert network.output_shape == (None, resolution, resolution, 3)
        assert network.output.dtype == "float32"


def test_inner_layers_are_those_of_the_smaller_block(generators):
    _, networks = generators

    def shapes(resolution):
        return {
            layer.name: [(v.path.split("/", 1)[1], tuple(v.shape)) for v in layer.variables]
            for layer in networks[resolution].layers
            if layer.name not in ("masked_face", "entry", "entry_norm", "entry_act", "exit")
        }

    for resolution in RESOLUTIONS[1:]:
        smaller, larger = shapes(resolution // 2), shapes(resolution)
        assert len(smaller) > 10
        assert {name: larger.get(name) for name in smaller} == smaller


def test_levels_and_channels(generators):
    size, networks = generators
    config = network_config(size)
    for resolution, network in networks.items():
        down = [layer.name for layer in network.layers if layer.name.startswith("shuffle_")]
        assert len(down) == int(np.log2(resolution)) - 2
        for layer in network.layers:
            kind, _, number = layer.name.partition("_")
            if kind in ("down", "residual", "shuffle") and number.isdigit():
                channels = min(config.cap, config.base * 128 // int(number))
                assert layer.output.shape == (None, int(number), int(number), channels)
        assert network.get_layer("entry").dilation_rate == (2, 2)
        smallest = min(layer.output.shape[1] for layer in network.layers)
        assert smallest == 4


def test_channels_of_the_paper():
    assert [channels_at(n, 64, 512) for n in (128, 64, 32, 16, 8, 4)] == [
        *(64, 128, 256),
        *(512, 512, 512),
    ]


@pytest.mark.parametrize("resolution", [-8, 0, 1, 4, 12, 100])
def test_impossible_resolution(resolution):
    said = f"a generator's resolution is a power of two from 8, not {resolution}"
    with pytest.raises(ValueError, match=f"^{said}$"):
        Generator(resolution)


@pytest.mark.core
@pytest.mark.parametrize("normalization", ["batch", "none"])
def test_round_trip(normalization, tmp_path):
    network = Generator(16, 6, base=2, cap=8, normalization=normalization, name="generator_16")
    x = np.random.default_rng(0).random((3, 16, 16, 6), np.float32)
    y = np.asarray(network(x, training=False))
    assert y.shape == (3, 16, 16, 3) and y.dtype == np.float32
    assert 0 <= y.min() < y.max() <= 1

    same = Generator.from_config(network.get_config())
    assert same.get_config() == network.get_config()
    assert [tuple(v.shape) for v in same.variables] == [tuple(v.shape) for v in network.variables]
    network.save(tmp_path / "g.keras")
    loaded = keras.models.load_model(tmp_path / "g.keras")
    assert isinstance(loaded, Generator)
    np.testing.assert_array_equal(np.asarray(loaded(x, training=False)), y)


def test_normalization_none_has_none():
    plain = Generator(8, base=2, cap=8, normalization="none")
    assert not plain.non_trainable_variables
    assert plain.get_layer("entry").use_bias
    normalized = Generator(8, base=2, cap=8)
    assert normalized.non_trainable_variables and not normalized.get_layer("entry").use_bias


@pytest.mark.core
def test_widths_of_every_block():
    """Block by block what a generator of that base and cap has; the rest is as without."""
    widths = [[2, 8], [2, 12], [3, 8]]
    cascade = Cascade(4, 32, resolutions=(8, 16, 32), widths=widths)
    assert [g.name for g in cascade.generators] == ["generator_8", "generator_16", "generator_32"]
    for index, (one, (base, cap)) in enumerate(zip(cascade.generators, widths, strict=True)):
        assert (one.base, one.cap) == (base, cap)
        alone = Generator(8 << index, 6 if index else 3, base=base, cap=cap)
        assert one.count_params() == alone.count_params()
        shapes = [(v.path.split("/", 1)[1], tuple(v.shape)) for v in one.variables]
        assert shapes == [(v.path.split("/", 1)[1], tuple(v.shape)) for v in alone.variables]
        size = 8 << index
        entry = one.get_layer("entry").output.shape
        assert entry == (None, size, size, channels_at(size, base, cap))
    same = Cascade(4, 32, resolutions=(8, 16), widths=[[4, 32]] * 2)
    assert same.count_params() == Cascade(4, 32, resolutions=(8, 16)).count_params()
