"""VGG-Face (Parkhi et al. 2015): the fc7 descriptor of the paper's identity loss."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.features import set_arrays
from facehal.weights import store
from facehal.weights.converters import vgg_face as published

SIDE = 224
"""Width and height that the fully connected layers force."""

SIZE = 4096
"""Length of the fc7 and fc6 descriptors."""

HYPERCOLUMN = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
"""The layers of a hypercolumn (section 4.2)."""

HYPERCOLUMN_SIZE = 64 + 128 + 256 + 512 + 512
"""Length of the mean hypercolumn."""

# Of the training pictures, RGB, 0-255 (published with the weights).
_MEAN = np.array([129.186279296875, 104.76238250732422, 93.59396362304688], np.float32)


class _Prepare(keras.layers.Layer):
    """RGB in [0, 1] of any size to the network's own scale and size."""

    def call(self, pictures: Any) -> Any:
        # Enlarging needs no averaging, and its plain kernel compiles everywhere.
        enlarging = all(side is not None and side <= SIDE for side in pictures.shape[1:3])
        resized = ops.image.resize(
            pictures, (SIDE, SIDE), interpolation="bilinear", antialias=not enlarging
        )
        return resized * 255.0 - _MEAN

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], SIDE, SIDE, 3)


def VggFace(
    weights: str | None = "vgg_face",
    relu: bool = True,
    channels: tuple[int, ...] = (64, 128, 256, 512, 512),
    features: int = SIZE,
    name: str = "vgg_face",
) -> keras.Model:
    """VGG-Face to fc7, frozen: (n, H, W, 3) RGB in [0, 1] of any size to (n, 4096) float32.

    Inside: bilinear resizing to 224x224 (averaging where it shrinks), times 255, minus the mean.
    The layers are named `conv1_1` to `conv5_3`, `fc6` and `fc7`, each with its ReLU; see `taps`
    and `mean_hypercolumn`.

    Args:
        weights: name in the weight store; None leaves them random (tests).
        relu: fc7 after its ReLU (Caffe's in-place ReLU makes it so; the paper does not say) or
            before.
        channels: of the five stages (smaller ones in tests).
        features: length of fc6 and fc7 (smaller in tests).
        name: of the model.

    Raises:
        WeightsError: the weights are not on this machine; says how to get them.
    """
    # First, so that missing weights cost no time.
    arrays = store.load(weights, published.network_shapes(channels, features)) if weights else {}
    # Drawing what is overwritten takes seconds.
    start = "zeros" if weights else "glorot_uniform"
    picture = keras.Input((None, None, 3), dtype="float32")
    x = _Prepare(dtype="float32", name="prepare")(picture)
    for stage, count in enumerate(published.CONVOLUTIONS, start=1):
        for number in range(1, count + 1):
            x = keras.layers.Conv2D(
                channels[stage - 1],
                3,
                padding="same",
                activation="relu",
                kernel_initializer=start,
                dtype="float32",
                name=f"conv{stage}_{number}",
            )(x)
        x = keras.layers.MaxPooling2D(2, dtype="float32", name=f"pool{stage}")(x)
    x = keras.layers.Flatten(dtype="float32", name="flat")(x)
    x = keras.layers.Dense(
        features, activation="relu", kernel_initializer=start, dtype="float32", name="fc6"
    )(x)
    x = keras.layers.Dense(
        features,
        activation="relu" if relu else None,
        kernel_initializer=start,
        dtype="float32",
        name="fc7",
    )(x)
    model = keras.Model(picture, x, name=name)
    model.trainable = False
    if weights:
        set_arrays(model, arrays)
    return model


def taps(model: keras.Model, layers: Sequence[str]) -> keras.Model:
    """The same network, ending at these layers: pictures to one map or descriptor of each.

    What comes after the last of them is not computed. One layer gives one tensor, several a list.

    Args:
        model: a `VggFace`.
        layers: names, for instance `HYPERCOLUMN` or `["fc6"]`.

    Raises:
        ValueError: there is no such layer.
    """
    outputs = [model.get_layer(layer).output for layer in layers]
    tapped = keras.Model(model.input, outputs if len(outputs) > 1 else outputs[0])
    tapped.trainable = False
    return tapped


def mean_hypercolumn(model: keras.Model) -> keras.Model:
    """Pictures to the mean of their hypercolumns (section 4.2): (n, 1472) float32.

    A pixel's hypercolumn is the five maps of `HYPERCOLUMN`, enlarged to the picture, at its place;
    the mean over pixels is taken here as that of each map as it is, which differs from enlarging
    them first only in how much the border counts.

    Args:
        model: a `VggFace`.
    """
    maps = taps(model, HYPERCOLUMN)
    means = [
        keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"mean_{layer}")(map_)
        for layer, map_ in zip(HYPERCOLUMN, maps.outputs, strict=True)
    ]
    joined = keras.layers.Concatenate(dtype="float32", name="hypercolumn")(means)
    described = keras.Model(model.input, joined)
    described.trainable = False
    return described
