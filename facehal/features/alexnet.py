"""The convolutions of AlexNet (Krizhevsky 2014, torchvision's weights): the features of LPIPS."""

from typing import Any

import keras

from facehal.weights import store
from facehal.weights.converters import alexnet as published

SMALLEST = 31
"""Pictures below this size leave nothing for the second pooling."""

CHANNELS = (64, 192, 384, 256, 256)
"""Of the five taps."""


def AlexNet(weights: str | None = "alexnet", name: str = "alexnet") -> keras.Model:
    """AlexNet's trunk, frozen, with a tap after each of its five ReLUs.

    Pictures (n, H, W, 3) float32, already in the scale of the weights (LPIPS v0.0: [-1, 1]), H and
    W at least 31, become a list of five maps of 64, 192, 384, 256 and 256 channels: at 128 pixels
    31x31, 15x15 and three times 7x7.

    Padding is explicit because Keras's "same" shifts the stride-4 convolution: two pixels on each
    side for the first two convolutions, one for the rest, none for the 3x3 stride-2 pools.

    Args:
        weights: name in the weight store; None leaves them random (tests).
        name: of the model.

    Raises:
        WeightsError: the weights are not on this machine; says how to get them.
    """
    x = pictures = keras.Input((None, None, 3), dtype="float32")
    taps = []
    for number, (filters, size, stride, pad) in enumerate(
        ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)), start=1
    ):
        if number in (2, 3):
            x = keras.layers.MaxPooling2D(3, 2, dtype="float32", name=f"pool{number - 1}")(x)
        # Around a stride of one, "same" pads evenly, and a fused padding is faster.
        even: dict[str, Any] = {"padding": "valid" if stride > 1 else "same"}
        if weights is not None:  # JAX would take seconds to draw what is overwritten
            even["kernel_initializer"] = "zeros"
        if stride > 1:
            x = keras.layers.ZeroPadding2D(pad, dtype="float32", name=f"pad{number}")(x)
        x = keras.layers.Conv2D(
            filters, size, stride, activation="relu", dtype="float32", name=f"conv{number}", **even
        )(x)
        taps.append(x)
    model = keras.Model(pictures, taps, name=name)
    model.trainable = False
    if weights is not None:
        arrays = store.load(weights, published.SHAPES)
        for number in range(1, 6):
            model.get_layer(f"conv{number}").set_weights(
                [arrays[f"conv{number}.kernel_hwio"], arrays[f"conv{number}.bias"]]
            )
    return model
