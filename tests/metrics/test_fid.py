import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator

import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features.inception_v3 import InceptionV3
from facehal.metrics import MetricError
from facehal.metrics.fid import (
    TITLES,
    features,
    fid,
    frechet_distance,
    frechet_distance_of_statistics,
    frechet_dlib,
    statistics,
)
from facehal.metrics.match_score import describe
from facehal.weights.converters import inception as published


def _features(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Like those of a network: positive, correlated, with variances over three decades."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(d, d)) * np.logspace(0, -1.5, d)
    return np.abs(random.normal(size=(n, d)) @ mixing * 0.1 + 0.4).astype(np.float32)


@pytest.fixture(scope="module")
def theirs() -> Iterator[types.ModuleType]:
    """torch-fidelity's statistics and distance.

    The package imports torchvision, which its module `metric_fid` needs only to read pictures: its
    `utils` is left out.
    """
    pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    spec = importlib.util.find_spec("torch_fidelity")
    if spec is None:
        pytest.skip("needs torch-fidelity (extra: reference)")
    package, utils = (types.ModuleType(n) for n in ("torch_fidelity", "torch_fidelity.utils"))
    package.__path__ = list(spec.submodule_search_locations or [])
    utils.__getattr__ = lambda name: None  # type: ignore[method-assign]
    before = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "torch_fidelity"}
    for name in before:
        del sys.modules[name]
    sys.modules.update({"torch_fidelity": package, "torch_fidelity.utils": utils})
    yield importlib.import_module("torch_fidelity.metric_fid")
    for name in [n for n in sys.modules if n.split(".")[0] == "torch_fidelity"]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 300, 64), (200, 500, 64), (65, 65, 64)])
def test_equal_to_torch_fidelity(n: int, m: int, d: int, theirs) -> None:
    torch = pytest.importorskip("torch")
    sets = [_features(n, d, 1), _features(m, d, 2)]
    published = [
        theirs.fid_features_to_statistics(torch.tensor(x, dtype=torch.float64)) for x in sets
    ]
    for (mean, covariance), their in zip(map(statistics, sets), published, strict=True):
        # Achieved: 0.
        np.testing.assert_allclose(mean, their["mu"], rtol=1e-12)
        np.testing.assert_allclose(covariance, their["sigma"], rtol=1e-12, atol=1e-15)
    value = theirs.fid_statistics_to_metric(*published, False)["frechet_inception_distance"]
    # Achieved: 2e-14.
    assert frechet_distance(*sets) == pytest.approx(value, rel=1e-5)
    ours = frechet_distance_of_statistics(statistics(sets[0]), statistics(sets[1]))
    assert ours == pytest.approx(value, rel=1e-5)


def test_equal_to_torch_fidelity_for_few_samples(theirs) -> None:
    """Fewer pictures than features: its eigenvalues of a singular product are rounding in part."""
    torch = pytest.importorskip("torch")
    sets = [_features(40, 200, 1), _features(50, 200, 2)]
    published = [
        theirs.fid_features_to_statistics(torch.tensor(x, dtype=torch.float64)) for x in sets
    ]
    value = theirs.fid_statistics_to_metric(*published, False)["frechet_inception_distance"]
    # Achieved: 6e-8.
    assert frechet_distance(*sets) == pytest.approx(value, rel=1e-5)


def test_equal_to_the_published_formula() -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="needs SciPy")
    sets = [_features(150, 48, 3), _features(170, 48, 4)]
    (m1, s1), (m2, s2) = (statistics(x) for x in sets)
    formula = np.sum((m1 - m2) ** 2) + np.trace(s1 + s2 - 2 * linalg.sqrtm(s1 @ s2).real)
    # Achieved: 2e-14.
    assert frechet_distance(*sets) == pytest.approx(formula, rel=1e-9)


def test_known_distance_of_two_gaussians() -> None:
    """Covariances that commute: the sum of squared differences of means and deviations."""
    base = np.random.default_rng(0).normal(size=(500, 3))
    base = (base - base.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(base.T))).T
    a, b = base * [1, 2, 3] + 1, base * [2, 2, 1] - 1
    assert frechet_distance(a, b) == pytest.approx(3 * 4 + 1 + 0 + 4, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(2, 2048), (10, 2048), (64, 64), (300, 20), (5, 1)])
