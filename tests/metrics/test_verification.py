import tracemalloc

import numpy as np
import pytest

from facehal.metrics import MetricError
from facehal.metrics import verification as module
from facehal.metrics.verification import (
    SCORINGS,
    Resampled,
    draws_of_people,
    fold_accuracies,
    verification,
)

FPRS = (1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0)


def _people(n: int, people: int, d: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors that scatter around one point per person."""
    random = np.random.default_rng(seed)
    subjects = random.integers(0, people, n)
    centres = random.normal(size=(people, d))
    return centres[subjects] + 1.2 * random.normal(size=(n, d)), subjects


def _all_scores(descriptors: np.ndarray, subjects: np.ndarray, scoring: str):
    """Score and truth of every pair, the plain way."""
    rows, columns = np.triu_indices(len(subjects), 1)
    if scoring == "pearson":
        matrix = np.corrcoef(descriptors)
    elif scoring == "cosine":
        unit = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
        matrix = unit @ unit.T
    else:
        matrix = -np.linalg.norm(descriptors[:, None] - descriptors[None], axis=2)
    return matrix[rows, columns], subjects[rows] == subjects[columns]


@pytest.mark.parametrize("scoring", SCORINGS)
def test_equal_to_scikit_learn(scoring: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn (extra: reference)")
    descriptors, subjects = _people(400, 40)
    scores, genuine = _all_scores(descriptors, subjects, scoring)
    fpr, tpr, _ = metrics.roc_curve(genuine, scores, drop_intermediate=False)
    found = verification(descriptors, subjects, FPRS, scoring)
    assert (found.genuine, found.impostor) == (genuine.sum(), (~genuine).sum())
    for wanted, point in zip(FPRS, found.points, strict=True):
        theirs = tpr[np.searchsorted(fpr, wanted, side="right") - 1]
        # Achieved: 0, with no slack.
        assert theirs - point.slack <= point.tpr <= theirs
        assert point.slack <= 2 / found.genuine


@pytest.mark.parametrize("scoring", SCORINGS)
def test_rates_are_those_of_the_threshold(scoring: str) -> None:
    descriptors, subjects = _people(300, 30)
    scores, genuine = _all_scores(descriptors, subjects, scoring)
    for point in verification(descriptors, subjects, FPRS, scoring).points:
        accepted = scores >= point.threshold
        assert point.tpr == accepted[genuine].mean()
        assert point.fpr == accepted[~genuine].mean() <= point.wanted_fpr


@pytest.mark.parametrize("count", [1023, 1024, 1025, 2100])
def test_tiles_hold_each_pair_once(count: int) -> None:
    descriptors, subjects = _people(count, 50, d=8)
    found = verification(descriptors, subjects, (0.01,))
    per_person = np.bincount(subjects)
    assert found.genuine == (per_person * (per_person - 1) // 2).sum()
    assert found.genuine + found.impostor == count * (count - 1) // 2
    scores, genuine = _all_scores(descriptors, subjects, "pearson")
    accepted = scores >= found.points[0].threshold
    assert found.points[0].tpr == accepted[genuine].mean()
    assert found.points[0].fpr == accepted[~genuine].mean()


def test_memory_does_not_hold_all_pairs() -> None:
    descriptors, subjects = _people(5000, 500)
    tracemalloc.start()
    verification(descriptors, subjects)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # An N x N matrix would take 200 MB in float64.
    assert peak < 90e6


def test_names_as_subjects_and_order_do_not_matter() -> None:
    descriptors, subjects = _people(200, 20)
    names = [f"Person_{s}" for s in subjects]
    order = np.random.default_rng(1).permutation(200)
    expected = verification(descriptors, subjects, FPRS)
    assert verification(descriptors, names, FPRS) == expected
    shuffled = verification(descriptors[order], [names[i] for i in order], FPRS)
    assert [p.tpr for p in shuffled.points] == [p.tpr for p in expected.points]


def test_pearson_feels_neither_scale_nor_offset() -> None:
    descriptors, subjects = _people(200, 20)
    changed = descriptors * np.linspace(1, 5, 200)[:, None] + np.arange(200)[:, None] % 7
    a, b = (verification(x, subjects, FPRS) for x in (descriptors, changed))
    assert [p.tpr for p in a.points] == [p.tpr for p in b.points]


def test_euclid_does_not_lose_near_pairs_to_a_far_origin() -> None:
    descriptors, subjects = _people(200, 20)
    near = verification(descriptors, subjects, FPRS, "euclid")
    far = verification(descriptors + 1e5, subjects, FPRS, "euclid")
    assert [p.tpr for p in near.points] == [p.tpr for p in far.points]


def test_perfect_and_inverted_descriptors() -> None:
    subjects = np.repeat(np.arange(3), 2)
    perfect = verification(np.eye(3)[subjects], subjects, (0.0, 0.01))
    assert [(p.tpr, p.fpr) for p in perfect.points] == [(1, 0), (1, 0)]
    # Each person's two pictures are opposite to one another.
    opposite = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], float)
    worst = verification(opposite, [0, 0, 1, 1], (0.0, 0.5, 1.0), "cosine")
    assert [p.tpr for p in worst.points] == [0, 0, 1]


def test_ties_are_told_as_slack() -> None:
    """Every pair scores the same: no threshold lets some in."""
    point = verification(np.tile([1.0, 2, 3], (4, 1)), [0, 0, 1, 1], (0.5,)).points[0]
    assert (point.tpr, point.fpr, point.slack) == (0, 0, 1)


@pytest.mark.parametrize(
    ("descriptors", "subjects", "options", "reason"),
    [
        (np.eye(3), [1, 1, 1], {}, "two subjects or more"),
        (np.eye(3), [1, 2, 3], {}, "no genuine pair"),
        (np.eye(3), [1, 1], {}, "3 descriptors need as many subjects"),
        (np.eye(3), ["a", "a", None], {}, "picture 2 has no subject"),
        (np.array([[1, 2.0], [np.nan, 1], [2, 1]]), [1, 1, 2], {}, "descriptor 1 has values"),
        (np.array([[1, 2.0], [3, 3], [2, 1]]), [1, 1, 2], {}, "descriptor 1 is constant"),
        (np.array([[1, 2.0], [0, 0], [2, 1]]), [1, 1, 2], {"scoring": "cosine"}, "1 is zero"),
        (np.ones((3, 2)), [1, 1, 2], {"scoring": "euclid"}, "all descriptors are equal"),
        (np.eye(3)[0], [1, 1, 2], {}, "must be \\(n, d\\)"),
        (np.zeros((0, 3)), [], {}, "two subjects or more"),
        (np.eye(3), [1, 1, 2], {"fprs": (1.5,)}, "FPRs lie in"),
        (np.eye(3), [1, 1, 2], {"fprs": ()}, "FPRs lie in"),
        (np.eye(3), [1, 1, 2], {"fprs": (np.nan,)}, "FPRs lie in"),
        (np.eye(3), [1, 1, 2], {"scoring": "manhattan"}, "scoring must be one of"),
    ],
)
def test_impossible_input_is_one_line(descriptors, subjects, options, reason: str) -> None:
    with pytest.raises(MetricError, match=reason) as caught:
        verification(descriptors, subjects, **options)
    assert "\n" not in str(caught.value)


# -- Counted again with other weights of the people.


def test_with_equal_weights_the_rates_are_those_of_all_pairs() -> None:
    descriptors, subjects = _people(400, 40)
    fprs = (0.001, 0.01)
    for found, point in zip(
        Resampled(descriptors, subjects, fprs).rates(fprs),
        verification(descriptors, subjects, fprs).points,
        strict=True,
    ):
        assert point.tpr <= found.tpr <= point.tpr + point.slack


def test_weights_are_as_if_people_were_there_so_often() -> None:
    """A person drawn twice: two people with the same pictures, which are never compared."""
    descriptors, subjects = _people(120, 12)
    weights = np.array([2, 0, 1, 3, 1, 1, 0, 2, 1, 1, 0, 0])
    found = Resampled(descriptors, subjects, (0.05,))
    order = list(dict.fromkeys(subjects.tolist()))  # people are numbered as they come
    (ours,) = found.rates((0.05,), weights)
    genuine, impostor, shares = [], [], []
    scores = np.corrcoef(descriptors)
    for a, weight in zip(order, weights, strict=True):
        rows = np.flatnonzero(subjects == a)
        own = scores[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)]
        genuine += [own] * weight
        for b, other in zip(order, weights, strict=True):
            if order.index(b) > order.index(a):
                columns = np.flatnonzero(subjects == b)
                impostor += [scores[np.ix_(rows, columns)].ravel()] * (weight * other)
    ranked = np.sort(np.concatenate(impostor))[::-1]
    threshold = ranked[int(0.05 * len(ranked))]
    accepted = np.concatenate(genuine) > threshold
    assert ours.tpr == pytest.approx(accepted.mean(), abs=1e-12)
    shares = [(one > threshold).mean() for one in genuine]
    assert ours.by_person == pytest.approx(np.mean(shares), abs=1e-12)


def test_only_the_highest_scores_are_kept_of_many(monkeypatch) -> None:
    descriptors, subjects = _people(400, 40)
    whole = Resampled(descriptors, subjects, (0.01,))
    monkeypatch.setattr(module, "KEPT_PAIRS", 100)
    part = Resampled(descriptors, subjects, (0.01,))
    assert len(part._impostor) < len(whole._impostor) / 5
    for weights in draws_of_people(whole.photos, 20):
        assert part.rates((0.01,), weights) == whole.rates((0.01,), weights)
    with pytest.raises(MetricError, match="beyond the pairs"):
        part.rates((0.5,))


def test_draws_leave_pairs_of_both_kinds() -> None:
    draws = draws_of_people(np.array([5, 1]), 50)
    assert (draws == 1).all()  # any other draw of two has but one person
    many = draws_of_people(np.full(30, 4), 2000)
    assert (many.sum(1) == 30).all() and abs(many.mean() - 1) < 1e-9
    assert many.var() == pytest.approx(29 / 30, rel=0.05)


def test_ten_folds() -> None:
    """Each fold by the threshold of the others: where all agree, their common accuracy."""
    random = np.random.default_rng(0)
    same = random.random(2000) < 0.5
    scores = random.normal(size=2000) + 2 * same
    folds = np.arange(2000) % 10
    accuracies = fold_accuracies(scores, same, folds)
    assert len(accuracies) == 10
    # Two normals two deviations apart: Φ(1) = 0.841.
    assert accuracies.mean() == pytest.approx(0.841, abs=0.02)
    for fold in (0, 7):
        others, mine = folds != fold, folds == fold
        best = max((((scores[others] >= t) == same[others]).mean(), -t) for t in scores[others])
        told = ((scores[mine] >= -best[1]) == same[mine]).mean()
        assert accuracies[fold] == pytest.approx(told, abs=1e-12)
    assert fold_accuracies([1, 0, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1]).tolist() == [1, 1]
    with pytest.raises(MetricError, match="two are needed"):
        fold_accuracies(scores, same, np.zeros(2000))
