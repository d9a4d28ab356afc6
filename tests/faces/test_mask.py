import cv2
import numpy as np
import pytest

from facehal.faces.mask import hull_mask, hull_masks, masked


def distances(points: np.ndarray, size: int) -> np.ndarray:
    """Signed distance of every pixel centre to the hull's edge; positive inside."""
    hull = cv2.convexHull(points.astype(np.float32))
    at = [
        [cv2.pointPolygonTest(hull, (float(x), float(y)), True) for x in range(size)]
        for y in range(size)
    ]
    return np.array(at)


def test_mask_is_the_hull():
    points = np.random.default_rng(0).normal(32, 12, (68, 2)).astype(np.float32)
    mask = hull_mask(points, 64)
    assert mask.shape == (64, 64) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    inside = distances(points, 64)
    assert (mask[inside > 0] == 1).all()
    assert (mask[inside < -1] == 0).all()


def test_sub_pixel_vertices():
    square = np.array([[10.0, 10], [20, 10], [20, 20], [10, 20]])
    assert hull_mask(square, 32).sum() == 11 * 11
    moved = hull_mask(square + np.array([0.3, 0]), 32)
    np.testing.assert_array_equal(np.flatnonzero(moved[15])[[0, -1]], [10, 20])
    np.testing.assert_array_equal(np.flatnonzero(hull_mask(square + 1, 32)[15])[[0, -1]], [11, 21])


def test_points_inside_do_not_matter_and_outside_are_clipped():
    frame = np.array([[-20.0, -20], [300, -20], [300, 300], [-20, 300]])
    assert hull_mask(frame, 16).all()
    inner = np.vstack([frame / 40, np.full((5, 2), 3.0)])
    np.testing.assert_array_equal(hull_mask(inner, 16), hull_mask(frame / 40, 16))


def test_many():
    points = np.random.default_rng(1).uniform(0, 32, (5, 68, 2)).astype(np.float32)
    masks = hull_masks(points, 32)
    np.testing.assert_array_equal(masks, np.stack([hull_mask(p, 32) for p in points]))
    assert hull_masks(np.empty((0, 68, 2)), 32).shape == (0, 32, 32)


def test_masked_keeps_the_face_only():
    face = np.random.default_rng(2).uniform(0.1, 1, (4, 4, 3)).astype(np.float32)
    mask = np.eye(4, dtype=np.uint8)
    for form in (mask, mask[..., None]):
        result = masked(face, form)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result[mask == 1], face[mask == 1])
        assert (result[mask == 0] == 0).all()
    batch = masked(np.stack([face, face]), np.stack([mask, 1 - mask]))
    np.testing.assert_array_equal(batch.sum(0), face)


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.zeros((68, 3)), np.full((68, 2), np.nan)])
def test_refuses_what_is_no_landmarks(wrong):
    with pytest.raises(ValueError, match="landmarks"):
        hull_mask(wrong)
