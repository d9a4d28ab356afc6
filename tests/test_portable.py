"""What Windows and macOS lack is not needed to hallucinate, nor is a backend of Keras."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import facehal
from facehal.images import read_image, write_png

ROOT = Path(__file__).resolve().parents[1]
UNIX = ("fcntl", "resource", "pwd", "grp", "termios")
# NumPy, OpenCV, dlib, ONNX Runtime and a bar are all that a picture from the shipped model takes.
HEAVY = (
    *("keras", "tensorflow", "jax", "jaxlib", "torch", "onnx", "tf2onnx", "h5py", "ml_dtypes"),
    *("pandas", "scipy", "skimage", "matplotlib", "PIL", "yaml", "filelock", "gradio"),
    *("fsspec", "s3fs"),
)

WITHOUT = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

ABSENT = set(sys.argv.pop().split(","))
for name in ABSENT:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
"""
JOBS = """
import importlib, pkgutil
import facehal
from facehal import cli, files, jobs
for one in pkgutil.iter_modules(jobs.__path__):
    importlib.import_module(f"facehal.jobs.{one.name}")
with files.locked("."):
    pass
"""
PICTURES = """
import numpy, facehal
from facehal.images import read_image
model = facehal.load()
photo = read_image("photo.png")
numpy.save("made.npy", [model.hallucinate(photo), model.hallucinate(photo, seed=3)])
"""
COMMAND = """
from facehal.cli import main
sys.argv = ["facehal", "hallucinate", "photo.png", "--out", "out", "--paste", "--variants", "1"]
main()
"""


def run(code: str, absent: tuple[str, ...], folder: Path) -> None:
    """The code in a process of its own, where these modules are not installed."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code, ",".join(absent)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def folder(astronaut, tmp_path) -> Path:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime (extra: onnx)")
    write_png(tmp_path / "photo.png", astronaut)
    return tmp_path


def test_hallucinate_without_unix(folder):
    """With the exported engine, as nothing of Keras or TensorFlow is in question here."""
    run(JOBS + PICTURES, UNIX, folder)
    assert np.load(folder / "made.npy").shape == (2, 128, 128, 3)


def test_a_picture_and_a_variant_without_keras_a_backend_or_onnx(folder, astronaut):
    """From the shipped model, and the same as Keras makes them: `load` takes what is there."""
    run(PICTURES, HEAVY, folder)
    model = facehal.load(engine="keras")
    expected = [model.hallucinate(astronaut), model.hallucinate(astronaut, seed=3)]
    # Achieved: 2e-6.
    np.testing.assert_allclose(np.load(folder / "made.npy"), expected, rtol=0, atol=1e-5)


def test_the_command_needs_none_of_them_either(folder):
    run(COMMAND, HEAVY, folder)
    for name in ("pictures/photo.png", "variants/photo_1.png"):
        assert read_image(folder / "out" / name).shape == (128, 128, 3)
    assert read_image(folder / "out/pasted/photo.png").shape == (512, 512, 3)
