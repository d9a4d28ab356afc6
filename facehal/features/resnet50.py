"""ResNet-50-256D of VGGFace2 (Cao et al. 2018): the paper's descriptor for the match score."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from facehal.features import set_arrays
from facehal.layers import resampling
from facehal.weights import store
from facehal.weights.converters import resnet50 as published

SIDE = 224
"""Width and height that the network works on."""

SHORTER = 256
"""The shorter side before the centre is cut out."""

SIZE = 256
"""Length of the descriptor."""

# Of the training pictures, RGB, 0-255 (published with the weights).
_MEAN = np.array([131.0912, 103.8827, 91.4953], np.float32)


@keras.saving.register_keras_serializable("facehal")
class Prepare(keras.layers.Layer):
    """RGB in [0, 1] of any size to the network's own scale and size."""

    def call(self, pictures: Any) -> Any:
        """(n, H, W, 3) to (n, 224, 224, 3)."""
        height, width = resampling.known_size(pictures)
        rows, columns = (_centre(n, min(height, width)) for n in (height, width))
        return resampling.resample(pictures * 255.0, rows, columns) - _MEAN

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(n, 224, 224, 3)."""
        return (input_shape[0], SIDE, SIDE, 3)


def _centre(size: int, shorter: int) -> np.ndarray:
    """(224, size): one side resized as the shorter one becomes 256, then its middle."""
    resized = -(-size * SHORTER // shorter)
    start = (resized - SIDE) // 2
    return resampling.pillow(size, resized, "bilinear")[start : start + SIDE]


Convolution = Callable[[Any, str, int, bool], Any]
"""A convolution with its normalisation, if any: (map, name, stride, ReLU behind it) → map."""


def trunk(pictures: Any, convolution: Convolution, dtype: str | None = None) -> Any:
    """The layers between the prepared pictures and `feat_extract`.

    As in Caffe's ResNet-50 the stride is that of a stage's first 1x1 convolution, and the first
    pool has no padding before the picture and fills up behind it.

    Args:
        pictures: (n, 224, 224, 3), of `Prepare`.
        convolution: makes each of `facehal.weights.converters.resnet50.convolutions`, padded to
            keep the size where the stride is 1 and not padded elsewhere.
        dtype: of the layers between them; by default the global policy's.

    Returns:
        (n, 32 widths of the first convolution).
    """
    # "same" would pad 2 and 3 around a stride of 2.
    x = keras.layers.ZeroPadding2D(3, dtype=dtype, name="pad1")(pictures)
    x = convolution(x, "conv1_7x7_s2", 2, True)
    # An even side: "same" adds one row behind, as Caffe's rounding up does.
    x = keras.layers.MaxPooling2D(3, 2, padding="same", dtype=dtype, name="pool1_3x3_s2")(x)
    for stage, count in enumerate(published.BLOCKS, start=2):
        for number in range(1, count + 1):
            block = f"conv{stage}_{number}"
            stride = 2 if stage > 2 and number == 1 else 1
            shortcut = x
            if number == 1:
                shortcut = convolution(x, f"{block}_1x1_proj", stride, False)
            x = convolution(x, f"{block}_1x1_reduce", stride, True)
            x = convolution(x, f"{block}_3x3", 1, True)
            x = convolution(x, f"{block}_1x1_increase", 1, False)
            x = keras.layers.Add(dtype=dtype, name=block)([shortcut, x])
            x = keras.layers.ReLU(dtype=dtype, name=f"{block}_relu")(x)
    return keras.layers.GlobalAveragePooling2D(dtype=dtype, name="pool5_7x7_s1")(x)


def ResNet50(
    weights: str | None = "resnet50_256d",
    width: int = 64,
    features: int = SIZE,
    name: str = "resnet50_256d",
) -> keras.Model:
    """ResNet-50-256D, frozen: (n, H, W, 3) RGB in [0, 1] of any size to (n, 256) float32.

    Inside: bilinear resizing of the shorter side to 256 (averaging where it shrinks; unlike the
    publishers' script, which resizes 8-bit pictures, without rounding), the middle 224x224, times
    255, minus the mean. The descriptor is `feat_extract`, without an L2 norm (a correlation does
    not feel one). Height and width must be known when the network is called.

    The batch normalisations are folded into the convolutions; the family `recognition` has the
    network that can be trained.

    Args:
        weights: name in the weight store; None leaves them random (tests).
        width: channels of the first convolution (smaller in tests).
        features: length of the descriptor (smaller in tests).
        name: of the model.

    Raises:
        ValueError: (when called) pictures of another shape.
        WeightsError: the weights are not on this machine; says how to get them.
    """
    kernels = dict(published.convolutions(width))
    # First, so that missing weights cost no time.
    arrays: dict[str, np.ndarray] = {}
    if weights:
        shapes = published.network_shapes(width, features)
        arrays = published.folded(store.load(weights, shapes))

    def convolution(x: Any, name: str, stride: int, relu: bool) -> Any:
        size, _, _, filters = kernels[name]
        return keras.layers.Conv2D(
            filters,
            size,
            stride,
            padding="same" if stride == 1 else "valid",
            activation="relu" if relu else None,
            dtype="float32",
            name=name,
        )(x)

    picture = keras.Input((None, None, 3), dtype="float32")
    prepared = Prepare(dtype="float32", name="prepare")(picture)
    x = trunk(prepared, convolution, dtype="float32")
    x = keras.layers.Dense(features, dtype="float32", name="feat_extract")(x)
    model = keras.Model(picture, x, name=name)
    model.trainable = False
    if weights:
        set_arrays(model, arrays)
    return model
