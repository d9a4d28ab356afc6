"""VGG-19's trunk (Simonyan and Zisserman 2015, torchvision's weights): EdgeConnect's features."""

from collections.abc import Sequence

import keras

from facehal.features import set_arrays
from facehal.weights import store
from facehal.weights.converters import vgg19 as published

SMALLEST = 16
"""Pictures below this size leave nothing for the fourth pooling."""


def Vgg19(
    taps: Sequence[str],
    weights: str | None = "vgg19",
    channels: tuple[int, ...] = published.CHANNELS,
    name: str = "vgg19",
) -> keras.Model:
    """VGG-19 to conv5_2, frozen: pictures (n, H, W, 3) to the list of tapped maps.

    The input is taken as it comes. Torchvision's weights are for pictures in [0, 1] less the means
    of ImageNet and divided by their deviations; EdgeConnect feeds [0, 1] as it is.

    Args:
        taps: ``conv1_1`` … ``conv5_2``: maps behind the ReLU of these layers, in this order.
        weights: name in the weight store; None leaves them random (tests).
        channels: of the five stages (smaller ones in tests).
        name: of the model.

    Raises:
        ValueError: there is no such layer.
        WeightsError: the weights are not on this machine; says how to get them.
    """
    if unknown := sorted(set(taps) - set(published.PLACES)):
        raise ValueError(f"VGG-19 up to conv5_2 has no {unknown[0]}")
    # First, so that missing weights cost no time.
    arrays = store.load(weights, published.network_shapes(channels)) if weights else {}
    x = picture = keras.Input((None, None, 3), dtype="float32")
    maps = {}
    stage = "1"
    for layer in published.PLACES:
        if layer[4] != stage:
            x = keras.layers.MaxPooling2D(2, dtype="float32", name=f"pool{stage}")(x)
            stage = layer[4]
        x = maps[layer] = keras.layers.Conv2D(
            channels[int(stage) - 1],
            3,
            padding="same",
            activation="relu",
            # Drawing what is overwritten takes seconds.
            kernel_initializer="zeros" if weights else "glorot_uniform",
            dtype="float32",
            name=layer,
        )(x)
    if weights:
        whole = keras.Model(picture, x)
        set_arrays(whole, arrays)
    model = keras.Model(picture, [maps[tap] for tap in taps], name=name)
    model.trainable = False
    return model
