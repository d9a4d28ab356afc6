"""The face mask: the convex hull of the 68 landmarks (section 4, "Training Data").

1 = face pixel (kept), 0 = context to be hallucinated. The hull's top are the brows: no forehead.
"""

import cv2
import numpy as np

# cv2's polygons take integers; with 8 fractional bits a vertex is off by at most 1/512 pixel.
_SHIFT = 8


def hull_mask(points: np.ndarray, size: int = 128) -> np.ndarray:
    """Return the face mask of one aligned face: (size, size) uint8, 1 inside the hull, 0 outside.

    Args:
        points: (n, 2) landmarks as x, y in pixels of the aligned face, (0, 0) being the centre of
            the top left pixel; n is 68 with dlib. Points outside the picture are allowed.
        size: width and height of the mask.

    A pixel that the hull's edge runs through counts as face.

    Raises:
        ValueError: the points are not (n >= 3, 2) finite numbers.
    """
    points = np.asarray(points, np.float32)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f"landmarks must be (n >= 3, 2), not {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("landmarks must be finite numbers")
    hull = np.rint(cv2.convexHull(points) * (1 << _SHIFT)).astype(np.int32)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, hull, 1, lineType=cv2.LINE_8, shift=_SHIFT)
    return mask


def hull_masks(points: np.ndarray, size: int = 128) -> np.ndarray:
    """Return the face masks of many faces: landmarks (n, 68, 2) to (n, size, size) uint8."""
    masks = np.empty((len(points), size, size), np.uint8)
    for index, face in enumerate(points):
        masks[index] = hull_mask(face, size)
    return masks


def masked(face: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the face with its context set to black.

    Args:
        face: (..., H, W, 3) of any number type.
        mask: (..., H, W) or (..., H, W, 1), 1 = face.
    """
    mask = np.asarray(mask)
    if mask.ndim == face.ndim - 1:
        mask = mask[..., None]
    product: np.ndarray = face * mask.astype(face.dtype)
    return product
