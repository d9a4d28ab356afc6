"""The authors' Caffe files: written here by hand, in the form that Caffe writes."""

import struct
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from facehal.errors import FacehalError, WeightsError
from facehal.features.face_parser import FaceParser
from facehal.models.base import read_model
from facehal.models.genface.published import convert
from facehal.models.saving import save_model
from facehal.weights.converters import genface as published
from facehal.weights.formats.caffe import read_caffemodel

pytestmark = pytest.mark.core

SIZE = {"resolution": 32, "base": 2, "features": 6}
SHAPES = published.network_shapes(32, 2, 6)
RENAMED = {
    "conv1_1": "conv1_1_new",
    "conv_decode1_1": "conv_decode1_1_new",
    "reconstruction": "reconstruction_new",
}


# -- A writer of Caffe's messages, of both forms.


def varint(number: int) -> bytes:
    written = b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def whole_number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def blob(array: np.ndarray, form: str) -> bytes:
    if form == "old":  # four dimensions, every number a field of its own
        shape = (1,) * (4 - array.ndim) + array.shape
        sizes = b"".join(whole_number(n, size) for n, size in enumerate(shape, start=1))
        return sizes + b"".join(varint(5 << 3 | 5) + struct.pack("<f", x) for x in array.ravel())
    sizes = field(1, b"".join(map(varint, array.shape)))
    if form == "double":
        return field(7, sizes) + field(8, array.astype("<f8").tobytes())
    return field(7, sizes) + field(5, array.astype("<f4").tobytes())


def caffemodel(path: Path, layers: dict[str, list[np.ndarray]], form: str = "new") -> Path:
    """A NetParameter: its name, an input, layers with weights, and ones without."""
    layer_field, name_field, blob_field = (2, 4, 6) if form == "old" else (100, 1, 7)
    data = field(1, b"Model_G") + field(3, b"data") + whole_number(4, 2)
    for name, blobs in layers.items():
        kind = whole_number(5, 4) if form == "old" else field(2, b"Convolution")
        parts = [field(name_field, name.encode()), kind, field(3 if form == "new" else 2, b"x")]
        parts += [field(blob_field, blob(array, form)) for array in blobs]
        data += field(layer_field, b"".join(parts))
        data += field(layer_field, field(name_field, f"relu_{name}".encode()))
    path.write_bytes(data)
    return path


def random_layers(shapes, renamed=RENAMED) -> dict[str, list[np.ndarray]]:
    """Layers with Caffe's names and shapes; values as of a trained network."""
    random = np.random.default_rng(0)
    layers: dict[str, list[np.ndarray]] = {}
    for name, shape in shapes.items():
        layer = name.split(".")[0]
        scale = 0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[:-1]))
        values = random.normal(0, scale, shape[::-1]).astype(np.float32)
        layers.setdefault(renamed.get(layer, layer), []).append(values)
    return layers


# -- What MATLAB and Caffe compute together, in PyTorch.


def in_matlab(torch, layers: dict[str, list[np.ndarray]], pictures: np.ndarray) -> np.ndarray:
    """The authors' test program: pictures go in as MATLAB has them, and come out so.

    MATLAB's (rows, columns, colours, n) lie in memory in the order of C's (n, colours, columns,
    rows), which is what Caffe takes them for.
    """
    F = torch.nn.functional

    def convolution(name, x):
        return F.conv2d(x, *map(torch.tensor, layers[name]), padding=1)

    def dense(name, x):
        return F.relu(F.linear(x, *map(torch.tensor, layers[name])))

    x, indices = torch.tensor(np.ascontiguousarray(pictures.transpose(0, 3, 2, 1))), []
    encoder = [["conv0_1", "conv0_2"], ["conv1_1_new", "conv1_2"], ["conv2_1", "conv2_2"]]
    for level in (*encoder, ["conv3_1", "conv3_2", "conv3_3", "conv3_4"]):
        for name in level:
            x = F.relu(convolution(name, x))
        x, places = F.max_pool2d(x, 2, return_indices=True)
        indices.append(places)
    shape = x.shape
    x = dense("defc3", dense("fc3", x.flatten(1))).reshape(shape)
    names = ["3_4 3_3 3_2 3_1", "2_2 2_1", "1_2 1_1_new", "0_2 0_1"]
    for level in names:
        x = F.max_unpool2d(x, indices.pop(), 2)
        for name in level.split():
            x = F.relu(convolution(f"conv_decode{name}", x))
    return convolution("reconstruction_new", x).numpy().transpose(0, 3, 2, 1)


@pytest.mark.parametrize("form", ["new", "old", "double"])
def test_blobs_are_read(tmp_path, form):
    random = np.random.default_rng(0)
    layers = {
        "a": [random.random((3, 2, 3, 3), np.float32), random.random(3, np.float32)],
        "b": [random.random((300, 2), np.float32)],
    }
    found = read_caffemodel(caffemodel(tmp_path / "x.caffemodel", layers, form))
    assert list(found) == ["a", "b"]  # not the layers without weights
    for name, blobs in layers.items():
        for ours, theirs in zip(found[name], blobs, strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)


