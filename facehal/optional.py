"""Packages of the extras, imported where they are needed."""

import importlib
import os
from typing import Any

from facehal.errors import FacehalError

EXTRA = "pip install 'facehal[export]'"


def require(package: str, purpose: str) -> Any:
    """Imports a package of the ``export`` extra.

    ONNX Runtime would report its use to its makers; that is off unless the user's environment says
    otherwise (``ORT_DISABLE_TELEMETRY``, which it reads once, when it is imported).

    Raises:
        FacehalError: it is not installed; says how to install it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise FacehalError(
            f"{purpose} needs the package {package.split('.')[0]}: {EXTRA}"
        ) from error
