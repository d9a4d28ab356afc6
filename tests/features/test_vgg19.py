"""VGG-19 proved on a slim network of the same form; the real weights are no part of the tests."""

from pathlib import Path

import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features.vgg19 import SMALLEST, Vgg19
from facehal.weights import store
from facehal.weights.converters import vgg19 as published

CHANNELS = (4, 6, 8, 8, 10)
SHAPES = published.network_shapes(CHANNELS)
LAYERS = list(published.PLACES)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path / "store"))
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def _pytorch(torch):
    """torchvision's ``vgg19().features`` for CHANNELS, with its classifier's name in the file."""
    layers, inputs = [], 3
    for outputs, count in zip(CHANNELS, (2, 2, 4, 4, 4), strict=True):
        for _ in range(count):
            layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1), torch.nn.ReLU()]
            inputs = outputs
        layers.append(torch.nn.MaxPool2d(2))
    network = torch.nn.Module()
    network.features = torch.nn.Sequential(*layers[:-1])  # small pictures cannot be pooled again
    network.classifier = torch.nn.Sequential(torch.nn.Linear(3, 3))
    return network


def test_published_sizes() -> None:
    """Of the layers up to conv5_2: 15.3 of the trunk's 20.0 million."""
    assert (
        sum(np.prod(s) for s in published.SHAPES.values()) == 20_024_384 - 2 * (9 * 512 + 1) * 512
    )


@pytest.mark.parametrize("side", [SMALLEST, 40, 64])
def test_equal_to_pytorch_through_its_state_dict(folder: Path, tmp_path: Path, side: int) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    torch.manual_seed(3)
    network = _pytorch(torch)
    for parameter in network.features.parameters():
        if parameter.ndim == 4:  # keep the signal alive
            torch.nn.init.kaiming_normal_(parameter)
    torch.save(network.state_dict(), tmp_path / "vgg19-dcbb9e9d.pth")
    converted = published.convert(tmp_path / "vgg19-dcbb9e9d.pth", SHAPES)
    np.savez(folder / "vgg19.npz", **converted)
    np.savez(tmp_path / "again.npz", **converted)
    for name, array in published.convert(tmp_path / "again.npz", SHAPES).items():
        np.testing.assert_array_equal(array, converted[name])

    pictures = np.random.default_rng(side).uniform(0, 1, (2, side, side, 3)).astype(np.float32)
    x = torch.tensor(pictures).permute(0, 3, 1, 2)
    theirs, names = {}, iter(LAYERS)
    with torch.no_grad():
        for layer in network.features:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                theirs[next(names, "beyond")] = x.permute(0, 2, 3, 1).numpy()
    # Out of order, and not all of them.
    taps = ["conv5_2", *LAYERS[:-1:2], "conv1_2"]
    model = Vgg19(taps, channels=CHANNELS)
    assert not model.trainable_variables
    for name, ours in zip(taps, model(pictures, training=False), strict=True):
        difference = np.abs(np.asarray(ours) - theirs[name]).max() / theirs[name].max()
        assert difference < 1e-5, f"{name} at {side} pixels: {difference:.1e}"  # achieved: 1e-6


def test_missing_weights_say_how_to_get_them() -> None:
    with pytest.raises(WeightsError, match="facehal weights get vgg19") as caught:
        Vgg19(["conv1_1"])
    text = str(caught.value)
    assert "facehal weights import vgg19 FILE" in text and "vgg19-dcbb9e9d.pth" in text


def test_unknown_layers_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no conv5_3"):
        Vgg19(["conv1_1", "conv5_3"], weights=None)
    for content in (b"", b"<!DOCTYPE html>", bytes(5000)):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(WeightsError, match="refused as a PyTorch weight file"):
            store.import_file("vgg19", tmp_path / "x.pth")
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"holds no features\.0\.bias"):
        store.import_file("vgg19", tmp_path / "x.pth")
