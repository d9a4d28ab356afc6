"""What a picture is made of: crop, nearest target, blending."""

import cv2
import numpy as np
import pytest

from facehal.data.faceset import FaceSet
from facehal.models.deepfake import Deepfake
from facehal.models.deepfake.geometry import (
    LEFT,
    SIDE,
    TOP,
    blended,
    crop_matrix,
    fade,
    mapped,
    square,
    to_crop,
    to_face,
)

pytestmark = pytest.mark.core


def hole(side: int) -> np.ndarray:
    """An ellipse of known pixels that leaves corners of the square unknown, (1, side, side, 1)."""
    rows, columns = (np.mgrid[:side, :side] + 0.5) / side - np.array([0.58, 0.5])[:, None, None]
    return ((rows / 0.3) ** 2 + (columns / 0.25) ** 2 < 1)[None, ..., None].astype(np.float32)


def inputs(pictures: np.ndarray) -> dict[str, np.ndarray]:
    masks = np.repeat(hole(pictures.shape[1]), len(pictures), axis=0)
    return {"masked_faces": pictures * masks, "masks": masks}


def test_the_square_holds_the_landmarks(sample_data):
    """Brows, eyes, nose and mouth (17 to 67) of the mean face of the two portraits, whose laughing
    mouths end higher than that of a mean face."""
    mean = (FaceSet.open(sample_data).landmarks.mean(axis=0)[17:] + 0.5) / 128
    low, high = mean.min(axis=0), mean.max(axis=0)
    np.testing.assert_allclose(low, [LEFT, TOP], atol=0.035)
    np.testing.assert_allclose(high, [LEFT + SIDE, TOP + SIDE], atol=0.08)


def test_crops_are_those_of_scipy(smooth):
    """Achieved: 2e-7."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="needs SciPy (with scikit-image)")
    pictures = smooth(2, 128)
    ours = np.asarray(mapped(pictures, to_crop(128, 64)))
    back = cv2.invertAffineTransform(crop_matrix(128, 64))
    rows, columns = np.mgrid[:64, :64].astype(np.float64)
    x, y = np.einsum("ij,j...->i...", back, np.stack([columns, rows, np.ones_like(rows)]))
    for mine, picture in zip(ours, pictures, strict=True):
        planes = np.moveaxis(picture, -1, 0).astype(np.float64)
        theirs = [ndimage.map_coordinates(plane, [y, x], order=1) for plane in planes]
        np.testing.assert_allclose(mine, np.stack(theirs, axis=-1), atol=1e-5)


def test_crops_are_those_of_opencv(smooth):
    """Achieved: 2e-7."""
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    moved = cv2.warpAffine(ramp, np.float64([[1, 0, 1 / 64], [0, 1, 0]]), (8, 8))
    if abs(moved[4, 4] - (4 - 1 / 64)) > 1e-4:
        pytest.skip("this OpenCV rounds positions to a 32nd of a pixel")
    pictures = smooth(2, 128)
    ours = np.asarray(mapped(pictures, to_crop(128, 64)))
    for mine, picture in zip(ours, pictures, strict=True):
        theirs = cv2.warpAffine(picture, crop_matrix(128, 64), (64, 64), flags=cv2.INTER_LINEAR)
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_there_and_back(smooth):
    """A crop laid back is the picture inside the square, but for what two interpolations lose."""
    pictures = smooth(2, 128)
    back = np.asarray(mapped(np.asarray(mapped(pictures, to_crop(128, 64))), to_face(128, 64)))
    inside = square(128) == 1
    np.testing.assert_allclose(back[:, inside], pictures[:, inside], atol=0.01)
    assert square(128).sum() == pytest.approx((SIDE * 128) ** 2, rel=1e-5)


def test_fade_is_a_blurred_rectangle():
    """Achieved: equal to cv2's blur to 1e-7."""
    mask = np.zeros((64, 64), np.float32)
    mask[4:60, 4:60] = 1
    np.testing.assert_allclose(fade(64), cv2.GaussianBlur(mask, (15, 15), 10), atol=1e-6)
    assert fade(64)[32, 32] == 1 and 0.2 < fade(64)[0, 0] < 0.3


