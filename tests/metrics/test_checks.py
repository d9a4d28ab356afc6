"""What every metric refuses, and how batches are made."""

import numpy as np
import pytest

from facehal.errors import FacehalError
from facehal.metrics import MetricError, checked, checked_pairs, in_batches


def _pictures(n: int = 2, side: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, side, side, 3)).astype(np.float32)


def test_errors_are_both_a_value_error_and_ours() -> None:
    assert issubclass(MetricError, ValueError)
    assert issubclass(MetricError, FacehalError)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (_pictures()[0], "RGB pictures"),
        (_pictures()[..., :1], "RGB pictures"),
        (_pictures()[:0], "no picture"),
        ((_pictures() * 255).astype(np.uint8), "not uint8"),
        (_pictures() * 255, "must lie in \\[0, 1\\]"),
        (_pictures() * 2 - 1, "must lie in \\[0, 1\\]"),
        (np.where(_pictures() > 0.5, np.nan, 0.5), "not finite"),
        (np.where(_pictures() > 0.5, np.inf, 0.5), "not finite"),
        ("pictures", "RGB pictures"),
        (None, "RGB pictures"),
    ],
)
def test_wrong_pictures_are_one_line(bad, reason) -> None:
    with pytest.raises(MetricError, match=reason) as caught:
        checked(bad)
    assert "\n" not in str(caught.value)


def test_rounding_past_the_range_is_no_error() -> None:
    images = np.full((1, 4, 4, 3), 1 + 2e-7, np.float32)
    assert images.max() > 1
    assert checked(images) is images
    with pytest.raises(MetricError, match="must lie"):
        checked(images + np.float32(2e-5))


def test_pairs_must_match_and_be_large_enough() -> None:
    with pytest.raises(MetricError, match="pairs of one shape"):
        checked_pairs(_pictures(2), _pictures(3))
    with pytest.raises(MetricError, match="pairs of one shape"):
        checked_pairs(_pictures(side=4), _pictures(side=8))
    with pytest.raises(MetricError, match="the hallucinated must be floating"):
        checked_pairs(_pictures(), (_pictures() * 255).astype(np.uint8))
    with pytest.raises(MetricError, match="SSIM needs pictures of 5x5 pixels or more, not 4x4"):
        checked_pairs(_pictures(), _pictures(), 5, "SSIM")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_batches_cover_everything_once(batch_size: int, capsys) -> None:
    images = _pictures(7).astype(np.float64)
    sizes = []

    def twice(batch: np.ndarray) -> np.ndarray:
        assert batch.dtype == np.float32
        sizes.append(len(batch))
        return batch * 2

    result = in_batches(twice, images, batch_size=batch_size, progress=False, label="twice")
    np.testing.assert_array_equal(result, images.astype(np.float32) * 2)
    assert set(sizes) == {min(batch_size, 7)}, "one size, so that XLA compiles once"
    assert capsys.readouterr().err == ""


def test_progress_draws_a_bar(capsys) -> None:
    in_batches(lambda x: x, _pictures(3), batch_size=2, progress=True, label="copying")
    assert "copying" in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, "8"])
def test_impossible_batch_size_is_one_line(batch_size) -> None:
    with pytest.raises(MetricError, match="batch_size must be a whole number"):
        in_batches(lambda x: x, _pictures(), batch_size=batch_size, progress=False, label="")
