"""The 68 landmarks of a face (iBUG 300-W) in its mirror image."""

import numpy as np

# Ranges that change places from their first point to their last: jaw, brows, nose, mouth. An eye's
# upper and lower lid change with those of the other eye.
_ROWS = ((0, 16), (17, 26), (31, 35), (48, 54), (55, 59), (60, 64), (65, 67))
_EYES = {36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46}


def _partners() -> np.ndarray:
    found = np.arange(68)
    for first, last in _ROWS:
        found[first : last + 1] = np.arange(last, first - 1, -1)
    for one, other in _EYES.items():
        found[[one, other]] = other, one
    return found


PARTNERS = _partners()
"""(68,): of each landmark the one on the other half of the face; its own number in the middle."""


def mirrored(points: np.ndarray, side: int) -> np.ndarray:
    """The landmarks of the mirrored picture, each under its own number.

    A landmark is where the mirror image of its partner is: the left eye of a mirrored face is the
    mirror image of the right one.

    Args:
        points: (…, 68, 2), x and y in pixels, (0, 0) being the centre of the top left pixel.
        side: width of the picture.

    Returns:
        A new array of the same shape and type.
    """
    swapped: np.ndarray = points[..., PARTNERS, :]
    swapped[..., 0] = side - 1 - swapped[..., 0]
    return swapped
