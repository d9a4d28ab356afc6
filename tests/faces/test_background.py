"""Another background: on the real portrait, and on a drawn person whose outline is known."""

import cv2
import numpy as np
import pytest

from facehal.errors import ImageError
from facehal.faces.alignment import align
from facehal.faces.background import person_alpha, replace_background
from facehal.faces.landmarks import LandmarkDetector
from facehal.faces.mask import hull_mask


@pytest.fixture(scope="module")
def aligned(astronaut):
    return align(astronaut, LandmarkDetector().detect(astronaut)[0].points)


def test_a_drawn_person_is_cut_out(aligned):
    """Brown hair and a blue coat on a light wall: at most 4 % of it is wrong."""
    face, points = aligned
    truth = np.zeros((128, 128), np.uint8)
    cv2.ellipse(truth, (63, 50), (41, 50), 0, 0, 360, 1, cv2.FILLED)
    cv2.fillPoly(truth, [np.array([[40, 100], [86, 100], [122, 127], [5, 127]])], 2)
    colours = np.array([(200, 205, 190), (90, 60, 40), (30, 40, 90)], np.float32)
    noise = np.random.default_rng(0).normal(0, 6, (128, 128, 3))
    picture = (colours[truth] + noise).clip(0, 255).astype(np.uint8)
    inside = hull_mask(points) == 1
    picture[inside] = face[inside]
    alpha = person_alpha(picture, points)
    assert alpha.shape == (128, 128) and alpha.dtype == np.float32
    wrong = (alpha > 0.5) != (truth > 0)
    assert wrong.mean() < 0.04
    assert alpha.min() >= 0 and alpha.max() == 1
    np.testing.assert_array_equal(alpha, person_alpha(picture / 255, points))


def test_background_is_replaced_and_the_face_kept(aligned):
    face, points = aligned
    wide = np.zeros((90, 240, 3), np.uint8)
    wide[..., 1] = 200
    wide[:, :70] = wide[:, -70:] = (255, 0, 0)  # beyond the middle square
    result = replace_background(face, points, wide)
    assert result.shape == (128, 128, 3) and result.dtype == np.float32
    hull = hull_mask(points) == 1
    np.testing.assert_array_equal(result[hull], face[hull] / np.float32(255))
    green = np.array([0, 200, 0], np.float32) / 255
    for corner in (result[:20, :12], result[:20, -12:]):
        np.testing.assert_array_equal(corner, np.broadcast_to(green, corner.shape))
    alpha = person_alpha(face, points)
    # A soft edge: pixels between person and background, but few.
    soft = (alpha > 0.05) & (alpha < 0.95)
    assert 0.005 < soft.mean() < 0.15
    given = replace_background(face, points, wide, np.ones((128, 128), np.float32))
    np.testing.assert_array_equal(given, face / np.float32(255))


@pytest.mark.parametrize("scale", [0.1, 0.5, 3])
def test_faces_of_every_size(aligned, scale):
    """A head that fills the square is all person; models of tiny pictures work, too."""
    face, points = aligned
    if scale > 1:
        alpha = person_alpha(face, (points - 63.5) * scale + 63.5)
        assert alpha.min() == 1
        return
    side = round(128 * scale)
    small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    points = (points + 0.5) * side / 128 - 0.5
    alpha = person_alpha(small, points)
    assert alpha.shape == (side, side) and alpha[hull_mask(points, side) == 1].min() == 1
    assert alpha[0, 0] < 0.5 < alpha[side // 2, side // 2]


def test_wrong_input_is_named(aligned):
    face, points = aligned
    with pytest.raises(ImageError, match="background must be"):
        replace_background(face, points, face[..., 0])
    with pytest.raises(ImageError, match=r"\(S, S, 3\)"):
        replace_background(face[:100], points, face)
    with pytest.raises(ImageError, match="uint8 or float"):
        person_alpha(face.astype(np.int64), points)
