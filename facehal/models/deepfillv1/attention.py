"""Contextual attention (Yu et al. 2018, section 4): a hole is filled with patches of what is known.

The published code goes through a batch picture by picture, for every picture's patches are the
kernels of a convolution of its own, and takes the mask of the first picture for all. Here it is a
product of matrices for the whole batch, with a mask a picture.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

Tensor = Any
Shape = tuple[int | None, ...]

RATE = 2  # maps are compared at half their size
SHARPNESS = 10.0  # of the softmax
SMALLEST_NORM = 1e-4  # by which a key is divided at least


def aligned_corners(size: int, out: int) -> np.ndarray:
    """The rows that TensorFlow 1's ``resize_nearest_neighbor(align_corners=True)`` takes.

    First and last row are kept: of 64 rows halved these are 0, 2 … 30, 33 … 63, odd ones in the
    second half.

    Args:
        size: of the source in pixels.
        out: of the result in pixels.
    """
    step = np.float32(size - 1) / np.float32(out - 1) if out > 1 else np.float32(size)
    rows: np.ndarray = np.floor(np.arange(out, dtype=np.float32) * step + np.float32(0.5))
    return rows.astype(np.int32)


def nearest(maps: Tensor, size: int) -> Tensor:
    """Square maps (n, s, s, c) resized so: (n, size, size, c)."""
    rows = aligned_corners(maps.shape[1], size)
    return ops.take(ops.take(maps, rows, axis=1), rows, axis=2)


def patches(maps: Tensor, side: int, stride: int) -> Tensor:
    """All patches of a map with a border of one zero.

    Slices in place of ``ops.image.extract_patches``, which convolves with an identity matrix: that
    would cost five times the attention itself.

    Args:
        maps: (n, h, w, c).
        side: of the patches: two more than the stride.
        stride: from one to the next, a divisor of h and w.

    Returns:
        (n, h·w / stride², side²·c).
    """
    _, height, width, channels = maps.shape
    bordered = ops.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [
        bordered[:, down : down + height : stride, right : right + width : stride]
        for down in range(side)
        for right in range(side)
    ]
    count = (height // stride) * (width // stride)
    return ops.reshape(ops.concatenate(places, axis=-1), (-1, count, side**2 * channels))


def pasted(values: Tensor, height: int, width: int, channels: int) -> Tensor:
    """4×4 patches put down at every second pixel and added up where they overlap.

    What the transposed convolution of the published code does, without its loop. A patch is four
    squares of 2×2, and each of these is added where it falls.

    Args:
        values: (n, height·width, 16·channels), patches as :func:`patches` gives them.
        height: number of rows of patches.
        width: number of columns of patches.
        channels: of the map.

    Returns:
        (n, 2·height, 2·width, channels).
    """
    # Rows of patches, columns of patches, upper or lower, row in it, left or right, column in it.
    squares = ops.reshape(values, (-1, height, width, 2, 2, 2, 2, channels))
    total: Tensor = 0.0
    for lower in (0, 1):
        for right in (0, 1):
            square = ops.reshape(
                squares[:, :, :, lower, :, right], (-1, height, width, 4 * channels)
            )
            total += ops.pad(square, ((0, 0), (lower, 1 - lower), (right, 1 - right), (0, 0)))
    total = ops.reshape(total, (-1, height + 1, width + 1, 2, 2, channels))
    total = ops.transpose(total, (0, 1, 3, 2, 4, 5))
    total = ops.reshape(total, (-1, 2 * height + 2, 2 * width + 2, channels))
    return total[:, 1:-1, 1:-1]


def _along_diagonals(scores: Tensor) -> Tensor:
    """A convolution with the 3×3 identity: what both neighbours' match adds to a match."""
    bordered = ops.pad(scores, ((0, 0), (1, 1), (1, 1)))
    return bordered[:, :-2, :-2] + scores + bordered[:, 2:, 2:]


def _turned(scores: Tensor, height: int, width: int) -> Tensor:
    """Scores of row-major positions made those of column-major ones: (n, h·w, h·w) both."""
    size = height * width
    apart = ops.reshape(scores, (-1, height, width, height, width))
    return ops.reshape(ops.transpose(apart, (0, 2, 1, 4, 3)), (-1, size, size))


def fused(scores: Tensor, height: int, width: int) -> Tensor:
    """Scores (n, h·w, h·w) to which those of the neighbours in a row and in a column are added.

    Shifted alike, a place and its match shall match still: that favours large patches.
    """
    scores = _along_diagonals(scores)
    scores = _along_diagonals(_turned(scores, height, width))
    return _turned(scores, width, height)


@keras.saving.register_keras_serializable("facehal")
class ContextualAttention(layers.Layer):
    """Every place of a map as a mixture of the map's known patches that look like it.

    Call it with a map (n, s, s, c), s even, and the hole (n, S, S, 1), 1 = to be hallucinated, S a
    multiple of s, for a map like the first. The patches that are compared are 3×3 of the map at
    half its size; those that are put down are 4×4 of the map itself. A patch that reaches into the
    hole is no candidate: its logit is 0 in the softmax and its weight is dropped behind it, so that
    the weights of a place sum to less than 1, as in the published code.

    Computed in float32 whatever the policy: the softmax is sharp.
    """

    def __init__(self, **options: Any):
        super().__init__(**{"dtype": "float32", **options})

    def call(self, maps: Tensor, hole: Tensor) -> Tensor:
        """The map, rebuilt."""
        side, channels = maps.shape[1], maps.shape[3]
        half = side // RATE
        # Not of the full hole at once: the rows of two steps are others than those of one.
        small_hole = nearest(nearest(hole, side), half)
        reached = ops.max_pool(small_hole, 3, strides=1, padding="same")
        known = ops.reshape(ops.cast(reached <= 0.0, maps.dtype), (-1, 1, half * half))

        queries = patches(nearest(maps, half), 3, 1)
        squares = ops.sum(ops.square(queries), axis=-1, keepdims=True)
        # Bounded under the root, whose slope at 0 is infinite: a ReLU's map has patches of zeros.
        keys = queries / ops.sqrt(ops.maximum(squares, SMALLEST_NORM**2))
        scores = fused(ops.matmul(queries, ops.transpose(keys, (0, 2, 1))), half, half)
        weights = ops.softmax(scores * known * SHARPNESS, axis=-1) * known
        values = ops.matmul(weights, patches(maps, 2 * RATE, RATE))
        # Four patches overlap everywhere but at the border.
        return pasted(values, half, half, channels) / 4.0

    def compute_output_shape(self, maps_shape: Shape, hole_shape: Shape) -> Shape:
        """That of the map."""
        return maps_shape
