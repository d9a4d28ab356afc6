"""What a cell says where a metric's weights are absent, damaged, or come with pip."""

import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.evaluation.measures import MEASURES, Originals, measure
from facehal.weights import store


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of weights."""
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    return tmp_path


def said(key: str) -> str:
    pictures = np.zeros((2, 64, 64, 3), np.float32)
    return measure(MEASURES[key], Originals(pictures), pictures, demanded=False).missing


def test_what_is_absent_is_named(folder):
    get = "`facehal weights get {}`".format
    assert said("lpips") == f"needs: {get('alexnet')} and {get('lpips')}"
    (folder / "alexnet.npz").touch()
    assert said("lpips") == f"needs: {get('lpips')}"


@pytest.mark.parametrize("key", ["lpips", "pieapp"])
def test_a_damaged_file_is_not_called_missing(folder, key):
    for name in ("alexnet", "lpips", "pieapp"):
        (folder / f"{name}.npz").write_bytes(b"damaged")
    assert str(folder) in said(key) and "cannot be read as .npz" in said(key)
    assert "weights get" not in said(key)


def test_weights_that_come_with_pip(monkeypatch):
    monkeypatch.setattr(store, "_find", lambda entry: None)
    with pytest.raises(WeightsError) as caught:
        store.path("dlib_resnet")
    assert "pip install" in str(caught.value)
    assert said("match_dlib") == said("frechet_dlib") == str(caught.value)
