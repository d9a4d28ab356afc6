"""The generators of DeepFillv1 (Yu et al. 2018), from a checkpoint of its authors.

JiahuiYu/generative_inpainting, branch v1.0.0, links folders with a ``checkpoint``, a ``.index`` and
a ``.data-00000-of-00001``; they are CC BY-NC 4.0, not shipped and not fetched. The critics, which
they have too, are left out.
"""

from pathlib import Path

from facehal.weights.arrays import Arrays, check, pick
from facehal.weights.formats.tensorflow import read_checkpoint

WIDTH = 32  # channels of the published networks' first layers


def network_shapes(width: int = WIDTH) -> dict[str, tuple[int, ...]]:
    """Arrays of both generators, layers named as in the authors' code.

    Args:
        width: channels of the first layers.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    c = width

    def chain(prefix: str, inputs: int, layers: dict[str, int]) -> None:
        for name, outputs in layers.items():
            side = 5 if name == "conv1" else 3
            shapes[f"{prefix}{name}.kernel"] = (side, side, inputs, outputs)
            shapes[f"{prefix}{name}.bias"] = (outputs,)
            inputs = outputs

    atrous = {f"conv{number}_atrous": 4 * c for number in (7, 8, 9, 10)}
    decoder = {
        **{"conv11": 4 * c, "conv12": 4 * c},
        **{"conv13_upsample": 2 * c, "conv14": 2 * c},
        **{"conv15_upsample": c, "conv16": c // 2, "conv17": 3},
    }

    def encoder(second: int, fourth: int) -> dict[str, int]:
        return {
            **{"conv1": c, "conv2_downsample": second, "conv3": 2 * c},
            **{"conv4_downsample": fourth, "conv5": 4 * c, "conv6": 4 * c},
        }

    chain("", 5, {**encoder(2 * c, 4 * c), **atrous, **decoder})
    chain("x", 5, {**encoder(c, 2 * c), **atrous})
    chain("pm", 5, {**encoder(c, 4 * c), "conv9": 4 * c, "conv10": 4 * c})
    chain("all", 8 * c, decoder)
    return shapes


def variable(name: str) -> str:
    """How the authors' graph calls an array of ours.

    A convolution behind an upsampling stands in a scope of the upsampling's.
    """
    layer, part = name.split(".")
    scope = f"{layer}/{layer}_conv" if layer.endswith("_upsample") else layer
    return f"inpaint_net/{scope}/{part}"


def convert(file: Path) -> Arrays:
    """Both generators, for pictures whose blue comes first, as published.

    Args:
        file: see :func:`facehal.weights.formats.tensorflow.read_checkpoint`.

    Raises:
        WeightsError: there is no checkpoint, it cannot be read, or it is not one of DeepFillv1.
        FacehalError: TensorFlow, which reads it, is not installed.
    """
    names = {ours: variable(ours) for ours in network_shapes()}
    state = read_checkpoint(file, names.values())
    # Nothing but the width may be another.
    shapes = network_shapes(pick(state, names["conv1.bias"], file).size)
    arrays = {ours: pick(state, names[ours], file, shape) for ours, shape in shapes.items()}
    return check(arrays, shapes, str(file))
