"""Trained models for other programs: SavedModel, ONNX and LiteRT files that give the same pictures.

Every format has the Keras model's inputs and outputs, float32, any number n of faces:

- ``masked_faces`` (n, S, S, 3): aligned faces (section 4, "Training Data"), RGB in [0, 1], black
  outside the mask; S is the model's largest resolution, 128 for all that the paper names.
- ``masks`` (n, S, S, 1): 1 = face, 0 = to be hallucinated.
- ``latent`` (n, L), of models with variants alone: normal numbers that choose one; zeros are the
  single best picture. ONNX files take none for zeros.
- ``"8"`` … ``"128"``: (n, N, N, 3) in [0, 1], the output of every block; of a ProGAN its only one.
"""

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import facehal
from facehal.errors import FacehalError
from facehal.faces.mask import hull_mask
from facehal.files import replacing
from facehal.inference.onnx_engine import OnnxEngine
from facehal.layers.resampling import pillow
from facehal.models.base import PictureModel
from facehal.optional import require

# Masked faces, masks, latent vectors → pictures.
Run = Callable[[np.ndarray, np.ndarray, np.ndarray | None], dict[int, np.ndarray]]

SUFFIXES = {"savedmodel": "", "onnx": ".onnx", "litert": ".tflite"}
"""The formats and how their files end; a SavedModel is a folder."""

OPSET = 17  # of converted ONNX files
TOLERANCE = 1e-4
"""Largest difference to the Keras model's pictures, in [0, 1], of a file that is let through."""

# The hull of the mean landmarks of 1,443 LFW faces as fractions of the width.
_HULL = np.array(
    [
        *((0.81, 0.46), (0.80, 0.54), (0.80, 0.63), (0.78, 0.71), (0.75, 0.78), (0.71, 0.85)),
        *((0.65, 0.90), (0.58, 0.94), (0.50, 0.96), (0.42, 0.94), (0.36, 0.90), (0.30, 0.84)),
        *((0.25, 0.78), (0.22, 0.70), (0.21, 0.62), (0.20, 0.54), (0.20, 0.46), (0.30, 0.37)),
        *((0.35, 0.36), (0.65, 0.36), (0.70, 0.37)),
    ]
)


def file_name(stem: str, form: str) -> str:
    """The usual name of an exported file; a SavedModel's folder gets ``_savedmodel``.

    Raises:
        FacehalError: unknown format.
    """
    if form not in SUFFIXES:
        raise FacehalError(f"format {form}: there are {', '.join(SUFFIXES)}")
    return stem + (SUFFIXES[form] or "_savedmodel")


def export(model: PictureModel, form: str, path: str | os.PathLike[str], name: str = "") -> float:
    """Writes a model, batch normalisation folded, for programs without Keras; checks what it wrote.

    Args:
        model: a trained model that makes pictures.
        form: ``savedmodel``, ``onnx`` or ``litert``.
        path: the file, replaced where it exists; a SavedModel's folder must not exist.
        name: what the file says that it was made from.

    Returns:
        The largest difference of any output to the Keras model's, over faces with masks of the
        usual shape and with unusual ones, pixels in [0, 1].

    Raises:
        FacehalError: unknown format, a format that this backend cannot write, a package of the
            extra is not installed, the path cannot be written, or the outputs differ by more than
            :data:`TOLERANCE`; then nothing is left behind.
    """
    file_name("", form)
    if form != "onnx" and keras.backend.backend() != "tensorflow":
        raise FacehalError(
            f"format {form} is written by TensorFlow: set KERAS_BACKEND=tensorflow, or take onnx"
        )
    path = Path(path)
    if form == "savedmodel" and path.exists():
        raise FacehalError(f"{path}: exists; name a folder that does not, or remove it")
    if form != "savedmodel" and path.is_dir():
        raise FacehalError(f"{path}: is a folder; name a file")
    write = {"savedmodel": _write_savedmodel, "onnx": _write_onnx, "litert": _write_litert}[form]
    try:
        with replacing(path) as made:
            run = write(model.folded(), made, _about(model, name))
            difference = _difference(model, run)
            if not difference <= TOLERANCE:
                raise FacehalError(
                    f"{path}: not written: its pictures would differ from the model's by "
                    f"{difference:.1e}, more than {TOLERANCE:.0e}"
                )
    except OSError as error:
        raise FacehalError(
            f"{path}: not written ({error.strerror or error}); free space or name a folder that "
            "you may write to"
        ) from error
    return difference


