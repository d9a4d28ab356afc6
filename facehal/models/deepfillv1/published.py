"""The authors' trained generators: a checkpoint of TensorFlow 1 made a model of this package.

JiahuiYu/generative_inpainting, branch v1.0.0, links folders with a ``checkpoint``, a
``snap-0.index`` and a ``snap-0.data-00000-of-00001`` (CelebA-HQ and others; CC BY-NC 4.0). The
package does not ship or fetch them. The critics, which the files have too, are left out.
"""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

from facehal.errors import WeightsError, first_line
from facehal.models.deepfillv1.model import DeepFill
from facehal.optional import require

SCOPE = "inpaint_net"
PARTS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def variable_name(layer: str) -> str:
    """The scope of a convolution in the authors' graph.

    One behind an upsampling stands in a scope of the upsampling's: ``conv13_upsample`` is
    ``inpaint_net/conv13_upsample/conv13_upsample_conv``.
    """
    inner = f"{layer}/{layer}_conv" if layer.endswith("_upsample") else layer
    return f"{SCOPE}/{inner}"


def convert(file: Path, resolution: int = 256) -> DeepFill:
    """The published generators as a model.

    Args:
        file: the folder of a checkpoint, its prefix (``snap-0``) or one of its files.
        resolution: of the model; the networks are convolutional and fit any, 256 is the one that
            they were trained at.

    Raises:
        WeightsError: there is no checkpoint, it cannot be read, or it is not one of DeepFillv1.
        FacehalError: TensorFlow, which reads it, is not installed.
    """
    reader, source = _opened(Path(file))
    shapes = reader.get_variable_to_shape_map()
    first = f"{variable_name('conv1')}/kernel"
    if first not in shapes:
        raise WeightsError(f"{source}: holds no {first}; it is not a checkpoint of DeepFillv1")
    model = DeepFill(resolution, _width(shapes[first], first, source), name="deepfillv1")
    for network in (model.coarse, model.refinement):
        for layer in network.layers:
            if not isinstance(layer, keras.layers.Conv2D):
                continue
            for ours, theirs in ((layer.kernel, "kernel"), (layer.bias, "bias")):
                name = f"{variable_name(layer.name)}/{theirs}"
                ours.assign(_read(reader, shapes, name, tuple(ours.shape), source))
    return model


def _opened(file: Path) -> tuple[Any, Path]:
    """A reader of the checkpoint, and its prefix."""
    train = require("tensorflow", "reading a checkpoint of TensorFlow").train
    found = train.latest_checkpoint(str(file)) if file.is_dir() else PARTS.sub("", str(file))
    if found is None or not Path(f"{found}.index").is_file():
        raise WeightsError(f"{file}: no checkpoint of TensorFlow (a file that ends in .index)")
    try:
        return train.load_checkpoint(found), Path(found)
    except Exception as error:  # TensorFlow raises many kinds for a damaged file
        raise WeightsError(f"{found}: cannot be read ({first_line(error)})") from error


def _width(shape: list[int], name: str, source: Path) -> int:
    """Of the first layer, which all others follow from."""
    width = shape[-1] if shape else 0
    if list(shape) != [5, 5, 5, width] or width < 2 or width % 2:
        raise WeightsError(
            f"{source}: {name} has shape {tuple(shape)} where DeepFillv1 has (5, 5, 5, 32)"
        )
    return width


def _read(
    reader: Any, shapes: dict[str, list[int]], name: str, shape: tuple[int, ...], source: Path
) -> np.ndarray:
    if name not in shapes:
        raise WeightsError(f"{source}: holds no {name}; it is not a checkpoint of DeepFillv1")
    if tuple(shapes[name]) != shape:
        raise WeightsError(
            f"{source}: {name} has shape {tuple(shapes[name])} where this network has {shape}"
        )
    try:
        values: np.ndarray = np.asarray(reader.get_tensor(name), np.float32)
    except Exception as error:  # as above
        raise WeightsError(f"{source}: {name} cannot be read ({first_line(error)})") from error
    if not np.isfinite(values).all():
        raise WeightsError(f"{source}: {name} holds values that are not finite; file damaged")
    return values
