import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features import descriptors, dlib_resnet, resnet50
from facehal.features.descriptors import NAMES, Descriptor, descriptor


@pytest.fixture(scope="module")
def slim() -> Descriptor:
    network = resnet50.ResNet50(weights=None, width=2, features=5)
    return Descriptor("slim", 5, lambda pictures: network(pictures, training=False))


def _pictures(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), np.uint8)


def test_batch_size_and_type_change_nothing(slim: Descriptor) -> None:
    pictures = _pictures(5)
    expected = slim(pictures)
    assert expected.shape == (5, 5)
    assert expected.dtype == np.float32
    tolerance = 1e-5 * np.abs(expected).max()
    for batch_size in (1, 2, 5):
        np.testing.assert_allclose(slim(pictures, batch_size), expected, atol=tolerance)
    as_floats = pictures.astype(np.float32) / 255
    np.testing.assert_allclose(slim(as_floats), expected, atol=tolerance)
    assert slim(pictures[:0]).shape == (0, 5)


@pytest.mark.parametrize(
    ("pictures", "reason"),
    [
        (np.zeros((2, 8, 8), np.float32), "n, H, W, 3"),
        (np.zeros((2, 8, 8, 4), np.float32), "n, H, W, 3"),
        (np.zeros((2, 8, 8, 3), np.int32), "uint8 or float"),
        (np.full((2, 8, 8, 3), 255.0), r"in \[0, 1\]"),
        (np.full((2, 8, 8, 3), -0.5), r"in \[0, 1\]"),
        (np.full((2, 8, 8, 3), np.nan), r"in \[0, 1\]"),
    ],
)
def test_wrong_pictures_are_refused(slim: Descriptor, pictures: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        slim(pictures)
    assert "\n" not in str(caught.value)


def test_the_one_of_every_install() -> None:
    describe = descriptor("dlib_resnet")
    assert (describe.name, describe.size) == ("dlib_resnet", 128)
    pictures = _pictures(2)
    network = dlib_resnet.DlibResNet()
    chips = dlib_resnet.aligned_chip(pictures.astype(np.float32) / 255)
    expected = np.asarray(network(chips, training=False))
    np.testing.assert_allclose(describe(pictures), expected, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dlib_resnet"])
def test_missing_weights_are_an_error_and_nothing_stands_in(
    name: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="facehal weights get") as caught:
        descriptor(name)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_listed() -> None:
    with pytest.raises(ValueError, match="resnet50_256d, dlib_resnet"):
        descriptor("resnet50")
    assert set(NAMES) == set(descriptors._NETWORKS)
