"""ResNet-50-256D of VGGFace2 (Cao et al. 2018) to its 256 features."""

import tarfile
import tempfile
from pathlib import Path

from facehal.weights.arrays import Arrays, Shapes, check, folded, pick
from facehal.weights.formats.archives import unpack_tar
from facehal.weights.formats.npz import is_npz, read_npz
from facehal.weights.formats.pytorch import read_torch

BLOCKS = (3, 4, 6, 3)
"""How many bottlenecks stand in each of ResNet-50's stages 2 to 5."""


def network_shapes(width: int = 64, features: int = 256) -> dict[str, tuple[int, ...]]:
    """Arrays of a ResNet-50 with a narrow layer on top, layers named as in its Caffe model."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, size: int, inputs: int, outputs: int) -> None:
        shapes[f"{name}.kernel"] = (size, size, inputs, outputs)
        shapes[f"{name}.bias"] = (outputs,)

    convolution("conv1_7x7_s2", 7, 3, width)
    inputs = width
    for stage, count in enumerate(BLOCKS, start=2):
        inner = width * 2 ** (stage - 2)
        for block in range(1, count + 1):
            name = f"conv{stage}_{block}"
            convolution(f"{name}_1x1_reduce", 1, inputs, inner)
            convolution(f"{name}_3x3", 3, inner, inner)
            convolution(f"{name}_1x1_increase", 1, inner, 4 * inner)
            if block == 1:
                convolution(f"{name}_1x1_proj", 1, inputs, 4 * inner)
            inputs = 4 * inner
    return shapes | {"feat_extract.kernel": (inputs, features), "feat_extract.bias": (features,)}


SHAPES: Shapes = network_shapes()


def convert(file: Path, shapes: Shapes = SHAPES) -> Arrays:
    """ResNet-50-256D of VGGFace2 to its 256 features, for RGB, batch norm (1e-5) folded in.

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
        name = key.removesuffix(".kernel")
        if name == "feat_extract":
            inputs, outputs = shape
            kernel = pick(state, f"{name}.weight", file, (outputs, inputs, 1, 1))
            arrays[key], arrays[f"{name}.bias"] = (
                kernel[:, :, 0, 0].T,
                pick(state, f"{name}.bias", file),
            )
        elif name != key:
            kernel, bias = folded(state, name, f"{name}_bn", 1e-5, shape, file)
            arrays[key], arrays[f"{name}.bias"] = kernel, bias
    return check(arrays, shapes, str(file))
