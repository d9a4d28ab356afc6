"""The paper's metrics (section 4), one file each; what they share of input checks stands here.

Pictures are (n, H, W, 3) RGB, floating point, in [0, 1]. A metric of pairs gives one float64 per
pair; its mean, with an interval, comes from `facehal.metrics.interval`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from tqdm import tqdm

from facehal.errors import FacehalError

# Resampling in float32 may overshoot 1 by a rounding error; a wrong scale overshoots by far more.
_ROUNDING = 1e-5


class MetricError(FacehalError, ValueError):
    """A metric cannot be computed from what it was given; one line says why."""


def checked(images: Any, what: str = "the pictures") -> np.ndarray:
    """The pictures as an array, if they are what every metric takes.

    Args:
        images: (n, H, W, 3) RGB, floating point, in [0, 1]; n of 1 or more.
        what: how a message calls them.

    Raises:
        MetricError: another shape, type or range, no picture at all, or pixels that are not finite.
    """
    pictures: np.ndarray = np.asarray(images)
    if pictures.ndim != 4 or pictures.shape[3] != 3:
        raise MetricError(f"{what} must be RGB pictures (n, H, W, 3), not {pictures.shape}")
    if 0 in pictures.shape:
        raise MetricError(f"{what}: there is no picture to measure, the shape is {pictures.shape}")
    if not np.issubdtype(pictures.dtype, np.floating):
        raise MetricError(f"{what} must be floating point in [0, 1], not {pictures.dtype}")
    low, high = float(pictures.min()), float(pictures.max())
    if not np.isfinite([low, high]).all():
        raise MetricError(f"{what} have pixels that are not finite numbers")
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise MetricError(f"{what} must lie in [0, 1], not in [{low:.6g}, {high:.6g}]")
    return pictures


def checked_pairs(
    originals: Any, hallucinated: Any, smallest: int = 1, metric: str = "the metric"
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of the pairs as arrays of one shape.

    Args:
        originals: (n, H, W, 3) RGB, floating point, in [0, 1].
        hallucinated: the same, picture by picture.
        smallest: height and width that the metric needs at least.
        metric: how a message calls the metric.

    Raises:
        MetricError: see `checked`; or shapes that differ, or pictures that are too small.
    """
    first, second = checked(originals, "the originals"), checked(hallucinated, "the hallucinated")
    if first.shape != second.shape:
        raise MetricError(
            f"originals and hallucinated must be pairs of one shape, "
            f"not {first.shape} and {second.shape}"
        )
    if min(first.shape[1:3]) < smallest:
        raise MetricError(
            f"{metric} needs pictures of {smallest}x{smallest} pixels or more, "
            f"not {first.shape[1]}x{first.shape[2]}"
        )
    return first, second


def in_batches(
    function: Callable[..., Any],
    *arrays: np.ndarray,
    batch_size: int,
    progress: bool,
    label: str,
) -> np.ndarray:
    """Apply a function of float32 batches to whole arrays and join what it gives.

    Args:
        function: of as many batches as there are arrays; gives one row per picture.
        arrays: of one length, already checked.
        batch_size: pictures at a time; bounds the memory and changes no result.
        progress: draw a bar on standard error.
        label: of the bar.

    Raises:
        MetricError: the batch size is not a whole number of 1 or more.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise MetricError(f"batch_size must be a whole number of 1 or more, not {batch_size!r}")
    count = len(arrays[0])
    parts = []
    with tqdm(total=count, desc=label, unit="picture", disable=not progress) as bar:
        for start in range(0, count, batch_size):
            size = min(batch_size, count - start)
            # A last batch is filled up, for XLA compiles each operation anew for another size.
            fill = batch_size - size if start else 0
            batches = []
            for array in arrays:
                batch = np.asarray(array[start : start + size], np.float32)
                if fill:
                    batch = np.concatenate([batch, np.repeat(batch[-1:], fill, axis=0)])
                batches.append(batch)
            parts.append(ops.convert_to_numpy(function(*batches))[:size])
            bar.update(size)
    return np.concatenate(parts)
