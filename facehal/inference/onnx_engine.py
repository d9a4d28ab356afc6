"""An exported model run by ONNX Runtime: starts in a second, for it needs no Keras."""

import glob
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from facehal.errors import FacehalError, first_line
from facehal.optional import require
from facehal.processes import usable_cores
from facehal.weights import store

GRAPH = 2  # rises whenever a graph that was made before should be made anew
LATENT = "latent"  # the input that chooses a variant
PART = 4  # faces that a core computes at once; more outgrow its cache


class OnnxEngine:
    """Runs a ``.onnx`` file that ``facehal export`` wrote.

    All cores work at a single face together; several are dealt out to them, which spares the cores
    waiting for each other behind every layer.

    Args:
        path: the file.
        threads: that share the work; default: the cores that this process may use.

    Raises:
        FacehalError: ONNX Runtime is not installed, or the file is not one of ours.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None):
        require("onnxruntime", "engine onnxruntime")
        self.path = Path(path)
        self.threads = threads or usable_cores()
        self._pool: ThreadPoolExecutor | None = None
        self._sessions: dict[int, Any] = {}
        session = self._session(self.threads)
        names = {value.name for value in session.get_inputs()}
        self._outputs = [value.name for value in session.get_outputs()]
        if names != {"masked_faces", "masks"} or not all(map(str.isdigit, self._outputs)):
            raise FacehalError(
                f"{path}: not an exported facehal model; make one with `facehal export`"
            )
        self.resolutions: tuple[int, ...] = tuple(sorted(map(int, self._outputs)))
        # An input that may be left out: what it then is stands in the file.
        latents = [v.shape[-1] for v in session.get_overridable_initializers() if v.name == LATENT]
        self.latent: int = latents[0] if latents else 0

    def _session(self, threads: int) -> Any:
        if threads not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3  # errors; they are raised, too
            try:
                self._sessions[threads] = onnxruntime.InferenceSession(
                    str(self.path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # a kind of its own for every reason
                raise FacehalError(
                    f"{self.path}: not a usable ONNX file ({first_line(error)})"
                ) from error
        return self._sessions[threads]

    def run(
        self, masked_faces: np.ndarray, masks: np.ndarray, latents: np.ndarray | None = None
    ) -> dict[int, np.ndarray]:
        """One batch, whole; as :meth:`facehal.inference.keras_engine.KerasEngine.run`."""
        count = len(masked_faces)
        feeds = {"masked_faces": masked_faces, "masks": masks}
        if latents is not None:
            feeds[LATENT] = latents
        if count < max(2, self.threads):
            results = self._compute(self._session(self.threads), feeds)
        else:
            session = self._session(1)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads)
            part = min(PART, -(-count // self.threads))
            parts = self._pool.map(
                lambda start: self._compute(
                    session, {name: x[start : start + part] for name, x in feeds.items()}
                ),
                range(0, count, part),
            )
            results = list(map(np.concatenate, zip(*parts, strict=True)))
        pictures = dict(zip(map(int, self._outputs), results, strict=True))
        return {size: pictures[size] for size in self.resolutions}

    def _compute(self, session: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        pictures: list[np.ndarray] = session.run(self._outputs, feeds)
        return pictures


def prepared(model: Path) -> Path:
    """Where the engine of a ``.keras`` file is kept once it is made, in the folder of weights.

    The name holds the file's hash: an engine can never be that of another model.

    Raises:
        FacehalError: the file cannot be read.
    """
    digest = store.file_sha256(model)[:16]
    return store.folder() / "engines" / f"{model.stem}-{digest}-{GRAPH}.onnx"


def earlier(model: Path) -> Path | None:
    """The engine of a ``.keras`` file that was made before; None where it has still to be made.

    Raises:
        FacehalError: the file cannot be read.
    """
    # The hash of a large file takes seconds; none is needed where nothing was made of its name.
    if not any((store.folder() / "engines").glob(f"{glob.escape(model.stem)}-*-{GRAPH}.onnx")):
        return None
    path = prepared(model)
    return path if path.is_file() else None
