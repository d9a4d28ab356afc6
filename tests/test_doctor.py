"""What the doctor calls healthy."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from facehal import doctor
from facehal.errors import FacehalError


def started():
    """In place of what imports Keras."""


def test_a_backend_that_is_not_supported_is_no_health(monkeypatch):
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    lines, healthy = doctor.report(started)
    assert not healthy
    assert any(line.startswith("✗ backend torch is not supported") for line in lines)


def test_keras_that_cannot_start_is_no_health_but_the_rest_is_reported():
    def start():
        raise FacehalError("Keras cannot start")

    lines, healthy = doctor.report(start)
    assert not healthy and "✗ Keras cannot start" in lines
    assert any("shipped models" in line for line in lines)
    assert any(line.startswith("Weights") for line in lines)


def without(*packages, **environment) -> tuple[list[str], int]:
    """What the command says where some packages are not installed, and its exit status."""
    code = (
        "import importlib.util, sys\n"
        "find, absent = importlib.util.find_spec, set(sys.argv.pop().split(','))\n"
        "importlib.util.find_spec = lambda n, *rest: None if n in absent else find(n, *rest)\n"
        "sys.modules |= dict.fromkeys(absent)\n"
        "from facehal.cli import main\n"
        "main()"
    )
    around = {k: v for k, v in os.environ.items() if not k.startswith("KERAS_")}
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", ",".join(packages)],
        capture_output=True,
        text=True,
        env={**around, **environment},
        check=False,
    )
    return done.stdout.splitlines(), done.returncode


@pytest.mark.parametrize(
    ("absent", "asked", "mark", "status"),
    [
        (["tensorflow"], {}, "Keras backend: tensorflow is not installed; to train: ", 0),
        (["tensorflow", "onnxruntime"], {}, "✗ Keras backend: tensorflow is not installed; ", 1),
        (["tensorflow"], {"KERAS_BACKEND": "tensorflow"}, "✗ Keras backend: tensorflow is n", 1),
        (["keras"], {}, "Keras backend: tensorflow is not installed", 0),
        ([], {"KERAS_BACKEND": "torch"}, "✗ backend torch is not supported: tensorflow or jax", 1),
    ],
)
def test_a_backend_is_missed_where_nothing_else_computes(absent, asked, mark, status):
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime (extra: onnx)")
    lines, got = without(*absent, **asked)
    assert got == status
    assert sum(line.startswith(mark) for line in lines) == 1
    quick = "onnxruntime: not usable" if "onnxruntime" in absent else "✓ onnxruntime: "
    assert sum(line.startswith(quick) for line in lines) == 1


def test_the_backend_is_the_one_that_keras_takes(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert doctor.backend_name() == "tensorflow"
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"}))
    assert doctor.backend_name() == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert doctor.backend_name() == "tensorflow"


def test_nothing_slow_is_imported():
    """The doctor answers within a second: packages that compute are looked for, not imported."""
    code = (
        "import sys, facehal.doctor\nfacehal.doctor.report()\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'pandas', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_platform_that_is_not_there(monkeypatch):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setitem(sys.modules, "keras", keras)

    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda'\nmore")

    monkeypatch.setattr(jax, "devices", devices)
    lines, healthy = doctor.report(started)
    assert not healthy
    assert "✗ JAX has nothing to compute on (Unable to initialize backend 'cuda'); see " in "".join(
        lines
    )
