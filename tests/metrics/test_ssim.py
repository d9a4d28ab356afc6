import cv2
import keras
import numpy as np
import pytest

from facehal.metrics import MetricError
from facehal.metrics.ssim import ssim


def _random(n: int = 3, height: int = 32, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, height, width, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def pairs(astronaut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A portrait against itself blurred, darkened, noisy, shifted; flat; random."""
    portrait = cv2.resize(astronaut[:256, 100:356], (128, 128), interpolation=cv2.INTER_AREA)
    portrait = portrait.astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 0.1, portrait.shape)
    bright = np.full_like(portrait, 0.98)
    altered = [
        (portrait, cv2.GaussianBlur(portrait, (0, 0), 2)),
        (portrait, portrait * 0.6),
        (portrait, np.clip(portrait + noise, 0, 1)),
        (portrait, np.roll(portrait, 3, axis=1)),
        (bright, bright - 0.01),
        (*_random(2, 128, 128),),
    ]
    first, second = zip(*altered, strict=True)
    return np.stack(first).astype(np.float32), np.stack(second).astype(np.float32)


def test_equal_to_scikit_image(pairs) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="needs scikit-image (extra: portraits)")
    theirs = [
        metrics.structural_similarity(
            a.astype(np.float64),
            b.astype(np.float64),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=2,
        )
        for a, b in zip(*pairs, strict=True)
    ]
    # Achieved: 3e-15.
    np.testing.assert_allclose(ssim(*pairs), theirs, atol=1e-10)


def test_equal_to_tensorflow(pairs) -> None:
    """Its formula in float64; `tf.image.ssim` itself computes in float32, whatever it is given."""
    tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
    internal = pytest.importorskip("tensorflow.python.ops.image_ops_impl")
    a, b = (tf.constant(x.astype(np.float64)) for x in pairs)
    sigma = tf.constant(1.5, tf.float64)
    exact, _ = internal._ssim_per_channel(a, b, max_val=1.0, filter_sigma=sigma)
    # Achieved: 3e-12.
    np.testing.assert_allclose(ssim(*pairs), exact.numpy().mean(axis=1), atol=1e-10)
    public = tf.image.ssim(*(x.astype(np.float32) for x in pairs), max_val=1.0).numpy()
    # Achieved: 2.5e-5, and 6.7e-5 for the bright flat picture: float32's variances of it.
    np.testing.assert_allclose(ssim(*pairs), public, atol=1e-4)


def test_known_value_of_flat_pictures() -> None:
    """No variance: the formula's first factor alone remains."""
    a, b = np.full((1, 16, 16, 3), 0.5, np.float32), np.full((1, 16, 16, 3), 0.25, np.float32)
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1e-12)


def test_equal_pictures_score_one_and_no_others_do(pairs) -> None:
    np.testing.assert_array_equal(ssim(pairs[0], pairs[0]), 1)
    assert (ssim(*pairs) < 1).all()


def test_symmetric(pairs) -> None:
    np.testing.assert_array_equal(ssim(*pairs), ssim(*pairs[::-1]))


def test_each_pair_for_itself() -> None:
    a, b = _random(seed=1), _random(seed=2)
    together = ssim(a, b)
    assert together.shape == (3,) and together.dtype == np.float64
    one_by_one = [ssim(a[i : i + 1], b[i : i + 1])[0] for i in range(3)]
    np.testing.assert_array_equal(together, one_by_one)


def test_float_types_agree() -> None:
    a, b = _random(seed=1), _random(seed=2)
    np.testing.assert_array_equal(ssim(a, b), ssim(a.astype(np.float64), b.astype(np.float64)))


def test_tensors_are_taken() -> None:
    a, b = _random(seed=1), _random(seed=2)
    tensors = keras.ops.convert_to_tensor(a), keras.ops.convert_to_tensor(b)
    np.testing.assert_array_equal(ssim(*tensors), ssim(a, b))


def test_smallest_picture() -> None:
    assert ssim(_random(1, 11, 11), _random(1, 11, 11, 1)).shape == (1,)
    for height, width in ((10, 11), (11, 10)):
        small = _random(1, height, width)
        with pytest.raises(MetricError, match="SSIM needs pictures of 11x11 pixels or more"):
            ssim(small, small)


def test_wrong_range_is_an_error() -> None:
    with pytest.raises(MetricError, match=r"\[0, 1\]"):
        ssim(_random() * 255, _random())