def test_equal_sets_are_at_zero_and_the_distance_is_symmetric(n: int, d: int) -> None:
    a = _features(n, d, 1)
    scale = np.trace(statistics(a)[1])
    # Achieved: 0.
    assert 0 <= frechet_distance(a, a[::-1]) < 1e-12 * scale
    b = _features(n + 1, d, 2)
    there, back = frechet_distance(a, b), frechet_distance(b, a)
    assert np.isfinite(there) and there > 0
    assert there == pytest.approx(back, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(30, 60), (60, 60), (90, 60)])
def test_features_and_statistics_agree(n: int, d: int) -> None:
    a, b = _features(n, d, 1), _features(n, d, 2)
    of_statistics = frechet_distance_of_statistics(statistics(a), statistics(b))
    # Achieved: 1e-15.
    assert of_statistics == pytest.approx(frechet_distance(a, b), rel=1e-7)


def test_features_without_variance() -> None:
    """Pictures that are all the same: the distance of the means remains."""
    a, b = np.zeros((4, 8)), np.full((4, 8), 0.5)
    assert frechet_distance(a, b) == 8 * 0.25
    assert frechet_distance_of_statistics(statistics(a), statistics(b)) == 8 * 0.25


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (np.zeros((1, 4)), np.zeros((3, 4)), "n of 2 or more, not \\(1, 4\\)"),
        (np.zeros(4), np.zeros((3, 4)), "not \\(4,\\)"),
        (np.zeros((3, 4)), np.zeros((3, 5)), "4 and 5 values"),
        (np.full((3, 4), np.nan), np.zeros((3, 4)), "not finite"),
    ],
)
def test_impossible_features_are_one_line(a, b, reason: str) -> None:
    with pytest.raises(MetricError, match=reason) as caught:
        frechet_distance(a, b)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mean", "covariance", "reason"),
    [
        (np.zeros(3), np.eye(2), "statistics are"),
        (np.zeros(2), np.full((2, 2), np.nan), "not finite"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.1, 1.0]]), "symmetric"),
        (np.zeros(2), np.diag([1.0, -1.0]), "negative eigenvalue"),
    ],
)
def test_impossible_statistics_are_one_line(mean, covariance, reason: str) -> None:
    with pytest.raises(MetricError, match=reason):
        frechet_distance_of_statistics((mean, covariance), (np.zeros(2), np.eye(2)))


# In dlib's space: every install has its weights.


def test_dlib_distance(faces: np.ndarray) -> None:
    a, b = faces[:6], faces[4:]
    assert frechet_dlib(a, a) == pytest.approx(0, abs=1e-10)
    value = frechet_dlib(a, b)
    assert value == frechet_distance(describe(a, "dlib_resnet"), describe(b, "dlib_resnet"))
    assert value == pytest.approx(frechet_dlib(b, a), rel=1e-9)
    assert value == pytest.approx(frechet_dlib(a, b, batch_size=4), rel=1e-4)


def test_dlib_distance_is_not_called_fid(faces: np.ndarray) -> None:
    assert "FID" not in TITLES["dlib_resnet"]
    with pytest.raises(MetricError, match="FID's mode must be one of tf2015, clean"):
        fid(faces, faces, mode="dlib_resnet")


def test_too_few_or_wrong_pictures_are_one_line(faces: np.ndarray) -> None:
    with pytest.raises(MetricError, match="two pictures or more"):
        frechet_dlib(faces, faces[:1])
    with pytest.raises(MetricError, match="the hallucinated must lie"):
        frechet_dlib(faces, faces * 255)
    with pytest.raises(MetricError, match="mode must be one of"):
        features(faces, "inception")


def test_missing_weights_say_how_to_get_them(faces, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="inception"):
        fid(faces, faces)


def test_fid_is_the_distance_of_the_modes_features(faces, install) -> None:
    install("inception", published.SHAPES)
    a, b = faces[:2], faces[9:]
    both = {}
    for mode in ("tf2015", "clean"):
        network = InceptionV3(mode=mode)
        both[mode] = [np.asarray(network(x, training=False)) for x in (a, b)]
        assert both[mode][0].shape == (2, 2048)
        # Achieved: 2e-7.
        assert fid(a, b, mode, batch_size=1) == pytest.approx(
            frechet_distance(*both[mode]), rel=1e-4
        )
    difference = np.abs(both["tf2015"][0] - both["clean"][0]).max()
    assert difference > 1e-3 * np.abs(both["clean"][0]).max()
