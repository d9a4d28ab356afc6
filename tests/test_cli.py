"""The command as a user runs it: real processes, their exit status and what they print."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facehal.cli import hallucinate, picture_names
from facehal.errors import FacehalError, NoFaceError
from facehal.images import read_image, write_png
from facehal.inference.hallucinator import AlignedFace, Hallucinator

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


class Quick(Hallucinator):
    """Takes every photo for a face and gives it back; some names stand for what may happen."""

    class Engine:
        resolutions = (16,)

        def run(self, masked_faces, masks):
            return {16: masked_faces}

    def prepare(self, photo):
        if photo.stem == "nobody":
            raise NoFaceError(f"{photo}: no face found")
        if photo.stem == "stop":
            raise KeyboardInterrupt
        if photo.stem.startswith("vanishes"):
            photo.unlink()
        grey, points = np.full((16, 16, 3), 128, np.uint8), np.zeros((68, 2), np.float32)
        return AlignedFace(grey, np.ones((16, 16), np.uint8), points, 1, np.eye(2, 3))


@pytest.fixture
def quick(monkeypatch):
    """`hallucinate` in this process, without a model; writes photos of the given names."""
    monkeypatch.setattr("facehal.inference.hallucinator.needs_keras", lambda *_: False)
    monkeypatch.setattr(
        "facehal.inference.hallucinator.load", lambda *_, **__: Quick(Quick.Engine())
    )
    monkeypatch.setattr("facehal.faces.paste.paste", lambda photo, *_: photo)

    def write(folder: Path, *names: str) -> Path:
        for name in names:
            write_png(folder / f"{name}.png", np.full((8, 8, 3), 128, np.uint8))
        return folder

    return write


def skipped_names(out: Path) -> list[str]:
    with open(out / "skipped.csv", newline="", errors="surrogateescape") as file:
        return [Path(row["file"]).stem for row in csv.DictReader(file)]


def test_an_interrupted_hallucinate_leaves_sheet_and_list(quick, tmp_path):
    batch = [f"p{number:02}" for number in range(32)]
    folder = quick(tmp_path / "photos", "nobody", *batch, "stop")
    with pytest.raises(KeyboardInterrupt):
        hallucinate([folder], tmp_path / "out")
    assert len(list((tmp_path / "out/pictures").iterdir())) == 32
    assert read_image(tmp_path / "out/hallucinated.png").shape[1] > 3 * 16
    assert skipped_names(tmp_path / "out") == ["nobody"]


def test_a_photo_that_vanishes_is_skipped_alone(quick, tmp_path):
    odd = os.fsdecode(b"vanishes\xff")  # no UTF-8: the list holds the bytes of the name
    folder = quick(tmp_path / "photos", "a", odd, "z")
    hallucinate([folder], tmp_path / "out", paste=True)
    for made in ("pictures", "pasted"):
        assert {file.stem for file in (tmp_path / "out" / made).iterdir()} == {"a", "z"}
    assert skipped_names(tmp_path / "out") == [odd]


def test_the_list_of_an_earlier_hallucinate_goes(quick, tmp_path):
    folder, out = quick(tmp_path / "photos", "a", "nobody"), tmp_path / "out"
    hallucinate([folder], out)
    assert skipped_names(out) == ["nobody"]
    hallucinate([folder / "a.png"], out)
    assert not (out / "skipped.csv").exists()


def test_pictures_that_hallucinate_wrote_are_no_photos(quick, tmp_path, capsys):
    folder = quick(tmp_path / "photos", "a", "b")
    out = folder / "out"
    for _ in range(2):
        hallucinate([folder], out, paste=True)
        assert "2 of 2 photos" in capsys.readouterr().out
    # What the user put there, or names outright, is a photo all the same.
    hallucinate([quick(out / "own", "c"), out / "pictures/a.png"], out)
    assert "2 of 2 photos" in capsys.readouterr().out
    with pytest.raises(FacehalError, match="only what was written into"):
        hallucinate([out / "pictures"], out)


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


def test_errors_of_training_are_one_line(tmp_path):
    words = ["train", "cascaded", "--data", tmp_path, "--out", tmp_path / "run", "--config"]
    assert "no.yaml" in one_line(facehal(*words, tmp_path / "no.yaml"))
    (tmp_path / "odd.yaml").write_text("training: {batchsize: 3}")
    assert "unknown name 'batchsize'" in one_line(facehal(*words, tmp_path / "odd.yaml"))
    tiny = ROOT / "experiments/tiny.yaml"
    assert "manifest" in one_line(facehal(*words, tiny))


def test_progan_trains_and_hallucinates(sample_data, tmp_path):
    """Every stage leaves its model; the newest is the largest."""
    words = ["train", "progan", "--data", sample_data, "--out", tmp_path / "run", "--config"]
    words += [ROOT / "experiments/progan_tiny.yaml", "--epochs-per-stage", 1, "--limit", 10]
    done = facehal(*words)
    assert done.returncode == 0, done.stderr
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
    done = facehal("doctor", **environment)
    assert "marked ✗ above" in one_line(done)
    for text in (f"✗ {problem}", "dlib_landmarks", "shipped models: compact", "vgg_face"):
        assert text in done.stdout


def test_output_names_never_collide():
    files = [Path("a/x.jpg"), Path("b/x.png"), Path("x_2.jpg")]
    names = picture_names(files)
    assert len(set(names.values())) == 3
    files = [Path(f"{folder}/{name}.png") for folder in range(3) for name in ("x", "x_2", "y")]
    names = [Path(name).stem for name in picture_names(files).values()]
    assert names == ["x", "x_2", "y", "x_3", "x_2_2", "y_2", "x_4", "x_2_3", "y_3"]


def test_output_names_of_many_photos_called_alike_are_quick():
    start = time.process_time()
    names = picture_names([Path(f"{folder}/x.png") for folder in range(2000)])
    assert time.process_time() - start < 2
    assert len(set(names.values())) == 2000 and names[Path("1999/x.png")] == "x_2000.png"
