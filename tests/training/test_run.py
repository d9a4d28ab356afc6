"""Whole runs of one block: what they leave behind, kill and resume, refusals, the alarm.

Achieved on TensorFlow (CPU): after SIGKILL and resume history.csv and the saved model are equal to
those of an uninterrupted run to the last bit (tolerance of the test: 1e-5 relative).
"""

import contextlib
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from facehal.errors import ConfigError, DataError, FacehalError, TrainingError
from facehal.images import read_image
from facehal.models import from_dict, load_config
from facehal.training import checkpoints
from facehal.training.previews import KEEP_STEPS
from facehal.training.run import Run

STEPS_PER_EPOCH = 3  # 18 faces in batches of 6
LIMIT = 18


@pytest.fixture(scope="module")
def config():
    return from_dict(
        {
            "size": "tiny",
            "network": {"resolutions": [8]},
            "loss": {"perceptual": 0, "identity": 0},
            "training": {
                "epochs": 8,
                "batch_size": 6,
                "generator_rate": 1e-3,
                "moving_average": 0.9,
                "checkpoint_steps": 2,
                "preview_faces": 3,
                "seed": 5,
                "augmentation": 0.5,
                "collapse_bound": 9.0,  # always under it
                "collapse_epochs": 2,
                "collapse_steps": 8,
            },
        }
    )


