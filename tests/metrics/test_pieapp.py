import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features.pieapp import PieAPP
from facehal.metrics import MetricError
from facehal.metrics.pieapp import STRIDES, pieapp
from facehal.weights.converters import pieapp as published


def _random(n: int = 2, side: int = 91, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, side, side, 3)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def random_pieapp(install) -> None:
    # Positive in the dense layers: the patches' weights are summed and divided by.
    install("pieapp", published.network_shapes(), dense=True)


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
def test_is_the_networks_own_error(channels) -> None:
    a, b = _random(seed=1), _random(seed=2)
    errors = pieapp(a, b, channels=channels)
    assert errors.shape == (2,) and errors.dtype == np.float64 and np.isfinite(errors).all()
    direct = np.asarray(PieAPP(STRIDES["sparse"], channels)(a, b))
    np.testing.assert_allclose(errors, direct, rtol=1e-4)


def test_batch_size_changes_nothing() -> None:
    a, b = _random(seed=1), _random(seed=2)
    # Achieved: 2e-7.
    np.testing.assert_allclose(pieapp(a, b, batch_size=2), pieapp(a, b, batch_size=1), rtol=1e-4)


def test_dense_takes_more_patches() -> None:
    """70 px: one patch when sparse, four when dense."""
    a, b = _random(1, 70, 1), _random(1, 70, 2)
    a[:, 64:], b[:, 64:] = 0, 1
    alone = pieapp(a[:, :64, :64], b[:, :64, :64])
    np.testing.assert_allclose(pieapp(a, b), alone, rtol=1e-4)
    assert abs(pieapp(a, b, "dense") / alone - 1) > 1e-3


def test_impossible_input_is_one_line() -> None:
    with pytest.raises(MetricError, match="PieAPP needs pictures of 64x64 pixels or more"):
        pieapp(_random(side=63), _random(side=63))
    with pytest.raises(MetricError, match="one of sparse, dense"):
        pieapp(_random(), _random(), "27")
    with pytest.raises(MetricError, match="'bgr' or 'rgb'"):
        pieapp(_random(), _random(), channels="grey")
    with pytest.raises(MetricError, match=r"\[0, 1\]"):
        pieapp(_random(), _random() * 255)


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="pieapp"):
        pieapp(_random(), _random())
