"""Inception-v3 of 2015-12-05, the network of FID."""

from pathlib import Path

from facehal.weights.arrays import Arrays, Shapes, check, folded, pick
from facehal.weights.formats.npz import is_npz, read_npz
from facehal.weights.formats.pytorch import read_torch


def _shapes() -> dict[str, tuple[int, ...]]:
    """Layer names are those of the PyTorch conversions, `Mixed_5b.branch1x1` with underscores."""
    convolutions: dict[str, tuple[int, int, int, int]] = {
        "Conv2d_1a_3x3": (3, 3, 3, 32),
        "Conv2d_2a_3x3": (3, 3, 32, 32),
        "Conv2d_2b_3x3": (3, 3, 32, 64),
        "Conv2d_3b_1x1": (1, 1, 64, 80),
        "Conv2d_4a_3x3": (3, 3, 80, 192),
    }

    def block(name: str, **branches: tuple[int, int, int, int]) -> None:
        convolutions.update({f"{name}_branch{k}": shape for k, shape in branches.items()})

    for name, n, pool in (("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)):
        block(name, **{"1x1": (1, 1, n, 64), "5x5_1": (1, 1, n, 48), "5x5_2": (5, 5, 48, 64)})
        block(name, **{"3x3dbl_1": (1, 1, n, 64), "3x3dbl_2": (3, 3, 64, 96)})
        block(name, **{"3x3dbl_3": (3, 3, 96, 96), "_pool": (1, 1, n, pool)})
    block("Mixed_6a", **{"3x3": (3, 3, 288, 384), "3x3dbl_1": (1, 1, 288, 64)})
    block("Mixed_6a", **{"3x3dbl_2": (3, 3, 64, 96), "3x3dbl_3": (3, 3, 96, 96)})
    for name, c in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        block(name, **{"1x1": (1, 1, 768, 192), "7x7_1": (1, 1, 768, c), "7x7_2": (1, 7, c, c)})
        block(name, **{"7x7_3": (7, 1, c, 192), "7x7dbl_1": (1, 1, 768, c)})
        block(name, **{"7x7dbl_2": (7, 1, c, c), "7x7dbl_3": (1, 7, c, c)})
        block(name, **{"7x7dbl_4": (7, 1, c, c), "7x7dbl_5": (1, 7, c, 192)})
        block(name, _pool=(1, 1, 768, 192))
    block("Mixed_7a", **{"3x3_1": (1, 1, 768, 192), "3x3_2": (3, 3, 192, 320)})
    block("Mixed_7a", **{"7x7x3_1": (1, 1, 768, 192), "7x7x3_2": (1, 7, 192, 192)})
    block("Mixed_7a", **{"7x7x3_3": (7, 1, 192, 192), "7x7x3_4": (3, 3, 192, 192)})
    for name, n in (("Mixed_7b", 1280), ("Mixed_7c", 2048)):
        block(name, **{"1x1": (1, 1, n, 320), "3x3_1": (1, 1, n, 384)})
        block(name, **{"3x3_2a": (1, 3, 384, 384), "3x3_2b": (3, 1, 384, 384)})
        block(name, **{"3x3dbl_1": (1, 1, n, 448), "3x3dbl_2": (3, 3, 448, 384)})
        block(name, **{"3x3dbl_3a": (1, 3, 384, 384), "3x3dbl_3b": (3, 1, 384, 384)})
        block(name, _pool=(1, 1, n, 192))
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in convolutions.items():
        shapes[f"{name}.kernel"] = shape
        shapes[f"{name}.bias"] = shape[-1:]
    return shapes | {"fc.kernel": (2048, 1008), "fc.bias": (1008,)}


SHAPES: Shapes = _shapes()


def convert(file: Path) -> Arrays:
    """Inception-v3 of 2015 (the network of FID), for RGB, batch norm (1e-3) folded in.

    Args:
        file: the PyTorch conversion of `inception-2015-12-05` by pytorch-fid (torch-fidelity's is
            the same file), or our own .npz.

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, SHAPES)
    state = read_torch(file)
    arrays: Arrays = {
        "fc.kernel": pick(state, "fc.weight", file, (1008, 2048)).T,
        "fc.bias": pick(state, "fc.bias", file),
    }
    for key, shape in SHAPES.items():
        name = key.removesuffix(".kernel")
        if name not in (key, "fc"):
            theirs = name.replace("_branch", ".branch")
            kernel, bias = folded(state, f"{theirs}.conv", f"{theirs}.bn", 1e-3, shape, file)
            arrays[key], arrays[f"{name}.bias"] = kernel, bias
    return check(arrays, SHAPES, str(file))
