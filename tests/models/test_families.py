"""Every family of the registry through the same: train, stop and go on, save and load, answer alike
on both backends; those that make pictures also export. A new family adds its smallest configuration
to ``TINY``.

Achieved, TensorFlow (CPU, all threads): a resumed run's weights lie 0 to 1e-8 from an
uninterrupted one's in the mean; TensorFlow and JAX make pictures 3e-7 apart.
"""

import csv
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from facehal.data.faceset import FaceSet
from facehal.inference.export import TOLERANCE, export
from facehal.models import families, from_dict
from facehal.models.base import PictureModel, read_saved
from facehal.training.run import Run

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.core

SCHEDULE = {
    "epochs": 1,
    "batch_size": 6,
    "seed": 3,
    "moving_average": 0.5,
    "checkpoint_steps": 2,
    "preview_faces": 2,
}
_CASCADE = {
    "size": "tiny",
    "network": {"resolutions": [8, 16]},
    "loss": {"perceptual": 0, "identity": 0},
}
TINY = {
    "cascaded": _CASCADE,
    "progan": {**_CASCADE, "training": {"epochs_per_stage": 1}},
    # Only with paste the masked face's own pixels stay.
    "deepfake": {
        "network": {"crop": 16, "width": 4, "dense": 8, "targets": 3, "paste": True},
        "training": {"epoch_steps": 4},
    },
    "deepfillv1": {
        "network": {"resolution": 32, "width": 4, "critic_width": 4},
        "training": {"critic_steps": 2},
    },
    "edgeconnect": {
        "network": {
            "resolution": 32,
            "width": 4,
            "blocks": 1,
            "discriminator_width": 4,
            "sigma": 1.0,
        },
        "loss": {"content": 0, "style": 0},
        "training": {"edge_epochs": 1, "picture_epochs": 1},
    },
    "genface": {
        "network": {"resolution": 32, "base": 4, "features": 32, "discriminator_base": 2},
        "training": {"reconstruction_epochs": 1, "generator_rate": 2.0e-3},
    },
    "recognition": {
        "network": {
            "kind": "slim",
            "side": 32,
            "width": 4,
            "features": 8,
            "head": "arcface",
            "start": "random",
        },
        "training": {
            "held_out": 0.0,
            "patience": 0,
            "augmentation": 1.0,
            "preview_faces": 0,
            "rate": 0.01,
            "weight_decay": 1.0e-3,
            "margin_steps": 3,
        },
    },
    "symmfcnet": {
        "network": {
            "resolution": 16,
            "flow_base": 4,
            "flow_cap": 8,
            "light_base": 3,
            "light_cap": 6,
            "reconstruction_base": 4,
            "reconstruction_cap": 8,
            "discriminator_base": 4,
        },
        "loss": {"perceptual": 0},
        "training": {"warping_epochs": 1, "joint_epochs": 1},
    },
}
STEPS = 4  # an epoch: 24 faces in batches of 6


def configuration(name: str):
    """The smallest one of a family: every stage has one epoch."""
    values = dict(TINY[name])
    training = {**SCHEDULE, **values.pop("training", {})}
    return from_dict({"model": name, **values, "training": training})


def data(name: str, folder: Path):
    """What a family trains on: the folder, or of several roles each a person of it."""
    roles = families()[name].task(configuration(name)).roles
    faces = FaceSet.open(folder)
    people = zip(roles, faces.subjects, strict=bool(roles))
    return {role: faces.of_subject(subject) for role, subject in people} or folder


@dataclass
class Through:
    """A run of every stage that is through, and the networks of its first stage, before and now."""

    run: Run
    networks: list[keras.Model]
    before: list[list[np.ndarray]]


@pytest.fixture(scope="module", params=sorted(TINY))
def through(request, sample_data, tmp_path_factory) -> Through:
    """Stopped by nobody. Not to be changed."""
    folder = tmp_path_factory.mktemp(request.param, numbered=False) / "run"
    faces = data(request.param, sample_data)
    run = Run(configuration(request.param), faces, folder, progress=False)
    networks = run.trainer.system.networks
    before = [[v.numpy() for v in network.trainable_variables] for network in networks]
    assert max(phase.every for phase in run.trainer.system.phases) <= STEPS
    run.fit()
    return Through(run, networks, before)


