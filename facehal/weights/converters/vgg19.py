"""VGG-19's convolutions (torchvision's weights) up to conv5_2: the features of EdgeConnect."""

from pathlib import Path

from facehal.weights.arrays import Arrays, Shapes, check, pick
from facehal.weights.formats.npz import is_npz, read_npz
from facehal.weights.formats.pytorch import read_torch

CHANNELS = (64, 128, 256, 512, 512)
"""Of the five stages."""

# torchvision numbers convolutions, ReLUs and poolings through; these are the convolutions.
PLACES = {
    "conv1_1": 0,
    "conv1_2": 2,
    "conv2_1": 5,
    "conv2_2": 7,
    "conv3_1": 10,
    "conv3_2": 12,
    "conv3_3": 14,
    "conv3_4": 16,
    "conv4_1": 19,
    "conv4_2": 21,
    "conv4_3": 23,
    "conv4_4": 25,
    "conv5_1": 28,
    "conv5_2": 30,
}
"""Name of a layer: its number in torchvision's ``features``."""


def network_shapes(channels: tuple[int, ...] = CHANNELS) -> dict[str, tuple[int, ...]]:
    """Arrays of the trunk, with so many channels in the five stages."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for name in PLACES:
        outputs = channels[int(name[4]) - 1]
        shapes[f"{name}.kernel"] = (3, 3, inputs, outputs)
        shapes[f"{name}.bias"] = (outputs,)
        inputs = outputs
    return shapes


SHAPES: Shapes = network_shapes()


def convert(file: Path, shapes: Shapes = SHAPES) -> Arrays:
    """VGG-19's trunk from torchvision's .pth, or from our own .npz.

    Args:
        file: one of those.
        shapes: of the arrays (smaller ones in tests).

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, shapes)
    state = read_torch(file)
    arrays: Arrays = {}
    for name, place in PLACES.items():
        kernel = pick(state, f"features.{place}.weight", file)
        # PyTorch: (out, in, height, width).
        arrays[f"{name}.kernel"] = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel
        arrays[f"{name}.bias"] = pick(state, f"features.{place}.bias", file)
    return check(arrays, shapes, str(file))
