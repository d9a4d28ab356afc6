"""AlexNet's convolutions (torchvision's weights): the trunk of LPIPS."""

from pathlib import Path

from facehal.weights.arrays import Arrays, Shapes, check, pick
from facehal.weights.formats.npz import is_npz, read_npz
from facehal.weights.formats.pytorch import read_torch

SHAPES: Shapes = {
    "conv1.kernel_hwio": (11, 11, 3, 64),
    "conv1.bias": (64,),
    "conv2.kernel_hwio": (5, 5, 64, 192),
    "conv2.bias": (192,),
    "conv3.kernel_hwio": (3, 3, 192, 384),
    "conv3.bias": (384,),
    "conv4.kernel_hwio": (3, 3, 384, 256),
    "conv4.bias": (256,),
    "conv5.kernel_hwio": (3, 3, 256, 256),
    "conv5.bias": (256,),
}


def convert(file: Path) -> Arrays:
    """Convolution trunk of torchvision's AlexNet from its .pth, or from our own .npz.

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, SHAPES)
    state = read_torch(file)
    arrays: Arrays = {}
    for number, index in enumerate((0, 3, 6, 8, 10), start=1):
        for ours, theirs in (("kernel_hwio", "weight"), ("bias", "bias")):
            value = pick(state, f"features.{index}.{theirs}", file)
            # PyTorch: (out, in, height, width).
            arrays[f"conv{number}.{ours}"] = (
                value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
            )
    return check(arrays, SHAPES, str(file))
