"""ResNet-50-256D proved on a slim network of the same form, through the publishers' file format."""

import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features.resnet50 import SHORTER, SIDE, ResNet50, _centre
from facehal.weights import store
from facehal.weights.converters import resnet50 as published

WIDTH, FEATURES = 4, 12
SHAPES = published.network_shapes(WIDTH, FEATURES)
SLIM = {"width": WIDTH, "features": FEATURES}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path / "store"))
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def _pytorch_layers(torch, width: int, features: int):
    """The layers of the published resnet50_256.py, with its names, strides and paddings."""
    layers = torch.nn.ModuleDict()

    def convolution(name: str, size: int, inputs: int, outputs: int, stride: int = 1) -> None:
        layers[name] = torch.nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        norm = layers[f"{name}_bn"] = torch.nn.BatchNorm2d(outputs, eps=1e-5)
        torch.nn.init.kaiming_normal_(layers[name].weight)
        # As after training: every statistic of its own.
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, std=0.2)
        torch.nn.init.normal_(norm.running_mean, std=0.2)
        torch.nn.init.uniform_(norm.running_var, 0.3, 3)

    convolution("conv1_7x7_s2", 7, 3, width, 2)
    # The scale of pixels less their mean.
    layers["conv1_7x7_s2_bn"].running_var *= 5000
    inputs = width
    for stage, count in enumerate((3, 4, 6, 3), start=2):
        inner = width * 2 ** (stage - 2)
        for number in range(1, count + 1):
            stride = 2 if number == 1 and stage > 2 else 1
            convolution(f"conv{stage}_{number}_1x1_reduce", 1, inputs, inner, stride)
            convolution(f"conv{stage}_{number}_3x3", 3, inner, inner)
            convolution(f"conv{stage}_{number}_1x1_increase", 1, inner, 4 * inner)
            if number == 1:
                convolution(f"conv{stage}_{number}_1x1_proj", 1, inputs, 4 * inner, stride)
            inputs = 4 * inner
    layers["feat_extract"] = torch.nn.Conv2d(inputs, features, 1)
    return layers.eval()


def _run_pytorch(torch, layers, x):
    """The published forward pass: (n, 3, 224, 224) pixels less the mean to (n, features)."""

    def normal(x, name: str, relu: bool = True):
        x = layers[f"{name}_bn"](layers[name](x))
        return torch.relu(x) if relu else x

    x = normal(x, "conv1_7x7_s2")
    x = torch.nn.functional.max_pool2d(x, 3, 2, 0, ceil_mode=True)
    for stage, count in enumerate((3, 4, 6, 3), start=2):
        for number in range(1, count + 1):
            block = f"conv{stage}_{number}"
            shortcut = normal(x, f"{block}_1x1_proj", relu=False) if number == 1 else x
            x = normal(x, f"{block}_1x1_reduce")
            x = normal(x, f"{block}_3x3")
            x = torch.relu(shortcut + normal(x, f"{block}_1x1_increase", relu=False))
    return layers["feat_extract"](torch.nn.functional.avg_pool2d(x, 7, 1))[:, :, 0, 0]


def _prepared(pictures: np.ndarray) -> np.ndarray:
    """The publishers' load_data in Pillow, on floats: shorter side 256, centre, less the mean."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow (extra: portraits)")
    height, width = pictures.shape[1:3]
    ratio = SHORTER / min(height, width)
    size = (int(np.ceil(width * ratio)), int(np.ceil(height * ratio)))
    result = []
    for picture in pictures * 255:
        channels = [image.fromarray(c) for c in np.moveaxis(picture, -1, 0)]
        x = np.stack([np.asarray(c.resize(size, image.Resampling.BILINEAR)) for c in channels])
        top, left = (x.shape[1] - SIDE) // 2, (x.shape[2] - SIDE) // 2
        result.append(x[:, top : top + SIDE, left : left + SIDE])
    return np.array(result) - np.array([131.0912, 103.8827, 91.4953], np.float32)[:, None, None]


def _largest_difference(torch, pth: Path, width: int, features: int, pictures) -> float:
    """Of our descriptors to PyTorch's with the same random weights, relative to the largest."""
    torch.manual_seed(4)
    layers = _pytorch_layers(torch, width, features)
    classifier = {"classifier_8631_f.weight": torch.zeros(9, features, 1, 1)}
    torch.save(layers.state_dict() | classifier, pth)
    arrays = published.convert(pth, published.network_shapes(width, features))
    np.savez(store.folder() / "resnet50_256d.npz", **arrays)
    with torch.no_grad():
        theirs = _run_pytorch(torch, layers, torch.tensor(_prepared(pictures))).numpy()
    ours = np.asarray(ResNet50(width=width, features=features)(pictures, training=False))
    assert ours.shape == (len(pictures), features)
    # The pictures are told apart: what is compared is not the biases.
    assert np.abs(theirs[0] - theirs[1]).max() > 0.02 * np.abs(theirs).max()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("size", [(128, 128), (300, 260)])
