"""GenFace (Li et al. 2017): the completion network and its face parser, from their .caffemodels.

The authors drive Caffe from MATLAB and hand it their pictures as they lie there, column by column:
Caffe's rows are the picture's columns. Kernels, and the maps before and after the fully connected
layers, are turned round here, so that our networks see upright pictures; colours are RGB already.
One thing cannot be turned: which of two equal maxima in a window is the first. It differs where
they stand on the rising diagonal alone.
"""

from pathlib import Path

import numpy as np

from facehal.errors import WeightsError
from facehal.weights.arrays import Arrays, Shapes, check
from facehal.weights.formats.caffe import Blobs, read_caffemodel
from facehal.weights.formats.npz import is_npz, read_npz

PARSER_CONVOLUTIONS = (2, 2, 4, 4, 4)
"""How many convolutions stand in each of the five stages of VGG-19."""

CLASSES = 11
"""What the parser tells apart."""

# What the authors call these layers of the completion network, which replaced others.
_REPLACED = {
    "conv1_1": "conv1_1_new",
    "conv_decode1_1": "conv_decode1_1_new",
    "reconstruction": "reconstruction_new",
}


def network_shapes(
    side: int = 128, base: int = 32, features: int = 4096
) -> dict[str, tuple[int, ...]]:
    """Arrays of the completion network; the fully connected layers read maps row by row, channels
    last.

    Args:
        side: of the pictures in pixels.
        base: channels of the first layer.
        features: length of the code between encoder and decoder.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, inputs: int, outputs: int) -> int:
        shapes[f"{name}.kernel"] = (3, 3, inputs, outputs)
        shapes[f"{name}.bias"] = (outputs,)
        return outputs

    channels = 3
    for level, count in enumerate((2, 2, 2, 4)):
        for number in range(1, count + 1):
            channels = convolution(f"conv{level}_{number}", channels, base << level)
    units = (side // 16) ** 2 * channels
    for name, inputs, outputs in (("fc3", units, features), ("defc3", features, units)):
        shapes[f"{name}.kernel"] = (inputs, outputs)
        shapes[f"{name}.bias"] = (outputs,)
    for level, widths in ((3, (2, 2, 2, 4)), (2, (2, 2)), (1, (2, 1)), (0, (1, 1))):
        for number, width in zip(range(len(widths), 0, -1), widths, strict=True):
            channels = convolution(f"conv_decode{level}_{number}", channels, width * base)
    convolution("reconstruction", channels, 3)
    return shapes


def parser_shapes(base: int = 64) -> dict[str, tuple[int, ...]]:
    """Arrays of the parser.

    Args:
        base: channels of VGG's first stage.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    stages = (base, 2 * base, 4 * base, 8 * base, 8 * base)
    layers = [
        (f"conv{stage}_{number}", width)
        for stage, (width, count) in enumerate(zip(stages, PARSER_CONVOLUTIONS, strict=True), 1)
        for number in range(1, count + 1)
    ]
    layers += [(f"conv_decode{stage}", stages[max(stage - 2, 0)]) for stage in (5, 4, 3, 2)]
    layers += [("conv_decode1", base // 2), ("conv_decode0", CLASSES)]
    channels = 3
    for name, width in layers:
        shapes[f"{name}.kernel"] = (3, 3, channels, width)
        shapes[f"{name}.bias"] = (width,)
        channels = width
    return shapes


SHAPES: Shapes = network_shapes()
PARSER_SHAPES: Shapes = parser_shapes()


def convert(file: Path, shapes: Shapes = SHAPES) -> Arrays:
    """The completion network, for upright RGB pictures in [-1, 1].

    Args:
        file: ``Model_G.caffemodel``, or our own .npz.
        shapes: of the arrays (smaller ones in tests).

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, shapes)
    blobs = read_caffemodel(file)
    blobs |= {ours: blobs.get(theirs, []) for ours, theirs in _REPLACED.items()}
    # The map between the fully connected layers and the convolutions.
    channels = shapes["conv3_1.bias"][0]
    side = round((shapes["defc3.bias"][0] // channels) ** 0.5)
    arrays: Arrays = {}
    for name, shape in shapes.items():
        layer = name.split(".")[0]
        if layer == "fc3" and len(shape) == 2:
            matrix = _blob(blobs, name, shape[::-1], file).reshape(-1, channels, side, side)
            arrays[name] = matrix.transpose(3, 2, 1, 0).reshape(shape)
        elif layer == "defc3":
            inputs = shape[0] if len(shape) == 2 else 1
            matrix = _blob(blobs, name, shape[::-1], file).reshape(channels, side, side, inputs)
            arrays[name] = matrix.transpose(3, 2, 1, 0).reshape(shape)
        else:
            arrays[name] = _upright(blobs, name, shape, file)
    return check(arrays, shapes, str(file))


def convert_parser(file: Path, shapes: Shapes = PARSER_SHAPES) -> Arrays:
    """The parser, for upright RGB pictures in [-1, 1].

    Args:
        file: ``Model_parsing.caffemodel``, or our own .npz.
        shapes: of the arrays (smaller ones in tests).

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, shapes)
    blobs = read_caffemodel(file)
    arrays = {name: _upright(blobs, name, shape, file) for name, shape in shapes.items()}
    return check(arrays, shapes, str(file))


def _upright(blobs: Blobs, name: str, shape: tuple[int, ...], file: Path) -> np.ndarray:
    """Kernel or bias of a convolution; Caffe's kernels are (out, in, column, row) of ours."""
    upright: np.ndarray = _blob(blobs, name, shape[::-1], file).transpose()
    return upright


def _blob(blobs: Blobs, name: str, shape: tuple[int, ...], file: Path) -> np.ndarray:
    """A layer's kernel or bias in Caffe's shape.

    Raises:
        WeightsError: it is missing or has another shape.
    """
    layer, part = name.split(".")
    index = ("kernel", "bias").index(part)
    found = blobs.get(layer, [])
    if index >= len(found):
        raise WeightsError(f"{file}: holds no {part} of {layer}; it is not a file of this network")
    blob: np.ndarray = found[index]
    # Of before 2014: (1, 1, out, in) for (out, in), (1, 1, 1, out) for (out,).
    if blob.shape == (1,) * (4 - len(shape)) + shape:
        blob = blob.reshape(shape)
    if blob.shape != shape:
        raise WeightsError(
            f"{file}: {part} of {layer} has shape {blob.shape} where this network has {shape}"
        )
    return blob
