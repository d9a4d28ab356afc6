"""Inception-v3 of 2015 (`inception-2015-12-05`): the features of FID (Heusel et al. 2017).

Not the Inception of torchvision or Keras: this one has 1008 outputs, averages without counting the
padding, and takes the maximum instead in its last block.
"""

from typing import Any, Literal

import keras
from keras import ops

from facehal.features import set_arrays
from facehal.layers import resampling
from facehal.weights import store
from facehal.weights.converters import inception as published

SIDE = 299
"""Width and height that the network works on."""

SIZE = 2048
"""Length of the pool3 features."""

Mode = Literal["tf2015", "clean"]

MODES: tuple[Mode, ...] = ("tf2015", "clean")
"""How pictures get to 299x299. FIDs of different modes cannot be compared: name it in results."""


class _Prepare(keras.layers.Layer):
    """RGB in [0, 1] of any size to the network's own scale and size."""

    def __init__(self, mode: Mode, quantise: bool, **options: Any) -> None:
        super().__init__(**options)
        self.mode, self.quantise = mode, quantise

    def call(self, pictures: Any) -> Any:
        height, width = resampling.known_size(pictures)
        x = pictures * 255.0
        if self.quantise:
            x = ops.round(ops.clip(x, 0.0, 255.0))
        if self.mode == "tf2015":
            rows, columns = (resampling.tf1_bilinear(n, SIDE) for n in (height, width))
            x = resampling.resample(x, rows, columns)
        else:
            rows, columns = (resampling.pillow(n, SIDE, "bicubic") for n in (height, width))
            x = ops.clip(resampling.resample(x, rows, columns), 0.0, 255.0)
        return (x - 128.0) / 128.0

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], SIDE, SIDE, 3)


def InceptionV3(
    mode: Mode = "tf2015",
    weights: str | None = "inception",
    quantise: bool = True,
    logits: bool = False,
    name: str = "inception_v3",
) -> keras.Model:
    """The network of FID, frozen: (n, H, W, 3) RGB in [0, 1] of any size to (n, 2048) float32.

    Inside: times 255, rounding to whole levels, resizing to 299x299, (x - 128) / 128. The
    features are pool3, the mean over the last map's positions. Height and width must be known
    when the network is called.

    Args:
        mode: `"tf2015"`, the resizing inside the published graph (TensorFlow 1's bilinear,
            without half-pixel centres or averaging), as TTUR and torch-fidelity have it; or
            `"clean"`, clean-fid's (Pillow's bicubic on each channel in float, cut to 0-255).
        weights: name in the weight store; None leaves them random (tests).
        quantise: round to the 256 levels that FID programs read from picture files, so that
            networks' outputs and the PNGs written of them give the same numbers. It stops
            gradients; False takes the values as they are.
        logits: also return the (n, 1008) outputs before the softmax, as a second output.
        name: of the model.

    Raises:
        ValueError: unknown mode, or (when called) pictures of another shape.
        WeightsError: the weights are not on this machine; says how to get them.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}: {mode!r}")
    # First, so that missing weights cost no time.
    arrays = store.load(weights, published.SHAPES) if weights else {}
    picture = keras.Input((None, None, 3), dtype="float32")
    x = _Prepare(mode, quantise, dtype="float32", name="prepare")(picture)
    x = _convolution(x, "Conv2d_1a_3x3", stride=2)
    x = _convolution(x, "Conv2d_2a_3x3", padding="valid")
    x = _convolution(x, "Conv2d_2b_3x3")
    x = keras.layers.MaxPooling2D(3, 2, dtype="float32", name="MaxPool_1")(x)
    x = _convolution(x, "Conv2d_3b_1x1")
    x = _convolution(x, "Conv2d_4a_3x3", padding="valid")
    x = keras.layers.MaxPooling2D(3, 2, dtype="float32", name="MaxPool_2")(x)
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = _concatenate(
            block,
            _chain(x, block, "1x1"),
            _chain(x, block, "5x5_1", "5x5_2"),
            _chain(x, block, "3x3dbl_1", "3x3dbl_2", "3x3dbl_3"),
            _chain(_around(x, block), block, "_pool"),
        )
    x = _concatenate(
        "Mixed_6a",
        _chain(x, "Mixed_6a", "3x3", stride=2),
        _chain(x, "Mixed_6a", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3", stride=2),
        keras.layers.MaxPooling2D(3, 2, dtype="float32", name="Mixed_6a_pool")(x),
    )
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = _concatenate(
            block,
            _chain(x, block, "1x1"),
            _chain(x, block, "7x7_1", "7x7_2", "7x7_3"),
            _chain(x, block, *(f"7x7dbl_{n}" for n in range(1, 6))),
            _chain(_around(x, block), block, "_pool"),
        )
    x = _concatenate(
        "Mixed_7a",
        _chain(x, "Mixed_7a", "3x3_1", "3x3_2", stride=2),
        _chain(x, "Mixed_7a", *(f"7x7x3_{n}" for n in range(1, 5)), stride=2),
        keras.layers.MaxPooling2D(3, 2, dtype="float32", name="Mixed_7a_pool")(x),
    )
    for block in ("Mixed_7b", "Mixed_7c"):
        single = _chain(x, block, "3x3_1")
        double = _chain(x, block, "3x3dbl_1", "3x3dbl_2")
        x = _concatenate(
            block,
            _chain(x, block, "1x1"),
            *(_chain(single, block, f"3x3_2{half}") for half in "ab"),
            *(_chain(double, block, f"3x3dbl_3{half}") for half in "ab"),
            _chain(_around(x, block, maximum=block == "Mixed_7c"), block, "_pool"),
        )
    pool3 = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool3")(x)
    outputs = pool3
    if logits:
        outputs = [pool3, keras.layers.Dense(1008, dtype="float32", name="fc")(pool3)]
    model = keras.Model(picture, outputs, name=name)
    model.trainable = False
    if weights:
        set_arrays(model, arrays)
    return model


def _convolution(x: Any, name: str, stride: int = 1, padding: str = "same") -> Any:
    """A convolution of the table with its ReLU; one with a stride does not pad."""
    height, width, _, filters = published.SHAPES[f"{name}.kernel"]
    return keras.layers.Conv2D(
        filters,
        (height, width),
        stride,
        padding="valid" if stride > 1 else padding,
        activation="relu",
        dtype="float32",
        name=name,
    )(x)


def _chain(x: Any, block: str, *branches: str, stride: int = 1) -> Any:
    """Convolutions one after the other, the last one with the stride."""
    for branch in branches:
        last = branch == branches[-1]
        x = _convolution(x, f"{block}_branch{branch}", stride if last else 1)
    return x


def _around(x: Any, block: str, maximum: bool = False) -> Any:
    """Mean (of the pixels that exist) or maximum of each 3x3 neighbourhood."""
    kind = keras.layers.MaxPooling2D if maximum else keras.layers.AveragePooling2D
    return kind(3, 1, padding="same", dtype="float32", name=f"{block}_around")(x)


def _concatenate(block: str, *branches: Any) -> Any:
    return keras.layers.Concatenate(dtype="float32", name=block)(list(branches))
