"""Edges against scikit-image's, on two portraits in the public domain.

Achieved on TensorFlow and JAX: every pixel equal, at 512, 256 and 128 pixels.
"""

import functools

import keras
import numpy as np
import pytest

from facehal.models.edgeconnect.canny import canny, grey

pytestmark = pytest.mark.core


def hopper() -> np.ndarray:
    """Official portrait of Grace Hopper: (600, 512, 3) uint8."""
    reason = "needs Matplotlib (extra: portraits)"
    cbook, image = (
        pytest.importorskip(f"matplotlib.{n}", reason=reason) for n in ("cbook", "image")
    )
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return image.imread(file, format="jpg")


@functools.cache
def portrait(name: str, side: int) -> np.ndarray:
    """(side, side, 3) uint8, shrunk by averaging."""
    skimage = pytest.importorskip("skimage.data", reason="needs scikit-image (extra: portraits)")
    whole = (skimage.astronaut() if name == "astronaut" else hopper())[:512, :512]
    step = 512 // side
    parts = whole.reshape(side, step, side, step, 3).mean(axis=(1, 3))
    return parts.round().astype(np.uint8)


def ellipse(side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / side
    return (x - 0.5) ** 2 / 0.06 + (y - 0.4) ** 2 / 0.09 < 1


def theirs(picture: np.ndarray, sigma: float, known: np.ndarray | None) -> np.ndarray:
    feature = pytest.importorskip("skimage.feature", reason="needs scikit-image (portraits)")
    color = pytest.importorskip("skimage.color")
    return feature.canny(color.rgb2gray(picture), sigma=sigma, mask=known)


def ours(pictures: np.ndarray, sigma: float, known: np.ndarray) -> np.ndarray:
    light = grey(keras.ops.convert_to_tensor(pictures.astype(np.float32) / 255))
    found = canny(light, known.astype(np.float32)[..., None], sigma)
    found = keras.ops.convert_to_numpy(found)
    assert found.dtype == np.float32 and set(np.unique(found)) == {0.0, 1.0}
    return found[..., 0] == 1


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("side", "sigma"), [(512, 2.0), (256, 2.0), (128, 1.0)])
@pytest.mark.parametrize("name", ["astronaut", "hopper"])
def test_edges_are_scikit_images(name, side, sigma, masked):
    picture = portrait(name, side)
    known = ellipse(side) if masked else np.ones((side, side), bool)
    wanted = theirs(picture, sigma, known if masked else None)
    found = ours(picture[None], sigma, known[None])[0]
    assert wanted.sum() > 300
    share = (found == wanted).mean()
    print(f"{name} at {side}: {wanted.sum()} edge pixels, {share:.6%} equal")
    assert share > 0.9999  # achieved: 1


def test_a_batch_is_its_pictures():
    """One is finished growing before the other."""
    pictures = np.stack([portrait(name, 128) for name in ("astronaut", "hopper")])
    known = np.stack([ellipse(128), np.ones((128, 128), bool)])
    together = ours(pictures, 1.0, known)
    for picture, part, found in zip(pictures, known, together, strict=True):
        np.testing.assert_array_equal(ours(picture[None], 1.0, part[None])[0], found)


def test_the_border_of_what_is_known_is_no_edge():
    """White behind the hull, black in it: without the mask there is an edge all around."""
    known = ellipse(64)
    picture = np.where(known, 60, 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    assert theirs(picture, 1.0, None).sum() > 60
    light = grey(picture[None].astype(np.float32) / 255)
    with_it, without = (
        keras.ops.convert_to_numpy(canny(light, part.astype(np.float32)[None, ..., None], 1.0))
        for part in (known, np.ones_like(known))
    )
    assert with_it.sum() == 0 and without.sum() > 60


def test_weak_edges_hang_on_strong_ones_however_far():
    """A line that fades: a spiral would be no longer. Nothing is found where nothing is strong."""
    side = 96
    picture = np.zeros((side, side))
    # A serpentine of vertical edges, joined at alternating ends, whose contrast falls slowly.
    for number, column in enumerate(range(6, side - 10, 12)):
        picture[6:-6, column : column + 6] = 1.0
        row = 6 if number % 2 else side - 12
        picture[row : row + 6, column : column + 12] = 1.0
    fading = picture * np.linspace(1.0, 0.06, side)[None]
    shades = (fading * 255).round().astype(np.uint8)[..., None].repeat(3, axis=-1)
    wanted = theirs(shades, 1.0, None)
    found = ours(shades[None], 1.0, np.ones((1, side, side), bool))[0]
    np.testing.assert_array_equal(found, wanted)
    assert found[:, side // 2 :].sum() > 100
    faint = (shades[:, -8:] // 8).repeat(12, axis=1)
    nothing = canny(
        grey(faint[None].astype(np.float32) / 255), np.ones((1, side, side, 1), np.float32), 1.0
    )
    assert keras.ops.convert_to_numpy(nothing).sum() == theirs(faint, 1.0, None).sum() == 0
