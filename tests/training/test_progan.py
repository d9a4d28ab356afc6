"""Whole runs in stages: what they leave behind, and kill and resume inside every stage.

Achieved on TensorFlow (CPU, one thread): after SIGKILL in each stage and resume, history.csv and
all saved models are equal to those of an uninterrupted run to the last bit (tolerance of the test:
1e-5 relative in the history, 1e-4 in the weights).
"""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

import facehal
from facehal.errors import TrainingError
from facehal.models import from_dict, load_config
from facehal.models.cascade.progan import OUTER, ProGAN, grow
from facehal.training import checkpoints
from facehal.training.run import Run

LIMIT = 18
PER_EPOCH = 3  # 18 faces in batches of 6
PER_STAGE = 4 * PER_EPOCH


@pytest.fixture(scope="module")
def config():
    return from_dict(
        {
            "size": "tiny",
            "model": "progan",
            "network": {"resolutions": [8, 16]},
            "loss": {"perceptual": 0, "identity": 0, "adversarial_from": 16},
            "training": {
                "epochs_per_stage": 4,
                "batch_size": 6,
                "generator_rate": 1e-3,
                "decay": 0.5,
                "moving_average": 0.9,
                "checkpoint_steps": 2,
                "preview_faces": 3,
                "seed": 5,
            },
        }
    )


