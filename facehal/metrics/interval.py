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


def over_runs(values: Any, deviations: Any, seed: int = 0) -> Mean:
    """The mean of several trainings, with an interval for other trainings and another test set.

    Two sources of chance, added draw by draw: the trainings by Student's t over their spread, for a
    bootstrap of three values is far too sure of itself; the test set by what a bootstrap over it
    changes the mean. Of a single training only the second is known.

    Args:
        values: (runs,), one a training.
        deviations: (resamples,), what a bootstrap of the test set adds to the mean of the values.
        seed: of the draws of Student's t.

    Raises:
        MetricError: no values, or numbers that are not finite.
    """
    values, deviations = np.asarray(values, np.float64), np.asarray(deviations, np.float64)
    if not len(values) or not len(deviations):
        raise MetricError("a mean over trainings takes one training and one resample at least")
    if not (np.isfinite(values).all() and np.isfinite(deviations).all()):
        raise MetricError("a mean over trainings takes finite numbers")
    n, mean = len(values), float(values.mean())
    draws = np.tile(deviations, -(-20_000 // len(deviations)))
    if n > 1:
        error = values.std(ddof=1) / np.sqrt(n)
        draws = draws + error * np.random.default_rng(seed).standard_t(n - 1, len(draws))
    low, high = mean + np.quantile(draws, [0.025, 0.975])
    return Mean(mean, float(low), float(high), n)


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
