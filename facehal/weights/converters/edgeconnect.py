"""EdgeConnect's two generators (Nazeri et al. 2019), from the files of the authors' program."""

from pathlib import Path

import numpy as np

from facehal.errors import WeightsError
from facehal.weights.arrays import Arrays, check, pick
from facehal.weights.formats.pytorch import read_torch

ENTRY = "encoder.1"
"""The first convolution in the authors' files."""


def layers(blocks: int) -> dict[str, str]:
    """Our names of a generator's layers: the authors', places in a ``Sequential``."""
    ends = {
        "entry": ENTRY,
        "down_2": "encoder.4",
        "down_4": "encoder.7",
        "up_2": "decoder.0",
        "up_1": "decoder.3",
        "exit": "decoder.7",
    }
    inner = {
        f"block_{number}_{half}": f"middle.{number}.conv_block.{place}"
        for number in range(blocks)
        for half, place in (("a", 1), ("b", 5))
    }
    return ends | inner


def network_shapes(
    inputs: int, outputs: int, width: int, blocks: int, spectral: bool
) -> dict[str, tuple[int, ...]]:
    """Arrays of a generator; those of layers with spectral normalisation also have u and v."""
    sizes = {
        "entry": (7, inputs, width),
        "down_2": (4, width, 2 * width),
        "down_4": (4, 2 * width, 4 * width),
        "up_2": (4, 4 * width, 2 * width),
        "up_1": (4, 2 * width, width),
        "exit": (7, width, outputs),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name in layers(blocks):
        size, taken, given = sizes.get(name, (3, 4 * width, 4 * width))
        channels = (given, taken) if name.startswith("up") else (taken, given)
        shapes[f"{name}.kernel"] = (size, size, *channels)
        if not (spectral and name.startswith("block")):
            shapes[f"{name}.bias"] = (given,)
        if spectral and name != "exit":
            shapes[f"{name}.u"] = (given,)
            shapes[f"{name}.v"] = (size * size * taken,)
    return shapes


def convert(file: Path, inputs: int, outputs: int, spectral: bool) -> tuple[Arrays, int, int]:
    """A generator of the authors' program.

    PyTorch's spectral normalisation stores the raw kernel (``weight_orig``) and the two singular
    vectors; v there runs over (in, height, width), ours over (height, width, in).

    Args:
        file: ``EdgeModel_gen.pth`` or ``InpaintingModel_gen.pth``.
        inputs, outputs: channels that the network takes and gives.
        spectral: whether its layers, but the last, have spectral normalisation.

    Returns:
        The arrays of :func:`network_shapes`, the width and the number of residual blocks, which the
        file tells.

    Raises:
        WeightsError: not such a file.
    """
    state = read_torch(file, inside="generator")
    # So torch.nn.DataParallel, for several GPUs, names them.
    state = {name.removeprefix("module."): array for name, array in state.items()}
    kind = "weight_orig" if spectral else "weight"
    first = pick(state, f"{ENTRY}.{kind}", file)
    if first.ndim != 4 or first.shape[1:] != (inputs, 7, 7):
        raise WeightsError(
            f"{file}: {ENTRY}.{kind} has shape {first.shape} where this network has "
            f"(64, {inputs}, 7, 7)"
        )
    width = len(first)
    blocks = len({name.split(".")[1] for name in state if name.startswith("middle.")})
    shapes = network_shapes(inputs, outputs, width, blocks, spectral)
    arrays: Arrays = {}
    for key, shape in shapes.items():
        name, part = key.split(".")
        theirs = layers(blocks)[name]
        normalised = f"{name}.u" in shapes
        if part == "kernel":
            value = pick(state, f"{theirs}.{'weight_orig' if normalised else 'weight'}", file)
            # PyTorch: (out, in, height, width), or transposed (in, out, height, width). Ours ends
            # in the two channels turned round.
            arrays[key] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        elif part == "v":
            value = pick(state, f"{theirs}.weight_v", file, shape)
            side = 3 if name.startswith("block") else 7 if name == "entry" else 4
            arrays[key] = np.moveaxis(value.reshape(-1, side, side), 0, 2).ravel()
        else:
            arrays[key] = pick(state, f"{theirs}.{'weight_u' if part == 'u' else part}", file)
    return check(arrays, shapes, str(file)), width, blocks
