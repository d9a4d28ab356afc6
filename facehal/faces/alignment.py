"""Alignment by the eye centres (section 4, "Training Data").

The paper names the eye centres but no target positions; ours stand in `EYE_DISTANCE` and
`EYE_MIDDLE` (docs/fidelity.md).

Pixel convention, here and everywhere in the package: coordinates are x, y with (0, 0) at the
*centre* of the top left pixel (dlib's and OpenCV's convention). The picture hence spans -0.5 to
size - 0.5, and the fraction f of its width lies at f * size - 0.5.
"""

import math

import cv2
import numpy as np

EYE_DISTANCE = 0.25
"""Distance of the eye centres in the aligned face, as a fraction of its width."""

EYE_MIDDLE = (0.50, 0.45)
"""Where the middle between the eyes lies, x and y as fractions of the width."""


def eye_centres(points: np.ndarray) -> np.ndarray:
    """Return the centres of the eyes of 68 landmarks: (2, 2), the one further left first."""
    points = np.asarray(points, np.float64)
    if points.shape != (68, 2):
        raise ValueError(f"landmarks must be (68, 2), not {points.shape}")
    return np.stack([points[36:42].mean(0), points[42:48].mean(0)])


def eye_distance(points: np.ndarray) -> float:
    """Return the distance of the two eye centres in pixels."""
    left, right = eye_centres(points)
    return float(np.hypot(*(right - left)))


def alignment_matrix(points: np.ndarray, size: int = 128) -> np.ndarray:
    """Return the similarity that maps the photo onto the aligned face: (2, 3) float64.

    `matrix @ (x, y, 1)` is where the photo's (x, y) lands; `cv2.invertAffineTransform` gives the
    way back.

    Args:
        points: (68, 2) landmarks in the photo.
        size: width and height of the aligned face in pixels.

    Raises:
        ValueError: the points are not (68, 2), not finite, or both eyes are in one place.
    """
    left, right = eye_centres(points)
    dx, dy = right - left
    distance = math.hypot(dx, dy)
    if not math.isfinite(distance) or distance < 1e-6:
        raise ValueError("the eyes of these landmarks are in one place")
    scale = EYE_DISTANCE * size / distance
    cos, sin = scale * dx / distance, scale * dy / distance
    turn = np.array([[cos, sin], [-sin, cos]])
    target = np.array(EYE_MIDDLE) * size - 0.5
    shift = target - turn @ ((left + right) / 2)
    return np.column_stack([turn, shift])


def transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) affine matrix to points (n, 2); returns float32."""
    points = np.asarray(points, np.float64)
    moved: np.ndarray = points @ matrix[:, :2].T + matrix[:, 2]
    return moved.astype(np.float32)


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    size: int | tuple[int, int],
    interpolation: int = cv2.INTER_LINEAR,
) -> np.ndarray:
    """Warp a picture by a similarity, without aliasing when it shrinks.

    Args:
        image: (H, W) or (H, W, C).
        matrix: (2, 3), from the picture to the result.
        size: width and height of the result, or one number for both.
        interpolation: OpenCV's.

    When the matrix shrinks, the warp is sampled k times as densely on both axes (k the smallest
    whole number that makes it shrink no more) and averaged over k x k. Pixels beyond the
    picture's border repeat the border.
    """
    width, height = (size, size) if isinstance(size, int) else size
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    k = max(1, math.ceil(1 / scale - 1e-6))
    # Position p at `size` is (p + 0.5) * k - 0.5 at k * size: both count from pixel centres.
    dense = matrix * k
    dense[:, 2] += (k - 1) / 2
    warped = cv2.warpAffine(
        image,
        dense,
        (k * width, k * height),
        flags=interpolation,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if k == 1:
        return warped
    return cv2.resize(warped, (width, height), interpolation=cv2.INTER_AREA)


def align(image: np.ndarray, points: np.ndarray, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Cut one face out of a photo, eyes level and at their fixed places.

    Args:
        image: (H, W, 3) uint8 RGB photo.
        points: (68, 2) landmarks in it.
        size: width and height of the result.

    Returns:
        the aligned face (size, size, 3) uint8 and its landmarks (68, 2) float32.

    Raises:
        ValueError: as `alignment_matrix`.
    """
    matrix = alignment_matrix(points, size)
    return warp(image, matrix, size), transform(points, matrix)
