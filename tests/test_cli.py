"""The command as a user runs it: real processes, their exit status and what they print."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facehal.images import read_image, write_png

ROOT = Path(__file__).resolve().parents[1]


def facehal(*words, **environment) -> subprocess.CompletedProcess:
    code = "from facehal.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120", **environment},
    )


def one_line(done: subprocess.CompletedProcess) -> str:
    """The last line on stderr of a command that failed as it should."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut):
    folder = tmp_path_factory.mktemp("photos")
    write_png(folder / "collins.png", astronaut)
    write_png(folder / "grey.png", np.full((64, 64, 3), 128, np.uint8))
    (folder / "text.jpg").write_text("not a picture")
    return folder


def test_help_lists_every_verb():
    done = facehal("--help")
    assert done.returncode == 0
    for verb in ("preprocess", "train", "hallucinate", "weights", "doctor", "sample"):
        assert verb in done.stdout


def test_ctrl_c_keeps_what_was_finished(tmp_path):
    # A process that a script has put into the background inherits that Ctrl-C is ignored.
    code = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from facehal.cli import main\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "sample", str(tmp_path / "out"), "--count", "5000"],
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("**/*.*"))) < 2:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "facehal: stopped; what was finished is kept"
    assert "Traceback" not in errors


def test_hallucinate_skips_what_it_cannot_use_and_goes_on(photos, tmp_path):
    words = ["hallucinate", photos, "--out", tmp_path / "out", "--paste", "--background"]
    done = facehal(*words, photos / "grey.png")
    assert done.returncode == 0, done.stderr
    assert "1 of 3 photos hallucinated" in done.stdout
    assert read_image(tmp_path / "out/pictures/collins.png").shape == (128, 128, 3)
    # original, face mask and five resolutions beside each other
    sheet = read_image(tmp_path / "out/hallucinated.png")
    assert sheet.shape[1] >= 8 * 128
    photo, pasted = (read_image(f / "collins.png") for f in (photos, tmp_path / "out/pasted"))
    assert pasted.shape == photo.shape
    changed = (pasted != photo).any(-1).mean()
    assert 0.02 < changed < 0.15
    before = read_image(tmp_path / "out/background/collins.png")
    assert (before[:8, :8] == 128).all() and (before[64, 64] != 128).any()
    skipped = pd.read_csv(tmp_path / "out/skipped.csv")
    assert sorted(Path(file).name for file in skipped["file"]) == ["grey.png", "text.jpg"]


def test_hallucinate_fails_where_nothing_could_be_used(photos, tmp_path):
    line = one_line(facehal("hallucinate", photos / "grey.png", "--out", tmp_path / "out"))
    assert "none of 1 photos" in line
    assert "no such file" in one_line(facehal("hallucinate", tmp_path / "gone", "--out", tmp_path))
    line = one_line(facehal("hallucinate", photos, "--out", tmp_path, "--model", "nobody"))
    assert "nobody" in line
    words = ["hallucinate", photos, "--out", tmp_path, "--background"]
    line = one_line(facehal(*words, photos / "text.jpg"))
    assert "text.jpg: not a picture" in line


def test_sample_preprocess_train_and_hallucinate_hang_together(tmp_path):
    """The whole way of a newcomer, with a model of the tiny size."""
    assert facehal("sample", tmp_path / "raw", "--count", 12).returncode == 0
    done = facehal("preprocess", tmp_path / "raw", tmp_path / "faces", "--workers", 1)
    assert done.returncode == 0 and "12 of 12 photos gave a face" in done.stdout
    words = ["train", "cascaded", "--data", tmp_path / "faces", "--out", tmp_path / "run"]
    words += ["--config", ROOT / "experiments/tiny.yaml", "--epochs", 1]
    done = facehal(*words)
    assert done.returncode == 0, done.stderr
    for name in ("model.keras", "history.csv", "config.yaml", "environment.json"):
        assert (tmp_path / "run" / name).is_file()
    assert "add --resume" in one_line(facehal(*words))
    words = ["hallucinate", tmp_path / "raw/Grace_Hopper", "--out", tmp_path / "out", "--model"]
    done = facehal(*words, tmp_path / "run/model.keras")
    assert "6 of 6 photos hallucinated" in done.stdout, done.stderr
    assert len(list((tmp_path / "out/pictures").glob("*.png"))) == 6


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", ["train-cascaded", "train-progan", "ablations"])
def test_make_takes_several_folders(target, tmp_path):
    """A dry run: what it would start."""
    words = ["make", "--dry-run", target, "DATA=one two", f"VENV={tmp_path}"]
    # Within `make test` it would say which folders it enters and leaves.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(words, cwd=ROOT, env=outside, capture_output=True, text=True, check=True)
    assert "--data one --data two --" in done.stdout.splitlines()[-1]


