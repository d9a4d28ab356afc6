"""VGG-Face (Parkhi et al. 2015) up to fc7."""

from pathlib import Path

from facehal.weights.arrays import Arrays, Shapes, check, pick
from facehal.weights.formats.hdf5 import is_hdf5, read_keras_h5
from facehal.weights.formats.npz import is_npz, read_npz
from facehal.weights.formats.pytorch import read_torch

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""How many convolutions stand in each of the five stages of VGG-16."""


def network_shapes(
    channels: tuple[int, ...] = (64, 128, 256, 512, 512), features: int = 4096
) -> dict[str, tuple[int, ...]]:
    """Arrays of a VGG-16 up to fc7; fc6 reads the 7x7 map row by row, channels last."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for stage, (outputs, count) in enumerate(zip(channels, CONVOLUTIONS, strict=True), 1):
        for number in range(1, count + 1):
            shapes[f"conv{stage}_{number}.kernel"] = (3, 3, inputs, outputs)
            shapes[f"conv{stage}_{number}.bias"] = (outputs,)
            inputs = outputs
    for name, inputs in (("fc6", 49 * channels[-1]), ("fc7", features)):
        shapes[f"{name}.kernel"] = (inputs, features)
        shapes[f"{name}.bias"] = (features,)
    return shapes


SHAPES: Shapes = network_shapes()


def convert(file: Path, shapes: Shapes = SHAPES) -> Arrays:
    """VGG-Face up to fc7, always for RGB, from one of three files.

    The order of the colours belongs to the file: keras-vggface's rcmalli_vggface_tf_vgg16.h5 was
    trained and is fed as BGR, so the first kernel's inputs are turned round here; Oxford's
    PyTorch port vgg_face_dag.pth takes RGB; our own .npz is RGB.

    Args:
        file: one of those.
        shapes: of the arrays (smaller ones in tests).

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, shapes)
    arrays: Arrays = {}
    if is_hdf5(file):
        arrays = read_keras_h5(file, shapes)
        first = pick(arrays, "conv1_1.kernel", file)
        arrays["conv1_1.kernel"] = first[:, :, ::-1]
        return check(arrays, shapes, str(file))
    state = read_torch(file)
    for name in shapes:
        layer, part = name.split(".")
        value = pick(state, f"{layer}.{'weight' if part == 'kernel' else 'bias'}", file)
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif value.ndim == 2:
            if layer == "fc6" and value.shape[1] % 49 == 0:
                # PyTorch flattens the map channels first.
                value = value.reshape(len(value), -1, 7, 7).transpose(0, 2, 3, 1)
                value = value.reshape(len(value), -1)
            value = value.T
        arrays[name] = value
    return check(arrays, shapes, str(file))
