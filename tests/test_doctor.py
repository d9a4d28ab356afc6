"""What the doctor calls healthy."""

import sys
from types import SimpleNamespace

import pytest

from facehal import doctor


def test_a_backend_that_is_not_supported_is_no_health(monkeypatch):
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    lines, healthy = doctor.report()
    assert not healthy
    assert any(line.startswith("✗ backend torch is not supported") for line in lines)


def test_keras_that_cannot_start_is_no_health_but_the_rest_is_reported():
    lines, healthy = doctor.report("Keras cannot start")
    assert not healthy and "✗ Keras cannot start" in lines
    assert any("shipped models" in line for line in lines)
    assert any(line.startswith("Weights") for line in lines)


def test_a_platform_that_is_not_there(monkeypatch):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setitem(sys.modules, "keras", keras)

    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda'\nmore")

    monkeypatch.setattr(jax, "devices", devices)
    lines, healthy = doctor.report()
    assert not healthy
    assert "✗ JAX has nothing to compute on (Unable to initialize backend 'cuda'); see " in "".join(
        lines
    )
