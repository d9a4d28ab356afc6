"""Verification, all against all (section 4.4): TPR at given FPRs over every pair of pictures.

LFW's 13,233 pictures make 87,549,528 pairs. Their scores are computed tile by tile and counted into
a histogram, so that the memory does not grow with the pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from facehal.metrics import MetricError
from facehal.metrics.match_score import standardised

SCORINGS = ("pearson", "cosine", "euclid")
"""Pearson correlation (the paper's), cosine, and minus the Euclidean distance (dlib's)."""

BINS = 1 << 20
"""Of the histogram; one is 2e-6 wide in Pearson and cosine."""

# 1024 x 1024 scores: 8 MB in float64, and a few such at a time.
_TILE = 1024


@dataclass(frozen=True)
class OperatingPoint:
    """One point of the ROC: accept pairs that score `threshold` or more.

    Attributes:
        wanted_fpr: the FPR that was asked for.
        fpr: share of the impostor pairs that are accepted: the largest not above `wanted_fpr` that
            an edge of the histogram's bins gives.
        tpr: share of the genuine pairs that are accepted.
        threshold: of the score (of `euclid`: minus the distance).
        slack: a threshold within a bin could raise `tpr` by this much at most, below `wanted_fpr`.
    """

    wanted_fpr: float
    fpr: float
    tpr: float
    threshold: float
    slack: float


@dataclass(frozen=True)
class Verification:
    """What a verification found.

    Attributes:
        scoring: one of `SCORINGS`.
        genuine: number of pairs of one subject.
        impostor: number of pairs of two subjects.
        points: one per FPR, in the order in which they were asked.
    """

    scoring: str
    genuine: int
    impostor: int
    points: tuple[OperatingPoint, ...]


def verification(
    descriptors: Any,
    subjects: Sequence[Any],
    fprs: Sequence[float] = (0.01,),
    scoring: str = "pearson",
    progress: bool = False,
) -> Verification:
    """Compare every picture with every other, each pair once and none with itself.

    Every point is exact: its rates are those of its threshold, counted over all pairs. Only the
    choice of the threshold is as coarse as a bin of the histogram (`OperatingPoint.slack`). No FPR
    below 1 / `impostor` can be told from 0.

    Args:
        descriptors: (n, d), one row per picture (`facehal.metrics.match_score.describe`).
        subjects: (n,), who is on each picture: names or numbers.
        fprs: from 0 to 1.
        scoring: one of `SCORINGS`.
        progress: draw a bar on standard error.

    Raises:
        MetricError: descriptors that are not (n, d), not finite, or have no direction; as many
            subjects as there are not pictures; no genuine or no impostor pair; unknown scoring;
            an FPR outside [0, 1].
    """
    if scoring not in SCORINGS:
        raise MetricError(f"scoring must be one of {', '.join(SCORINGS)}: {scoring!r}")
    fprs = tuple(float(fpr) for fpr in np.atleast_1d(np.asarray(fprs, np.float64)))
    if not fprs or not all(0 <= fpr <= 1 for fpr in fprs):
        raise MetricError(f"FPRs lie in [0, 1]: {fprs}")
    rows = np.asarray(descriptors, np.float64)
    if rows.ndim != 2 or not rows.shape[1]:
        raise MetricError(f"descriptors must be (n, d), not {rows.shape}")
    people = _numbered(subjects, len(rows))
    rows, low, high, score = _scored(rows, scoring)

    total, genuine = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    tiles = list(_tiles(len(rows)))
    for first, second in tqdm(tiles, desc="verification", unit="tile", disable=not progress):
        scores = score(rows[first], rows[second])
        scores -= low
        scores *= BINS / (high - low)
        bins = np.clip(scores, 0, BINS - 1, out=scores).astype(np.int64)
        same = people[first, None] == people[None, second]
        if first == second:
            upper = np.triu(np.ones(bins.shape, bool), 1)
            same &= upper
            total += np.bincount(bins[upper], minlength=BINS)
        else:
            total += np.bincount(bins.ravel(), minlength=BINS)
        genuine += np.bincount(bins[same], minlength=BINS)
    return _points(scoring, fprs, genuine, total - genuine, low, high)


def _numbered(subjects: Sequence[Any], count: int) -> np.ndarray:
    """The subjects as numbers, if they make genuine and impostor pairs."""
    labels = np.asarray(subjects)
    if labels.shape != (count,):
        raise MetricError(f"{count} descriptors need as many subjects, not {labels.shape}")
    people, names = pd.factorize(labels)
    if (people < 0).any():
        raise MetricError(f"picture {int(np.argmin(people))} has no subject")
    if len(names) < 2:
        raise MetricError("verification needs two subjects or more: there is no impostor pair")
    if len(names) == count:
        raise MetricError("no subject has two pictures: there is no genuine pair")
    return np.asarray(people)


def _scored(
    rows: np.ndarray, scoring: str
) -> tuple[np.ndarray, float, float, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """The rows made ready, the range of their scores, and the scores of all pairs of two blocks."""
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise MetricError(f"descriptor {int(np.argmin(finite))} has values that are not finite")
    if scoring == "euclid":
        # The distances do not feel it, but the rounding of what follows does.
        rows = rows - rows.mean(axis=0)
        reach = 2 * float(np.linalg.norm(rows, axis=1).max())
        if not reach:
            raise MetricError("all descriptors are equal: there is nothing to verify")
        return rows, -reach, 0.0, _minus_distance
    if scoring == "pearson":
        return standardised(rows), -1.0, 1.0, _products
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise MetricError(f"descriptor {int(np.argmin(lengths))} is zero: it has no cosine")
    return rows / lengths, -1.0, 1.0, _products


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a @ b.T)


def _minus_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares: np.ndarray = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
    squares -= 2 * (a @ b.T)
    np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
    np.negative(squares, out=squares)
    return squares


def _tiles(count: int) -> Iterator[tuple[slice, slice]]:
    """Slices of rows and columns that hold each pair once; on the diagonal, its upper triangle."""
    slices = [slice(start, min(start + _TILE, count)) for start in range(0, count, _TILE)]
    for number, first in enumerate(slices):
        for second in slices[number:]:
            yield first, second


def _points(
    scoring: str,
    fprs: Sequence[float],
    genuine: np.ndarray,
    impostor: np.ndarray,
    low: float,
    high: float,
) -> Verification:
    # From the highest score down: element k counts the pairs in the k best bins.
    accepted = [np.concatenate([[0], np.cumsum(bins[::-1])]) for bins in (genuine, impostor)]
    (tpr, genuine_pairs), (fpr, impostor_pairs) = ((c / c[-1], int(c[-1])) for c in accepted)
    points = []
    for wanted in fprs:
        best = int(np.searchsorted(fpr, wanted, side="right")) - 1
        further = min(best + 1, BINS)
        points.append(
            OperatingPoint(
                wanted_fpr=wanted,
                fpr=float(fpr[best]),
                tpr=float(tpr[best]),
                threshold=high - best * (high - low) / BINS,
                slack=float(tpr[further] - tpr[best]),
            )
        )
    return Verification(scoring, genuine_pairs, impostor_pairs, tuple(points))
