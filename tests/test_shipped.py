"""The models in the package by name."""

import subprocess
import sys

import pytest

from facehal.errors import FacehalError
from facehal.shipped import exported, find_model, shipped_models


def test_by_name_and_by_file(tmp_path):
    models = shipped_models()
    assert "compact" in models
    for name, path in models.items():
        assert path.is_file() and path.name == f"{name}.keras"
        assert find_model(name) == path and find_model(path) == path
    mine = tmp_path / "mine.keras"
    mine.write_text("")
    assert find_model(mine) == find_model(str(mine)) == mine


def test_the_exported_file_of_a_shipped_model_alone(tmp_path):
    """One beside a model of the user's own may be that of an earlier training."""
    shipped = find_model("compact")
    assert exported(shipped) == shipped.with_suffix(".onnx")
    for name in ("compact.keras", "compact.onnx"):
        (tmp_path / name).write_text("")
    assert exported(tmp_path / "compact.keras") is None


def test_the_exported_file_holds_the_same_model():
    """Node by node and bit by bit what `facehal export compact` writes now."""
    onnx = pytest.importorskip("onnx", reason="needs onnx (extra: export)")
    from facehal.models.base import read_model

    path = find_model("compact")
    model, shipped = read_model(path), onnx.load(path.with_suffix(".onnx"))
    made = model.folded().onnx_graph({})
    assert made.graph == shipped.graph
    assert made.opset_import == shipped.opset_import
    # Its weights are in float16, as in the Keras file: hardly more than half of float32.
    assert path.with_suffix(".onnx").stat().st_size < 2.2 * model.count_params()


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
