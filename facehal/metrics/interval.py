"""A mean with its 95 % interval, by the percentile bootstrap (Efron 1979)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from facehal.metrics import MetricError

# Draws held at a time: 16 MB of indices.
_DRAWS = 1 << 22


@dataclass(frozen=True)
class Mean:
    """A mean over n values and the interval that holds it.

    Attributes:
        value: the mean.
        low: lower end of the interval; NaN where n is 1, for one value tells nothing of its spread.
        high: upper end.
        n: how many values.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n})"


def bootstrap_mean(
    values: Any, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Mean:
    """The mean of the values and its bootstrap interval; the same seed gives the same interval.

    The values count as independent. Several pictures of one person are less than that, so that the
    interval is somewhat narrow for them.

    Args:
        values: (n,), finite.
        confidence: between 0 and 1.
        resamples: how often n values are drawn with replacement.
        seed: of the draws.

    Raises:
        MetricError: no values, values that are not finite numbers, or impossible options.
    """
    try:
        values = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(f"a mean takes numbers ({error})") from None
    if values.ndim != 1 or not len(values):
        raise MetricError(f"a mean takes (n,) values, n of 1 or more, not {values.shape}")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise MetricError(f"value {bad} of a mean is {values[bad]}, not a finite number")
    if not 0 < confidence < 1:
        raise MetricError(f"confidence lies between 0 and 1: {confidence!r}")
    if resamples < 1:
        raise MetricError(f"resamples must be 1 or more, not {resamples!r}")
    n = len(values)
    if n == 1:
        return Mean(float(values[0]), float("nan"), float("nan"), 1)
    random = np.random.default_rng(seed)
    rows = max(1, _DRAWS // n)
    means = np.concatenate(
        [
            values[random.integers(n, size=(min(rows, resamples - start), n), dtype=np.int32)].mean(
                1
            )
            for start in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Mean(float(values.mean()), float(low), float(high), n)