def test_equal_to_pytorch_through_its_state_dict(tmp_path: Path, size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    pictures = np.random.default_rng(1).uniform(0, 1, (2, *size, 3)).astype(np.float32)
    pictures[1] = pictures[1] ** 3
    pth = tmp_path / "resnet50_256.pth"
    # Measured: 5e-7 on TensorFlow, 6e-7 on JAX; the same at full size (width 64, 256 features).
    assert _largest_difference(torch, pth, WIDTH, FEATURES, pictures) < 1e-4


def test_the_published_archive_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    pth = tmp_path / "resnet50_256.pth"
    torch.save(_pytorch_layers(torch, WIDTH, FEATURES).state_dict(), pth)
    archive = tmp_path / "resnet50_256_pytorch.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(pth, "resnet50_256_pytorch/resnet50_256.pth")
    for file in (pth, archive):
        arrays = published.convert(file, SHAPES)
        assert list(arrays) == list(SHAPES)
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(WeightsError, match="cannot be unpacked"):
        published.convert(archive, SHAPES)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(pth, "other.pth")
    with pytest.raises(WeightsError, match=r"holds no resnet50_256\.pth"):
        published.convert(archive, SHAPES)


def test_other_networks_and_impossible_statistics_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    state = _pytorch_layers(torch, WIDTH, FEATURES).state_dict()
    file = tmp_path / "x.pth"
    for change, reason in (
        ({"conv3_2_3x3_bn.running_var": torch.full((8,), -1.0)}, "negative variance"),
        ({"conv3_2_3x3_bn.running_mean": torch.zeros(7)}, "has shape"),
        ({"conv1_7x7_s2.weight": torch.zeros(4, 3, 3, 3)}, "has shape"),
        ({"feat_extract.weight": torch.zeros(5, 128, 1, 1)}, "has shape"),
    ):
        torch.save(state | change, file)
        with pytest.raises(WeightsError, match=reason):
            published.convert(file, SHAPES)
    del state["conv5_3_1x1_increase.weight"]
    torch.save(state, file)
    with pytest.raises(WeightsError, match="holds no conv5_3_1x1_increase"):
        published.convert(file, SHAPES)


def test_the_crop_is_the_middle() -> None:
    # 128 becomes 256, of which rows 16 to 239 are kept: pixels around 8 to 120.
    ramp = np.arange(128) + 0.5
    np.testing.assert_allclose(_centre(128, 128) @ ramp, (np.arange(16, 240) + 0.5) / 2, atol=1e-4)
    # The longer side: 320 of 256 by 320 keeps its scale, and loses 48 at each end.
    np.testing.assert_allclose(_centre(320, 256) @ np.arange(320), np.arange(48, 272), atol=1e-4)


@pytest.mark.core
def test_nothing_to_train_and_float32_under_mixed_precision() -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ResNet50(weights=None, **SLIM)
        descriptors = model(np.zeros((1, 40, 56, 3), np.float32), training=False)
    finally:
        keras.config.set_dtype_policy(policy)
    assert not model.trainable_variables
    assert tuple(descriptors.shape) == (1, FEATURES)
    assert keras.backend.standardize_dtype(descriptors.dtype) == "float32"
    with pytest.raises(ValueError, match="RGB of known height"):
        model(np.zeros((1, 40, 56, 1), np.float32), training=False)


def test_missing_weights_say_how_to_get_them() -> None:
    with pytest.raises(WeightsError, match="facehal weights get resnet50_256d"):
        ResNet50()


def test_published_sizes() -> None:
    assert published.SHAPES["feat_extract.kernel"] == (2048, 256)
    # torchvision's ResNet-50 has 25,557,032 numbers, 2,049,000 of them its classifier's and 53,120
    # its norms' scales and shifts; their statistics are as many more.
    numbers = sum(int(np.prod(shape)) for shape in published.SHAPES.values())
    assert numbers == 25_557_032 - 2_049_000 + 53_120 + 2048 * 256 + 256
