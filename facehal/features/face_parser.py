"""GenFace's face parser (Li et al. 2017): what part of a face every pixel belongs to."""

from pathlib import Path

import keras
from keras import layers

from facehal.features import set_arrays
from facehal.layers.unpooling import MaxPoolWithPlaces, MaxUnpool
from facehal.weights.converters import genface as published

DROPOUT = 0.5
"""Of the decoder's maps, while it was trained; a frozen parser drops nothing."""


def FaceParser(
    weights: str | Path | None, side: int = 128, base: int = 64, name: str = "face_parser"
) -> keras.Model:
    """The parser, frozen: (n, side, side, 3) RGB in [0, 1] to (n, side, side, 11) logits.

    VGG-19's convolutions with max pooling, then five levels of unpooling by the encoder's places
    and a convolution each (512, 256, 128, 64, 32 channels), and one to eleven classes. Inside,
    pictures are stretched to [-1, 1], as the authors' test program does.

    Args:
        weights: the authors' ``Model_parsing.caffemodel``; None leaves them zero (tests).
        side: of the pictures in pixels, a multiple of 32.
        base: channels of the first stage (fewer in tests).
        name: of the model.

    Raises:
        WeightsError: the file cannot be used.
    """
    shapes = published.parser_shapes(base)
    arrays = published.convert_parser(Path(weights), shapes) if weights is not None else {}

    def convolution(name: str, relu: bool = True) -> layers.Layer:
        return layers.Conv2D(
            shapes[f"{name}.bias"][0],
            3,
            padding="same",
            activation="relu" if relu else None,
            kernel_initializer="zeros",  # drawing what is overwritten is slow
            dtype="float32",
            name=name,
        )

    picture = keras.Input((side, side, 3), dtype="float32", name="picture")
    x = layers.Rescaling(2.0, offset=-1.0, dtype="float32", name="stretch")(picture)
    places = {}
    for stage, count in enumerate(published.PARSER_CONVOLUTIONS, start=1):
        for number in range(1, count + 1):
            x = convolution(f"conv{stage}_{number}")(x)
        x, places[stage] = MaxPoolWithPlaces(dtype="float32", name=f"pool{stage}")(x)
    for stage in reversed(places):
        x = MaxUnpool(dtype="float32", name=f"upsample{stage}")([x, places[stage]])
        x = convolution(f"conv_decode{stage}")(x)
        x = layers.Dropout(DROPOUT, dtype="float32", name=f"drop_conv_decode{stage}")(x)
    x = convolution("conv_decode0", relu=False)(x)
    model = keras.Model(picture, x, name=name)
    model.trainable = False
    if weights is not None:
        set_arrays(model, arrays)
    return model
