import keras
import numpy as np
import pytest
from keras import ops

from facehal.layers.convolution import ICNR, PixelShuffle, convolution
from facehal.layers.normalization import BatchNormalization
from facehal.models.cascade.layers import ResidualBlock, Upscaler

pytestmark = pytest.mark.core


def random(*shape) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def depth_to_space(x: np.ndarray, scale: int) -> np.ndarray:
    """TensorFlow's order, written out: the channel of sub-pixel (i, j) is (i·scale + j)·c + k."""
    n, height, width, depth = x.shape
    c = depth // scale**2
    out = np.empty((n, height * scale, width * scale, c), x.dtype)
    for i in range(scale):
        for j in range(scale):
            first = (i * scale + j) * c
            out[:, i::scale, j::scale] = x[..., first : first + c]
    return out


@pytest.fixture(params=["keras has depth_to_space", "fallback for Keras before 3.13"])
def either_way(request, monkeypatch):
    if request.param.startswith("fallback"):
        monkeypatch.delattr(ops, "depth_to_space", raising=False)
    elif not hasattr(ops, "depth_to_space"):
        pytest.skip("this Keras has no ops.depth_to_space (3.13 and later)")


@pytest.mark.parametrize(("scale", "channels"), [(2, 1), (2, 3), (3, 2)])
def test_pixel_shuffle(either_way, scale, channels):
    x = random(2, 4, 5, scale**2 * channels)
    layer = PixelShuffle(scale)
    y = np.asarray(layer(x))
    np.testing.assert_array_equal(y, depth_to_space(x, scale))
    assert layer.compute_output_shape(x.shape) == y.shape
    assert layer.compute_output_shape((None, None, None, 8 * scale**2)) == (None, None, None, 8)


def test_pixel_shuffle_is_tensorflows():
    tf = pytest.importorskip("tensorflow")
    x = random(2, 4, 4, 12)
    np.testing.assert_array_equal(np.asarray(PixelShuffle()(x)), tf.nn.depth_to_space(x, 2))


def test_pixel_shuffle_of_unknown_batch(either_way):
    x = keras.Input((4, 4, 12))
    model = keras.Model(x, PixelShuffle()(x))
    assert model.output_shape == (None, 8, 8, 3)
    data = random(3, 4, 4, 12)
    np.testing.assert_array_equal(model.predict_on_batch(data), depth_to_space(data, 2))


def blocks(y: np.ndarray) -> np.ndarray:
    """(n, h, w, c) as (n, h/2, w/2, c, 4): the four sub-pixels of each position."""
    n, height, width, c = y.shape
    parts = y.reshape(n, height // 2, 2, width // 2, 2, c)
    return parts.transpose(0, 1, 3, 5, 2, 4).reshape(n, height // 2, width // 2, c, 4)


def test_icnr_starts_as_nearest_neighbour():
    layer = convolution(4 * 3, "conv", initializer=ICNR(seed=1))
    y = np.asarray(PixelShuffle()(layer(random(2, 6, 6, 5))))
    sub = blocks(y)
    np.testing.assert_allclose(sub, sub[..., :1].repeat(4, -1), rtol=0, atol=1e-6)
    assert np.ptp(sub[..., 0]) > 0.5  # but neighbouring blocks differ


def test_upscaler_starts_as_nearest_neighbour():
    sub = blocks(np.asarray(Upscaler()(random(1, 8, 8, 3))))
    np.testing.assert_allclose(sub, sub[..., :1].repeat(4, -1), rtol=0, atol=1e-6)


def test_independent_kernels_do_not():
    """What ICNR is for: the plain initialiser leaves a checkerboard."""
    layer = convolution(12, "conv")
    sub = blocks(np.asarray(PixelShuffle()(layer(random(2, 6, 6, 5)))))
    assert np.ptp(sub, axis=-1).mean() > 0.5


def test_icnr_draws_he_normal():
    values = np.asarray(ICNR(seed=0)((3, 3, 64, 256)))
    assert values.shape == (3, 3, 64, 256)
    assert values.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)
    np.testing.assert_array_equal(values, np.asarray(ICNR(seed=0)((3, 3, 64, 256))))
    assert ICNR.from_config(ICNR(3, seed=5).get_config()).get_config() == {"scale": 3, "seed": 5}


def test_icnr_needs_a_multiple():
    with pytest.raises(ValueError, match="multiple of 4 output channels, got 6"):
        ICNR()((3, 3, 2, 6))


@pytest.mark.parametrize("normalization", ["batch", "none"])
def test_residual_block(normalization):
    x = random(2, 8, 8, 4)
    block = ResidualBlock(4, normalization)
    y = np.asarray(block(x, training=False))
    assert y.shape == x.shape == block.compute_output_shape(x.shape)
    assert len(block.trainable_variables) == (6 if normalization == "batch" else 4)
    for convolution_ in (block.conv1, block.conv2):
        convolution_.kernel.assign(np.zeros(convolution_.kernel.shape))
    rest = np.asarray(block(x, training=False))  # nothing is left but the input
    np.testing.assert_allclose(rest, np.where(x > 0, x, 0.2 * x), rtol=1e-5)


def test_residual_block_passes_training_on():
    block = ResidualBlock(4)
    x = random(2, 8, 8, 4)
    block(x, training=False)
    assert not np.asarray(block.norm1.moving_mean).any()
    block(x, training=True)
    assert np.asarray(block.norm1.moving_mean).any() and np.asarray(block.norm2.moving_mean).any()


@pytest.mark.parametrize(
    ("layer", "channels"),
    [(PixelShuffle(3), 9), (ResidualBlock(4, "none"), 4), (Upscaler(), 3)],
    ids=["shuffle", "residual", "upscaler"],
)
def test_round_trip(layer, channels, tmp_path):
    x = keras.Input((4, 4, channels))
    model = keras.Model(x, layer(x))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    data = random(2, 4, 4, channels)
    np.testing.assert_array_equal(loaded.predict_on_batch(data), model.predict_on_batch(data))
    assert type(loaded.layers[1]) is type(layer)


def test_a_frozen_normalisation_infers():
    """In training, too, its statistics count and stay: on TensorFlow with its fused kernel as in
    Keras's own layer, and on JAX (achieved: equal to the bit on either)."""
    random = np.random.default_rng(0)
    x = random.normal(3.0, 2.0, (4, 5, 5, 6)).astype("float32")
    ours, theirs = BatchNormalization(momentum=0.5), keras.layers.BatchNormalization(momentum=0.5)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.moving_mean.assign(np.linspace(0, 1, 6))
        layer.moving_variance.assign(np.linspace(1, 2, 6))
        layer.trainable = False
    frozen = [np.asarray(layer(x, training=True)) for layer in (ours, theirs)]
    np.testing.assert_array_equal(*frozen)
    np.testing.assert_array_equal(frozen[0], np.asarray(ours(x, training=False)))
    np.testing.assert_array_equal(ours.moving_mean.numpy(), np.linspace(0, 1, 6, dtype="float32"))
    for layer in (ours, theirs):
        layer.trainable = True
    free = [np.asarray(layer(x, training=True)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*free, atol=2e-6)
    assert np.abs(free[0] - frozen[0]).max() > 0.1
    for a, b in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5)
    assert np.abs(ours.moving_mean.numpy() - np.linspace(0, 1, 6)).max() > 0.1
