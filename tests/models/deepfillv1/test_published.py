"""The authors' checkpoints: one that this file writes, with their names, and files that are none.

Achieved on TensorFlow and JAX: the model's pictures lie 5e-6 (in [0, 1]) from what PyTorch makes of
the same numbers.
"""

import numpy as np
import pytest

from facehal.errors import FacehalError, WeightsError
from facehal.models.base import from_published, read_model
from facehal.models.deepfillv1 import convert
from facehal.models.saving import save_model

pytestmark = pytest.mark.core
WIDTH = 4


def shapes(c: int) -> dict[str, tuple[int, ...]]:
    """Scope → shape of its kernel, from the authors' list of layers."""
    found = {}

    def chain(prefix, inputs, layers):
        for name, outputs in layers:
            kernel = 5 if name == "conv1" else 3
            found[f"{prefix}{name}"] = (kernel, kernel, inputs, outputs)
            inputs = outputs
        return inputs

    def up(prefix, name):
        return f"{name}/{prefix}{name}_conv"

    def atrous(numbers):
        return [(f"conv{n}_atrous", 4 * c) for n in numbers]

    def decoder(prefix):
        return [
            ("conv11", 4 * c),
            ("conv12", 4 * c),
            (up(prefix, "conv13_upsample"), 2 * c),
            ("conv14", 2 * c),
            (up(prefix, "conv15_upsample"), c),
            ("conv16", c // 2),
            ("conv17", 3),
        ]

    end = [("conv4_downsample", 4 * c), ("conv5", 4 * c), ("conv6", 4 * c)]
    start = [("conv1", c), ("conv2_downsample", 2 * c), ("conv3", 2 * c)]
    chain("", 5, [*start, *end, *atrous(range(7, 11)), *decoder("")])
    start = [("conv1", c), ("conv2_downsample", c), ("conv3", 2 * c)]
    x_end = [("conv4_downsample", 2 * c), *end[1:]]
    chain("x", 5, [*start, *x_end, *atrous(range(7, 11))])
    chain("pm", 5, [*start, *end, ("conv9", 4 * c), ("conv10", 4 * c)])
    chain("all", 8 * c, decoder("all"))
    return found


def arrays(c: int = WIDTH) -> dict[str, np.ndarray]:
    """All variables of such a checkpoint: generators, a critic's layer, what Adam keeps."""
    random = np.random.default_rng(0)
    found = {}
    for scope, shape in shapes(c).items():
        spread = np.sqrt(1.5 / np.prod(shape[:-1]))
        found[f"inpaint_net/{scope}/kernel"] = random.normal(0, spread, shape)
        found[f"inpaint_net/{scope}/bias"] = random.normal(0, 0.1, shape[-1:])
    found["discriminator/discriminator_local/conv1/kernel"] = random.normal(size=(5, 5, 3, 64))
    found["inpaint_net/conv1/kernel/Adam"] = random.normal(size=(5, 5, 5, c))
    return {name: value.astype("f") for name, value in found.items()}


def write(folder, values: dict[str, np.ndarray]):
    """A checkpoint as the authors' ``tf.train.Saver`` writes it; its prefix."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow writes and reads checkpoints")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for name, value in values.items():
            v1.get_variable(name, initializer=value, use_resource=False)
        session.run(v1.global_variables_initializer())
        return v1.train.Saver().save(session, str(folder / "snap"), global_step=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    return write(folder, arrays())


def test_all_layers_are_named(checkpoint):
    assert len(shapes(WIDTH)) == 17 + 25
    total = sum(np.prod(s) + s[-1] for s in shapes(32).values())
    assert total == 3_601_542  # the published networks


def test_pictures_are_the_published_ones(checkpoint, published, masks, tmp_path, record_property):
    """Also of the model that is saved, and from a folder or one of its files as well."""
    import torch

    model = convert(checkpoint, resolution=64)
    assert model.resolutions == (64,) and model.width == WIDTH
    save_model(model, tmp_path / "published.keras")
    random = np.random.default_rng(1)
    faces = random.integers(0, 256, (2, 64, 64, 3))
    known = masks(2, 64)[..., None].astype(np.float32)
    inputs = {"masked_faces": (faces / 255 * known).astype("f"), "masks": known}
    ours = read_model(tmp_path / "published.keras").predict_on_batch(inputs)["64"]

    # The authors' program: blue first, a mask that is white where the hole is.
    batch = torch.tensor(faces[..., ::-1].copy(), dtype=torch.float64).permute(0, 3, 1, 2)
    mask = 1 - torch.tensor(known, dtype=torch.float64).permute(0, 3, 1, 2)
    incomplete = (batch / 127.5 - 1) * (1 - mask)
    values = arrays()
    weights = {
        scope.split("/")[-1].removesuffix("_conv"): tuple(
            torch.tensor(values[f"inpaint_net/{scope}/{part}"], dtype=torch.float64)
            for part in ("kernel", "bias")
        )
        for scope in shapes(WIDTH)
    }
    _, second = published.painted(weights, incomplete, mask)
    complete = (second * mask + incomplete + 1) * 127.5
    theirs = complete.permute(0, 2, 3, 1).numpy()[..., ::-1] / 255
    hole = known[..., 0] == 0
    assert theirs[hole].std() > 0.02
    apart = np.abs(np.asarray(ours) - theirs).max()
    record_property("pictures_apart", apart)
    assert apart < 1e-5


def test_any_name_of_a_checkpoint(checkpoint, tmp_path):
    first = arrays()["inpaint_net/conv1/kernel"]
    folder = checkpoint.rpartition("/")[0]
    for name in (folder, f"{checkpoint}.index", f"{checkpoint}.data-00000-of-00001"):
        model = convert(name, resolution=16)
        np.testing.assert_array_equal(model.coarse.get_layer("conv1").get_weights()[0], first)
    assert from_published("deepfillv1", [checkpoint]).resolutions == (256,)
    assert from_published("deepfillv1", [checkpoint], 128).resolutions == (128,)
    with pytest.raises(FacehalError, match="resolution is a multiple of 8 from 16, not 100"):
        from_published("deepfillv1", [checkpoint], 100)


def test_what_is_no_checkpoint(checkpoint, tmp_path):
    (tmp_path / "model.pth").write_bytes(b"PK\x03\x04")
    for name in (tmp_path, tmp_path / "model.pth", tmp_path / "missing.index"):
        with pytest.raises(WeightsError, match="no checkpoint of TensorFlow"):
            convert(name)
    (tmp_path / "snap.index").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match=r"snap\.index: cannot be read as a checkpoint"):
        convert(tmp_path / "snap.index")


def test_a_checkpoint_that_is_cut_off(checkpoint, tmp_path):
    for suffix in (".index", ".data-00000-of-00001"):
        with open(f"{checkpoint}{suffix}", "rb") as file:
            whole = file.read()
        (tmp_path / f"snap{suffix}").write_bytes(whole if suffix == ".index" else whole[:3000])
    with pytest.raises(WeightsError, match="snap: cannot be read as a checkpoint"):
        convert(tmp_path / "snap", resolution=16)


@pytest.mark.parametrize(
    "change, message",
    [
        # Version 2 of the same authors: gated convolutions, 48 channels, halved by their gate.
        ({"inpaint_net/conv2_downsample/kernel": (3, 3, WIDTH // 2, 8)}, "conv2_downsample.*shape"),
        ({"inpaint_net/conv1/kernel": (5, 5, 3, WIDTH)}, r"conv1/kernel has shape \(5, 5, 3, 4\)"),
        ({"inpaint_net/conv1/kernel": None}, "holds no inpaint_net/conv1/kernel; it is not a file"),
        ({"inpaint_net/pmconv9/bias": None}, "holds no inpaint_net/pmconv9/bias"),
        ({"inpaint_net/allconv17/bias": np.nan}, "allconv17.bias holds values that are not finite"),
    ],
)
def test_a_checkpoint_of_something_else(change, message, tmp_path):
    values = arrays()
    for name, new in change.items():
        if new is None:
            del values[name]
        elif isinstance(new, tuple):
            values[name] = np.zeros(new, "f")
        else:
            values[name] = np.full_like(values[name], new)
    with pytest.raises(WeightsError, match=message):
        convert(write(tmp_path, values), resolution=16)
