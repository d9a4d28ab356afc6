"""The models in the package by name."""

import subprocess
import sys

import pytest

from facehal.errors import FacehalError
from facehal.shipped import find_model, shipped_models


def test_by_name_and_by_file(tmp_path):
    models = shipped_models()
    assert "compact" in models
    for name, path in models.items():
        assert path.is_file() and path.name == f"{name}.keras"
        assert find_model(name) == path and find_model(path) == path
    mine = tmp_path / "mine.keras"
    mine.write_text("")
    assert find_model(mine) == find_model(str(mine)) == mine


def test_there_is_none(tmp_path):
    for name in ("kompakt", tmp_path / "absent.keras", tmp_path):
        with pytest.raises(FacehalError) as caught:
            find_model(name)
        line = str(caught.value)
        assert line.startswith(f"{name}: neither a model's file nor a shipped model (")
        assert "compact" in line and "\n" not in line


def test_it_needs_neither_keras_nor_numpy():
    code = "import sys, facehal.shipped; print(sorted({'keras', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
