"""Weights as plain arrays by name: what every reader gives and every network takes.

Kernels are (height, width, in, out), matrices (in, out), all float32; colours are RGB.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from facehal.errors import WeightsError

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]
Converter = Callable[[Path], Arrays]


def check(arrays: Mapping[str, np.ndarray], shapes: Shapes, source: str) -> Arrays:
    """The arrays named in `shapes`, float32, in that order.

    Raises:
        WeightsError: an array is missing, has another shape, or holds NaN or infinity.
    """
    result: Arrays = {}
    for name, shape in shapes.items():
        if name not in arrays:
            raise WeightsError(f"{source}: holds no {name}; it is not a file of this network")
        if arrays[name].shape != shape:
            raise WeightsError(
                f"{source}: {name} has shape {arrays[name].shape} where this network has {shape}"
            )
        if arrays[name].dtype.kind not in "fiu":
            raise WeightsError(f"{source}: {name} holds {arrays[name].dtype}, not numbers")
        array = np.ascontiguousarray(arrays[name], dtype=np.float32)
        if not np.isfinite(array).all():
            raise WeightsError(f"{source}: {name} holds values that are not finite; file damaged")
        result[name] = array
    return result


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) of names, shapes and float32 values: equal for the same weights in any file."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], dtype="<f4")
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def pick(state: Arrays, key: str, file: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """One array of a publisher's file, of exactly this shape where one is given.

    Raises:
        WeightsError: it is missing or has another shape.
    """
    if key not in state:
        raise WeightsError(f"{file}: holds no {key}; it is not a file of this network")
    if shape is not None and state[key].shape != shape:
        raise WeightsError(
            f"{file}: {key} has shape {state[key].shape} where this network has {shape}"
        )
    return state[key]


def folded(
    state: Arrays, convolution: str, norm: str, epsilon: float, shape: tuple[int, ...], file: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a PyTorch convolution with the frozen batch norm after it.

    Args:
        state: the publisher's arrays.
        convolution: name of the layer in it.
        norm: name of the batch norm.
        epsilon: of the batch norm.
        shape: of the kernel, (height, width, in, out).
        file: for messages.

    Raises:
        WeightsError: an array is missing or has another shape.
    """
    height, width, inputs, outputs = shape
    kernel = pick(state, f"{convolution}.weight", file, (outputs, inputs, height, width))
    gamma, beta, mean, variance = (
        pick(state, f"{norm}.{part}", file, (outputs,)).astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    # An impossible variance becomes NaN, which `check` refuses.
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        return kernel.transpose(2, 3, 1, 0) * scale, beta - mean * scale
