"""What ``facehal doctor`` looks at."""

import importlib.util
import platform
from importlib import metadata

from facehal.errors import FacehalError, first_line

PACKAGES = (
    *("facehal", "keras", "tensorflow", "jax", "numpy", "pandas", "dlib-bin", "dlib"),
    *("opencv-python-headless", "face_recognition_models", "scikit-image", "matplotlib", "torch"),
    *("onnx", "onnxruntime", "ai-edge-litert", "imageio-ffmpeg"),
)


def report(keras_problem: str | None = None) -> tuple[list[str], bool]:
    """Lines for people, and whether the commands can run.

    Args:
        keras_problem: why Keras could not be imported. It is not tried again then: half-imported
            packages would answer with another reason.
    """
    lines = [f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"]
    for name in PACKAGES:
        try:
            lines.append(f"  {name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    backend, healthy = ([f"✗ {keras_problem}"], False) if keras_problem else _backend()
    lines += ["", *backend]
    for name, present, what in (*_dlib(), *_models()):
        healthy &= present
        lines.append(f"{'✓' if present else '✗'} {name}: {what}")
    lines.append("")
    lines += _weights()
    return lines, healthy


def _backend() -> tuple[list[str], bool]:
    import keras

    name = keras.backend.backend()
    lines = [f"Keras backend: {name} (set KERAS_BACKEND to change it)"]
    if name == "tensorflow":
        import tensorflow as tf

        gpus = [gpu.name for gpu in tf.config.list_physical_devices("GPU")]
        if gpus:
            return [*lines, f"GPU: {', '.join(gpus)}"], True
        if not tf.test.is_built_with_cuda():
            why = "this TensorFlow is built without CUDA"
        elif importlib.util.find_spec("nvidia") is None:
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
    return [*lines, f"✗ backend {name} is not supported: tensorflow (default) or jax"], False


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
