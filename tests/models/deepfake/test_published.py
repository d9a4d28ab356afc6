"""A model of faceswap's, in files that the test writes as Keras 2 wrote them."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.models.deepfake.published import convert
from facehal.weights.converters.deepfake import FILES, network_shapes

SIZES = {"crop": 16, "width": 4, "dense": 12}
pytestmark = pytest.mark.core


def write(file: Path, arrays: list[np.ndarray], start: int = 1, version: str = "bytes") -> None:
    """Layers as Keras 2 numbered them, those without weights among them."""
    encode = np.bytes_ if version == "bytes" else str
    kinds = {4: "conv2d", 2: "dense"}
    layers, counts = [("input_1", [])], {"conv2d": start, "dense": 1, "leaky_re_lu": start}
    for kernel, bias in zip(arrays[::2], arrays[1::2], strict=True):
        kind = kinds[kernel.ndim]
        layers.append((f"{kind}_{counts[kind]}", [("kernel:0", kernel), ("bias:0", bias)]))
        layers.append((f"leaky_re_lu_{counts['leaky_re_lu']}", []))
        counts[kind] += 1
        counts["leaky_re_lu"] += 1
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = [encode(name) for name, _ in layers]
        root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", b"2.1.2"
        for name, weights in layers:
            group = root.create_group(name)
            group.attrs["weight_names"] = [encode(f"{name}/{part}") for part, _ in weights]
            for part, values in weights:
                group.create_dataset(f"{name}/{part}", data=values)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of the three files, random numbers of a size that draws something."""
    random = np.random.default_rng(0)
    for index, (network, shapes) in enumerate(network_shapes(**SIZES).items()):
        arrays = [
            2 * random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
            for shape in shapes.values()
        ]
        write(tmp_path / FILES[network], [x.astype(np.float32) for x in arrays], 1 + 7 * index)
    return tmp_path


def stored(file: Path) -> list[np.ndarray]:
    """All arrays in the order of their layers."""
    with h5py.File(file) as root:
        return [
            root[layer][name][()]
            for layer in root.attrs["layer_names"]
            for name in root[layer].attrs["weight_names"]
        ]


def test_shapes_are_the_networks(folder):
    """Of the published size, too: every array of ours has a place in the files."""
    model = convert(folder, **SIZES)
    for network, part in ((model.encoder, "encoder"), (model.source_decoder, "source")):
        ours = [tuple(weight.shape) for weight in network.weights]
        assert ours == list(network_shapes(**SIZES)[part].values())
    whole = network_shapes()
    counts = [sum(int(np.prod(shape)) for shape in whole[name].values()) for name in whole]
    assert counts == [69_662_976, 6_199_747, 6_199_747]


def test_the_same_pictures_in_other_colours(folder, smooth):
    """The program's networks take and give BGR; A is the target, B the source.

    Achieved: 1e-6; the colours are added up in another order.
    """
    model = convert(folder, **SIZES)
    pictures = smooth(3, 16)
    plain = {"encoder": model.encoder, **{r: model.decoder(r) for r in ("source", "target")}}
    networks = {}
    for name, network in plain.items():
        networks[name] = keras.models.clone_model(network)
        networks[name].set_weights(stored(folder / FILES[name]))
    code = networks["encoder"].predict_on_batch(pictures[..., ::-1].copy())
    for role in ("source", "target"):
        theirs = np.asarray(networks[role].predict_on_batch(code))[..., ::-1]
        ours = np.asarray(model.reconstruct(pictures, role))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
        assert ours.std() > 0.02
    names = ("decoder_B.h5", "decoder_A.h5")
    assert [FILES[role] for role in ("source", "target")] == list(names)


def test_names_as_text(folder):
    """As later versions write them; and in the group of a whole model."""
    before = [weight.numpy() for weight in convert(folder, **SIZES).weights]
    for network in FILES.values():
        write(folder / network, stored(folder / network), version="text")
        with h5py.File(folder / network, "a") as root:
            inner = root.create_group("model_weights")
            for name in [name for name in root if name != "model_weights"]:
                root.move(name, f"model_weights/{name}")
            inner.attrs["layer_names"] = root.attrs["layer_names"]
            del root.attrs["layer_names"]
    after = [weight.numpy() for weight in convert(folder, **SIZES).weights]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_pictures_of_the_target(folder, smooth):
    pictures = smooth(5, 32)
    model = convert(folder, pictures, **SIZES)
    np.testing.assert_allclose(model.pictures.numpy(), pictures, atol=1e-7)
    assert not convert(folder, **SIZES).pictures.numpy().any()


def test_wrong_files_are_one_line(folder):
    def fails(words: str) -> None:
        with pytest.raises(WeightsError, match=words) as caught:
            convert(folder, **SIZES)
        assert "\n" not in str(caught.value)

    file = folder / "decoder_A.h5"
    whole = file.read_bytes()
    file.unlink()
    fails("decoder_A.h5: no such file; .* has encoder.h5, decoder_B.h5, decoder_A.h5")
    file.write_bytes(b"no file of Keras")
    fails("decoder_A.h5: not an HDF5 file")
    file.write_bytes(whole[:3000])
    fails("decoder_A.h5: cannot be read as HDF5")
    file.write_bytes((folder / "encoder.h5").read_bytes())
    fails("holds 14 arrays where this network has 8")
    arrays = network_shapes(16, 6, 12)["target"].values()
    write(file, [np.zeros(shape, np.float32) for shape in arrays])
    fails(r"up1_convolution.kernel has shape \(3, 3, 24, 48\) where this network has")
    arrays = [np.full(s, np.nan, np.float32) for s in network_shapes(**SIZES)["target"].values()]
    write(file, arrays)
    fails("not finite")


def test_a_link_to_another_file_is_not_followed(folder):
    file = folder / "decoder_B.h5"
    with h5py.File(file, "a") as root:
        name = root.attrs["layer_names"][1].decode()
        del root[name]
        root[name] = h5py.ExternalLink(str(folder / "decoder_A.h5"), name)
    with pytest.raises(WeightsError, match="holds 6 arrays where this network has 8"):
        convert(folder, **SIZES)
