"""The encoder that both people share and the decoder that each has."""

import keras
from keras import layers

from facehal.layers.convolution import PixelShuffle

SLOPE = 0.1  # of every leaky ReLU
LEVELS = 4  # halvings


def build_encoder(crop: int, width: int, dense: int) -> keras.Model:
    """(n, crop, crop, 3) in [0, 1] → (n, crop / 8, crop / 8, 4 · width).

    Args:
        crop: side of the crops, a multiple of 16.
        width: channels behind the first convolution; every next one has twice as many.
        dense: values that all crops must pass through.
    """
    inputs = x = keras.Input((crop, crop, 3), name="crops")
    for level in range(LEVELS):
        x = layers.Conv2D(
            width << level, 5, strides=2, padding="same", name=f"convolution{level + 1}"
        )(x)
        x = layers.LeakyReLU(negative_slope=SLOPE, name=f"activation{level + 1}")(x)
    shape = x.shape[1:]
    x = layers.Dense(dense, name="dense1")(layers.Flatten(name="flatten")(x))
    x = layers.Dense(shape[0] * shape[1] * shape[2], name="dense2")(x)
    x = _doubled(layers.Reshape(shape, name="reshape")(x), 4 * width, "up")
    return keras.Model(inputs, x, name="encoder")


def build_decoder(crop: int, width: int, name: str) -> keras.Model:
    """(n, crop / 8, crop / 8, 4 · width) → (n, crop, crop, 3) in [0, 1], float32."""
    small = crop // 8
    inputs = x = keras.Input((small, small, 4 * width), name="code")
    for level, filters in enumerate((2 * width, width, width // 2), start=1):
        x = _doubled(x, filters, f"up{level}")
    x = layers.Conv2D(3, 5, padding="same", name="picture")(x)
    x = layers.Activation("sigmoid", dtype="float32", name="sigmoid")(x)
    return keras.Model(inputs, x, name=name)


def _doubled(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    """Twice as high and wide: 3×3 convolution, leaky ReLU, pixel shuffle."""
    x = layers.Conv2D(4 * filters, 3, padding="same", name=f"{name}_convolution")(x)
    x = layers.LeakyReLU(negative_slope=SLOPE, name=f"{name}_activation")(x)
    return PixelShuffle(name=f"{name}_shuffle")(x)
