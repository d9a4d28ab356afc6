"""FlowNet, LightNet, RecNet and the discriminator of SymmFCNet.

SymmFCNet's own layers are unknown: its repository (csxmli2016/SymmFCNet) holds a test program that
loads four trained files, and no definition of a network. These are stand-ins:

- FlowNet: the WarpNet of the same author's GFRNet (csxmli2016/GFRNet_WarpNet,
  ``models/networks.py``), layer by layer: encoder down to one pixel, decoder back, no skips, tanh.
- LightNet and RecNet: the same with skips, which is pix2pix's U-Net; a figure of the paper shows
  RecNet as a U-Net with six skips, as many as it has here at 128 pixels.
- Discriminator: DeepFillv1's global one.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from facehal.layers.convolution import SLOPE, Normal
from facehal.layers.normalization import BatchNormalization

Tensor = Any

FLOW_CHANNELS = 8  # picture, mirror image, hole, hole of the mirror image
LIGHT_CHANNELS = 11  # picture, mirror image, warped mirror image, hole, hole of the warped image
RECONSTRUCTION_CHANNELS = 5  # stage I's picture, hole, hole of the warped mirror image
FEATURES_AT = 4  # RecNet's features are its decoder's at this fraction of the picture's side
BRIGHTEST = 2.5  # largest illumination ratio


def channels(side: int, base: int, cap: int) -> tuple[int, ...]:
    """Channels of an encoder after each halving of ``side`` pixels, down to one."""
    return tuple(min(cap, base << level) for level in range(int(math.log2(side))))


def hourglass(
    name: str,
    side: int,
    inputs: int,
    widths: Sequence[int],
    outputs: int,
    *,
    last: str,
    skips: bool,
    normalization: str,
    stddev: float | None = None,
    silent: bool = False,
    features_at: int = 0,
) -> keras.Model:
    """An encoder of 4×4 convolutions with stride 2 and a decoder of such transposed convolutions.

    Leaky ReLU in the encoder, ReLU in the decoder and on its input; batch normalisation, where
    there is one, before them, on all but the encoder's first and last layer and the decoder's last.

    Args:
        name: of the model.
        side: of the pictures in pixels.
        inputs, outputs: channels.
        widths: of the encoder; the decoder's are the same backwards.
        last: activation of the output.
        skips: the encoder's layers are joined to the decoder's of the same size.
        normalization: ``batch`` or ``none``.
        stddev: of the normal numbers that the kernels begin with; by default He's.
        silent: the last layer begins with zeros.
        features_at: give the decoder's features at this fraction of the side as a second output.

    Returns:
        (n, side, side, inputs) → (n, side, side, outputs) float32, or a list of that and
        (n, side / features_at, side / features_at, channels) float32.
    """

    def kernel(fan: int) -> keras.initializers.Initializer:
        return Normal(stddev=math.sqrt(2 / fan) if stddev is None else stddev)

    def normalised(x: Tensor, layer: str) -> Tensor:
        if normalization == "none":
            return x
        # PyTorch's momentum and epsilon.
        return BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{layer}_norm")(x)

    x = picture = keras.Input((side, side, inputs), name="pictures")
    passed: list[Tensor] = []
    for level, width in enumerate(widths):
        layer, innermost = f"down{level}", level == len(widths) - 1
        # A pixel of the output sees the kernel's sixteen taps.
        x = layers.Conv2D(
            width, 4, 2, padding="same", kernel_initializer=kernel(16 * x.shape[-1]), name=layer
        )(x)
        if innermost:
            x = layers.ReLU(name=f"{layer}_act")(x)
            break
        x = x if level == 0 else normalised(x, layer)
        x = layers.LeakyReLU(negative_slope=SLOPE, name=f"{layer}_act")(x)
        passed.append(x)
    features = None
    for level, width in reversed(list(enumerate((outputs, *widths[:-1])))):
        layer = f"up{level}"
        # With stride 2 it sees four of them.
        start = "zeros" if silent and level == 0 else kernel(4 * x.shape[-1])
        x = layers.Conv2DTranspose(
            width, 4, 2, padding="same", kernel_initializer=start, name=layer
        )(x)
        if level == 0:
            break
        x = layers.ReLU(name=f"{layer}_act")(normalised(x, layer))
        if features_at and x.shape[1] * features_at == side:
            features = layers.Activation("linear", dtype="float32", name="features")(x)
        if skips:
            x = layers.Concatenate(name=f"skip{level}")([x, passed.pop()])
    x = layers.Activation(last, dtype="float32", name="output")(x)
    return keras.Model(picture, x if features is None else [x, features], name=name)


def flow_network(side: int, base: int, cap: int, silent: bool) -> keras.Model:
    """(n, side, side, 8) → (n, side, side, 2): where the mirror image is read, before the tanh.

    Args:
        side: of the pictures in pixels.
        base, cap: see :func:`channels`.
        silent: it begins with zeros for every face.
    """
    return hourglass(
        "flow",
        side,
        FLOW_CHANNELS,
        channels(side, base, cap),
        2,
        last="linear",
        skips=False,
        normalization="batch",
        stddev=0.02,
        silent=silent,
    )


def light_network(side: int, base: int, cap: int, normalization: str) -> keras.Model:
    """(n, side, side, 11) → (n, side, side, 3) in [0, 1], as a share of :data:`BRIGHTEST`."""
    return hourglass(
        "light",
        side,
        LIGHT_CHANNELS,
        channels(side, base, cap),
        3,
        last="sigmoid",
        skips=True,
        normalization=normalization,
    )


def reconstruction_network(side: int, base: int, cap: int, normalization: str) -> keras.Model:
    """(n, side, side, 5) → picture (n, side, side, 3) in [0, 1], and features of its decoder."""
    return hourglass(
        "reconstruction",
        side,
        RECONSTRUCTION_CHANNELS,
        channels(side, base, cap),
        3,
        last="sigmoid",
        skips=True,
        normalization=normalization,
        features_at=FEATURES_AT,
    )


def discriminator(side: int, base: int) -> keras.Model:
    """(n, side, side, 3) → (n,) float32, unbounded: 1 means real (LSGAN)."""
    x = picture = keras.Input((side, side, 3), name="picture")
    for level, factor in enumerate((1, 2, 4, 4)):
        x = layers.Conv2D(
            base * factor,
            5,
            2,
            padding="same",
            kernel_initializer=Normal(stddev=math.sqrt(2 / (25 * x.shape[-1]))),
            name=f"conv{level}",
        )(x)
        x = layers.LeakyReLU(negative_slope=SLOPE, name=f"conv{level}_act")(x)
    x = layers.Flatten(name="flat")(x)
    last = Normal(stddev=math.sqrt(1 / x.shape[-1]))
    x = layers.Dense(1, kernel_initializer=last, dtype="float32", name="realness")(x)
    return keras.Model(picture, x[:, 0], name="discriminator")
