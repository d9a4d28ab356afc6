"""GenFace's networks (Li et al. 2017): the completion network and its discriminators.

Layer by layer as in the authors' ``Model_G``, ``Model_globalD`` and ``Model_localD.prototxt``; the
layers have their names there.
"""

import math
from typing import Any

import keras
from keras import layers

from facehal.layers.convolution import Normal, activation
from facehal.layers.unpooling import MaxPoolWithPlaces, MaxUnpool

Tensor = Any

DEEPEST = 16
"""By how much the encoder shrinks a picture: four poolings."""

# Convolutions of each level of the encoder, at base << level channels, and channels of the
# decoder's by the base. The last of a level has as many as the pooling whose places come next.
ENCODER = (2, 2, 2, 4)
DECODER = {3: (2, 2, 2, 4), 2: (2, 2), 1: (2, 1), 0: (1, 1)}


@keras.saving.register_keras_serializable("facehal.genface")
class Msra(Normal):
    """He's initialisation by the mean of inputs and outputs, Caffe's ``variance_norm: AVERAGE``."""

    def deviation(self, shape: tuple[int, ...]) -> float:
        """For a kernel (h, w, in, out) or a matrix (in, out)."""
        return math.sqrt(2.0 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1]) / 2.0))


@keras.saving.register_keras_serializable("facehal.genface")
class Completion(keras.Model):
    """Paints a whole picture from one whose hole is filled with noise.

    3×3 convolutions with ReLU and without normalisation, four max poolings, two fully connected
    layers through which everything must pass, and a decoder each of whose levels begins by
    unpooling to where the encoder's maxima stood. There are no skip connections but these places.

    Args:
        resolution: S, a multiple of 16.
        base: channels of the first level; they double at every pooling.
        features: length of the code between encoder and decoder.

    Input: (n, S, S, 3) in [-1, 1]. Output: (n, S, S, 3) float32, linear; meant for [-1, 1].
    """

    def __init__(self, resolution: int = 128, base: int = 32, features: int = 4096, **options: Any):
        if resolution % DEEPEST:
            raise ValueError(f"resolution is a multiple of {DEEPEST}, not {resolution}")

        def convolution(filters: int, name: str) -> layers.Layer:
            return layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=Msra(),
                name=name,
            )

        def dense(units: int, name: str) -> layers.Layer:
            return layers.Dense(units, activation="relu", kernel_initializer=Msra(), name=name)

        inputs = keras.Input((resolution, resolution, 3), name="picture")
        x = inputs
        places = {}
        for level, count in enumerate(ENCODER):
            for number in range(1, count + 1):
                x = convolution(base << level, f"conv{level}_{number}")(x)
            x, places[level] = MaxPoolWithPlaces(name=f"pool{level}")(x)
        shape = x.shape[1:]
        x = layers.Flatten(name="flat")(x)
        x = dense(features, "fc3")(x)
        x = dense(math.prod(shape), "defc3")(x)
        x = layers.Reshape(shape, name="reshape")(x)
        for level, widths in DECODER.items():
            x = MaxUnpool(name=f"upsample{level}")([x, places[level]])
            for number, width in zip(range(len(widths), 0, -1), widths, strict=True):
                x = convolution(width * base, f"conv_decode{level}_{number}")(x)
        outputs = layers.Conv2D(
            3,
            3,
            padding="same",
            kernel_initializer=Normal(stddev=0.001),
            dtype="float32",
            name="reconstruction",
        )(x)

        super().__init__(inputs=inputs, outputs=outputs, **options)
        self.resolution, self.base, self.features = resolution, base, features

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "resolution": self.resolution,
            "base": self.base,
            "features": self.features,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Completion":
        """Builds the network anew; without this Keras would read a functional graph."""
        return cls(**config)


@keras.saving.register_keras_serializable("facehal.genface")
class Discriminator(keras.Model):
    """How real a picture looks, or a square of it.

    At every level a 3×3 convolution and a 4×4 one of stride 2, at ``base`` << level channels, leaky
    ReLU 0.2, no normalisation; the last map of 4×4 becomes one number.

    Args:
        resolution: S, a power of two from 8.
        base: channels of the first level.

    Input: (n, S, S, 3) in [-1, 1]. Output: (n,) float32, before the sigmoid: above 0 is real.
    """

    def __init__(self, resolution: int, base: int, **options: Any):
        levels = math.log2(resolution) - 2
        if levels < 1 or levels != int(levels):
            raise ValueError(f"resolution is a power of two from 8, not {resolution}")

        def convolution(filters: int, kernel: int, stride: int, name: str) -> layers.Layer:
            return layers.Conv2D(
                filters,
                kernel,
                strides=stride,
                padding="same",
                kernel_initializer=Normal(stddev=0.02),
                name=name,
            )

        inputs = keras.Input((resolution, resolution, 3), name="picture")
        x = inputs
        for level in range(int(levels)):
            for number, (kernel, stride) in enumerate(((3, 1), (4, 2)), start=1):
                name = f"{level}_{number}"
                x = convolution(base << level, kernel, stride, f"conv{name}")(x)
                x = activation(f"relu{name}")(x)
        # A 4×4 convolution without padding over the 4×4 map.
        x = layers.Flatten(name="flat")(x)
        last = layers.Dense(
            1, kernel_initializer=Normal(stddev=0.02), dtype="float32", name="conv5"
        )
        logit = last(x)
        outputs = logit[:, 0]

        super().__init__(inputs=inputs, outputs=outputs, **options)
        self.resolution, self.base = resolution, base

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"resolution": self.resolution, "base": self.base, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Discriminator":
        """Builds the network anew; without this Keras would read a functional graph."""
        return cls(**config)