def test_blending(smooth):
    """Outside the square nothing changes; in its middle it is the crop in the picture's colours."""
    pictures, crops = smooth(3, 128, seed=1), smooth(3, 64, seed=2) * 0.5
    made = np.asarray(blended(pictures, crops))
    outside = square(128) == 0
    np.testing.assert_array_equal(made[:, outside], pictures[:, outside])
    old = np.asarray(mapped(pictures, to_crop(128, 64)))
    wanted = np.clip(crops + (old.mean((1, 2)) - crops.mean((1, 2)))[:, None, None], 0, 1)
    core = np.zeros((64, 64), bool)
    core[20:44, 20:44] = True
    found = np.asarray(mapped(made, to_crop(128, 64)))
    np.testing.assert_allclose(found[:, core], wanted[:, core], atol=0.02)
    assert np.abs(wanted[:, core] - old[:, core]).mean() > 0.05


def test_unknown_pixels_take_the_mean_colour(model, smooth):
    given = inputs(smooth(2, 32))
    crops = np.asarray(model.crops(given["masked_faces"], given["masks"]))
    known = np.asarray(mapped(given["masks"], to_crop(32, 16)))[..., 0]
    assert 0.02 < (known < 0.01).mean() < 0.5
    cut = np.asarray(mapped(given["masked_faces"], to_crop(32, 16)))
    for crop, part, raw in zip(crops, known, cut, strict=True):
        np.testing.assert_allclose(crop[part == 1], raw[part == 1], atol=1e-6)
        mean = raw.sum((0, 1)) / part.sum()
        np.testing.assert_allclose(crop[part == 0] - mean, 0, atol=1e-5)


def test_nearest_is_the_same_face(model):
    """Of the target's pictures that from which the masked face comes; what is outside the mask
    does not count."""
    pictures = np.asarray(model.pictures)
    given = inputs(pictures[[2, 0, 1, 2]])
    found = np.asarray(model.nearest(given["masked_faces"], given["masks"]))
    np.testing.assert_allclose(found, pictures[[2, 0, 1, 2]], atol=1e-6)


def test_equal_targets_are_one(model, smooth):
    """Fewer pictures than the model keeps come several times."""
    picture = smooth(1, 32, seed=8)
    model.set_targets((picture * 255).astype(np.uint8))
    given = inputs(smooth(2, 32))
    found = np.asarray(model.nearest(given["masked_faces"], given["masks"]))
    np.testing.assert_allclose(found, np.repeat(picture, 2, axis=0), atol=1 / 255)


def test_context_is_the_targets_and_the_face_is_made(model, smooth):
    given = inputs(smooth(2, 32))
    made = np.asarray(model.predict_on_batch(given)["32"])
    outside = square(32) == 0
    context = np.asarray(model.nearest(given["masked_faces"], given["masks"]))
    np.testing.assert_allclose(made[:, outside], context[:, outside], atol=1e-6)
    crops = model.reconstruct(model.crops(given["masked_faces"], given["masks"]), "source")
    np.testing.assert_allclose(made, np.asarray(blended(context, crops)), atol=1e-6)
    assert np.abs(made - given["masked_faces"])[given["masks"][..., 0] == 1].mean() > 0.05


def test_identity_and_paste(model, smooth):
    given = inputs(smooth(2, 32))
    pictures = {}
    for options in ({}, {"identity": "target"}, {"paste": True}):
        other = Deepfake(**{**model.get_config(), **options})
        other.set_weights(model.get_weights())
        pictures[str(options)] = np.asarray(other.predict_on_batch(given)["32"])
    own, target, pasted = pictures.values()
    core = square(32) == 1
    assert np.abs(own - target)[:, core].mean() > 1e-3
    known = given["masks"][..., 0] == 1
    np.testing.assert_array_equal(pasted[known], given["masked_faces"][known])
    np.testing.assert_array_equal(pasted[~known], own[~known])
