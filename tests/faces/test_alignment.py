import cv2
import numpy as np
import pytest

from facehal.faces.alignment import (
    EYE_DISTANCE,
    EYE_MIDDLE,
    align,
    alignment_matrix,
    eye_centres,
    eye_distance,
    transform,
)


def landmarks(scale: float, angle: float = 0.0, at: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """A face-like set of 68 points with eyes `scale` pixels apart, turned by degrees."""
    random = np.random.default_rng(3)
    points = random.uniform([-1, -0.6], [1, 1.4], (68, 2))
    points[36:42] += [-0.5, 0] - points[36:42].mean(0)
    points[42:48] += [0.5, 0] - points[42:48].mean(0)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = points @ np.array([[cos, sin], [-sin, cos]])
    return (turned * scale + at).astype(np.float32)


@pytest.mark.parametrize("scale, angle", [(20, 0), (40, 12), (300, -35), (33, 180)])
@pytest.mark.parametrize("size", [128, 64, 150])
def test_eyes_go_to_their_places(scale, angle, size):
    points = landmarks(scale, angle, at=(700, 500))
    left, right = eye_centres(transform(points, alignment_matrix(points, size)))
    half = np.array([0.125 * size, 0])
    # Fractions of the width count from the picture's edge, half a pixel before the first centre.
    middle = (np.array([0.5, 0.45]) * size) - 0.5
    np.testing.assert_allclose(left, middle - half, atol=1e-3)
    np.testing.assert_allclose(right, middle + half, atol=1e-3)
    assert (EYE_DISTANCE, EYE_MIDDLE) == (0.25, (0.50, 0.45))


def test_matrix_is_a_similarity():
    matrix = alignment_matrix(landmarks(50, 20, (100, 100)))[:, :2]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(2) * (32 / 50) ** 2, atol=1e-6)
    assert np.linalg.det(matrix) > 0


def test_all_aligned_sizes_show_the_same_region():
    points = landmarks(60, 9, (200, 200))
    corners = np.array([[-0.5, -0.5], [1, 1]])
    for size in (64, 32, 8):
        back = cv2.invertAffineTransform(alignment_matrix(points, size))
        reference = cv2.invertAffineTransform(alignment_matrix(points, 128))
        edges = [corners[0], corners[1] * size - 0.5]
        expected = transform([corners[0], corners[1] * 128 - 0.5], reference)
        np.testing.assert_allclose(transform(edges, back), expected, atol=1e-3)


@pytest.mark.parametrize("distance", [20, 32, 47.3, 100, 450])
@pytest.mark.parametrize("angle", [0, 17, -80])
def test_drawn_landmarks_land_on_aligned_points(distance, angle):
    """Soft spots in the photo are found again, by their centre of mass, within 0.3 pixels."""
    side = int(distance * 7)
    points = landmarks(distance, angle, at=(side * 0.47, side * 0.46))
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    radius = distance / 32 * 1.5  # 1.5 pixels once aligned
    for index in (0, 8, 30, 36, 45, 60):
        px, py = points[index]
        spot = 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2))
        photo = np.repeat(np.rint(spot).astype(np.uint8)[..., None], 3, axis=2)
        face, aligned = align(photo, points)
        assert face.shape == (128, 128, 3) and face.dtype == np.uint8
        weight = face[..., 0].astype(float)
        found = [(weight * grid).sum() / weight.sum() for grid in np.mgrid[0:128, 0:128][::-1]]
        np.testing.assert_allclose(found, aligned[index], atol=0.3)


def test_shrinking_averages_instead_of_skipping():
    """A fine checkerboard becomes even grey, not a moiré."""
    photo = (np.indices((1200, 1200)).sum(0) % 2 * 255).astype(np.uint8)
    photo = np.repeat(photo[..., None], 3, axis=2)
    face, _ = align(photo, landmarks(250, 10, (600, 560)))
    assert np.abs(face.astype(float) - 127.5).max() < 6


def test_border_is_repeated():
    photo = np.full((100, 100, 3), 90, np.uint8)
    photo[:, :3] = 200
    face, _ = align(photo, landmarks(40, 0, (20, 50)))
    assert set(np.unique(face[:, :30])) == {200}
    assert face.min() >= 90


def test_unchanged_when_already_aligned(astronaut):
    """Points that already stand right give the identity, to the last pixel."""
    points = landmarks(32, 0, (63.5, 57.1))
    photo = astronaut[50:178, 150:278]
    face, aligned = align(photo, points)
    np.testing.assert_allclose(aligned, points, atol=1e-4)
    assert np.abs(face.astype(int) - photo).max() <= 1


@pytest.mark.parametrize("wrong", [np.zeros((68, 2)), np.zeros((5, 2)), np.full((68, 2), np.nan)])
def test_refuses_what_is_no_landmarks(wrong):
    with pytest.raises(ValueError):
        alignment_matrix(wrong)


def test_eye_distance():
    assert eye_distance(landmarks(37.5, 40)) == pytest.approx(37.5, rel=1e-5)
