"""PieAPP v0.1 (Prashnani et al. 2018)."""

from pathlib import Path

import numpy as np

from facehal.weights.arrays import Arrays, Shapes, check, pick
from facehal.weights.formats.npz import is_npz, read_npz
from facehal.weights.formats.pytorch import read_torch


def map_sizes(width: int = 64) -> tuple[tuple[int, int], ...]:
    """Side and channels of the five maps that PieAPP compares, for patches of 64 pixels."""
    factors = (1, 2, 4, 4, 8)
    return tuple((32 >> level, factor * width) for level, factor in enumerate(factors))


def network_shapes(width: int = 64, hidden: int = 512) -> dict[str, tuple[int, ...]]:
    """Arrays of PieAPP v0.1; its first dense layers read maps row by row, channels last."""
    taps = map_sizes(width)
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for number, factor in enumerate((1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8), start=1):
        shapes[f"conv{number}.kernel"] = (3, 3, inputs, factor * width)
        shapes[f"conv{number}.bias"] = (factor * width,)
        inputs = factor * width
    for head, sizes in (("score", taps), ("weight", taps[-1:])):
        shapes[f"fc1_{head}.kernel"] = (sum(s * s * c for s, c in sizes), hidden)
        shapes[f"fc1_{head}.bias"] = (hidden,)
        shapes[f"fc2_{head}.kernel"] = (hidden, 1)
        shapes[f"fc2_{head}.bias"] = (1,)
    return shapes | {"ref_score_subtract.kernel": (1, 1), "ref_score_subtract.bias": (1,)}


SHAPES: Shapes = network_shapes()


def convert(file: Path) -> Arrays:
    """PieAPP v0.1, for patches whose colours stand in the order that is fed.

    Args:
        file: `PieAPPv0.1.pth` as its authors and piq publish it, or our own .npz.

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, SHAPES)
    state = read_torch(file)
    taps = map_sizes()
    arrays: Arrays = {}
    for key, shape in SHAPES.items():
        name, part = key.split(".")
        value = pick(state, f"{name}.{'weight' if part == 'kernel' else 'bias'}", file)
        if len(shape) == 4 and value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif part == "kernel" and value.shape == shape[::-1]:
            if name.startswith("fc1_"):
                value = _channels_last(value, taps if name == "fc1_score" else taps[-1:])
            value = value.T
        elif name == "ref_score_subtract":
            # As published this matrix of one number is a vector.
            value = value.reshape(shape) if value.size == 1 else value
        arrays[key] = value
    return check(arrays, SHAPES, str(file))


def _channels_last(matrix: np.ndarray, maps: tuple[tuple[int, int], ...]) -> np.ndarray:
    """(out, in) whose inputs are maps (side, channels), flattened by PyTorch channels first."""
    ends = np.cumsum([side * side * channels for side, channels in maps])[:-1]
    return np.concatenate(
        [
            part.reshape(len(matrix), channels, side, side)
            .transpose(0, 2, 3, 1)
            .reshape(len(matrix), -1)
            for part, (side, channels) in zip(np.split(matrix, ends, axis=1), maps, strict=True)
        ],
        axis=1,
    )
