"""VGG-Face proved on a slim network of the same form; the real weights are no part of the tests."""

from pathlib import Path

import keras
import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features.vgg_face import HYPERCOLUMN, VggFace, mean_hypercolumn, taps
from facehal.weights import store
from facehal.weights.converters import vgg_face as published

CHANNELS = (4, 6, 8, 8, 10)
FEATURES = 24
SHAPES = published.network_shapes(CHANNELS, FEATURES)
SLIM = {"channels": CHANNELS, "features": FEATURES}


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Random weights that keep the signal alive, with biases as real networks have them."""
    random = np.random.default_rng(5)
    return {
        name: (
            random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
            if name.endswith("kernel")
            else random.normal(0, 0.1, shape)
        ).astype(np.float32)
        for name, shape in SHAPES.items()
    }


@pytest.fixture(autouse=True)
def installed(
    arrays: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, np.ndarray]:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path / "store"))
    (tmp_path / "store").mkdir()
    np.savez(tmp_path / "store" / "vgg_face.npz", **arrays)
    return arrays


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 1, (2, 40, 40, 3)).astype(np.float32)


def _pytorch_vgg(torch):
    """VGG-16's layers to fc7 in PyTorch, named as in Oxford's vgg_face_dag.py."""
    layers, inputs = torch.nn.ModuleDict(), 3
    for stage, (outputs, count) in enumerate(
        zip(CHANNELS, published.CONVOLUTIONS, strict=True), start=1
    ):
        for number in range(1, count + 1):
            layers[f"conv{stage}_{number}"] = torch.nn.Conv2d(inputs, outputs, 3, padding=1)
            inputs = outputs
    layers["fc6"] = torch.nn.Linear(49 * inputs, FEATURES)
    layers["fc7"] = torch.nn.Linear(FEATURES, FEATURES)
    return layers


def _run_pytorch(torch, layers, pictures: np.ndarray) -> dict[str, np.ndarray]:
    mean = torch.tensor([129.186279296875, 104.76238250732422, 93.59396362304688])
    x = torch.tensor(pictures).permute(0, 3, 1, 2)
    shrinking = pictures.shape[1] > 224
    x = torch.nn.functional.interpolate(
        x, (224, 224), mode="bilinear", align_corners=False, antialias=shrinking
    )
    x = x * 255 - mean[:, None, None]
    taps = {}
    for stage, count in enumerate(published.CONVOLUTIONS, start=1):
        for number in range(1, count + 1):
            x = torch.relu(layers[f"conv{stage}_{number}"](x))
            taps[f"conv{stage}_{number}"] = x.permute(0, 2, 3, 1).detach().numpy()
        x = torch.nn.functional.max_pool2d(x, 2)
    x = torch.relu(layers["fc6"](x.flatten(1)))
    taps["fc6"] = x.detach().numpy()
    taps["before"] = layers["fc7"](x).detach().numpy()
    taps["fc7"] = np.maximum(taps["before"], 0)
    return taps


@pytest.mark.parametrize("side", [8, 40, 128, 224, 300])
def test_equal_to_pytorch_through_its_state_dict(tmp_path: Path, side: int) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    torch.manual_seed(3)
    layers = _pytorch_vgg(torch)
    state = layers.state_dict() | {"fc8.weight": torch.zeros(9, FEATURES)}
    torch.save(state, tmp_path / "vgg_face_dag.pth")
    converted = published.convert(tmp_path / "vgg_face_dag.pth", SHAPES)
    np.savez(store.folder() / "vgg_face.npz", **converted)

    pictures = np.random.default_rng(side).uniform(0, 1, (1, side, side, 3)).astype(np.float32)
    theirs = _run_pytorch(torch, layers, pictures)
    model = VggFace(**SLIM)
    names = [*HYPERCOLUMN, "fc6", "fc7"]
    tapped = taps(model, names)
    for name, ours in zip(names, tapped(pictures, training=False), strict=True):
        difference = np.abs(np.asarray(ours) - theirs[name]).max() / np.abs(theirs[name]).max()
        # Measured: 1.3e-6.
        assert difference < 1e-4, f"{name} at {side} pixels: {difference:.1e}"
    before = np.asarray(VggFace(relu=False, **SLIM)(pictures, training=False))
    np.testing.assert_allclose(before, theirs["before"], rtol=1e-4, atol=1e-5)
    column = np.concatenate([theirs[name].mean(axis=(1, 2)) for name in HYPERCOLUMN], axis=1)
    ours = np.asarray(mean_hypercolumn(model)(pictures, training=False))
    assert ours.shape == (1, sum(CHANNELS))
    assert np.abs(ours - column).max() < 1e-4 * column.max()


def test_one_tap_is_one_tensor_and_computes_no_more(pictures: np.ndarray) -> None:
    model = VggFace(**SLIM)
    tapped = taps(model, ["fc6"])
    assert tuple(tapped(pictures, training=False).shape) == (2, FEATURES)
    assert "fc7" not in [layer.name for layer in tapped.layers]
    assert not tapped.trainable_variables
    with pytest.raises(ValueError, match="fc9"):
        taps(model, ["fc9"])


def test_relu_is_an_option(pictures: np.ndarray) -> None:
    after = np.asarray(VggFace(**SLIM)(pictures, training=False))
    before = np.asarray(VggFace(relu=False, **SLIM)(pictures, training=False))
    assert before.min() < 0
    np.testing.assert_allclose(after, np.maximum(before, 0), atol=1e-4)


def test_keras_vggface_file_is_turned_from_bgr_to_rgb(
    tmp_path: Path, arrays: dict, pictures: np.ndarray
) -> None:
    """Same weights as keras-vggface stores and feeds them: BGR pictures, mean in BGR."""
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "rcmalli_vggface_tf_vgg16.h5"
    with h5py.File(file, "w") as root:
        for name, array in arrays.items():
            layer, part = name.split(".")
            turned = array[:, :, ::-1] if name == "conv1_1.kernel" else array
            suffix = "W_1:0" if part == "kernel" else "b_1:0"
            root.require_group(layer)[f"{layer}_{suffix}"] = turned
    converted = published.convert(file, SHAPES)
    for name, array in arrays.items():
        np.testing.assert_array_equal(converted[name], array)

    model = VggFace(weights=None, **SLIM)
    x = pictures[:1, :, :, ::-1]
    x = np.asarray(keras.ops.image.resize(x, (224, 224))) * 255
    x = x - np.array([93.59396362304688, 104.76238250732422, 129.186279296875], np.float32)
    with h5py.File(file) as root:
        for layer in model.layers:
            if layer.weights:
                group = root[layer.name]
                parts = [group[f"{layer.name}_{suffix}"][()] for suffix in ("W_1:0", "b_1:0")]
                layer.set_weights(parts)
    for layer in model.layers[2:]:
        x = layer(x)
    ours = VggFace(**SLIM)(pictures[:1], training=False)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(x), rtol=1e-4, atol=1e-5)


def test_a_model_that_keras_saved_as_h5_is_read(tmp_path: Path, arrays: dict) -> None:
    layers: list[keras.layers.Layer] = [keras.Input((224, 224, 3))]
    model = VggFace(**SLIM)
    for layer in model.layers[2:]:
        layers.append(type(layer).from_config(layer.get_config()))
    plain = keras.Sequential(layers)
    plain.set_weights(model.get_weights())
    plain.save(tmp_path / "vgg.h5")
    converted = published.convert(tmp_path / "vgg.h5", SHAPES)
    np.testing.assert_array_equal(converted["conv1_1.kernel"], arrays["conv1_1.kernel"][:, :, ::-1])
    np.testing.assert_array_equal(converted["fc6.kernel"], arrays["fc6.kernel"])


def test_wrong_h5_files_are_refused(tmp_path: Path, arrays: dict) -> None:
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as root:
        root["conv1_1/kernel"] = arrays["conv1_1.kernel"]
    file = tmp_path / "x.h5"
    with h5py.File(file, "w") as root:
        root["conv1_1"] = h5py.ExternalLink("secret.h5", "conv1_1")
    with pytest.raises(WeightsError, match="holds no layer conv1_1"):
        published.convert(file, SHAPES)
    with h5py.File(file, "w") as root:
        root["conv1_1/kernel"] = np.zeros((3, 3, 3, 5))
    with pytest.raises(WeightsError, match=r"conv1_1\.kernel has shape"):
        published.convert(file, SHAPES)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(WeightsError, match="cannot be read as HDF5"):
        published.convert(file, SHAPES)


def test_missing_weights_say_how_to_get_them() -> None:
    (store.folder() / "vgg_face.npz").unlink()
    with pytest.raises(WeightsError, match="facehal weights import vgg_face FILE"):
        VggFace()


def test_published_sizes() -> None:
    shapes = published.SHAPES
    assert shapes["fc6.kernel"] == (25088, 4096)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 134_260_544
