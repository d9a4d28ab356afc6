"""Bilinear reading of pictures between their pixels, with gradient to the pictures and the places.

Keras has ``map_coordinates``, of one picture at a time; here the four neighbours of every place are
gathered from the whole batch at once.
"""

from typing import Any

import numpy as np
from keras import ops

Tensor = Any


def sampled(pictures: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The pictures at places given in pixels; zero outside, fading over the last pixel.

    Args:
        pictures: (n, h, w, c).
        x, y: (n, …) of the same shape; (0, 0) is the centre of the top left pixel.

    Returns:
        (n, …, c) float32, with gradient to all three.
    """
    pictures, x, y = (ops.cast(tensor, "float32") for tensor in (pictures, x, y))
    count, (height, width, channels) = ops.shape(pictures)[0], pictures.shape[1:]
    flat = ops.reshape(pictures, (-1, channels))
    first = ops.arange(count, dtype="int32") * (height * width)
    first = ops.reshape(first, (-1, *(1,) * (len(x.shape) - 1)))
    left, top = ops.stop_gradient(ops.floor(x)), ops.stop_gradient(ops.floor(y))
    right_share, low_share = x - left, y - top
    total: Tensor = 0.0
    for row, row_share in ((top, 1.0 - low_share), (top + 1.0, low_share)):
        for column, column_share in ((left, 1.0 - right_share), (left + 1.0, right_share)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            share = row_share * column_share * ops.cast(inside, "float32")
            nearest_row = ops.cast(ops.clip(row, 0, height - 1), "int32")
            nearest_column = ops.cast(ops.clip(column, 0, width - 1), "int32")
            pixels = ops.take(flat, first + nearest_row * width + nearest_column, axis=0)
            total = total + pixels * share[..., None]
    return total


def own_places(side: int) -> np.ndarray:
    """(side, side, 2) float32: the grid that reads every pixel at its own place."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return np.stack(np.meshgrid(line, line), axis=-1)


def in_pixels(grid: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """x and y in pixels of a grid (…, 2) whose -1 and 1 are the centres of the outermost pixels."""
    return (grid[..., 0] + 1.0) * ((width - 1) / 2), (grid[..., 1] + 1.0) * ((height - 1) / 2)


def grid_sampled(pictures: Tensor, grid: Tensor) -> Tensor:
    """What PyTorch's ``grid_sample`` was in 2018: corners aligned, bilinear, zero outside.

    Later versions align pixels' edges by default; ``align_corners=True`` brings this one back.

    Args:
        pictures: (n, h, w, c).
        grid: (n, H, W, 2): for each pixel of the result where to read, x then y, in [-1, 1].

    Returns:
        (n, H, W, c) float32, with gradient to both.
    """
    height, width = pictures.shape[1:3]
    return sampled(pictures, *in_pixels(ops.cast(grid, "float32"), height, width))
