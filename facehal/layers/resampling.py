"""Published ways of resizing as matrices: the same numbers on every backend, with gradients.

A picture is resized by one matrix for its rows and one for its columns; each is (out, in), and its
rows sum to one.
"""

from functools import cache
from typing import Any

import numpy as np
from keras import ops

Tensor = Any


@cache
def tf1_bilinear(size: int, out: int) -> np.ndarray:
    """TensorFlow 1's `resize_bilinear` with its defaults, as frozen into the graphs of its time.

    Corners are not aligned, pixels have no half-pixel centres, and nothing is averaged when
    shrinking: output pixel i mixes the two inputs around i * size / out, in float32 as TensorFlow
    computes it.

    Args:
        size: of the source in pixels.
        out: of the result in pixels.
    """
    position = np.arange(out, dtype=np.float32) * np.float32(size / out)
    below = np.minimum(position.astype(np.int64), size - 1)
    above = np.minimum(below + 1, size - 1)
    share = position - below.astype(np.float32)
    matrix = np.zeros((out, size), np.float32)
    np.add.at(matrix, (np.arange(out), below), 1 - share)
    np.add.at(matrix, (np.arange(out), above), share)
    return matrix


def _bilinear(x: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.maximum(0.0, 1.0 - np.abs(x))
    return values


def _bicubic(x: np.ndarray) -> np.ndarray:
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


# The filter and how far it reaches.
_FILTERS = {"bilinear": (_bilinear, 1.0), "bicubic": (_bicubic, 2.0)}


@cache
def pillow(size: int, out: int, kind: str) -> np.ndarray:
    """Pillow's resize: half-pixel centres, and a filter that widens when it shrinks.

    What Pillow does to pictures of mode F; for 8-bit ones it also rounds after each direction.

    Args:
        size: of the source in pixels.
        out: of the result in pixels.
        kind: `"bilinear"` or `"bicubic"` (a = -0.5).
    """
    kernel, reach = _FILTERS[kind]
    step = size / out
    stretch = max(1.0, step)
    centres = (np.arange(out)[:, None] + 0.5) * step
    pixels = np.arange(size)[None]
    inside = (pixels >= np.floor(np.maximum(0, centres - reach * stretch + 0.5))) & (
        pixels < np.floor(centres + reach * stretch + 0.5)
    )
    weights = np.where(inside, kernel((pixels + 0.5 - centres) / stretch), 0.0)
    matrix: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return matrix.astype(np.float32)


def resample(pictures: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """(n, H, W, c) pictures times matrices (height, H) and (width, W): (n, height, width, c)."""
    half = ops.einsum("qj,nijc->niqc", columns, pictures)
    return ops.einsum("pi,niqc->npqc", rows, half)


def known_size(pictures: Tensor) -> tuple[int, int]:
    """Height and width of (n, H, W, 3) pictures.

    Raises:
        ValueError: another shape, or a size that is not known while a graph is traced.
    """
    shape = tuple(pictures.shape)
    if len(shape) != 4 or None in shape[1:3] or shape[3] != 3:
        raise ValueError(f"pictures are (n, H, W, 3) RGB of known height and width, not {shape}")
    return shape[1], shape[2]
