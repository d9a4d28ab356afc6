"""Pasting back, on a real portrait turned, mirrored, cut, tiny and huge."""

import cv2
import numpy as np
import pytest

from facehal.errors import ImageError
from facehal.faces.alignment import align, alignment_matrix, warp
from facehal.faces.landmarks import LandmarkDetector
from facehal.faces.mask import hull_mask
from facehal.faces.paste import EDGE, SEAM, paste

KINDS = ("as it is", "turned", "mirrored", "cut", "tiny", "huge")


def variation(photo: np.ndarray, kind: str) -> np.ndarray:
    if kind == "turned":
        turn = cv2.getRotationMatrix2D((225, 110), 21, 1.0)
        return cv2.warpAffine(photo, turn, (512, 512), borderMode=cv2.BORDER_REFLECT)
    if kind == "mirrored":
        return np.ascontiguousarray(photo[:, ::-1])
    if kind == "cut":  # the square leaves the frame above, on the right and below
        return np.ascontiguousarray(photo[55:165, 120:290])
    if kind == "tiny":
        return cv2.resize(photo[:256, 96:352], (128, 128), interpolation=cv2.INTER_AREA)
    if kind == "huge":
        return cv2.resize(photo[:256, 96:352], (3000, 3000), interpolation=cv2.INTER_CUBIC)
    return photo


@pytest.fixture(scope="module")
def cases(astronaut):
    """(photo, landmarks in it) by kind."""
    detector = LandmarkDetector()
    found = {}
    for kind in KINDS:
        photo = variation(astronaut, kind)
        found[kind] = photo, detector.detect(photo)[0].points
    return found


def aligned_grid(photo, matrix):
    """Where the photo's pixels lie in the aligned face: (H, W, 2)."""
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    return np.stack([x, y], -1) @ matrix[:, :2].T + matrix[:, 2]


def inside_hull(photo, points, by):
    """Pixels of the photo at least so many of its pixels inside the hull, drawn by OpenCV."""
    pad = 200  # a hull may reach beyond the photo
    height, width = photo.shape[:2]
    inside = np.zeros((height + 2 * pad, width + 2 * pad), np.uint8)
    hull = np.rint((cv2.convexHull(points) + pad) * 256).astype(np.int32)
    cv2.fillConvexPoly(inside, hull, 1, shift=8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance[pad : pad + height, pad : pad + width] > by


@pytest.mark.parametrize("blend", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_context_in_the_square_changes(cases, kind, blend):
    photo, points = cases[kind]
    before = photo.copy()
    matrix = alignment_matrix(points)
    _, aligned = align(photo, points)
    picture = np.full((128, 128, 3), (255, 0, 255), np.uint8)
    pasted = paste(photo, picture, aligned, matrix, blend=blend)
    assert pasted.shape == photo.shape and pasted.dtype == np.uint8
    np.testing.assert_array_equal(photo, before)

    at = aligned_grid(photo, matrix)
    outside = ((at < -0.5) | (at > 127.5)).any(-1)
    np.testing.assert_array_equal(pasted[outside], photo[outside])
    pixel = 1 / np.sqrt(np.linalg.det(matrix[:, :2]))  # of the aligned face, in the photo's
    face = inside_hull(photo, points, SEAM * 128 * pixel + 2)
    assert face.mean() > 0.005
    np.testing.assert_array_equal(pasted[face], photo[face])

    if not blend:  # between the hull and the soft edge nothing of the photo shows through
        margin = EDGE * 128
        middle = ((at > margin + 1) & (at < 126 - margin)).all(-1)
        hull = inside_hull(photo, points, 0).astype(np.uint8)
        context = middle & (cv2.dilate(hull, np.ones((3, 3))) == 0)
        assert context.any() and (pasted[context] == (255, 0, 255)).all()
    # No step where the square ends in the photo: its last pixels are nearly the photo's.
    last = ~outside & ((at < 0.5) | (at > 126.5)).any(-1)
    change = np.abs(pasted[last].astype(int) - photo[last])
    assert change.size == 0 or change.max() <= 8


@pytest.mark.parametrize("kind", ["as it is", "turned", "mirrored", "tiny", "huge"])
def test_round_trip(cases, kind):
    """Aligned, pasted, aligned again: the same picture between the hull and the soft edge."""
    photo, points = cases[kind]
    matrix = alignment_matrix(points)
    _, aligned = align(photo, points)
    y, x = np.mgrid[0:128, 0:128]
    waves = np.stack([np.sin(x / 9), np.cos(y / 11), np.sin((x + y) / 13)], -1)
    picture = (0.5 + 0.4 * waves).astype(np.float32)
    again = warp(paste(photo, picture, aligned, matrix, blend=False), matrix, 128)
    margin = round(EDGE * 128) + 3
    free = cv2.dilate(hull_mask(aligned), np.ones((7, 7))) == 0
    free[:margin] = free[-margin:] = free[:, :margin] = free[:, -margin:] = False
    # Achieved: 1.5 of 255 levels at most.
    assert np.abs(again[free] - picture[free] * 255).max() < 3


def test_what_the_photo_shows_already_stays(cases):
    """Its own aligned face pasted back gives the photo, but for the resolution lost on the way."""
    photo, points = cases["turned"]
    face, aligned = align(photo, points)
    pasted = paste(photo, face, aligned, alignment_matrix(points))
    assert np.abs(pasted.astype(float) - photo).mean() < 1


def test_background_takes_the_tone_of_the_photo_and_the_seam_closes(cases):
    """Towards the square's edge the broad tones are the photo's; a thread at the hull is gone."""
    photo, points = cases["as it is"]
    matrix = alignment_matrix(points)
    face, aligned = align(photo, points)
    mask = hull_mask(aligned)
    picture = np.where(mask[..., None] == 1, face, 250)  # far too light
    rim = mask - cv2.erode(mask, np.ones((3, 3)))
    picture[rim == 1] = 0
    own, blended = (paste(photo, picture, aligned, matrix, blend=b) for b in (False, True))
    at = aligned_grid(photo, matrix)
    distance = np.abs(at - 63.5).max(-1)
    band = (distance > 47) & (distance < 63)
    gaps = [(p[band].astype(float) - photo[band]).mean() for p in (own, blended)]
    assert gaps[0] > 15 and abs(gaps[1]) < 0.6 * gaps[0]
    cells = np.rint(at).astype(int).clip(0, 127)
    edge = rim[cells[..., 1], cells[..., 0]] == 1
    edge &= ((at > 0) & (at < 127)).all(-1)
    assert (own[edge].max(-1) < 30).mean() > 0.2 > 0.1 > (blended[edge].max(-1) < 30).mean()


def test_wrong_input_is_named(cases):
    photo, points = cases["tiny"]
    matrix = alignment_matrix(points)
    face, aligned = align(photo, points)
    with pytest.raises(ImageError, match=r"\(H, W, 3\) uint8"):
        paste(photo / 255, face, aligned, matrix)
    with pytest.raises(ImageError, match=r"\(S, S, 3\)"):
        paste(photo, face[:100], aligned, matrix)
    with pytest.raises(ImageError, match="off the photo"):
        paste(photo, face, aligned, np.add(matrix, [[0, 0, 1e4], [0, 0, 0]]))
