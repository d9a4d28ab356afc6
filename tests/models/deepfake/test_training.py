"""The task: batches of two people, what each phase moves, a short training."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from facehal.errors import ConfigError, DataError, TrainingError
from facehal.models import from_dict, load_config
from facehal.models.base import read_model
from facehal.training.run import Run

ROOT = Path(__file__).resolve().parents[3]


def values(network) -> list[np.ndarray]:
    return [v.numpy() for v in network.trainable_variables]


def moved(network, before) -> bool:
    return any((a != b).any() for a, b in zip(values(network), before, strict=True))


@pytest.fixture
def run(configuration, people, tmp_path):
    config = configuration(batch_size=8, rate=3e-3, preview_faces=0, epoch_steps=5)
    return Run(config, people, tmp_path / "run", progress=False)


def test_a_batch_holds_both(run, people):
    """Each person's crops under that person's name: the sample's sets differ in colour."""
    batch = run.task.prepare(run.pipeline.batch(3), 3)
    assert sorted(batch) == ["source_inputs", "source_targets", "target_inputs", "target_targets"]
    assert all(x.shape == (8, 16, 16, 3) and x.dtype == np.uint8 for x in batch.values())
    means = {
        role: faces.load(32)[0][:, 14:26, 9:23].mean((0, 1, 2)) for role, faces in people.items()
    }
    for role, other in (("source", "target"), ("target", "source")):
        found = batch[f"{role}_targets"].mean((0, 1, 2))
        assert np.abs(found - means[role]).sum() < np.abs(found - means[other]).sum()


def test_crops_follow_from_seed_and_step(run, configuration, people, tmp_path):
    one, again, other = (run.task.prepare(run.pipeline.batch(n), n) for n in (4, 4, 5))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert all((one[name] != other[name]).any() for name in one)
    config = configuration(batch_size=8, seed=1, preview_faces=0)
    theirs = Run(config, people, tmp_path / "other", progress=False)
    batch = theirs.task.prepare(theirs.pipeline.batch(4), 4)
    assert all((one[name] != batch[name]).any() for name in one)


def test_each_phase_moves_the_encoder_and_one_decoder(run):
    """First the target's, then the source's, each with Adam's moments of its own."""
    system, model = run.trainer.system, run.trainer.system.model
    assert [phase.name for phase in system.phases] == ["target", "source"]
    for phase, still in zip(system.phases, ("source", "target"), strict=True):
        (update,) = phase.updates
        assert {id(v) for v in update.variables} == {
            id(v)
            for network in (model.encoder, model.decoder(phase.name))
            for v in network.trainable_variables
        }
        assert not {id(v) for v in model.decoder(still).variables} & {
            id(v) for v in update.variables
        }
    networks = [model.encoder, model.source_decoder, model.target_decoder]
    before = [values(network) for network in networks]
    pictures = model.pictures.numpy()
    run.trainer.fit([run.task.prepare(run.pipeline.batch(0), 0)])
    assert [moved(*pair) for pair in zip(networks, before, strict=True)] == [True] * 3
    np.testing.assert_array_equal(model.pictures.numpy(), pictures)


def test_the_target_alone_is_kept(run, people):
    faces, _ = people["target"].load(32)
    rows = np.linspace(0, len(faces) - 1, 3).astype(int)
    kept = run.trainer.system.model.pictures.numpy()
    np.testing.assert_allclose(kept, faces[rows] / 255, atol=1e-6)


def test_it_learns(run):
    """Achieved: the errors of the last of 150 steps are half of those of the first."""
    batches = [run.task.prepare(run.pipeline.batch(n), n) for n in range(150)]
    first = run.trainer.fit(batches[:5])
    run.trainer.fit(batches[5:-5])
    last = run.trainer.fit(batches[-5:])
    print({name: last[name] / first[name] for name in first})
    assert sorted(first) == ["source/pixel", "target/pixel"]
    assert all(last[name] < 0.8 * first[name] for name in first)


OTHER = """
import json, sys
import numpy as np
from facehal.models import from_dict, task_of
from facehal.training.phases import Trainer
config, state, batches = sys.argv[1:]
trainer = Trainer(task_of(from_dict(json.loads(config))).build(0, None, 0))
with np.load(state) as stored:
    for index, variable in enumerate(trainer.variables):
        variable.assign(stored[str(index)])
with np.load(batches) as stored:
    steps = [{n: stored[n][step] for n in stored.files} for step in range(6)]
print(json.dumps([trainer.fit([batch]) for batch in steps]))
"""


def test_both_backends_train_alike(run, tmp_path, record_property):
    """Achieved: losses of six steps 1e-7 apart."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow, the reference, starts the other backend")
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs JAX (extra: jax)")
    batches = [run.task.prepare(run.pipeline.batch(n), n) for n in range(6)]
    state = {str(i): v.numpy() for i, v in enumerate(run.trainer.variables)}
    np.savez(tmp_path / "state.npz", **state)
    np.savez(tmp_path / "batches.npz", **{n: np.stack([b[n] for b in batches]) for n in batches[0]})
    words = [json.dumps(run.config.to_dict()), tmp_path / "state.npz", tmp_path / "batches.npz"]
    done = subprocess.run(
        [sys.executable, "-c", OTHER, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = [run.trainer.fit([batch]) for batch in batches]
    apart = max(abs(a[n] - b[n]) for a, b in zip(ours, theirs, strict=True) for n in a)
    record_property("losses_apart", apart)
    print(f"losses of six steps apart {apart:.1e}")
    assert apart < 1e-5


def test_a_run_has_its_epochs_by_steps(configuration, people, tmp_path):
    """An epoch is so many steps, however few faces there are; the model is that of the averages."""
    config = configuration(batch_size=5, epochs=2, epoch_steps=3, preview_faces=2)
    path = Run(config, people, tmp_path / "run", progress=False).fit()
    rows = (tmp_path / "run/history.csv").read_text().splitlines()
    assert rows[0] == "epoch,step,seconds,source/pixel,target/pixel"
    assert [row.split(",")[:2] for row in rows[1:]] == [["1", "3"], ["2", "6"]]
    assert (tmp_path / "run/previews/epoch_0002.png").is_file()
    model = read_model(path)
    assert model.pictures.numpy().std() > 0.05


def test_a_run_needs_both_people(configuration, people, sample_data, tmp_path):
    config = configuration()
    with pytest.raises(TrainingError, match="name --source and --target"):
        Run(config, sample_data, tmp_path / "a", progress=False)
    with pytest.raises(TrainingError, match="does not train on the sets source"):
        Run(config, {"source": people["source"]}, tmp_path / "b", progress=False)
    same = {"source": people["source"], "target": people["source"]}
    with pytest.raises(DataError, match="photos of the target are in another set"):
        Run(config, same, tmp_path / "c", progress=False)


def test_published_numbers():
    """Section 4.2's 10,000 iterations; COMPARATORS.md's batch, rate and movements."""
    training = load_config("deepfake").training
    assert training.epochs * training.epoch_steps == 10_000
    assert (training.batch_size, training.rate, training.beta1, training.beta2) == (
        *(64, 5e-5),
        *(0.5, 0.999),
    )
    moves = (training.rotation, training.zoom, training.shift, training.flip, training.warp)
    assert moves == (10, 0.05, 0.05, 0.4, 5) and not training.mirror
    with pytest.raises(ConfigError, match="crop is a multiple of 16"):
        from_dict({"model": "deepfake", "network": {"crop": 40}})
