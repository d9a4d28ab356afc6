"""What Windows and macOS lack is not needed to import the package and to hallucinate."""

import subprocess
import sys
from pathlib import Path

import pytest

from facehal.images import read_image, write_png

CODE = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "pwd", "grp", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
import importlib, pkgutil
import facehal
from facehal import cli, files, jobs
for one in pkgutil.iter_modules(jobs.__path__):
    importlib.import_module(f"facehal.jobs.{one.name}")
with files.locked(sys.argv[3]):
    pass
from facehal.images import write_png
write_png(sys.argv[2], facehal.load(sys.argv[4], engine="onnxruntime").hallucinate(sys.argv[1]))
assert not {"fcntl", "resource", "pwd", "grp", "termios"} & set(sys.modules)
"""


def test_hallucinate_without_unix(astronaut, tmp_path):
    """With the exported engine, as nothing of Keras or TensorFlow is in question here."""
    pytest.importorskip("onnx", reason="needs ONNX (extra: export)")
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime (extra: export)")
    from facehal.inference.export import export
    from facehal.inference.hallucinator import load_keras
    from facehal.shipped import find_model

    export(load_keras(find_model("compact")), "onnx", tmp_path / "model.onnx")
    write_png(tmp_path / "photo.png", astronaut)
    words = [tmp_path / "photo.png", tmp_path / "made.png", tmp_path, tmp_path / "model.onnx"]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, words)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_image(tmp_path / "made.png").shape == (128, 128, 3)
