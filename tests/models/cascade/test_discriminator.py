"""Parameter counts, shapes and round trips of the discriminators."""

import itertools

import keras
import numpy as np
import pytest

from facehal.layers import convolution
from facehal.models.cascade.blocks import build_discriminator
from facehal.models.cascade.config import CascadeConfig, NetworkConfig
from facehal.models.cascade.discriminator import CASIA_NET, Discriminator

RESOLUTIONS = (8, 16, 32, 64, 128)
# The same at every resolution and with either strides: nothing depends on the size of the map.
PARAMETERS = {"paper": 1_760_449, "standard": 249_769, "compact": 111_793, "tiny": 28_537}


@pytest.mark.parametrize("strides", ["pooled", "none"])
@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters_and_shapes(size, strides, monkeypatch):
    monkeypatch.setattr(convolution, "HeNormal", keras.initializers.Zeros)  # quicker
    config = NetworkConfig(**{**CascadeConfig.SIZES[size], "strides": strides})
    for resolution in RESOLUTIONS:
        network = build_discriminator(resolution, config)
        assert network.count_params() == PARAMETERS[size]
        assert network.input_shape == (None, resolution, resolution, 3)
        assert network.output_shape == (None,) and network.output.dtype == "float32"
        # Four of CASIA-Net's five poolings halve; the last one is the mean at the end.
        side = max(1, resolution // 16) if strides == "pooled" else resolution
        assert network.get_layer("probability").output.shape == (None, side, side, 1)


def test_parameters_by_hand():
    """Table 2 of Yi et al.: 3×3 kernels; biases on the first and the last, γ β μ σ² between."""
    channels = [3, 32, 64, 64, 128, 96, 192, 128, 256, 160, 320]
    kernels = sum(9 * a * b for a, b in itertools.pairwise(channels))
    expected = kernels + channels[1] + 4 * sum(channels[2:]) + 9 * channels[-1] + 1
    assert Discriminator(8).count_params() == expected == PARAMETERS["paper"]


def test_layers():
    network = Discriminator(32, width=0.125)
    convolutions = [x for x in network.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(convolutions) == 11 and {x.kernel_size for x in convolutions} == {(3, 3)}
    strides = [x.strides[0] for x in convolutions]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1]
    slopes = {x.negative_slope for x in network.layers if isinstance(x, keras.layers.LeakyReLU)}
    assert slopes == {0.2}
    norms = [x.name for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 9 and "conv11_norm" not in norms


def test_unknown_strides():
    with pytest.raises(ValueError, match="'pooled' or 'none', not 'both'"):
        Discriminator(8, strides="both")


@pytest.mark.core
@pytest.mark.parametrize("strides", ["pooled", "none"])
def test_round_trip(strides, tmp_path):
    network = Discriminator(16, width=0.0625, strides=strides, name="discriminator_16")
    x = np.random.default_rng(0).random((5, 16, 16, 3), np.float32)
    y = np.asarray(network(x, training=False))
    assert y.shape == (5,) and y.dtype == np.float32
    assert 0 < y.min() <= y.max() < 1
    network.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert isinstance(loaded, Discriminator) and loaded.get_config() == network.get_config()
    np.testing.assert_array_equal(np.asarray(loaded(x, training=False)), y)


@pytest.mark.core
@pytest.mark.parametrize("resolution", [8, 16, 128])
def test_no_stride_on_a_map_of_one_pixel(resolution):
    """It changes nothing there but what oneDNN does in bfloat16, on processors that have it: parts
    of the kernel's gradient stay unwritten."""
    network = build_discriminator(resolution, NetworkConfig(discriminator_width=0.0625))
    strided = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            side = layer.input.shape[1]
            assert side > 1 or layer.strides == (1, 1), layer.name
            strided += layer.strides == (2, 2)
    assert strided == {8: 3, 16: 4, 128: 4}[resolution]
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 1, 1, 3)).astype("float32")
    kernel = random.normal(size=(3, 3, 3, 4)).astype("float32")
    with_it, without = (np.asarray(keras.ops.conv(x, kernel, stride, "same")) for stride in (2, 1))
    np.testing.assert_array_equal(with_it, without)


@pytest.mark.core
def test_without_normalization_a_picture_stands_for_itself():
    """Its probability is the same in any batch, in training too; with normalisation it is not."""
    random = np.random.default_rng(0)
    x = random.random((6, 16, 16, 3), np.float32)
    apart = {}
    for kind in ("none", "batch"):
        network = Discriminator(16, width=0.125, normalization=kind)
        together = np.asarray(network(x, training=True))
        alone = [np.asarray(network(x[:n], training=True))[0] for n in (1, 2, 6)]
        apart[kind] = float(np.abs(alone - together[0]).max())
    assert apart["none"] < 1e-6 < 1e-4 < apart["batch"]


@pytest.mark.core
def test_without_normalization_there_are_biases_in_its_place(tmp_path):
    network = build_discriminator(
        16, NetworkConfig(discriminator_width=0.0625, discriminator_normalization="none")
    )
    assert network.normalization == "none" and not network.non_trainable_variables
    assert not any(isinstance(x, keras.layers.BatchNormalization) for x in network.layers)
    convolutions = [x for x in network.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(convolutions) == 11 and all(x.use_bias for x in convolutions)
    channels = [3, *(round(n / 16) for n in CASIA_NET), 1]
    expected = sum(9 * a * b + b for a, b in itertools.pairwise(channels))
    assert network.count_params() == expected
    network.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.get_config() == network.get_config()
    x = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(network(x)))
