"""The two generators and the critics of DeepFillv1, layer by layer, named as in the authors' code.

``inpaint_model.py`` of JiahuiYu/generative_inpainting, branch v1.0.0. Kernels are 3×3 unless said,
zero padding ("same"), ELU, no normalisation; ``c`` is the width, 32 as published.
"""

from typing import Any

import keras
from keras import layers, ops

from facehal.models.deepfillv1.attention import ContextualAttention

Tensor = Any

CHANNELS = 5  # picture, ones, hole


def _convolution(
    x: Tensor,
    filters: int,
    name: str,
    *,
    kernel: int = 3,
    stride: int = 1,
    rate: int = 1,
    activation: str = "elu",
) -> Tensor:
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        dilation_rate=rate,
        padding="same",
        activation=activation,
        name=name,
    )(x)


def _upsampled(x: Tensor, filters: int, name: str) -> Tensor:
    x = layers.UpSampling2D(2, interpolation="nearest", name=f"{name}_nearest")(x)
    return _convolution(x, filters, name)


def _picture(x: Tensor, c: int, prefix: str) -> Tensor:
    """The decoder, from a quarter of the size: both networks end with it."""
    x = _convolution(x, 4 * c, f"{prefix}conv11")
    x = _convolution(x, 4 * c, f"{prefix}conv12")
    x = _upsampled(x, 2 * c, f"{prefix}conv13_upsample")
    x = _convolution(x, 2 * c, f"{prefix}conv14")
    x = _upsampled(x, c, f"{prefix}conv15_upsample")
    x = _convolution(x, c // 2, f"{prefix}conv16")
    last = layers.Conv2D(3, 3, padding="same", dtype="float32", name=f"{prefix}conv17")
    return ops.clip(last(x), -1.0, 1.0)


def _dilated(x: Tensor, c: int, prefix: str) -> Tensor:
    """Four layers that see ever farther: 2, 4, 8 and 16 pixels of the small map."""
    for number, rate in zip((7, 8, 9, 10), (2, 4, 8, 16), strict=True):
        x = _convolution(x, 4 * c, f"{prefix}conv{number}_atrous", rate=rate)
    return x


def coarse_network(side: int, c: int) -> keras.Model:
    """(n, side, side, 5) → a rough picture, (n, side, side, 3) float32 in [-1, 1]."""
    inputs = keras.Input((side, side, CHANNELS), name="picture_ones_hole")
    x = _convolution(inputs, c, "conv1", kernel=5)
    x = _convolution(x, 2 * c, "conv2_downsample", stride=2)
    x = _convolution(x, 2 * c, "conv3")
    x = _convolution(x, 4 * c, "conv4_downsample", stride=2)
    x = _convolution(x, 4 * c, "conv5")
    x = _convolution(x, 4 * c, "conv6")
    x = _dilated(x, c, "")
    return keras.Model(inputs, _picture(x, c, ""), name="coarse")


def refinement_network(side: int, c: int) -> keras.Model:
    """Two branches, one with attention: (n, side, side, 5) → the picture, as the rough one.

    The fifth channel of the input, the hole, also tells the attention what is known.
    """
    inputs = keras.Input((side, side, CHANNELS), name="picture_ones_hole")
    x = _convolution(inputs, c, "xconv1", kernel=5)
    x = _convolution(x, c, "xconv2_downsample", stride=2)
    x = _convolution(x, 2 * c, "xconv3")
    x = _convolution(x, 2 * c, "xconv4_downsample", stride=2)
    x = _convolution(x, 4 * c, "xconv5")
    x = _convolution(x, 4 * c, "xconv6")
    hallucinated = _dilated(x, c, "x")

    x = _convolution(inputs, c, "pmconv1", kernel=5)
    x = _convolution(x, c, "pmconv2_downsample", stride=2)
    x = _convolution(x, 2 * c, "pmconv3")
    x = _convolution(x, 4 * c, "pmconv4_downsample", stride=2)
    x = _convolution(x, 4 * c, "pmconv5")
    x = _convolution(x, 4 * c, "pmconv6", activation="relu")
    x = ContextualAttention(name="attention")(x, inputs[..., 4:])
    x = _convolution(x, 4 * c, "pmconv9")
    patched = _convolution(x, 4 * c, "pmconv10")

    x = layers.Concatenate(name="branches")([hallucinated, patched])
    return keras.Model(inputs, _picture(x, c, "all"), name="refinement")


GLOBAL = (1, 2, 4, 4)  # channels of the critic of whole pictures, times its width
LOCAL = (1, 2, 4, 8)  # of the critic of squares


def critic(side: int, width: int, factors: tuple[int, ...], name: str) -> keras.Model:
    """How real a picture looks: (n, side, side, 3) in [-1, 1] → (n, 1) float32, without bounds.

    5×5 convolutions of stride 2 with leaky ReLU 0.2, and a dense layer over the whole last map.

    Args:
        side: of the pictures.
        width: channels of the first layer; 64 as published.
        factors: :data:`GLOBAL` or :data:`LOCAL`.
        name: of the network.
    """
    inputs = keras.Input((side, side, 3), name="picture")
    x = inputs
    for number, factor in enumerate(factors, start=1):
        layer = f"conv{number}"
        x = layers.Conv2D(factor * width, 5, strides=2, padding="same", name=layer)(x)
        x = layers.LeakyReLU(negative_slope=0.2, name=f"{layer}_act")(x)
    x = layers.Flatten(name="flat")(x)
    outputs = layers.Dense(1, dtype="float32", name="score")(x)
    return keras.Model(inputs, outputs, name=name)
