"""Canny's edges (1986) in the graph, by the algorithm of scikit-image's ``feature.canny``.

EdgeConnect was trained on scikit-image's edges. In the graph they are part of the model, which so
needs a masked face and its mask alone, wherever it runs. Equal to scikit-image's but where two
magnitudes are as good as equal: it compares them in float64, this in float32.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

Tensor = Any

LOW, HIGH = 0.1, 0.2  # scikit-image's thresholds, of Sobel sums that are not divided by their 8
REACH = 4.0  # standard deviations at which the Gaussian is cut off
ROUNDING = float(np.finfo(np.float64).eps)
RED_GREEN_BLUE = np.array([0.2125, 0.7154, 0.0721], np.float32)  # scikit-image's rgb2gray
DILATIONS = 8  # between two looks at whether anything has changed


def grey(pictures: Tensor) -> Tensor:
    """Luminance, (n, h, w, 3) to (n, h, w, 1)."""
    return ops.sum(pictures * RED_GREEN_BLUE, axis=-1, keepdims=True)


def canny(pictures: Tensor, known: Tensor, sigma: float) -> Tensor:
    """The edges of grey pictures, as far as they are known.

    What is not known has no part in the blur, and the border of what is known gives no edge.

    Args:
        pictures: (n, h, w, 1) in [0, 1], height and width fixed.
        known: (n, h, w, 1), 1 where a pixel is known, else 0.
        sigma: of the blur, in pixels.

    Returns:
        (n, h, w, 1) float32: 1 on an edge, else 0. It has no gradient.
    """
    picture, part = (ops.stop_gradient(ops.cast(x, "float32"))[..., 0] for x in (pictures, known))
    blurred = _blurred(picture * part, sigma) / (_blurred(part, sigma) + ROUNDING)
    down, right = _sobel(blurred)
    magnitude = ops.sqrt(down * down + right * right)
    weak = ops.logical_and(_eroded(part) > 0.5, _ridge(down, right, magnitude))
    weak = ops.logical_and(weak, magnitude >= LOW)
    strong = ops.logical_and(weak, magnitude >= HIGH)
    return _connected(*(ops.cast(x, "float32") for x in (strong, weak)))[..., None]


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """(n, h, w), zero outside.

    Written out: the factors of a convolution or of a matrix product a GPU rounds to ten bits, with
    which many edges would come and go.
    """
    radius = int(REACH * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        length = x.shape[axis]
        wide = ops.pad(x, [(radius, radius) if one == axis else (0, 0) for one in range(3)])
        x = sum(
            float(weight)
            * (wide[:, at : at + length] if axis == 1 else wide[:, :, at : at + length])
            for at, weight in enumerate(weights)
        )
    return x


def _bordered(x: Tensor, axis: int, border: Callable[[Tensor], Tensor]) -> Tensor:
    """One more line at both ends of an axis, made of the lines there."""
    lines = (x[:, :1], x[:, -1:]) if axis == 1 else (x[:, :, :1], x[:, :, -1:])
    return ops.concatenate([border(lines[0]), x, border(lines[1])], axis=axis)


def _neighbours(
    x: Tensor, border: Callable[[Tensor], Tensor] = ops.zeros_like
) -> dict[tuple[int, int], Tensor]:
    """What lies (rows down, columns right) of every pixel; over the border zeros, by default."""
    height, width = x.shape[1:3]
    for axis in (1, 2):
        x = _bordered(x, axis, border)
    return {
        (row, column): x[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width]
        for row in (-1, 0, 1)
        for column in (-1, 0, 1)
    }


def _sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """The slopes down and to the right, times 8."""
    at = _neighbours(x, border=lambda line: line)
    down = (at[1, -1] - at[-1, -1]) + 2 * (at[1, 0] - at[-1, 0]) + (at[1, 1] - at[-1, 1])
    right = (at[-1, 1] - at[-1, -1]) + 2 * (at[0, 1] - at[0, -1]) + (at[1, 1] - at[1, -1])
    return down, right


def _eroded(part: Tensor) -> Tensor:
    """1 where all nine pixels are; what lies over the border is not."""
    smallest = part
    for neighbour in _neighbours(part).values():
        smallest = ops.minimum(smallest, neighbour)
    return smallest


def _ridge(down: Tensor, right: Tensor, magnitude: Tensor) -> Tensor:
    """Where no magnitude is larger one step up or down the slope.

    A step leads between a neighbour beside the pixel and one at its corner; its magnitude is mixed
    of both.
    """
    at = _neighbours(magnitude)
    falling = down * right >= 0  # the slope points to the lower right, or to the upper left
    steep = ops.abs(down) >= ops.abs(right)
    larger = ops.maximum(ops.abs(down), ops.abs(right))
    # The floor is below what an edge has (LOW / √2) and keeps flat pixels from a division by 0.
    share = ops.minimum(ops.abs(down), ops.abs(right)) / ops.maximum(larger, LOW / 2)

    def no_higher(row: int) -> Tensor:
        """At the step to the right (1) or to the left (-1)."""
        corner = ops.where(falling, at[row, row], at[-row, row])
        beside = ops.where(steep, ops.where(falling, at[row, 0], at[-row, 0]), at[0, row])
        return corner * share + beside * (1.0 - share) <= magnitude

    return ops.logical_and(no_higher(1), no_higher(-1))


def _connected(strong: Tensor, weak: Tensor) -> Tensor:
    """The weak pixels that hang together with a strong one, at sides or corners (hysteresis)."""

    def grown(found: Tensor, growing: Tensor) -> tuple[Tensor, Tensor]:
        more = found
        for _ in range(DILATIONS):
            more = _dilated(more) * weak
        return more, ops.any(more > found)

    # Not the found pixels before and after: a state that is another's old value is lost on the
    # way to ONNX.
    start = (strong, ops.any(strong > 0))
    return ops.while_loop(lambda found, growing: growing, grown, start)[0]


def _dilated(x: Tensor) -> Tensor:
    """The largest of nine pixels, none of them negative."""
    down = _bordered(x, 1, ops.zeros_like)
    x = ops.maximum(x, ops.maximum(down[:, :-2], down[:, 2:]))
    across = _bordered(x, 2, ops.zeros_like)
    return ops.maximum(x, ops.maximum(across[:, :, :-2], across[:, :, 2:]))