def _about(model: PictureModel, name: str) -> dict[str, str]:
    side = model.resolutions[-1]
    sizes = ", ".join(map(str, model.resolutions))
    about = {
        "made_by": f"facehal {facehal.__version__}",
        "made_from": name or model.name,
        "masked_faces": f"(n, {side}, {side}, 3) float32, RGB in [0, 1]; aligned, eye centres level"
        " at 0.25 of the width, their middle at (0.50, 0.45); black outside the mask",
        "masks": f"(n, {side}, {side}, 1) float32; 1 = face (hull of the 68 landmarks), 0 = to be "
        "hallucinated",
        "outputs": f"one for every N of {sizes}, named N: (n, N, N, 3) float32, RGB in [0, 1]",
    }
    if model.latent:
        about["latent"] = (
            f"(n, {model.latent}) float32, normal numbers that choose a variant; zeros are the "
            "single best picture"
        )
    return about


def _write_onnx(model: PictureModel, path: Path, about: dict[str, str]) -> Run:
    graph = model.onnx_graph(about)
    if graph is None:
        graph = _converted(model, about)
    require("onnxruntime", "the check of the ONNX file")
    path.write_bytes(graph.SerializeToString())
    return OnnxEngine(path).run


def _converted(model: PictureModel, about: dict[str, str]) -> Any:
    """The ONNX graph of what TensorFlow computes, for families that do not write their own."""
    if keras.backend.backend() != "tensorflow":
        raise FacehalError(
            f"{model.name}: its ONNX file is written by TensorFlow: set KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    onnx = require("onnx", "the export to ONNX")
    convert = require("tf2onnx", f"the export of {model.name} to ONNX").convert
    serve, specification = _serving(model)
    names = list(specification)
    # The package speaks through the root logger, of every operation that it folds.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        graph, _ = convert.from_function(
            tf.function(lambda *tensors: serve(dict(zip(names, tensors, strict=True)))),
            input_signature=list(specification.values()),
            opset=OPSET,
        )
    finally:
        logging.disable(before)
    if model.latent:  # what it is where it is not given
        zeros = onnx.numpy_helper.from_array(np.zeros((1, model.latent), np.float32), "latent")
        graph.graph.initializer.append(zeros)
    onnx.helper.set_model_props(graph, about)
    return graph


def _write_savedmodel(model: PictureModel, path: Path, about: dict[str, str]) -> Run:
    import tensorflow as tf

    _archive(model, path)
    text = "".join(f"{key}: {value}\n" for key, value in about.items())
    (path / "README.txt").write_text(text, encoding="utf-8")
    loaded = tf.saved_model.load(str(path))

    def run(
        masked_faces: np.ndarray, masks: np.ndarray, latents: np.ndarray | None = None
    ) -> dict[int, np.ndarray]:
        inputs = _named(masked_faces, masks, latents)
        outputs = loaded.signatures["serving_default"](
            **{name: tf.constant(array) for name, array in inputs.items()}
        )
        return {int(name): value.numpy() for name, value in outputs.items()}

    return run


def _write_litert(model: PictureModel, path: Path, about: dict[str, str]) -> Run:
    import tensorflow as tf

    interpreter = require("ai_edge_litert.interpreter", "the check of the LiteRT file").Interpreter
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _archive(model, Path(folder) / "archive")
        data = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/archive").convert()
    path.write_bytes(data)
    runner = interpreter(str(path)).get_signature_runner()

    def run(
        masked_faces: np.ndarray, masks: np.ndarray, latents: np.ndarray | None = None
    ) -> dict[int, np.ndarray]:
        outputs = runner(**_named(masked_faces, masks, latents))
        return {int(name): value for name, value in outputs.items()}

    return run


