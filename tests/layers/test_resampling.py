import keras
import numpy as np
import pytest

from facehal.layers import resampling

SIZES = [8, 64, 128, 200, 299, 500]


def _picture(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (size, size + 7, 3)).astype(np.float32)


def _resized(picture: np.ndarray, matrix, out: int, *options: str) -> np.ndarray:
    rows, columns = (matrix(n, out, *options) for n in picture.shape[:2])
    return np.asarray(
        resampling.resample(keras.ops.convert_to_tensor(picture[None]), rows, columns)
    )[0]


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_equal_to_pillow(kind: str, size: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow (extra: portraits)")
    picture = _picture(size)
    method = image.Resampling[kind.upper()]
    theirs = np.stack(
        [
            np.asarray(image.fromarray(c).resize((299, 299), method))
            for c in np.moveaxis(picture, -1, 0)
        ],
        axis=-1,
    )
    # Measured: 6e-5 of 255.
    np.testing.assert_allclose(_resized(picture, resampling.pillow, 299, kind), theirs, atol=5e-4)


@pytest.mark.parametrize("size", SIZES)
def test_equal_to_tensorflow_1(size: int) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
    picture = _picture(size, 1)
    theirs = tf.compat.v1.image.resize_bilinear(
        picture[None], (299, 299), align_corners=False, half_pixel_centers=False
    )
    ours = _resized(picture, resampling.tf1_bilinear, 299)
    # Measured: 3e-5 of 255.
    np.testing.assert_allclose(ours, np.asarray(theirs)[0], atol=5e-4)


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (8, 8, 3), (1, 2, 8, 8, 3)])
def test_pictures_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="known height and width"):
        resampling.known_size(np.zeros(shape))


def test_rows_sum_to_one() -> None:
    for size in SIZES:
        for matrix in (
            resampling.tf1_bilinear(size, 299),
            resampling.pillow(size, 299, "bicubic"),
            resampling.pillow(size, 33, "bilinear"),
        ):
            np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
