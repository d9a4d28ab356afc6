"""dlib's face descriptor network, from its .dat."""

from pathlib import Path

import numpy as np

from facehal.errors import WeightsError, first_line
from facehal.weights.arrays import Arrays, Shapes, check
from facehal.weights.formats.dlib import tensor

# The first number of a residual block is its stride; 29 convolutions with the 7x7 stem.
BLOCKS: tuple[tuple[int, int], ...] = (
    ((1, 32),) * 3
    + ((2, 64),)
    + ((1, 64),) * 3
    + ((2, 128),)
    + ((1, 128),) * 2
    + ((2, 256),)
    + ((1, 256),) * 2
    + ((2, 256),)
)


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"stem.kernel": (7, 7, 3, 32), "stem.bias": (32,)}
    channels = 32
    for index, (_, filters) in enumerate(BLOCKS):
        for half, inputs in (("a", channels), ("b", filters)):
            shapes[f"block{index}{half}.kernel"] = (3, 3, inputs, filters)
            shapes[f"block{index}{half}.bias"] = (filters,)
        channels = filters
    shapes["descriptor.kernel"] = (256, 128)
    return shapes


SHAPES: Shapes = _shapes()


def convert(file: Path) -> Arrays:
    """dlib's face descriptor network with its affine layers folded into the convolutions.

    The file holds the layers from the picture to the descriptor. Every tensor stands after the
    bytes 01 02 (its format's version) and four packed integers, and is little-endian float32; a
    convolution's tensor is (out, in, height, width) followed by the biases, an affine layer's is
    gamma followed by beta. The input's scaling, (255 x - mean) / 256, is folded into the stem,
    which does not pad, so that the result is exact up to rounding.

    Returns:
        Arrays of `SHAPES`; the stem expects RGB in [0, 1].

    Raises:
        WeightsError: not dlib's file, or cut off.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({first_line(error)})") from error
    arrays: Arrays = {}
    position = 0
    for name, shape in SHAPES.items():
        if not name.endswith(".kernel"):
            continue
        if len(shape) == 2:
            flat, position = tensor(data, position, shape, file)
            arrays[name] = flat.reshape(shape)
            continue
        height, width, inputs, outputs = shape
        count = height * width * inputs * outputs
        flat, position = tensor(data, position, (count + outputs, 1), file)
        affine, position = tensor(data, position, (2 * outputs, 1), file)
        gamma, beta = np.split(affine.astype(np.float64), 2)
        kernel = flat[:count].reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0) * gamma
        bias = flat[count:] * gamma + beta
        if name == "stem.kernel":
            # dlib's input_rgb_image_sized.
            mean = np.array([122.782, 117.001, 104.298])
            bias = bias - np.einsum("hwio,i->o", kernel, mean / 256)
            kernel = kernel * (255 / 256)
        arrays[name] = kernel
        arrays[name.replace("kernel", "bias")] = bias
    return check(arrays, SHAPES, str(file))