def history(folder: Path) -> list[dict[str, float]]:
    if not (folder / "history.csv").exists():
        return []
    with open(folder / "history.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(config, sample_data, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run = Run(config, sample_data, folder, limit=LIMIT, progress=False)
    with open(folder.parent / "stderr.txt", "w") as file, contextlib.redirect_stderr(file):
        assert run.fit() == folder / "model.keras"
    assert run.pipeline.augmentation == 0.5
    assert run.step == 8 * STEPS_PER_EPOCH
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_the_run_folder(finished, config):
    names = {p.name for p in finished.iterdir()} - {".lock"}  # where filelock leaves it behind
    assert names == {
        *("config.yaml", "environment.json", "history.csv", "model.keras"),
        *("previews", "checkpoints", "tensorboard", "report.html", "epochs.png", "page.json"),
    }
    assert load_config(finished / "config.yaml") == config
    about = json.loads((finished / "environment.json").read_text())
    assert about["faces"] == LIMIT and about["backend"] == keras.backend.backend()
    assert {"python", "system", "device", "keras", "numpy", "command", "started"} <= set(about)
    assert about["step"] == 0 and "earlier" not in about
    assert len(about["data_sha256"]) == 64
    names = sorted(p.name for p in (finished / "checkpoints").iterdir())
    assert names == ["step_00000023.npz", "step_00000024.npz"]


def test_history(finished):
    rows = history(finished)
    assert list(rows[0]) == [
        *("epoch", "step", "seconds", "8/pixel", "8/adversarial", "8/total_variation"),
        *("8/generator", "8/discriminator", "8/real_probability", "8/fake_probability"),
    ]
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert [row["step"] for row in rows] == [3 * n for n in range(1, 9)]
    assert all(np.isfinite(list(row.values())).all() and row["seconds"] > 0 for row in rows)
    assert rows[-1]["8/pixel"] < rows[0]["8/pixel"]


def test_previews(finished):
    """One of every epoch, and the last few from the middle of one."""
    epochs = [f"epoch_{n:04d}.png" for n in range(1, 9)]
    middles = [f"step_{n:08d}.png" for n in range(2, 24, 3)][-KEEP_STEPS:]
    assert sorted(p.name for p in (finished / "previews").iterdir()) == epochs + middles
    previews = [finished / "previews" / name for name in epochs]
    first, last = read_image(previews[0]), read_image(previews[-1])
    # Face mask, 8, original for each of three faces, in cells of 8 pixels under a heading.
    assert first.shape == last.shape == (14 + 2 + 3 * 10, 2 + 3 * 10, 3)
    for column in (0, 2):  # the same faces, always
        cells = [p[16:, 2 + 10 * column : 10 + 10 * column] for p in (first, last)]
        assert np.array_equal(*cells)
    assert not np.array_equal(first[16:, 12:20], last[16:, 12:20])


def test_collapse_is_announced_once(finished):
    """After two epochs and eight steps, that is three epochs; and the page says it too."""
    (line,) = (finished.parent / "stderr.txt").read_text().splitlines()
    assert line.startswith("warning: epoch 3: the discriminator of block 8 has collapsed")
    page = (finished / "report.html").read_text()
    assert "epoch 3: the discriminator of block 8 has collapsed" in page
    assert "Finished: 8 of 8 epochs" in page


def test_tensorboard(finished):
    pytest.importorskip("tensorflow", reason="TensorFlow writes the TensorBoard files")
    (events,) = (finished / "tensorboard").glob("events.out.tfevents.*")
    data = events.read_bytes()
    assert all(name in data for name in (b"8/pixel", b"8/discriminator", b"seconds"))


def test_saved_model_is_the_moving_average(finished):
    """The averages of the last checkpoint; statistics of normalisation as they are."""
    saved = keras.models.load_model(finished / "model.keras")
    with np.load(finished / "checkpoints" / "step_00000024.npz") as stored:
        arrays = {name: stored[name] for name in stored if name != "meta"}
    (average,) = (x for name, x in arrays.items() if ":average:" in name)
    kernel = saved.generators[0].get_layer("entry").kernel.numpy()
    assert np.array_equal(average[: kernel.size], kernel.ravel())  # the first variable of all
    assert not any(np.array_equal(x, kernel) for x in arrays.values())
    mean = saved.generators[0].get_layer("entry_norm").moving_mean.numpy()
    same = [n for n, x in arrays.items() if x.shape == mean.shape and np.array_equal(x, mean)]
    assert len(same) == 1 and ":model:" in same[0]


def test_kill_and_resume(config, sample_data, tmp_path, run_process, assert_equal_runs):
    """SIGKILL in the middle of a real run; what follows is what an uninterrupted run has."""
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    run_process(tmp_path / "config.yaml", sample_data, folder).kill_when(
        lambda: checkpoints.latest(folder / "checkpoints") is not None and history(folder)
    )
    assert checkpoints.latest(folder / "checkpoints").name < "step_00000024.npz"
    run_process(tmp_path / "config.yaml", sample_data, folder, "resume", whole).finish()
    assert_equal_runs(folder, whole, 8, "model.keras")


def test_killed_before_the_first_checkpoint(config, finished, sample_data, tmp_path, capsys):
    """The row of the first epoch may be there already: it comes again, not twice."""
    folder = tmp_path / "early"
    folder.mkdir()
    for name in ("config.yaml", "environment.json"):
        shutil.copy(finished / name, folder)
    lines = (finished / "history.csv").read_text().splitlines()
    (folder / "history.csv").write_text("\n".join(lines[:2]) + "\n")
    run = Run(config, sample_data, folder, limit=LIMIT, resume=True, progress=False)
    assert run.step == 0 and "starting from the beginning" in capsys.readouterr().out
    assert (folder / "history.csv").read_text().splitlines() == lines[:1]


def test_more_epochs_a_time_limit_and_the_alarm(copy, config, sample_data):
    """Only epochs and warnings may change; after the minutes everything is written; a weight that
    is not a number stops the run, and the last good checkpoint is named and stays."""
    longer = config.replace_training(epochs=10, collapse_bound=0.0)
    run = Run(longer, sample_data, copy, limit=LIMIT, resume=True, progress=False, max_minutes=0)
    run.fit()
    last = copy / "checkpoints" / "step_00000026.npz"
    assert run.step == 26 and checkpoints.latest(copy / "checkpoints") == last
    worked = run.worked
    assert load_config(copy / "config.yaml") == longer
    about = json.loads((copy / "environment.json").read_text())
    assert about["step"] == 24 and [one["step"] for one in about["earlier"]] == [0]
    page = (copy / "report.html").read_text()
    assert "8 of 10 epochs" in page and "after step 26" in page

    broken = run.trainer.system.model.trainable_variables[0]
    broken.assign(np.full(broken.shape, np.nan))
    with pytest.raises(TrainingError) as caught:
        run.fit()
    assert "is not finite" in str(caught.value) and str(last) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert checkpoints.latest(copy / "checkpoints") == last
    assert len(history(copy)) == 8

    run = Run(longer, sample_data, copy, limit=LIMIT, resume=True, progress=False, max_work=0)
    assert run.worked == worked > 0  # of all calls
    run.fit()
    assert run.step == 27 and run.worked > worked


def test_a_limit_is_met_between_two_checkpoints(config, sample_data, tmp_path, monkeypatch):
    """A step is said to take six seconds: after an epoch of three one more is left."""
    seldom = config.replace_training(checkpoint_steps=20)
    common = {"limit": LIMIT, "progress": False}
    run = Run(seldom, sample_data, tmp_path / "run", max_work=0.4, **common)
    clock, fit = [0.0], run.trainer.fit

    def slow(batches, stepped):
        def each():
            for batch in batches:
                clock[0] += 6.0
                yield batch

        return fit(each(), stepped)

    monkeypatch.setattr("facehal.training.run.work_clock", lambda: clock[0])
    monkeypatch.setattr(run.trainer, "fit", slow)
    run.fit()
    assert (run.step, run.worked) == (4, 24.0)
    assert checkpoints.latest(tmp_path / "run" / "checkpoints").name == "step_00000004.npz"


def test_a_folder_in_use(finished, config, sample_data):
    with pytest.raises(TrainingError, match="holds a run already; add --resume"):
        Run(config, sample_data, finished, limit=LIMIT)


def test_a_folder_that_somebody_trains_in(copy, config, sample_data):
    before = {path: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom facehal.files import locked\n"
            "with locked(sys.argv[1]):\n    print('in', flush=True)\n    sys.stdin.read()",
            copy,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"in\n"
    try:
        with pytest.raises(TrainingError, match="another process is writing to it; wait"):
            Run(config, sample_data, copy, limit=LIMIT, resume=True)
    finally:
        holder.kill()
        holder.communicate()
    assert {path: path.read_bytes() for path in copy.iterdir() if path.is_file()} == before
    Run(config, sample_data, copy, limit=LIMIT, resume=True, progress=False).fit()


def test_a_model_that_was_lost_comes_again(copy, config, sample_data):
    """A run may be killed between its last checkpoint and its model."""
    before = [v.numpy() for v in keras.models.load_model(copy / "model.keras").variables]
    (copy / "model.keras").unlink()
    Run(config, sample_data, copy, limit=LIMIT, resume=True, progress=False).fit()
    after = [v.numpy() for v in keras.models.load_model(copy / "model.keras").variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_begins_with_the_weights_of_a_trained_model(config, finished, sample_data, tmp_path):
    """Its published weights; the average begins with them, and a resume needs the file no more."""
    model = shutil.copy(finished / "model.keras", tmp_path / "trained.keras")
    longer = config.replace_training(pretrained=str(model), moving_average=0.999)
    common = {"limit": LIMIT, "progress": False}
    run = Run(longer, sample_data, tmp_path / "run", max_minutes=0, **common)
    ours, theirs = run.trainer.system.model, keras.models.load_model(model)
    assert all(
        np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True)
    )
    run.fit()
    assert run.step == 2
    after = keras.models.load_model(tmp_path / "run/model.keras")
    pairs = zip(after.trainable_variables, theirs.trainable_variables, strict=True)
    moved = [float(np.abs(a.numpy() - b.numpy()).max()) for a, b in pairs]
    assert 0 < max(moved) < 5e-3  # two steps at 1e-3
    Path(model).unlink()
    again = Run(longer, sample_data, tmp_path / "run", resume=True, **common)
    assert again.step == 2


def test_weights_of_other_networks_are_refused(config, finished, sample_data, tmp_path):
    wider = config.to_dict()
    wider["network"]["cap"] *= 2
    for plain, name, match in (
        (wider, str(finished / "model.keras"), r"other networks than .* weights against [\d,]+\)"),
        ({**config.to_dict(), "model": "progan"}, str(finished / "model.keras"), "a ProGAN is"),
        (config.to_dict(), "compat", "neither a model's file nor a shipped model"),
    ):
        if plain["model"] == "progan":
            plain = {"model": "progan", "size": "tiny", "loss": plain["loss"]}
        with pytest.raises(FacehalError, match=match) as caught:
            Run(
                from_dict(plain).replace_training(pretrained=name),
                sample_data,
                tmp_path / "run",
                limit=LIMIT,
                progress=False,
            )
        assert "\n" not in str(caught.value) and not (tmp_path / "run/config.yaml").exists()


def test_somebody_trained_meanwhile(copy, config, sample_data, monkeypatch):
    """Between the choice of the checkpoint and the lock lies the building of the model."""
    found = checkpoints.latest(copy / "checkpoints")
    newer = found.with_name("step_00000027.npz")

    def build(self, *arguments):
        shutil.copy(found, newer)
        return original(self, *arguments)

    original = Run._build
    monkeypatch.setattr(Run, "_build", build)
    before = (copy / "history.csv").read_bytes()
    with pytest.raises(TrainingError, match="trained in it meanwhile; start again with --resume"):
        Run(config, sample_data, copy, limit=LIMIT, resume=True)
    assert (copy / "history.csv").read_bytes() == before


def test_another_configuration(copy, config, sample_data):
    before = (copy / "config.yaml").read_bytes()
    with pytest.raises(TrainingError, match=r"another configuration.*config\.yaml"):
        Run(config.replace_training(seed=6), sample_data, copy, limit=LIMIT, resume=True)
    assert (copy / "config.yaml").read_bytes() == before


def test_other_data(copy, config, sample_data):
    before = (copy / "environment.json").read_bytes()
    with pytest.raises(TrainingError, match="was trained on other faces"):
        Run(config, sample_data, copy, limit=LIMIT - 1, resume=True)
    assert (copy / "environment.json").read_bytes() == before


@pytest.fixture
def halves(sample_data, tmp_path) -> list[Path]:
    """The prepared faces in two folders that share four photos."""
    lines = (sample_data / "manifest.csv").read_text().splitlines(keepends=True)
    folders = []
    for name, rows in (("a", lines[1:15]), ("b", lines[11:])):
        folders.append(Path(shutil.copytree(sample_data, tmp_path / name)))
        (folders[-1] / "manifest.csv").write_text("".join([lines[0], *rows]))
    return folders


def test_several_folders(copy, config, sample_data, halves):
    """Together they are the faces of the run: it goes on, and says where they lie."""
    with pytest.raises(TrainingError, match="was trained on other faces"):
        Run(config, halves[::-1], copy, limit=LIMIT, resume=True)
    longer = config.replace_training(epochs=9)
    run = Run(longer, halves, copy, limit=LIMIT, resume=True, progress=False, max_minutes=0)
    run.fit()
    assert run.step == 26
    about = json.loads((copy / "environment.json").read_text())
    assert about["data"] == [str(folder) for folder in halves]
    assert about["faces"] == LIMIT and about["faces_of_each"] == [14, 4]
    (before,) = about["earlier"]
    assert before["data"] == [str(sample_data)] and before["data_sha256"] == about["data_sha256"]
    page = (copy / "report.html").read_text()
    assert f"{halves[0]}, {halves[1]}" in page and "14, 4" in page


def test_a_damaged_configuration(copy, config, sample_data):
    (copy / "config.yaml").write_text("size: [")
    with pytest.raises(ConfigError, match=r"config\.yaml: not a YAML file"):
        Run(config, sample_data, copy, limit=LIMIT, resume=True)


def test_a_file_in_the_place_of_the_folder(config, sample_data, tmp_path):
    (tmp_path / "runs").write_text("")
    for folder in (tmp_path / "runs", tmp_path / "runs" / "one"):
        with pytest.raises(TrainingError) as caught:
            Run(config, sample_data, folder, limit=LIMIT)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_no_faces(config, tmp_path):
    with pytest.raises(DataError, match="no manifest"):
        Run(config, tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_start_leaves_no_trace(config, sample_data, tmp_path, monkeypatch):
    """After fetching what was missing the same command works, without --resume."""
    from facehal.errors import WeightsError

    plain = config.to_dict()
    plain["loss"]["perceptual"] = 1.0
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(WeightsError):
        Run(from_dict(plain), sample_data, tmp_path / "run", limit=LIMIT)
    assert not (tmp_path / "run" / "config.yaml").exists()
