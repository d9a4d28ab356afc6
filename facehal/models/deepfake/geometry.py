"""Where the tight crop lies in an aligned face, and the ways between the two.

faceswap lays the landmarks of brows, eyes, nose and mouth on a mean face that fills a square, and
crops that square. Our faces are aligned by their eyes already, so the square of the mean face is
the same in all of them. Fractions of the width count from the picture's edge; positions in pixels
from the first pixel's centre, as everywhere in the package.
"""

from functools import cache
from typing import Any

import numpy as np
from keras import ops

Tensor = Any

LEFT, TOP, SIDE = 34.375 / 128, 44.525 / 128, 60.45 / 128
"""The square, as fractions of an aligned face's width: from the brows to under the lips, and from
the outer end of one brow to that of the other."""

BORDER = 15  # one part in so many of the crop's side is left to the picture below, on each side
BLUR, SIGMA = 15, 10.0  # width and standard deviation of the fade behind it, in pixels of the crop


def face_side(crop: int) -> int:
    """Pixels of the aligned face to a crop: enlarged by 6 %, so that nothing is lost or aliased."""
    return 2 * crop


def crop_matrix(side: int, crop: int) -> np.ndarray:
    """The similarity from positions in an aligned face to those in its crop: (2, 3) float64."""
    scale = crop / (SIDE * side)
    x, y = (scale * (0.5 - start * side) - 0.5 for start in (LEFT, TOP))
    return np.array([[scale, 0, x], [0, scale, y]])


def sampling(positions: np.ndarray, size: int) -> np.ndarray:
    """Linear interpolation as a matrix, (len(positions), size) float32.

    Args:
        positions: in pixels; beyond the first and the last pixel's centre it is theirs.
        size: of what is sampled.
    """
    inside = np.clip(positions, 0, size - 1)
    below = np.minimum(inside.astype(int), size - 2)
    matrix = np.zeros((len(positions), size))
    rows = np.arange(len(positions))
    matrix[rows, below] = 1 - (inside - below)
    matrix[rows, below + 1] = inside - below
    return matrix.astype(np.float32)


@cache
def to_crop(side: int, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices for rows and columns that cut the crop out of a face, (crop, side) each."""
    (scale, _, x), (_, _, y) = crop_matrix(side, crop)
    pixels = np.arange(crop)
    return sampling((pixels - y) / scale, side), sampling((pixels - x) / scale, side)


@cache
def to_face(side: int, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that lay a crop where it was in the face, its border repeated; (side, crop) each."""
    (scale, _, x), (_, _, y) = crop_matrix(side, crop)
    pixels = np.arange(side)
    return sampling(scale * pixels + y, crop), sampling(scale * pixels + x, crop)


@cache
def square(side: int) -> np.ndarray:
    """What of each of a face's pixels lies in the square: (side, side) float32 in [0, 1]."""
    edges = np.arange(side + 1)
    rows, columns = (
        np.diff(np.clip(edges, start * side, (start + SIDE) * side)) for start in (TOP, LEFT)
    )
    return np.outer(rows, columns).astype(np.float32)


@cache
def fade(crop: int) -> np.ndarray:
    """What a new crop's pixels count for where it is laid over the old one: (crop, crop) float32.

    1 but for a border of one part in :data:`BORDER`, Gaussian blur over the edge between, as
    faceswap's converter *adjust* has it: even the outermost pixels count a little.
    """
    line = np.ones(crop)
    border = crop // BORDER
    line[:border] = line[crop - border :] = 0
    reach = BLUR // 2
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * SIGMA**2))
    blurred = np.convolve(np.pad(line, reach, mode="reflect"), kernel / kernel.sum(), "valid")
    return np.outer(blurred, blurred).astype(np.float32)


def mapped(pictures: Tensor, matrices: tuple[np.ndarray, np.ndarray]) -> Tensor:
    """Pictures times a matrix for rows and one for columns: (n, H, W, c) → (n, height, width, c).

    As plain matrix products, for not every format that models are exported to knows einsum.
    """
    rows, columns = matrices
    _, height, width, channels = pictures.shape
    lines = ops.matmul(rows, ops.reshape(pictures, (-1, height, width * channels)))
    pixels = ops.matmul(columns, ops.reshape(lines, (-1, width, channels)))
    return ops.reshape(pixels, (-1, len(rows), len(columns), channels))


def shifted(new: Tensor, old: Tensor) -> Tensor:
    """New crops with the mean colours of the old ones, channel by channel, within [0, 1]."""
    means = (ops.mean(crops, axis=(1, 2), keepdims=True) for crops in (old, new))
    wanted, found = means
    return ops.clip(new + wanted - found, 0.0, 1.0)


def blended(pictures: Tensor, crops: Tensor) -> Tensor:
    """New crops on pictures of aligned faces, as faceswap's converter *adjust* lays them there.

    Their colours are shifted to the means of the crops that they replace, and their border fades.

    Args:
        pictures: (n, S, S, 3) in [0, 1].
        crops: (n, c, c, 3) in [0, 1].
    """
    side, crop = pictures.shape[1], crops.shape[1]
    crops = shifted(crops, mapped(pictures, to_crop(side, crop)))
    there = to_face(side, crop)
    share = square(side)[..., None] * (there[0] @ fade(crop) @ there[1].T)[..., None]
    return pictures + share * (mapped(crops, there) - pictures)