@pytest.mark.parametrize("form", ["new", "old"])
def test_the_network_is_theirs(tmp_path, form):
    """Upright pictures give what the authors' program gives (achieved: 3e-7 of the largest)."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    layers = random_layers(SHAPES)
    model = convert(caffemodel(tmp_path / "Model_G.caffemodel", layers, form), **SIZE)
    random = np.random.default_rng(1)
    pictures = random.uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    wanted = in_matlab(torch, layers, pictures)
    found = model.network.predict_on_batch(pictures)
    apart = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"converted network {apart:.1e} apart")
    assert wanted.std() > 0.05 and apart < 1e-5
    upside = model.network.predict_on_batch(pictures.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    assert np.abs(upside - wanted).max() > 1e-2  # it does matter


def test_the_model_is_saved_and_read(tmp_path):
    file = caffemodel(tmp_path / "Model_G.caffemodel", random_layers(SHAPES))
    model = convert(file, blending="poisson", **SIZE)
    read = read_model(save_model(model, tmp_path / "genface.keras"))
    assert read.get_config() == model.get_config() and read.blending == "poisson"
    masks = np.zeros((1, 32, 32, 1), np.float32)
    masks[:, 8:24, 8:24] = 1
    inputs = {"masked_faces": 0.3 * masks.repeat(3, axis=-1), "masks": masks}
    ours, theirs = (one.predict_on_batch(inputs)["32"] for one in (model, read))
    np.testing.assert_array_equal(ours, theirs)


def test_the_parser_is_theirs(tmp_path):
    """All of its kernels turned round, under the names that they have in the file."""
    shapes = published.parser_shapes(2)
    file = caffemodel(tmp_path / "Model_parsing.caffemodel", random_layers(shapes, {}))
    parser = FaceParser(file, side=32, base=2)
    assert not parser.trainable_variables
    for name, blobs in read_caffemodel(file).items():
        kernel, bias = parser.get_layer(name).get_weights()
        assert kernel[0, 2, 0, -1] == blobs[0][-1, 0, 2, 0]  # theirs: (out, in, column, row)
        np.testing.assert_array_equal(kernel.transpose(3, 2, 1, 0), blobs[0])
        np.testing.assert_array_equal(bias, blobs[1])


def test_the_command(tmp_path, monkeypatch):
    """``facehal published genface Model_G.caffemodel --choose blending=poisson``."""
    from facehal.cli import app
    from facehal.models import base, families
    from facehal.models.genface import published as ours

    def small(file, **options):
        return convert(file, **options, **SIZE)

    family = families()["genface"]
    published_files = replace(family.published, convert=small)
    changed = {"genface": replace(family, published=published_files)}
    assert family.published.convert is ours.convert
    monkeypatch.setattr(base, "families", lambda: changed)
    file = caffemodel(tmp_path / "Model_G.caffemodel", random_layers(SHAPES))
    run = CliRunner().invoke
    words = ["published", "genface", str(file), "--out", str(tmp_path / "genface.keras")]
    for more, blending in (([], "paste"), (["--choose", "blending=poisson"], "poisson")):
        done = run(app, [*words, *more], catch_exceptions=False)
        assert done.exit_code == 0
        assert read_model(tmp_path / "genface.keras").blending == blending
    with pytest.raises(FacehalError, match="no blending=x to choose; it has blending=paste, "):
        base.from_published("genface", [file], choices={"blending": "x"})
    with pytest.raises(FacehalError, match="has no base= to choose"):
        base.from_published("genface", [file], choices={"base": ""})


def test_our_own_form_is_read(tmp_path):
    arrays = published.convert(
        caffemodel(tmp_path / "Model_G.caffemodel", random_layers(SHAPES)), SHAPES
    )
    np.savez(tmp_path / "genface.npz", **arrays)
    again = published.convert(tmp_path / "genface.npz", SHAPES)
    assert list(again) == list(SHAPES)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


def refused(file: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        convert(file, **SIZE)
    text = str(caught.value)
    assert "\n" not in text and str(file) in text
    return text


def test_wrong_files_are_refused(tmp_path):
    layers = random_layers(SHAPES)
    file = tmp_path / "Model_G.caffemodel"
    assert "cannot be read" in refused(file)
    without = {name: blobs for name, blobs in layers.items() if name != "conv2_1"}
    assert "no kernel of conv2_1" in refused(caffemodel(file, without))
    assert "no bias of fc3" in refused(caffemodel(file, {**layers, "fc3": layers["fc3"][:1]}))
    other = {**layers, "conv0_2": [layers["conv0_1"][0], layers["conv0_2"][1]]}
    assert "conv0_2 has shape (2, 3, 3, 3)" in refused(caffemodel(file, other))
    damaged = {**layers, "conv0_1": [np.full_like(layers["conv0_1"][0], np.nan)]}
    damaged["conv0_1"].append(layers["conv0_1"][1])
    assert "not finite" in refused(caffemodel(file, damaged))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no layer that has any"),
        (b"<!DOCTYPE html>", "refused as a .caffemodel"),
        (bytes(1000), "no layer that has any"),
        (b"\xff" * 40, "refused as a .caffemodel"),
        (field(100, field(7, field(7, field(1, varint(1 << 40))))), "0 numbers"),
        (field(100, field(7, field(7, field(1, b"\x03")) + field(5, b"12345"))), "refused"),
        (field(100, field(7, field(7, field(1, b"\x80")))), "cut off"),
    ],
)
def test_foreign_and_hostile_files_are_refused(tmp_path, content, reason):
    file = tmp_path / "x.caffemodel"
    file.write_bytes(content)
    assert reason in refused(file)


def test_files_that_are_cut_off_are_refused(tmp_path):
    file = caffemodel(tmp_path / "Model_G.caffemodel", random_layers(SHAPES))
    data = file.read_bytes()
    for share in (0.01, 0.3, 0.9, 0.999):
        file.write_bytes(data[: int(share * len(data))])
        refused(file)


def test_keras_names_are_those_of_the_arrays():
    """What `set_arrays` relies on, also for the published size."""
    keras.utils.clear_session()
    shapes = {name.split(".")[0] for name in published.network_shapes()}
    from facehal.models.genface.networks import Completion

    layers = [one.name for one in Completion(16, base=1, features=2).layers if one.weights]
    assert len(layers) == len(shapes) == len(set(layers)) and set(layers) == shapes
