"""What ``facehal doctor`` looks at."""

import json
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from facehal.errors import FacehalError, first_line
from facehal.optional import BACKEND, installed, require

BACKENDS = ("tensorflow", "jax")
CHANGE = "set KERAS_BACKEND to change it"

PACKAGES = (
    *("facehal", "keras", "tensorflow", "jax", "numpy", "pandas", "dlib-bin", "dlib"),
    *("opencv-python-headless", "face_recognition_models", "scikit-image", "matplotlib", "torch"),
    *("onnx", "onnxruntime", "ai-edge-litert", "imageio-ffmpeg"),
)


def report(start: Callable[[], None] | None = None) -> tuple[list[str], bool]:
    """Lines for people, and whether the commands can run.

    Args:
        start: imports Keras, FacehalError where it cannot; then the backend's devices are listed.
            By default nothing slow is imported: what is installed is said, not whether it starts.
    """
    lines = [f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"]
    for name in PACKAGES:
        try:
            lines.append(f"  {name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    quick = _quick_engine()
    backend, healthy = _installed(quick is not None) if start is None else _started(start)
    lines += ["", *backend]
    if quick is None:
        lines.append(
            "onnxruntime: not usable; for a picture in a second: pip install 'facehal[onnx]'"
        )
    else:
        lines.append(f"✓ onnxruntime: {quick}; runs shipped and exported models without Keras")
    for name, present, what in (*_dlib(), *_models()):
        healthy &= present
        lines.append(f"{'✓' if present else '✗'} {name}: {what}")
    lines.append("")
    lines += _weights()
    return lines, healthy


def backend_name() -> str:
    """The backend that Keras will take, without importing it: as its documentation says."""
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    folder = os.environ.get("KERAS_HOME")
    settings = (Path(folder) if folder else Path.home() / ".keras") / "keras.json"
    try:
        return str(json.loads(settings.read_text(encoding="utf-8"))["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def _quick_engine() -> str | None:
    """The version of ONNX Runtime, if it can be imported: a fraction of a second."""
    try:
        return str(require("onnxruntime", "engine onnxruntime").__version__)
    except FacehalError:
        return None


def _installed(dispensable: bool) -> tuple[list[str], bool]:
    """What Keras would compute with; ``dispensable`` where models run without it, too."""
    name = backend_name()
    if name not in BACKENDS:
        return [_unsupported(name)], False
    if installed("keras") and installed(name):
        more = "`facehal doctor --backend` starts it and looks for a GPU"
        return [f"✓ Keras backend: {name} is installed ({CHANGE}); {more}"], True
    why = f"Keras backend: {name} is not installed; to train: {BACKEND}"
    # One that is asked for by name is missed even so.
    healthy = dispensable and "KERAS_BACKEND" not in os.environ
    return [why if healthy else f"✗ {why}"], healthy


def _unsupported(name: str) -> str:
    return f"✗ backend {name} is not supported: {' or '.join(BACKENDS)}; the default is tensorflow"


def _started(start: Callable[[], None]) -> tuple[list[str], bool]:
    """What the backend says of itself and of the devices that it sees."""
    try:
        start()
    except FacehalError as error:
        return [f"✗ {error}"], False
    import keras

    name = keras.backend.backend()
    lines = [f"Keras backend: {name} ({CHANGE})"]
    if name == "tensorflow":
        import tensorflow as tf

        gpus = [gpu.name for gpu in tf.config.list_physical_devices("GPU")]
        if gpus:
            return [*lines, f"GPU: {', '.join(gpus)}"], True
        if not tf.test.is_built_with_cuda():
            why = "this TensorFlow is built without CUDA"
        elif not installed("nvidia"):
            why = "no CUDA libraries: pip install 'facehal[gpu]' on a machine with an NVIDIA GPU"
        else:
            why = "TensorFlow sees no device; is the driver installed (nvidia-smi)?"
        return [*lines, f"GPU: none; {why}"], True
    if name == "jax":
        import jax

        try:
            devices = [str(device) for device in jax.devices()]
        except (RuntimeError, AssertionError) as error:  # JAX_PLATFORMS names one that is not here
            why = f"({first_line(error)}); see JAX_PLATFORMS"
            return [*lines, f"✗ JAX has nothing to compute on {why}"], False
        found = jax.default_backend() == "gpu"
        why = "" if found else "; for a GPU: pip install 'jax[cuda12]'"
        head = "GPU" if found else "GPU: none; devices"
        return [*lines, f"{head}: {', '.join(devices)}{why}"], True
    return [*lines, _unsupported(name)], False


def _dlib() -> list[tuple[str, bool, str]]:
    try:
        import dlib
    except ImportError as error:
        return [("dlib", False, f"cannot be imported ({error}); pip install dlib-bin")]
    rows = [("dlib", True, dlib.__version__)]
    from facehal.weights import store

    for name in ("dlib_landmarks", "dlib_resnet"):
        try:
            rows.append((name, True, str(store.path(name))))
        except FacehalError as error:
            rows.append((name, False, str(error)))
    return rows


def _models() -> list[tuple[str, bool, str]]:
    from facehal.shipped import shipped_models

    found = shipped_models()
    return [("shipped models", bool(found), ", ".join(found) or "none in the package")]


def _weights() -> list[str]:
    from facehal.weights import store

    lines = [f"Weights (in {store.folder()}):"]
    for row in store.status():
        name = row.entry.name
        state = "here" if row.present else f"missing: facehal weights get {name}"
        lines.append(f"  {name:16}{state}")
    return lines
