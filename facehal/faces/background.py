"""Another background behind a hallucinated person: face, hair and clothes stay.

The person is cut out by GrabCut (Rother, Kolmogorov, Blake, 2004): what is known of an aligned
face says where person and background certainly are, the colours decide in between. Nothing is
learned and nothing fetched. A head seen from the front comes out with its hair and shoulders; what
it cannot do: long or spreading hair is cut, a bald or narrow head keeps a rim of the old
background, clothes are told from background by their place more than by their colour, and of a
head turned far to one side the wrong half may be kept.
"""

import cv2
import numpy as np

from facehal.errors import ImageError
from facehal.faces.mask import hull_mask
from facehal.images import resize, to_float, to_uint8

_ROUNDS = 6
_CLUSTERS = 5  # of colours that GrabCut makes of the background
_SEED = 1  # GrabCut starts from clusters that OpenCV's random numbers choose


def person_alpha(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How much of each pixel of a picture is the person.

    Args:
        picture: (S, S, 3) RGB, uint8 or float in [0, 1], eyes level and at their places: what the
            model made of an aligned face.
        points: (68, 2) landmarks in it.

    Returns:
        (S, S) float32 in [0, 1]; 1 everywhere inside the hull, and everywhere at all where the
        head fills the picture.

    Raises:
        ImageError: a wrong shape or number type.
    """
    side = picture.shape[0]
    if picture.shape != (side, side, 3):
        raise ImageError(f"a hallucinated picture must be (S, S, 3), not {picture.shape}")
    picture = to_uint8(picture)
    hull = hull_mask(points, side)
    trimap = _first_guess(hull, np.asarray(points, np.float32), side)
    if np.isin(trimap, (cv2.GC_BGD, cv2.GC_PR_BGD)).sum() < _CLUSTERS:
        return np.ones((side, side), np.float32)
    cv2.setRNGSeed(_SEED)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    cv2.grabCut(bgr, trimap, (0, 0, 0, 0), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    person = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    person = _one_piece(person, hull)
    alpha = _following_edges(person.astype(np.float32), to_float(picture))
    share: np.ndarray = np.maximum(alpha, hull.astype(np.float32))
    return share


def replace_background(
    picture: np.ndarray, points: np.ndarray, background: np.ndarray, alpha: np.ndarray | None = None
) -> np.ndarray:
    """The person of a hallucinated picture in front of another background.

    Args:
        picture: (S, S, 3) RGB, uint8 or float in [0, 1].
        points: (68, 2) landmarks in it.
        background: (H, W, 3) RGB, uint8 or float in [0, 1], of any size; the largest square in its
            middle is scaled to fill the picture.
        alpha: (S, S) in [0, 1], the person's share of the pixels; default: :func:`person_alpha`.

    Returns:
        (S, S, 3) float32 in [0, 1]. Pixels inside the hull are the picture's.

    Raises:
        ImageError: a wrong shape or number type.
    """
    if background.ndim != 3 or background.shape[2] != 3 or not background.size:
        raise ImageError(f"a background must be (H, W, 3), not {background.shape}")
    if alpha is None:
        alpha = person_alpha(picture, points)
    behind = to_float(resize(_middle_square(to_uint8(background)), picture.shape[0]))
    share = alpha[..., None]
    mixed: np.ndarray = to_float(picture) * share + behind * (1 - share)
    return mixed


def _middle_square(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def _first_guess(hull: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """Where an aligned person is for certain, likely, unlikely, and not at all.

    The measures come from looking at pictures: hallucinated backgrounds are too like hair in colour
    for GrabCut to find a head with less help.
    """
    left, right, chin = points[0], points[16], points[8]
    # A face seen from the side is narrow; the head behind it is not.
    width = max(float(np.hypot(*(right - left))), 0.5 * side)
    brow, mouth = points[17:27, 1].mean(), points[57, 1]
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    away = np.abs(x - (left[0] + right[0]) / 2)
    beside = np.abs(x - chin[0])
    # 0 at the mouth, 1 at the square's lower edge: shoulders slope down to its corners.
    fall = np.clip((y - mouth) / max(1.0, side - 1 - mouth), 0, 1)

    def head(across: float, up: float) -> np.ndarray:
        inside: np.ndarray = (away / (across * width)) ** 2 + ((y - brow) / (up * width)) ** 2 < 1
        return inside

    guess = np.full((side, side), cv2.GC_PR_BGD, np.uint8)
    guess[head(0.62, 0.8) | (beside < width * (0.25 + 0.9 * fall**2))] = cv2.GC_PR_FGD
    guess[~head(0.7, 0.9) & ((y < mouth) | (beside > width * (0.7 + 0.5 * fall)))] = cv2.GC_BGD
    forehead = head(0.54, 0.70) & (y < brow + 0.1 * width)
    neck = (y > chin[1] - 0.1 * width) & (beside < width * (0.1 + 0.6 * fall**2))
    guess[forehead | neck | (hull == 1)] = cv2.GC_FGD
    return guess


def _one_piece(person: np.ndarray, hull: np.ndarray) -> np.ndarray:
    """The piece that the face belongs to, without holes."""
    _, labels = cv2.connectedComponents(person, connectivity=4)
    piece = np.isin(labels, np.unique(labels[hull == 1])) & (labels > 0)
    smooth = cv2.medianBlur(piece.astype(np.uint8), 5)
    outlines, _ = cv2.findContours(smooth | hull, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(hull), outlines, -1, 1, thickness=cv2.FILLED)


def _following_edges(mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A soft mask whose edge follows the picture's (the guided filter of He, Sun, Tang, 2010)."""
    size = (7, 7)
    grey = picture.mean(-1)
    mean, mean_mask = cv2.blur(grey, size), cv2.blur(mask, size)
    covariance = cv2.blur(grey * mask, size) - mean * mean_mask
    slope = covariance / (cv2.blur(grey * grey, size) - mean * mean + 1e-3)
    offset = mean_mask - slope * mean
    alpha = cv2.blur(slope, size) * grey + cv2.blur(offset, size)
    # Far from its edge the mask is certain.
    near = cv2.GaussianBlur(mask, (7, 7), 0)
    return np.where((near > 0.02) & (near < 0.98), alpha, mask).clip(0, 1).astype(np.float32)
