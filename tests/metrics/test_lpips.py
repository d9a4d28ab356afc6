from pathlib import Path

import cv2
import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.metrics import MetricError
from facehal.metrics.lpips import lpips

pytestmark = pytest.mark.usefixtures("weights")


def _random(n: int = 5, side: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("version", "published"), [("0.0", (0.405575, 0.083881)), ("0.1", (0.721881, 0.137566))]
)
def test_equal_to_the_authors_numbers(version: str, published, shared: Path) -> None:
    folder = shared / "weights/lpips/reference"
    ref, p0, p1 = (cv2.imread(str(folder / f"ex_{name}.png")) for name in ("ref", "p0", "p1"))
    pairs = np.stack([ref, ref]), np.stack([p0, p1])
    distances = lpips(*(p[..., ::-1].astype(np.float32) / 255 for p in pairs), version=version)
    assert distances.dtype == np.float64
    # Achieved: 6e-7 on both backends, the rounding of the published digits.
    np.testing.assert_allclose(distances, published, atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_batch_size_changes_nothing(batch_size: int) -> None:
    pairs = _random(seed=1), _random(seed=2)
    # Achieved: 0 on TensorFlow, 2e-7 on JAX.
    np.testing.assert_allclose(
        lpips(*pairs, batch_size=batch_size), lpips(*pairs, batch_size=3), rtol=1e-5
    )


def test_equal_pictures_are_at_zero_and_the_rest_symmetric() -> None:
    a, b = _random(seed=1), _random(seed=2)
    np.testing.assert_array_equal(lpips(a, a), 0)
    np.testing.assert_allclose(lpips(a, b), lpips(b, a), rtol=1e-6)
    assert (lpips(a, b) > 0).all()


def test_impossible_input_is_one_line() -> None:
    with pytest.raises(MetricError, match="LPIPS needs pictures of 31x31 pixels or more"):
        lpips(_random(side=30), _random(side=30))
    with pytest.raises(MetricError, match="version"):
        lpips(_random(), _random(), version="0.2")
    with pytest.raises(MetricError, match=r"\[0, 1\]"):
        lpips(_random(), _random() * 2 - 1)


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="facehal weights get alexnet"):
        lpips(_random(), _random())