def _named(
    masked_faces: np.ndarray, masks: np.ndarray, latents: np.ndarray | None
) -> dict[str, np.ndarray]:
    more = {} if latents is None else {"latent": latents}
    return {"masked_faces": masked_faces, "masks": masks, **more}


def _archive(model: PictureModel, path: Path) -> None:
    """A SavedModel with the signature ``serving_default``."""
    serve, specification = _serving(model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, input_signature=[specification])
    archive.write_out(str(path), verbose=False)


def _serving(model: PictureModel) -> tuple[Callable[[dict[str, Any]], dict[str, Any]], Any]:
    """What TensorFlow computes of a dictionary of inputs, and their specifications by name."""
    import tensorflow as tf

    side = model.resolutions[-1]

    def serve(inputs: dict[str, Any]) -> dict[str, Any]:
        faces, masks = (
            {size: _shrunk(inputs[name], size) for size in model.resolutions}
            for name in ("masked_faces", "masks")
        )
        return model.hallucinate(faces, masks, training=False, latent=inputs.get("latent"))

    specification = {
        name: tf.TensorSpec((None, side, side, channels), name=name)
        for name, channels in (("masked_faces", 3), ("masks", 1))
    }
    if model.latent:
        specification["latent"] = tf.TensorSpec((None, model.latent), name="latent")
    return serve, specification


def _shrunk(pictures: Any, size: int) -> Any:
    """As :func:`facehal.layers.pyramid.resized`, whose einsum LiteRT cannot read with n free."""
    import tensorflow as tf

    side, channels = pictures.shape[1], pictures.shape[3]
    if side == size:
        return pictures
    matrix = tf.constant(pillow(side, size, "bilinear"))[None]
    half = tf.matmul(matrix, tf.reshape(pictures, (-1, side, side * channels)))
    half = tf.matmul(matrix, tf.reshape(half, (-1, side, channels)))
    return tf.reshape(half, (-1, size, size, channels))


def _faces(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Five faces to compare with: three masks of the usual shape, one all face, one two pixels.

    (5, side, side, 3) and (5, side, side, 1) float32.
    """
    random = np.random.default_rng(0)
    masks = [hull_mask(_HULL * side - 0.5, side)]
    for turn, scale in ((0.2, 0.8), (-0.1, 1.1)):
        matrix = scale * np.array([[1, -turn], [turn, 1]])
        masks.append(hull_mask(((_HULL - 0.5) @ matrix + 0.52) * side - 0.5, side))
    masks += [np.ones_like(masks[0]), np.zeros_like(masks[0])]
    masks[-1][side // 2, side // 2 - 1 : side // 2 + 1] = 1
    stacked = np.stack(masks)[..., None].astype(np.float32)
    coarse = random.random((len(masks), side // 8, side // 8, 3), dtype=np.float32)
    texture = coarse.repeat(8, axis=1).repeat(8, axis=2)
    texture = 0.8 * texture + 0.2 * random.random(texture.shape, dtype=np.float32)
    return texture * stacked, stacked


def _difference(model: PictureModel, run: Run) -> float:
    """Largest difference of any output to the model's: of five faces at once, and of one alone."""
    faces, masks = _faces(model.resolutions[-1])
    latents = None
    if model.latent:
        shape = (len(faces), model.latent)
        latents = np.random.default_rng(1).standard_normal(shape, np.float32)
    wanted = model.predict_on_batch(_named(faces, masks, latents))
    largest = 0.0
    for count in (len(faces), 1):
        got = run(faces[:count], masks[:count], None if latents is None else latents[:count])
        for size in model.resolutions:
            expected = np.asarray(wanted[str(size)])[:count]
            if got[size].shape != expected.shape:
                raise FacehalError(f"output {size} has the shape {got[size].shape} when exported")
            # Not max: it would pass over a NaN.
            largest = np.maximum(largest, np.abs(got[size] - expected).max())
    return float(largest)
