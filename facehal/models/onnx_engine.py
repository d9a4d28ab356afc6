"""An exported model run by ONNX Runtime: starts in a second, for it needs no Keras."""

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from facehal.errors import FacehalError

EXTRA = "pip install 'facehal[export]'"


def require(package: str, purpose: str) -> Any:
    """Imports a package of the ``export`` extra.

    Raises:
        FacehalError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise FacehalError(
            f"{purpose} needs the package {package.split('.')[0]}: {EXTRA}"
        ) from error


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class OnnxEngine:
    """Runs a ``.onnx`` file that ``facehal export`` wrote.

    Args:
        path: the file.
        threads: that share one batch; default: the cores that this process may use.

    Raises:
        FacehalError: ONNX Runtime is not installed, or the file is not one of ours.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None):
        runtime = require("onnxruntime", "engine onnxruntime")
        self.path = Path(path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or _threads()
        options.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a kind of its own for every reason
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise FacehalError(f"{path}: not a usable ONNX file ({line})") from error
        names = {value.name for value in self.session.get_inputs()}
        self._outputs = [value.name for value in self.session.get_outputs()]
        sizes: list[int] = []
        with contextlib.suppress(ValueError):
            sizes = sorted(map(int, self._outputs))
        if names != {"masked_faces", "masks"} or not sizes:
            raise FacehalError(
                f"{path}: not an exported facehal model; make one with `facehal export`"
            )
        self.resolutions: tuple[int, ...] = tuple(sizes)

    def run(self, masked_faces: np.ndarray, masks: np.ndarray) -> dict[int, np.ndarray]:
        """One batch, whole; as :meth:`facehal.models.inference.KerasEngine.run`."""
        results = self.session.run(self._outputs, {"masked_faces": masked_faces, "masks": masks})
        pictures = dict(zip(map(int, self._outputs), results, strict=True))
        return {size: pictures[size] for size in self.resolutions}
