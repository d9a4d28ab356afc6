"""The hallucinated picture back into the photo that the face came from.

The face stays the photo's own, at its full resolution; around it, inside the aligned square, the
photo shows what was hallucinated, turned and scaled back.
"""

import cv2
import numpy as np

from facehal.errors import ImageError
from facehal.faces.alignment import transform, warp
from facehal.faces.mask import hull_mask
from facehal.images import to_uint8

SEAM = 1 / 50
"""Width of the soft transition inside the hull, as a fraction of the square's width."""

EDGE = 1 / 8
"""Width of the soft outer edge inside the square, as a fraction of the square's width."""

_GRID = 32  # the tone is brought over on so many cells a side: only what is broad changes
_SPREAD = 0.99  # below 1 the photo's tones fade on their way inwards
_STRIP = 1 << 20  # pixels blended at a time: a photo of any size needs little memory


def paste(
    photo: np.ndarray,
    picture: np.ndarray,
    points: np.ndarray,
    matrix: np.ndarray,
    *,
    blend: bool = True,
) -> np.ndarray:
    """Put a hallucinated picture around the face of the photo that it came from.

    Pixels of the photo outside the aligned square, and those inside the hull and farther than
    `SEAM` from its edge, are exactly the photo's. Between hull and square they are the picture's,
    which fades into the photo over the outermost `EDGE` of the square.

    Args:
        photo: (H, W, 3) uint8 RGB.
        picture: (S, S, 3) RGB, uint8 or float in [0, 1]: what the model made of the aligned face.
        points: (68, 2) landmarks in the aligned face.
        matrix: (2, 3) similarity that maps the photo onto the aligned face.
        blend: bring the broad tones of the hallucinated background over to the photo's towards the
            square's edge, and fill the line along the hull's from both sides. Without it the
            picture is put in as it is.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: a wrong shape or number type, or the square lies off the photo.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ImageError(f"a photo must be (H, W, 3) uint8, not {photo.shape} {photo.dtype}")
    side = picture.shape[0]
    if picture.shape != (side, side, 3):
        raise ImageError(f"a hallucinated picture must be (S, S, 3), not {picture.shape}")
    inverse = cv2.invertAffineTransform(np.asarray(matrix, np.float64))
    low, high = -0.5, side - 0.5
    square = np.array([[low, low], [high, low], [high, high], [low, high]])
    left, top, right, bottom = _box(transform(square, inverse), photo.shape[:2])
    if left >= right or top >= bottom:
        raise ImageError("the aligned square lies off the photo: these are not its landmarks")
    picture = to_uint8(picture)
    if blend:
        face = warp(photo, np.asarray(matrix, np.float64), side)
        picture = _with_tone_of(face, _without_rim(picture, points), points)
    into = inverse - [[0, 0, left], [0, 0, top]]
    context = warp(picture, into, (right - left, bottom - top), cv2.INTER_CUBIC)
    result: np.ndarray = photo.copy()
    rows = max(1, _STRIP // (right - left))
    for start in range(top, bottom, rows):
        stop = min(start + rows, bottom)
        y, x = np.mgrid[start:stop, left:right].astype(np.float32)
        at = [row[0] * x + row[1] * y + row[2] for row in np.asarray(matrix, np.float32)]
        share = _share(at, points, side)[..., None]
        own = result[start:stop, left:right]
        mixed = own + share * (context[start - top : stop - top].astype(np.float32) - own)
        own[:] = np.rint(mixed)
    return result


def _with_tone_of(face: np.ndarray, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The picture, its broad tones going over into the aligned photo's towards the square's edge.

    What the photo's edge has more or less of each colour spreads inwards as heat does, down to
    nothing at the hull: hair and skin there keep the hallucinated tones, the background takes the
    photo's. All (S, S, 3) uint8.
    """
    side = picture.shape[0]
    grid = (min(_GRID, side),) * 2
    gap = cv2.resize(face.astype(np.float32) - picture, grid, interpolation=cv2.INTER_AREA)
    mask = hull_mask(points, side).astype(np.float32)
    hull = cv2.resize(mask, grid, interpolation=cv2.INTER_AREA) > 0
    edge = np.ones(grid, bool)
    edge[1:-1, 1:-1] = False
    fixed = (edge | hull)[..., None]
    known = np.where(hull[..., None], 0, cv2.GaussianBlur(gap, (5, 5), 1)).astype(np.float32)
    shift = np.where(fixed, known, 0)
    for _ in range(4 * grid[0]):
        shift = np.where(fixed, known, cv2.blur(shift, (3, 3)) * _SPREAD)
    shift = cv2.resize(shift, (side, side), interpolation=cv2.INTER_CUBIC)
    return to_uint8((picture + shift) / 255)


def _without_rim(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The picture, a thin band along the hull's edge filled from both sides.

    The hull of a turned head holds a line of the photo's own background along the cheek, which
    would stay as a bright or dark thread between face and hallucinated context.
    """
    mask = hull_mask(points, picture.shape[0])
    kernel = np.ones((3, 3), np.uint8)
    band = cv2.dilate(mask, kernel) - cv2.erode(mask, kernel, iterations=2)
    return cv2.inpaint(picture, band, 3, cv2.INPAINT_TELEA)


def _box(corners: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (beyond the last) of the pixels around corners, in the photo."""
    first = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    last = np.minimum(np.ceil(corners.max(0)) + 1, size[::-1]).astype(int)
    return first[0], first[1], last[0], last[1]


def _share(at: list[np.ndarray], points: np.ndarray, side: int) -> np.ndarray:
    """The hallucinated picture's share of pixels, [0, 1], by where they lie in the aligned face."""
    share = np.ones_like(at[0])
    for u in at:
        share *= _ramp(np.minimum(u + 0.5, side - 0.5 - u) / (EDGE * side))
    # Inside a convex polygon the distance to its edge is the smallest of those to its sides.
    hull = cv2.convexHull(np.asarray(points, np.float32))[:, 0]
    inside = np.full_like(share, np.inf)
    for (x0, y0), (x1, y1) in zip(hull, np.roll(hull, -1, axis=0), strict=True):
        length = np.hypot(x1 - x0, y1 - y0)
        if length > 0:
            across = ((at[1] - y0) * (x1 - x0) - (at[0] - x0) * (y1 - y0)) / length
            np.minimum(inside, across, out=inside)
    share *= 1 - _ramp(inside / (SEAM * side))
    return share


def _ramp(value: np.ndarray) -> np.ndarray:
    """From 0 at 0 and below to 1 at 1 and above, with level ends."""
    value = np.clip(value, 0, 1)
    eased: np.ndarray = value * value * (3 - 2 * value)
    return eased
