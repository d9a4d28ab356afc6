"""Inception-v3 of 2015 against torch-fidelity, with the same random weights carried across."""

from pathlib import Path

import keras
import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features.inception_v3 import InceptionV3, _around, _Prepare
from facehal.weights import store
from facehal.weights.converters import inception as published


@pytest.fixture(scope="module")
def reference(submodule, tmp_path_factory: pytest.TempPathFactory):
    """torch-fidelity's extractor with random weights, which are also installed in our store."""
    module = submodule("torch_fidelity", "feature_extractor_inceptionv3")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("inception")
    pth = folder / "weights-inception-2015-12-05-6726825d.pth"
    torch.manual_seed(6)
    with pytest.MonkeyPatch.context() as patch:
        # Its constructor loads a file: one with its own shapes is written here first.
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        fresh = module.FeatureExtractorInceptionV3("fresh", ["2048"])
    state = fresh.state_dict()
    for name, value in state.items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(value)
        elif name.endswith(("bn.bias", "running_mean")):
            torch.nn.init.normal_(value, std=0.2)
        elif name.endswith(("bn.weight", "running_var")):
            torch.nn.init.uniform_(value, 0.6, 1.6)
    torch.save(state, pth)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEHAL_WEIGHTS", str(folder))
        np.savez(folder / "inception.npz", **published.convert(pth))
        yield module.FeatureExtractorInceptionV3("it", ["2048", "logits"], str(pth))


@pytest.fixture(scope="module")
def network(reference) -> keras.Model:
    return InceptionV3(logits=True)


def _levels(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def _difference(ours, theirs) -> float:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    # The pictures are told apart: what is compared is not the biases.
    assert np.abs(theirs[0] - theirs[1]).max() > 0.02 * np.abs(theirs).max()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("size", [(128, 128), (40, 310)])
def test_equal_to_torch_fidelity(reference, network, size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    pictures = _levels(2, *size, 3)
    pictures[1] //= 3
    theirs = reference(torch.tensor(pictures).permute(0, 3, 1, 2))
    ours = network(pictures.astype(np.float32) / 255, training=False)
    for name, a, b in zip(("pool3", "logits"), ours, theirs, strict=True):
        difference = _difference(a, b)
        # Measured: 6.2e-7 on TensorFlow, 7.1e-7 on JAX.
        assert difference < 1e-4, f"{name} at {size}: {difference:.1e}"


def test_clean_mode_is_the_same_network_after_pillow(reference) -> None:
    """clean-fid: each channel resized by Pillow in float, cut to 0-255, then the same layers."""
    torch = pytest.importorskip("torch")
    image = pytest.importorskip("PIL.Image", reason="needs Pillow (extra: portraits)")
    pictures = _levels(2, 128, 128, 3)
    pictures[1] //= 3
    resized = [
        [
            np.asarray(image.fromarray(channel).resize((299, 299), image.Resampling.BICUBIC))
            for channel in np.moveaxis(picture.astype(np.float32), -1, 0)
        ]
        for picture in pictures
    ]
    x = torch.tensor(np.clip(resized, 0, 255))
    with pytest.MonkeyPatch.context() as patch:
        # The extractor insists on bytes; what its resizing is given at 299 pixels it leaves alone.
        patch.setitem(reference.forward.__globals__, "vassert", lambda *_: None)
        theirs = reference(x)[0]
    ours = InceptionV3("clean")(pictures.astype(np.float32) / 255, training=False)
    # Measured: 5e-7.
    assert _difference(ours, theirs) < 1e-4


def test_batch_size_changes_nothing(network) -> None:
    pictures = _levels(3, 64, 64, 3).astype(np.float32) / 255
    together = np.asarray(network(pictures, training=False)[0])
    alone = np.concatenate([network(p[None], training=False)[0] for p in pictures])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6 * np.abs(together).max())


def test_values_are_rounded_to_levels_unless_told_otherwise() -> None:
    picture = np.full((1, 8, 8, 3), 100.4 / 255, np.float32)
    # Beyond white there are no levels.
    picture[:, 4:] = 1.2
    for quantise, dark, bright in ((True, 100, 255), (False, 100.4, 306)):
        prepared = np.asarray(_Prepare("tf2015", quantise)(picture))
        assert prepared.shape == (1, 299, 299, 3)
        ends = [prepared[0, 0, 0, 0] * 128 + 128, prepared[0, -1, 0, 0] * 128 + 128]
        np.testing.assert_allclose(ends, [dark, bright], atol=1e-4)


@pytest.mark.core
def test_averages_do_not_count_the_padding() -> None:
    """On every backend: the mean around each pixel of a picture of ones is one at its border."""
    ones = np.ones((1, 5, 5, 2), np.float32)
    np.testing.assert_allclose(_around(ones, "Mixed_5b"), ones)
    # Nor is a zero beyond the border larger than what is inside.
    np.testing.assert_allclose(_around(-ones, "Mixed_7c", maximum=True), -ones)


def test_unknown_mode_and_other_shapes_are_one_line() -> None:
    with pytest.raises(ValueError, match="tf2015"):
        InceptionV3("pytorch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="RGB of known height"):
        _Prepare("clean", True)(np.zeros((1, 8, 8, 1), np.float32))


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="facehal weights get inception"):
        InceptionV3()


def test_the_files_of_other_inceptions_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "torchvision.pth")
    with pytest.raises(WeightsError, match=r"fc\.weight has shape"):
        published.convert(tmp_path / "torchvision.pth")


def test_published_sizes() -> None:
    shapes = published.SHAPES
    assert sum(name.endswith(".kernel") for name in shapes) == 95
    assert store.ENTRIES["inception"].sha256.startswith("6726825d")