@pytest.fixture(scope="module")
def finished(config, sample_data, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run = Run(config, sample_data, folder, limit=LIMIT, progress=False)
    assert run.total_steps == 2 * PER_STAGE
    assert run.fit() == folder / "model.keras"
    assert (run.step, run.stage, run.stage_start) == (2 * PER_STAGE, 1, PER_STAGE)
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def load(path: Path) -> ProGAN:
    model = keras.models.load_model(path)
    assert isinstance(model, ProGAN)
    return model


def test_history(finished, rows_of):
    """A row per epoch, counted through; the losses of the stage and nothing else."""
    rows = rows_of(finished)
    first = [f"8/{name}" for name in ("pixel", "total_variation", "generator")]
    second = [
        f"16/{name}"
        for name in (
            *("pixel", "adversarial", "total_variation", "generator"),
            *("discriminator", "real_probability", "fake_probability"),
        )
    ]
    assert list(rows[0]) == ["epoch", "step", "seconds", "stage", *first, *second]
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    assert [int(row["step"]) for row in rows] == [PER_EPOCH * n for n in range(1, 9)]
    assert [row["stage"] for row in rows] == ["8"] * 4 + ["16"] * 4
    for rows_of_stage, present, absent in ((rows[:4], first, second), (rows[4:], second, first)):
        for row in rows_of_stage:
            assert all(np.isfinite(float(row[name])) for name in present)
            assert all(row[name] == "" for name in absent)
        pixel = [float(row[present[0]]) for row in rows_of_stage]
        assert pixel[-1] < pixel[0]


def test_models_of_the_stages(finished):
    """The newest is the last; every finished stage has its own, which the next has grown from."""
    assert sorted(p.name for p in (finished / "stages").iterdir()) == [
        "progan_16.keras",
        "progan_8.keras",
    ]
    newest, small = load(finished / "model.keras"), load(finished / "stages/progan_8.keras")
    assert newest.resolutions == (16,) and small.resolutions == (8,)
    last = load(finished / "stages/progan_16.keras")
    for a, b in zip(newest.variables, last.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_the_second_stage_starts_from_what_was_saved(config, sample_data, tmp_path):
    """Resumed at the end of the first stage: the second grows from the moving average that the
    file of the first holds, bit for bit, with a new optimizer and a schedule of its own."""
    run = Run(config, sample_data, tmp_path, limit=LIMIT, progress=False)
    while run.step < PER_STAGE:
        run._stretch(run._watcher())
    assert not (tmp_path / "stages").exists()  # as if killed just then

    run = Run(config, sample_data, tmp_path, limit=LIMIT, progress=False, resume=True)
    assert (run.step, run.stage) == (PER_STAGE, 0)
    averaged = [v.numpy() for v in run.averaged.variables]
    weights = [v.numpy() for v in run.trainer.system.model.variables]
    assert not all(np.array_equal(a, b) for a, b in zip(averaged, weights, strict=True))
    run._keep_stage()
    run._grow()
    small = load(tmp_path / "stages" / "progan_8.keras")
    assert (run.stage, run.stage_start, run.stage_end) == (1, PER_STAGE, 2 * PER_STAGE)
    for update in run.trainer.system.phases[0].updates:
        assert int(update.optimizer.iterations.numpy()) == 0
        assert float(update.optimizer.learning_rate) > 0
        update.optimizer.iterations.assign(PER_STAGE)
        assert float(update.optimizer.learning_rate) == 0  # its schedule is the stage's
    for layer in small.generators[0].layers:
        if layer.weights and layer.name not in OUTER:
            ours = run.trainer.system.model.generators[0].get_layer(layer.name).get_weights()
            for a, b in zip(ours, layer.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)


def test_stopped_by_the_clock_in_every_stage(config, sample_data, tmp_path, rows_of):
    """No minutes: one stretch a time, also across the border between the stages."""
    short = config.replace_training(epochs_per_stage=1, checkpoint_steps=PER_EPOCH)
    reached = []
    for _ in range(3):
        run = Run(
            short,
            sample_data,
            tmp_path / "run",
            limit=LIMIT,
            progress=False,
            max_minutes=0,
            resume=bool(reached),
        )
        run.fit()
        reached.append((run.stage, run.step, load(tmp_path / "run/model.keras").resolutions))
    # The third finds nothing left to do.
    assert reached == [(0, 3, (8,)), (1, 6, (16,)), (1, 6, (16,))]
    assert [row["step"] for row in rows_of(tmp_path / "run")] == ["3", "6"]
    assert len(list((tmp_path / "run/stages").iterdir())) == 2


def test_a_model_stopped_early_hallucinates(finished, sample_faces):
    """At its own size, from a mask of that size; through the public door."""
    for name, size in (("stages/progan_8.keras", 8), ("model.keras", 16)):
        hallucinator = facehal.load(finished / name)
        step = 128 // size
        faces = sample_faces[0][:4, ::step, ::step].astype("float32") / 255
        masks = sample_faces[1][:4, ::step, ::step]
        outputs = hallucinator.from_masks(faces * masks[..., None], masks, all_resolutions=True)
        assert list(outputs) == [size] and outputs[size].shape == (4, size, size, 3)
        inside = masks == 1
        np.testing.assert_allclose(outputs[size][inside], faces[inside], atol=1e-6)


def test_the_full_growth_hallucinates_from_128(sample_faces, tmp_path):
    """Block 128 alone, straight from the 128×128 mask, out of a saved file."""
    model = ProGAN(8, base=1, cap=8)
    while model.resolutions[0] < 128:
        model = grow(model)
    model.save(tmp_path / "progan.keras")
    faces, masks = sample_faces[0][:2].astype("float32") / 255, sample_faces[1][:2]
    pictures = facehal.load(tmp_path / "progan.keras").from_masks(faces * masks[..., None], masks)
    assert pictures.shape == (2, 128, 128, 3)
    np.testing.assert_allclose(pictures[masks == 1], faces[masks == 1], atol=1e-6)
    assert pictures[masks == 0].min() >= 0 and pictures[masks == 0].std() > 0


def test_other_epochs_may_be_asked_for_other_models_not(copy, config, sample_data):
    longer = config.replace_training(epochs_per_stage=5)
    run = Run(longer, sample_data, copy, limit=LIMIT, resume=True, progress=False)
    # The first stage is over and stays as it was; the second gets one epoch more.
    assert (run.stage_start, run.total_steps) == (PER_STAGE, 2 * PER_STAGE + PER_EPOCH)
    assert load_config(copy / "config.yaml") == longer
    plain = config.to_dict() | {"model": "cascaded"}
    with pytest.raises(TrainingError, match="another configuration"):
        Run(from_dict(plain), sample_data, copy, limit=LIMIT, resume=True)


def test_kill_and_resume_in_every_stage(
    config, sample_data, tmp_path, run_process, assert_equal_runs
):
    """SIGKILL inside the first stage, resume, SIGKILL inside the second, resume: the same numbers
    as a run that nobody killed."""
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    # Long enough that a kill finds the stage under way, on any machine.
    long = config.replace_training(epochs_per_stage=8)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(long.to_dict()))
    killed = []
    for stage in range(2):
        first = f"step_{stage * 8 * PER_EPOCH + 1:08d}.npz"
        resume = ["resume"] * (stage > 0)
        run_process(tmp_path / "config.yaml", sample_data, folder, *resume).kill_when(
            lambda first=first: (
                (path := checkpoints.latest(folder / "checkpoints")) and path.name >= first
            )
        )
        state = checkpoints.read_state(checkpoints.latest(folder / "checkpoints"))
        killed.append((state["stage"], state["step"]))
    assert killed[0][1] < 8 * PER_EPOCH < killed[1][1] < 16 * PER_EPOCH
    assert [stage for stage, _ in killed] == [0, 1]

    run_process(tmp_path / "config.yaml", sample_data, folder, "resume", whole).finish()
    models = ("model.keras", "stages/progan_8.keras", "stages/progan_16.keras")
    assert_equal_runs(folder, whole, 16, *models)
