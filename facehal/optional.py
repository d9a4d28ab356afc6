"""Packages of the extras, imported where they are needed."""

import importlib
import importlib.util
import os
from typing import Any

from facehal.errors import FacehalError

BACKEND = "pip install 'facehal[tensorflow]', or 'facehal[jax]' and set KERAS_BACKEND=jax"
"""What brings Keras something to compute with."""
OR_NONE = "; a shipped model or a .onnx file needs none: pip install 'facehal[onnx]'"
"""What else there is for who only uses a model."""

# The others stand in `export`, which has ONNX Runtime, too.
_EXTRAS = {"onnxruntime": "onnx", "tensorflow": "tensorflow", "ray": "ray", "fsspec": "buckets"}


def installed(package: str) -> bool:
    """Whether a package is here; it is not imported."""
    return importlib.util.find_spec(package) is not None


def require(package: str, purpose: str) -> Any:
    """Imports a package of an extra: ``onnx``, ``export``, ``tensorflow``, ``ray``, ``buckets``.

    ONNX Runtime would report its use to its makers; that is off unless the user's environment says
    otherwise (``ORT_DISABLE_TELEMETRY``, which it reads once, when it is imported).

    Raises:
        FacehalError: it is not installed; says how to install it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.split(".")[0]
        extra = _EXTRAS.get(name, "export")
        raise FacehalError(
            f"{purpose} needs the package {name}: pip install 'facehal[{extra}]'"
        ) from error


def require_keras() -> Any:
    """Imports Keras, which imports its backend.

    Raises:
        FacehalError: the backend is not installed; says how to install one.
    """
    try:
        return importlib.import_module("keras")
    except ImportError as error:
        raise FacehalError(f"Keras has no backend here ({error}): {BACKEND}{OR_NONE}") from error