@pytest.fixture(scope="module")
def trained(through) -> Path:
    """Its folder."""
    return through.run.folder.path


@pytest.fixture(scope="module")
def model(trained) -> keras.Model:
    return read_saved(trained / "model.keras")


@pytest.fixture(scope="module")
def painter(model) -> PictureModel:
    """The model, where it makes pictures."""
    if not isinstance(model, PictureModel):
        pytest.skip("makes no pictures")
    return model


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def faces(model: keras.Model, count: int = 5) -> dict[str, np.ndarray]:
    """Coarse pictures of which a square is known; of the last one nothing, before it all. Of a
    model that makes no pictures whole ones, as ``faces``.

    With a little noise: at edges between even colours a detector of edges finds ties, which the
    last bit decides.
    """
    pictured = isinstance(model, PictureModel)
    random, side = np.random.default_rng(0), model.resolutions[-1] if pictured else model.side
    coarse = random.random((count, 8, 8, 3), np.float32)
    pictures = 0.9 * coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    pictures += 0.1 * random.random(pictures.shape, np.float32)
    if not pictured:
        return {"faces": pictures}
    masks = np.zeros((count, side, side, 1), np.float32)
    masks[:, side // 4 : -side // 4, side // 4 : -side // 4] = 1
    masks[-2], masks[-1] = 1, 0
    inputs = {"masked_faces": pictures * masks, "masks": masks}
    if model.latent:
        inputs["latent"] = random.standard_normal((count, model.latent), np.float32)
    return inputs


def answers(model: keras.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a model makes of them, by name: pictures of every resolution, or descriptors."""
    outputs = model.predict_on_batch(inputs.get("faces", inputs))
    named = outputs if isinstance(outputs, dict) else {"descriptors": outputs}
    return {name: np.asarray(values) for name, values in named.items()}


def test_every_family_is_here():
    assert sorted(TINY) == sorted(families())


def test_all_stages_have_trained(trained):
    config = configuration(trained.parent.name)
    found = rows(trained)
    stages = families()[config.model].task(config).stages
    assert [int(row["step"]) for row in found] == [STEPS * (n + 1) for n in range(len(stages))]
    for row in found:
        values = [float(value) for name, value in row.items() if value and name != "stage"]
        assert len(values) > 4 and np.isfinite(values).all()
    assert (trained / "report.html").is_file()
    pictured = families()[config.model].task(config).measures is not None
    assert bool(list((trained / "previews").glob("*.png"))) == pictured


def test_every_network_moves(through):
    """Of the first stage, which has as many steps as all of its phases need to come."""
    for network, old in zip(through.networks, through.before, strict=True):
        pairs = zip(old, network.trainable_variables, strict=True)
        assert not old or any((a != b.numpy()).any() for a, b in pairs), network.name


def test_a_batch_follows_from_its_step(through):
    run = through.run
    one, two, other = (run.task.prepare(run.pipeline.batch(step), step) for step in (3, 3, 2))
    assert sorted(one) == sorted(two)
    for key, values in one.items():
        np.testing.assert_array_equal(values, two[key])
    assert any((one[key] != other[key]).any() for key in one)


def test_a_stopped_run_goes_on_as_if_nobody_had(trained, sample_data, tmp_path):
    config = configuration(trained.parent.name)
    folder = tmp_path / "stopped"
    for _ in range(20):  # ends at the first checkpoint each time
        run = Run(
            config,
            data(config.model, sample_data),
            folder,
            resume=folder.exists(),
            max_minutes=0,
            progress=False,
        )
        run.fit()
        if run.step == run.total_steps and run.stage + 1 == len(run.task.stages):
            break
    for ours, theirs in zip(rows(folder), rows(trained), strict=True):
        del ours["seconds"], theirs["seconds"]
        assert [n for n in ours if ours[n]] == [n for n in theirs if theirs[n]]
        pairs = [(float(v), float(theirs[n])) for n, v in ours.items() if v and n != "stage"]
        np.testing.assert_allclose(*zip(*pairs, strict=True), rtol=1e-3, atol=1e-6)
    weights = [read_saved(one / "model.keras").get_weights() for one in (folder, trained)]
    apart = np.concatenate([np.abs(a - b).ravel() for a, b in zip(*weights, strict=True)])
    print(f"weights {apart.mean():.1e} apart in the mean")
    # Several threads add up in another order each time; Adam turns that into whole steps for the
    # few weights whose gradient is next to nothing. Forgotten moments would move all of them.
    assert apart.mean() < 1e-6


def test_known_pixels_stay_and_pictures_are_pictures(painter):
    inputs = faces(painter)
    outputs = answers(painter, inputs)
    assert sorted(outputs) == sorted(map(str, painter.resolutions))
    picture = outputs[str(painter.resolutions[-1])]
    assert picture.dtype == np.float32 and np.isfinite(picture).all()
    assert picture.min() >= 0 and picture.max() <= 1
    known = inputs["masks"][..., 0] == 1
    np.testing.assert_allclose(picture[known], inputs["masked_faces"][known], rtol=0, atol=1e-6)
    assert picture[~known].std() > 1e-3


def test_any_number_of_faces_gives_the_same_answers(model):
    inputs = faces(model)
    together = answers(model, inputs)
    alone = answers(model, {name: array[1:2] for name, array in inputs.items()})
    for name, values in together.items():
        np.testing.assert_allclose(alone[name][0], values[1], rtol=1e-5, atol=1e-5)


def test_a_model_is_made_again_from_its_configuration(model):
    config = model.get_config()
    again = type(model).from_config(config)
    again.set_weights(model.get_weights())
    assert again.get_config() == config
    ours, theirs = (answers(one, faces(model)) for one in (again, model))
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-6, atol=1e-6)


OTHER = """
import sys
from pathlib import Path
import numpy as np
from facehal.models.base import read_saved
for line in sys.stdin:
    path, inputs, outputs = map(Path, line.rstrip("\\n").split("\\t"))
    with np.load(inputs) as given:
        named = dict(given)
    made = read_saved(path).predict_on_batch(named.get("faces", named))
    made = made if isinstance(made, dict) else {"descriptors": made}
    np.savez(outputs, **{name: np.asarray(values) for name, values in made.items()})
    print("made", flush=True)
"""


@pytest.fixture(scope="module")
def made_on_jax() -> Iterator[Callable[..., None]]:
    """(model, inputs, outputs), three files: writes the last, in one process for all models."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER],
            cwd=ROOT,
            env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

        def make(*paths: Path) -> None:
            process.stdin.write("\t".join(map(str, paths)) + "\n")
            process.stdin.flush()
            said = process.stdout.readline()
            errors.seek(0)
            assert said == "made\n", errors.read()[-2000:]

        yield make
        process.communicate(timeout=60)


def test_both_backends_agree(trained, model, request, tmp_path, record_property):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow, the reference, starts the other backend")
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs JAX (extra: jax)")
    inputs = faces(model)
    np.savez(tmp_path / "inputs.npz", **inputs)
    paths = [trained / "model.keras", tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    request.getfixturevalue("made_on_jax")(*paths)
    wanted = answers(model, inputs)
    with np.load(paths[-1]) as found:
        apart = max(
            float(np.abs(found[n] - values).max() / max(1, np.abs(values).max()))
            for n, values in wanted.items()
        )
    record_property("answers_apart", apart)
    print(f"answers apart {apart:.1e}")
    assert apart < 1e-5


def test_export_to_onnx(painter, tmp_path):
    for package in ("onnx", "onnxruntime", "tf2onnx"):
        pytest.importorskip(package, reason=f"needs {package} (extra: export)")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("some families' ONNX files are written by TensorFlow")
    assert export(painter, "onnx", tmp_path / "model.onnx") <= TOLERANCE
