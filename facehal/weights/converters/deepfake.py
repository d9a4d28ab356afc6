"""faceswap's "original" model, as it was until 2018: encoder.h5, decoder_A.h5, decoder_B.h5."""

from pathlib import Path

from facehal.errors import WeightsError
from facehal.weights.arrays import Arrays, Shapes, check
from facehal.weights.formats.hdf5 import is_hdf5, read_keras_h5_in_order

FILES = {"encoder": "encoder.h5", "source": "decoder_B.h5", "target": "decoder_A.h5"}
"""The networks' files. faceswap puts the face of B on the pictures of A."""


def network_shapes(
    crop: int = 64, width: int = 128, dense: int = 1024
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Arrays of encoder and decoders, by network, in the order of their layers.

    Args:
        crop: side of the crops.
        width: channels behind the first convolution.
        dense: values between encoder and decoders.
    """
    encoder: dict[str, tuple[int, ...]] = {}
    decoder: dict[str, tuple[int, ...]] = {}

    def layer(shapes: dict[str, tuple[int, ...]], name: str, *kernel: int) -> None:
        shapes[f"{name}.kernel"], shapes[f"{name}.bias"] = kernel, kernel[-1:]

    channels = [3, *(width << level for level in range(4))]
    for number in range(1, 5):
        layer(encoder, f"convolution{number}", 5, 5, *channels[number - 1 : number + 1])
    flat = (crop // 16) ** 2 * channels[-1]
    layer(encoder, "dense1", flat, dense)
    layer(encoder, "dense2", dense, flat)
    layer(encoder, "up_convolution", 3, 3, channels[-1], 16 * width)
    inputs = 4 * width
    for number in range(1, 4):
        layer(decoder, f"up{number}_convolution", 3, 3, inputs, 2 * inputs)
        inputs //= 2
    layer(decoder, "picture", 5, 5, inputs, 3)
    return {"encoder": encoder, "source": decoder, "target": decoder}


def convert(folder: Path, shapes: dict[str, dict[str, tuple[int, ...]]]) -> dict[str, Arrays]:
    """Encoder and decoders for RGB, from a model's folder.

    The published networks take and give BGR: the first kernel's inputs and the last ones' outputs
    are turned round here.

    Args:
        folder: of the three files.
        shapes: see :func:`network_shapes`.

    Raises:
        WeightsError: a file is missing, damaged or of another network.
    """
    found = {name: _read(folder / FILES[name], wanted) for name, wanted in shapes.items()}
    first = found["encoder"]["convolution1.kernel"]
    found["encoder"]["convolution1.kernel"] = first[:, :, ::-1]
    for name in ("source", "target"):
        for part in ("picture.kernel", "picture.bias"):
            found[name][part] = found[name][part][..., ::-1]
    return {name: check(found[name], shapes[name], str(folder / FILES[name])) for name in found}


def _read(file: Path, shapes: Shapes) -> Arrays:
    if not file.is_file():
        raise WeightsError(
            f"{file}: no such file; a faceswap model of the kind original has "
            f"{', '.join(FILES.values())}"
        )
    if not is_hdf5(file):
        raise WeightsError(f"{file}: not an HDF5 file, as Keras 2 wrote weights")
    return read_keras_h5_in_order(file, shapes)
