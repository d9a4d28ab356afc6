"""ResNet-50-256D of VGGFace2 (Cao et al. 2018) to its 256 features."""

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facehal.errors import WeightsError
from facehal.weights.arrays import Arrays, Shapes, check, pick
from facehal.weights.formats.archives import unpack_tar
from facehal.weights.formats.npz import is_npz, read_npz
from facehal.weights.formats.pytorch import read_torch

BLOCKS = (3, 4, 6, 3)
"""How many bottlenecks stand in each of ResNet-50's stages 2 to 5."""

EPSILON = 1e-5
"""Of every batch normalisation."""

_STATISTICS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
"""Arrays of a batch normalisation: ours and PyTorch's names."""


def convolutions(width: int = 64) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Every convolution with a batch normalisation: its name in the Caffe model, its kernel."""
    yield "conv1_7x7_s2", (7, 7, 3, width)
    inputs = width
    for stage, count in enumerate(BLOCKS, start=2):
        inner = width * 2 ** (stage - 2)
        for block in range(1, count + 1):
            name = f"conv{stage}_{block}"
            yield f"{name}_1x1_reduce", (1, 1, inputs, inner)
            yield f"{name}_3x3", (3, 3, inner, inner)
            yield f"{name}_1x1_increase", (1, 1, inner, 4 * inner)
            if block == 1:
                yield f"{name}_1x1_proj", (1, 1, inputs, 4 * inner)
            inputs = 4 * inner


def network_shapes(width: int = 64, features: int = 256) -> dict[str, tuple[int, ...]]:
    """Arrays of a ResNet-50 with a narrow layer on top: ``NAME.kernel`` and the four of
    ``NAME_bn`` for every convolution, ``feat_extract.kernel`` and ``.bias``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, kernel in convolutions(width):
        shapes[f"{name}.kernel"] = kernel
        shapes |= {f"{name}_bn.{part}": kernel[-1:] for part in _STATISTICS}
    inputs = width * 2 ** (len(BLOCKS) + 1)
    return shapes | {"feat_extract.kernel": (inputs, features), "feat_extract.bias": (features,)}


SHAPES: Shapes = network_shapes()


def convert(file: Path, shapes: Shapes = SHAPES) -> Arrays:
    """ResNet-50-256D of VGGFace2 to its 256 features, for RGB, with its batch normalisations.

    The order of the colours belongs to the file: VGGFace2's Caffe model takes BGR; its PyTorch
    form, a state dict `resnet50_256.pth`, RGB (the publishers' pytorch_feature_extractor.py feeds
    it PIL's pixels minus 131.0912, 103.8827, 91.4953). A first PyTorch release of 2018,
    `resnet50_256_pytorch.pth`, was a pickled Python object and is refused.

    Args:
        file: `resnet50_256_pytorch.tar.gz` as published, the `resnet50_256.pth` in it, or our
            own .npz.
        shapes: of the arrays (smaller ones in tests).

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, shapes)
    if tarfile.is_tarfile(file):
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = Path(scratch) / "resnet50_256.pth"
            unpack_tar(file, unpacked.name, unpacked)
            state = read_torch(unpacked)
    else:
        state = read_torch(file)
    arrays: Arrays = {}
    for key, shape in shapes.items():
        name, part = key.rsplit(".", 1)
        if name == "feat_extract" and part == "kernel":
            inputs, outputs = shape
            kernel = pick(state, f"{name}.weight", file, (outputs, inputs, 1, 1))
            arrays[key] = kernel[:, :, 0, 0].T
        elif part == "kernel":
            height, width, inputs, outputs = shape
            kernel = pick(state, f"{name}.weight", file, (outputs, inputs, height, width))
            arrays[key] = kernel.transpose(2, 3, 1, 0)
        else:
            theirs = "bias" if name == "feat_extract" else _STATISTICS[part]
            arrays[key] = pick(state, f"{name}.{theirs}", file, shape)
        if part == "variance" and (arrays[key] < 0).any():
            raise WeightsError(f"{file}: {name} has a negative variance; file damaged")
    return check(arrays, shapes, str(file))


def folded(arrays: Arrays) -> Arrays:
    """The same network with its normalisations, frozen, in kernels and biases.

    Args:
        arrays: of :func:`network_shapes`.

    Returns:
        ``NAME.kernel`` and ``NAME.bias`` of every layer, float32.
    """
    found = {name: arrays[name] for name in ("feat_extract.kernel", "feat_extract.bias")}
    names = [name.removesuffix("_bn.gamma") for name in arrays if name.endswith("_bn.gamma")]
    for name in names:
        gamma, beta, mean, variance = (
            arrays[f"{name}_bn.{part}"].astype(np.float64) for part in _STATISTICS
        )
        scale = gamma / np.sqrt(variance + EPSILON)
        found[f"{name}.kernel"] = (arrays[f"{name}.kernel"] * scale).astype(np.float32)
        found[f"{name}.bias"] = (beta - mean * scale).astype(np.float32)
    return found
