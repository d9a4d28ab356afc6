import numpy as np
import pytest

from facehal.metrics import MetricError
from facehal.metrics.interval import Mean, bootstrap_mean, over_runs


def test_equal_to_scipy() -> None:
    """The same percentile bootstrap; the draws differ, so the ends agree to their own noise."""
    stats = pytest.importorskip("scipy.stats", reason="needs SciPy")
    values = np.random.default_rng(3).gamma(2.0, size=80)
    ours = bootstrap_mean(values, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=1
    ).confidence_interval
    spread = values.std() / np.sqrt(len(values))
    assert ours.value == values.mean()
    # Achieved: 0.02 of the standard error.
    np.testing.assert_allclose([ours.low, ours.high], theirs, atol=0.06 * spread)


def test_covers_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        mean = bootstrap_mean(random.normal(5, 2, 60), resamples=400)
        held += mean.low <= 5 <= mean.high
    assert 0.91 <= held / 400 <= 0.98


def test_seeded() -> None:
    values = np.random.default_rng(1).uniform(size=30)
    assert bootstrap_mean(values) == bootstrap_mean(list(values))
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values)
    wide, narrow = bootstrap_mean(values, 0.99), bootstrap_mean(values, 0.5)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_equal_values_and_a_single_one() -> None:
    assert bootstrap_mean([0.25] * 5) == Mean(0.25, 0.25, 0.25, 5)
    single = bootstrap_mean([0.25])
    assert single.value == 0.25 and single.n == 1
    assert np.isnan([single.low, single.high]).all()


def test_many_values_stay_in_bounded_memory() -> None:
    values = np.random.default_rng(1).uniform(size=13_233)
    mean = bootstrap_mean(values, resamples=1000)
    error = values.std() / np.sqrt(len(values))
    assert (mean.high - mean.low) / 2 == pytest.approx(1.96 * error, rel=0.1)


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        ([], {}, "n of 1 or more"),
        ([[1.0]], {}, "not \\(1, 1\\)"),
        ([1.0, np.nan], {}, "value 1 of a mean is nan"),
        ([1.0, np.inf], {}, "not a finite number"),
        (["a"], {}, "takes numbers"),
        ([1.0, 2.0], {"confidence": 95}, "between 0 and 1"),
        ([1.0, 2.0], {"resamples": 0}, "1 or more"),
    ],
)
def test_impossible_input_is_one_line(values, options, reason: str) -> None:
    with pytest.raises(MetricError, match=reason) as caught:
        bootstrap_mean(values, **options)
    assert "\n" not in str(caught.value)


def test_over_runs_covers_the_truth_with_three_trainings() -> None:
    """Chance of the training and of the test set, both as large; a bootstrap of three would hold
    the truth in 80 % at best."""
    random, held = np.random.default_rng(0), 0
    for _ in range(300):
        shift = random.normal()  # of the test set, the same for every training
        values = 5 + shift + random.normal(size=3)
        mean = over_runs(values, random.normal(size=400))
        held += mean.low <= 5 <= mean.high
    assert 0.93 <= held / 300 <= 0.995


def test_over_runs_of_one_training_knows_the_test_set_alone() -> None:
    deviations = np.linspace(-1, 1, 1001)
    mean = over_runs([0.5], deviations)
    assert mean == Mean(0.5, pytest.approx(-0.45), pytest.approx(1.45), 1)
    wide = over_runs([0.4, 0.6], deviations)
    assert wide.low < mean.low and wide.high > mean.high and wide.n == 2
    for values, others in (([], [0.0]), ([0.1], []), ([np.nan], [0.0]), ([0.1], [np.inf])):
        with pytest.raises(MetricError):
            over_runs(values, others)