def test_errors_of_training_are_one_line(tmp_path):
    words = ["train", "cascaded", "--data", tmp_path, "--out", tmp_path / "run", "--config"]
    assert "no.yaml" in one_line(facehal(*words, tmp_path / "no.yaml"))
    (tmp_path / "odd.yaml").write_text("training: {batchsize: 3}")
    assert "unknown name 'batchsize'" in one_line(facehal(*words, tmp_path / "odd.yaml"))
    tiny = ROOT / "experiments/tiny.yaml"
    assert "manifest" in one_line(facehal(*words, tiny))


def test_progan_trains_and_hallucinates(sample_data, tmp_path):
    """Every stage leaves its model; the newest is the largest."""
    words = ["train", "progan", "--data", sample_data, "--data", sample_data]
    words += ["--out", tmp_path / "run", "--config"]
    words += [ROOT / "experiments/progan_tiny.yaml", "--epochs-per-stage", 1, "--limit", 10]
    done = facehal(*words)
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "run/environment.json").read_text())
    assert about["data"] == [str(sample_data)] * 2 and about["faces_of_each"] == [10, 0]
    stages = sorted(p.name for p in (tmp_path / "run/stages").iterdir())
    assert stages == ["progan_16.keras", "progan_32.keras", "progan_8.keras"]
    assert "add --resume" in one_line(facehal(*words))
    photos = sample_data.parent / "photos" / "Grace_Hopper"
    words = ["hallucinate", photos, "--out", tmp_path / "out", "--model"]
    done = facehal(*words, tmp_path / "run/model.keras")
    assert "12 of 12 photos hallucinated" in done.stdout, done.stderr


@pytest.mark.parametrize(("verb", "other"), [("cascaded", "progan"), ("progan", "cascaded")])
def test_a_file_for_the_other_model(verb, other, tmp_path):
    config = ROOT / "experiments" / f"{other}.yaml"
    words = ["train", verb, "--data", tmp_path, "--out", tmp_path / "run", "--config", config]
    line = one_line(facehal(*words))
    assert f"{other}.yaml: its model is {other}" in line and f"`facehal train {other}`" in line


def test_weights_list_says_what_is_missing(tmp_path):
    done = facehal("weights", "list", FACEHAL_WEIGHTS=str(tmp_path))
    assert done.returncode == 0
    assert "alexnet" in done.stdout and "missing" in done.stdout
    named = facehal("--weights-dir", tmp_path, "weights", "list", FACEHAL_WEIGHTS="elsewhere")
    assert named.stdout == done.stdout
    line = one_line(facehal("weights", "import", "alexnet", tmp_path / "no.npz"))
    assert "no such file" in line
    assert "no weights are called" in one_line(facehal("weights", "get", "resnet"))


def test_doctor_reports_what_is_here(tmp_path):
    done = facehal("doctor", FACEHAL_WEIGHTS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    for text in ("Keras backend", "GPU", "dlib_landmarks", "shipped models: compact", "vgg_face"):
        assert text in done.stdout


@pytest.mark.parametrize("backend", ["jax", "tensrflow"])
def test_a_backend_that_cannot_start_is_one_line(backend, tmp_path):
    (tmp_path / "jax.py").write_text("raise ModuleNotFoundError(\"No module named 'jax'\")")
    environment = {"KERAS_BACKEND": backend, "PYTHONPATH": str(tmp_path)}
    problem = f"Keras cannot start with backend {backend} ("
    words = ["train", "cascaded", "--data", tmp_path, "--out", tmp_path / "run", "--config"]
    line = one_line(facehal(*words, ROOT / "experiments/tiny.yaml", **environment))
    assert problem in line and "set KERAS_BACKEND to tensorflow or jax" in line
    done = facehal("doctor", "--backend", **environment)
    assert "marked ✗ above" in one_line(done)
    for text in (f"✗ {problem}", "dlib_landmarks", "shipped models: compact", "vgg_face"):
        assert text in done.stdout
