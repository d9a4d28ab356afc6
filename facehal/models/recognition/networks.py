"""Networks from a face to its descriptor: the paper's ResNet-50-256D, and a slim one."""

from typing import Any

import keras
from keras import layers

from facehal.features.resnet50 import Prepare, trunk
from facehal.layers.convolution import HeNormal
from facehal.layers.normalization import BatchNormalization
from facehal.weights.arrays import Arrays
from facehal.weights.converters import resnet50 as published

Tensor = Any

MOMENTUM = 0.9  # of the statistics: the published networks', and as fast as short trainings need


def _normalised(name: str) -> layers.Layer:
    return BatchNormalization(momentum=MOMENTUM, epsilon=published.EPSILON, name=name)


def resnet50(side: int, width: int, features: int) -> keras.Model:
    """ResNet-50-256D with batch normalisations that train: 23.5 M weights and `feat_extract`.

    Args:
        side: of the faces.
        width: channels of the first convolution; 64 is the published one.
        features: length of the descriptor.

    Returns:
        (n, side, side, 3) in [0, 1] → (n, features).
    """
    kernels = dict(published.convolutions(width))

    def convolution(x: Tensor, name: str, stride: int, relu: bool) -> Tensor:
        size, _, _, filters = kernels[name]
        x = layers.Conv2D(
            filters,
            size,
            stride,
            padding="same" if stride == 1 else "valid",
            use_bias=False,
            kernel_initializer=HeNormal(),
            name=name,
        )(x)
        x = _normalised(f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x) if relu else x

    faces = keras.Input((side, side, 3), dtype="float32")
    x = trunk(Prepare(dtype="float32", name="prepare")(faces), convolution)
    x = layers.Dense(features, dtype="float32", name="feat_extract")(x)
    return keras.Model(faces, x, name="network")


def set_published(network: keras.Model, arrays: Arrays) -> None:
    """Puts the arrays of `facehal.weights.converters.resnet50` into :func:`resnet50`."""
    for layer in network.layers:
        parts: tuple[str, ...] = ("kernel", "bias")[: len(layer.weights)]
        if isinstance(layer, layers.BatchNormalization):
            parts = ("gamma", "beta", "mean", "variance")
        if parts:
            layer.set_weights([arrays[f"{layer.name}.{part}"] for part in parts])


def slim(side: int, width: int, blocks: int, features: int) -> keras.Model:
    """A residual network (He et al. 2016) for small faces and two cores.

    A convolution with stride 2, three stages of ResNet-18's blocks, each of which halves the side
    and doubles the channels, and as ArcFace's networks have it a fully connected layer over the
    whole last map, normalised. With the values of ``compact`` 2.3 M weights.

    Args:
        side: of the faces, a multiple of 16.
        width: channels behind the first convolution.
        blocks: in each stage.
        features: length of the descriptor.

    Returns:
        (n, side, side, 3) in [0, 1] → (n, features).
    """

    def convolution(x: Tensor, filters: int, name: str, size: int = 3, stride: int = 1) -> Tensor:
        x = layers.Conv2D(
            filters,
            size,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer=HeNormal(),
            name=name,
        )(x)
        return _normalised(f"{name}_bn")(x)

    faces = keras.Input((side, side, 3), dtype="float32")
    x = layers.Rescaling(2.0, -1.0, name="centred")(faces)
    x = layers.ReLU(name="stem_relu")(convolution(x, width, "stem", stride=2))
    for stage in (1, 2, 3):
        filters = width * 2**stage
        for block in range(1, blocks + 1):
            name, shortcut, stride = f"stage{stage}_{block}", x, 1
            if block == 1:
                stride = 2
                shortcut = convolution(x, filters, f"{name}_shortcut", 1, stride)
            x = layers.ReLU(name=f"{name}_relu1")(
                convolution(x, filters, f"{name}_conv1", stride=stride)
            )
            x = convolution(x, filters, f"{name}_conv2")
            x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=name)([shortcut, x]))
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(
        features, use_bias=False, kernel_initializer=HeNormal(), dtype="float32", name="features"
    )(x)
    # Keras's own: ours is for maps.
    normalisation = layers.BatchNormalization(
        momentum=MOMENTUM, epsilon=published.EPSILON, dtype="float32", name="features_bn"
    )
    return keras.Model(faces, normalisation(x), name="network")
