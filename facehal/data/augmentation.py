"""Changed pictures of the same faces: colour, small movements, blur. The masks stay true.

The paper mirrors only. A set of some thousand faces is soon known by heart; what is drawn here is
new in every epoch.
"""

import cv2
import numpy as np

from facehal.errors import ConfigError
from facehal.images import decode_image

# The ranges at strength 1; at another every one of them is that many times as wide.
DEGREES = 5.0  # a movement's rotation
SCALE = 0.05
SHIFT = 0.03  # of the side, along each axis
FACTOR = 0.2  # brightness, contrast, saturation
GAMMA = 0.15
GAIN = 0.05  # of each channel: the tint of the light
SIGMA = 0.8  # of a blur, in pixels of a face of SIGMA_SIDE
SIGMA_SIDE = 128
QUALITY = 50  # the lowest of a JPEG
BEST = 95  # and the highest

MOVED = 0.5  # share of the faces that are moved
BLURRED = 0.1
PACKED = 0.1  # compressed as a JPEG

NUMBERS = 16
"""Random numbers that a face needs, uniform in [0, 1)."""

_GREY = np.array([0.299, 0.587, 0.114])  # the share of red, green and blue in brightness
_LEVELS = np.arange(256) / 255


def augmented(
    faces: np.ndarray, masks: np.ndarray, random: np.random.Generator, strength: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Every face in another light; some moved, blurred or compressed.

    The same as `changed` with `NUMBERS` random numbers for each face from ``random``.

    Args:
        faces: (n, S, S, 3) uint8 RGB.
        masks: (n, S, S) uint8, 1 = face.
        random: all that is drawn comes from it.
        strength: in [0, 1], a factor on all ranges.

    Returns:
        New faces and masks of the same shapes, uint8; at strength 0 the arrays themselves.

    Raises:
        ConfigError: ``strength`` is not in [0, 1].
    """
    return changed(faces, masks, random.random((len(faces), NUMBERS)), strength)


def changed(
    faces: np.ndarray, masks: np.ndarray, numbers: np.ndarray, strength: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """What given random numbers make of some faces; what becomes of one depends on its own alone.

    Every face: brightness, contrast and saturation times 1 ± `FACTOR`, channels times 1 ± `GAIN`,
    gamma 1 ± `GAMMA`. A share of `MOVED`: turned, scaled and shifted together with its mask; what
    comes in at the edge is the picture mirrored, and no face. A share of `BLURRED`: a Gaussian
    blur. A share of `PACKED`: as a JPEG has it.

    Args:
        faces: (n, S, S, 3) uint8 RGB; not changed.
        masks: (n, S, S) uint8, 1 = face; not changed.
        numbers: (n, `NUMBERS`), uniform in [0, 1).
        strength: in [0, 1], a factor on all ranges.

    Returns:
        New faces and masks of the same shapes, uint8, the masks 0 and 1 and none of them emptied;
        at strength 0 the arrays themselves.

    Raises:
        ConfigError: ``strength`` is not in [0, 1].
    """
    check_strength(strength)
    if strength == 0:
        return faces, masks
    amounts = strength * (2 * numbers - 1)  # of what goes both ways
    lights, tables = _lights(faces, amounts[:, 1:7]), _gamma_tables(1 + GAMMA * amounts[:, 0])
    moved, blurred, packed = (numbers[:, 11:14] < (MOVED, BLURRED, PACKED)).T
    degrees, scales = DEGREES * amounts[:, 7], 1 + SCALE * amounts[:, 8]
    shifts = SHIFT * amounts[:, 9:11]
    sigmas = strength * numbers[:, 14] * SIGMA * faces.shape[1] / SIGMA_SIDE
    losses = strength * (100 - QUALITY - (BEST - QUALITY) * numbers[:, 15])
    new_faces, new_masks = np.empty_like(faces), masks.copy()
    for i, face in enumerate(faces):
        if moved[i]:
            face, new_masks[i] = _moved(face, masks[i], degrees[i], scales[i], shifts[i])
        if blurred[i]:
            face = _blurred(face, sigmas[i])
        lit = cv2.LUT(cv2.transform(face, lights[i]), tables[i])
        new_faces[i] = _packed(lit, 100 - losses[i]) if packed[i] else lit
    return new_faces, new_masks


def check_strength(strength: float) -> None:
    """ConfigError unless ``strength`` is a number in [0, 1]."""
    if not 0 <= strength <= 1:
        raise ConfigError(f"an augmentation of {strength}: it is between 0 and 1")


def _gamma_tables(gamma: np.ndarray) -> np.ndarray:
    tables: np.ndarray = np.rint(255 * _LEVELS ** gamma[:, None])
    return tables.astype(np.uint8)


def _lights(faces: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Gains, brightness, saturation and contrast, all linear, as a (3, 4) matrix for each face."""
    brightness, contrast, saturation = 1 + FACTOR * amounts[:, :3].T[..., None]  # (n, 1) each
    gains = brightness * (1 + GAIN * amounts[:, 3:])
    grey = _GREY * gains  # what the channels count for in the brightness after the gains
    colour = saturation[..., None] * gains[:, None] * np.eye(3)
    colour += ((1 - saturation) * grey)[:, None]
    means = np.array([cv2.mean(face)[:3] for face in faces]).reshape(-1, 3)
    middle = (grey * means).sum(axis=1, keepdims=True)  # contrast leaves this brightness as it is
    constant = np.repeat((1 - contrast) * middle, 3, axis=1)
    return np.concatenate([contrast[..., None] * colour, constant[..., None]], axis=2)


def _moved(
    face: np.ndarray, mask: np.ndarray, degrees: float, scale: float, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    side = face.shape[0]
    middle = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees, scale)
    matrix[:, 2] += side * shift
    where = cv2.warpAffine(mask, matrix, (side, side), flags=cv2.INTER_NEAREST)
    if not where.any():  # a face of a few pixels, pushed out of the picture
        return face, mask
    border = cv2.BORDER_REFLECT_101
    return (
        cv2.warpAffine(face, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=border),
        where,
    )


def _blurred(face: np.ndarray, sigma: float) -> np.ndarray:
    # Three sigmas to either side; with a size of 0 OpenCV takes more and refuses a sigma of 0.
    size = 2 * int(np.ceil(3 * sigma)) + 1
    return cv2.GaussianBlur(face, (size, size), max(sigma, 1e-6), borderType=cv2.BORDER_REFLECT_101)


def _packed(face: np.ndarray, quality: float) -> np.ndarray:
    bgr = cv2.cvtColor(face, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
    return decode_image(data.tobytes())
