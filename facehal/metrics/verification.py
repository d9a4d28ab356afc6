"""Verification, all against all (section 4.4): TPR at given FPRs over every pair of pictures.

LFW's 13,233 pictures make 87,549,528 pairs. Their scores are computed tile by tile and counted into
a histogram, so that the memory does not grow with the pairs. `Resampled` counts them again for
other weights of the people, for intervals.
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


KEPT_PAIRS = 200_000
"""Impostor pairs up to which `Resampled` keeps all, and at least so many of more."""

_REACH = 10  # times the largest FPR: the share of the impostor pairs that is kept of more


@dataclass(frozen=True)
class Rates:
    """What a threshold of some FPR accepts.

    Attributes:
        tpr: share of the genuine pairs.
        by_person: the mean over people of each one's share: LFW's George W Bush has 530 of its
            13,233 pictures, and 58 % of its genuine pairs.
    """

    tpr: float
    by_person: float


class Resampled:
    """All pairs of a set, to be counted for any weights of the people.

    A bootstrap over people draws some of them several times and others not at all: a pair counts as
    often as its people were drawn, one of two people as often as both together. Pairs of a person
    with a copy of the same person are none.

    Args:
        descriptors: as for `verification`.
        subjects: likewise.
        fprs: up to the largest of these it can be asked.
        scoring: one of `SCORINGS`.

    Raises:
        MetricError: as `verification`.
    """

    def __init__(
        self,
        descriptors: Any,
        subjects: Sequence[Any],
        fprs: Sequence[float] = (0.01,),
        scoring: str = "pearson",
    ):
        # Its threshold says which scores the highest are, and its checks are ours.
        people = _numbered(subjects, len(np.asarray(descriptors)))
        self.photos = np.bincount(people)
        count = len(people)
        impostor = count * (count - 1) // 2 - int((self.photos * (self.photos - 1) // 2).sum())
        share = max(_REACH * max(fprs), KEPT_PAIRS / impostor)
        lowest = -np.inf
        if share < 1:
            found = verification(descriptors, subjects, (share,), scoring)
            lowest = found.points[0].threshold
        rows, _, _, score = _scored(np.asarray(descriptors, np.float64), scoring)
        genuine: list[tuple[np.ndarray, np.ndarray]] = []
        others: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for first, second in _tiles(count):
            scores = score(rows[first], rows[second])
            one, two = np.broadcast_arrays(people[first, None], people[None, second])
            counted = np.ones(scores.shape, bool)
            if first == second:
                counted = np.triu(counted, 1)
            same = counted & (one == two)
            genuine.append((scores[same], one[same]))
            high = counted & (one != two) & (scores >= lowest)
            others.append((scores[high], one[high], two[high]))
        self._genuine, self._owner = map(np.concatenate, zip(*genuine, strict=True))
        self._impostor, self._first, self._second = map(np.concatenate, zip(*others, strict=True))
        order = np.argsort(-self._impostor, kind="stable")
        self._impostor = self._impostor[order]
        self._first, self._second = self._first[order], self._second[order]
        self._whole = share >= 1

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.photos)

    def rates(self, fprs: Sequence[float], weights: np.ndarray | None = None) -> list[Rates]:
        """At the lowest thresholds whose FPRs are not above these.

        Args:
            fprs: each at most the largest of those announced.
            weights: (people,), in the order in which they first come; by default 1 each.

        Raises:
            MetricError: no genuine or no impostor pair has any weight, or the announced FPRs were
                too small.
        """
        weights = np.ones(self.people) if weights is None else np.asarray(weights, np.float64)
        mass = weights * self.photos
        total = (mass.sum() ** 2 - np.square(mass).sum()) / 2
        pairs = self.photos * (self.photos - 1) / 2
        has = pairs > 0
        if total <= 0 or not weights[has].any():
            raise MetricError("no genuine or no impostor pair: too few people were drawn")
        above = np.cumsum(weights[self._first] * weights[self._second])
        found = []
        for fpr in fprs:
            rank = int(np.searchsorted(above, fpr * total * (1 + 1e-12), side="right"))
            if rank < len(self._impostor):
                accepted = self._genuine > self._impostor[rank]
            elif self._whole:
                accepted = np.ones(len(self._genuine), bool)
            else:
                raise MetricError(f"an FPR of {fpr} reaches beyond the pairs that were kept")
            right = np.bincount(self._owner[accepted], minlength=self.people)
            shares = right[has] / pairs[has]
            found.append(
                Rates(
                    tpr=float((weights * right).sum() / (weights * pairs).sum()),
                    by_person=float((weights[has] * shares).sum() / weights[has].sum()),
                )
            )
        return found


def draws_of_people(photos: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """How often each person is drawn when as many as there are are drawn with replacement.

    A draw without genuine or without impostor pairs, as small sets have them, is drawn again.

    Args:
        photos: (people,), pictures of each; two people or more, one of them with several.
        resamples: draws.
        seed: of all.

    Returns:
        (resamples, people) whole numbers.
    """
    random, people = np.random.default_rng(seed), len(photos)
    drawn: list[np.ndarray] = []
    while len(drawn) < resamples:
        weights = random.multinomial(people, np.full(people, 1 / people))
        if (weights > 0).sum() > 1 and weights[photos > 1].any():
            drawn.append(weights)
    return np.array(drawn)


def fold_accuracies(scores: Any, same: Any, folds: Any) -> np.ndarray:
    """LFW's protocol of pairs: for each fold the threshold that is best on all others.

    Args:
        scores: (n,), of pairs; higher is more alike.
        same: (n,), whether a pair is of one person.
        folds: (n,), the number of each pair's fold.

    Returns:
        The share of every fold's pairs that is told right, in the order of the numbers.

    Raises:
        MetricError: fewer than two folds, or arrays of other lengths.
    """
    scores, same, folds = np.asarray(scores, np.float64), np.asarray(same, bool), np.asarray(folds)
    numbers = np.unique(folds)
    if not len(scores) == len(same) == len(folds) or len(numbers) < 2:
        raise MetricError(f"{len(scores)} scores of pairs in {len(numbers)} folds: two are needed")
    accuracies = []
    for number in numbers:
        mine = folds == number
        threshold = _best_threshold(scores[~mine], same[~mine])
        accuracies.append(((scores[mine] >= threshold) == same[mine]).mean())
    return np.array(accuracies)


def _best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The one of the highest accuracy, between two scores; of several the lowest."""
    order = np.argsort(scores, kind="stable")
    ranked = same[order]
    # Element k: the k lowest are refused.
    right = np.concatenate([[0], np.cumsum(~ranked)]) + ranked.sum()
    right[1:] -= np.cumsum(ranked)
    values = scores[order]
    edges = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    # Between equal scores there is no threshold.
    possible = np.concatenate([[True], values[1:] > values[:-1], [True]])
    return float(edges[np.argmax(np.where(possible, right, -1))])
