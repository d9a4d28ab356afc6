"""Parts of the generators: residual block, modulation by a latent vector, upscaler."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from facehal.layers.convolution import (
    ICNR,
    PixelShuffle,
    Shape,
    activation,
    convolution,
)
from facehal.layers.normalization import normalizer

Tensor = Any


@keras.saving.register_keras_serializable("facehal")
class ResidualBlock(layers.Layer):
    """Two 3×3 convolutions added to their input (He et al. 2016); the shape stays.

    Args:
        filters: channels of input and output.
        normalization: ``batch`` or ``none``.
    """

    def __init__(self, filters: int, normalization: str = "batch", **options: Any):
        super().__init__(**options)
        self.filters = filters
        self.normalization = normalization
        bias = normalization == "none"
        self.conv1 = convolution(filters, "conv1", use_bias=bias)
        self.norm1 = normalizer(normalization, "norm1")
        self.act1 = activation("act1")
        self.conv2 = convolution(filters, "conv2", use_bias=bias)
        self.norm2 = normalizer(normalization, "norm2")
        self.act2 = activation("act2")

    def build(self, input_shape: Shape) -> None:
        """Creates the variables of the inner layers."""
        for layer in (self.conv1, self.norm1, self.conv2, self.norm2):
            if layer is not None:
                layer.build((*input_shape[:-1], self.filters))

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """(n, h, w, filters) → the same shape."""
        x = self.conv1(inputs)
        if self.norm1 is not None:
            x = self.norm1(x, training=training)
        x = self.conv2(self.act1(x))
        if self.norm2 is not None:
            x = self.norm2(x, training=training)
        return self.act2(x + inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The layer's options."""
        config = {"filters": self.filters, "normalization": self.normalization}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("facehal")
class Modulation(layers.Layer):
    """A factor and an offset for every channel, linear in the latent vector.

    "Style based noise" (section 5) in its simplest form (FiLM, Perez et al. 2018). A vector of
    zeros changes nothing: the network without noise is among those with it.

    Called with [(n, h, w, channels), (n, latent)] → (n, h, w, channels).
    """

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Creates the matrix."""
        channels, latent = input_shape[0][-1], input_shape[1][-1]
        assert channels is not None and latent is not None
        self.kernel = self.add_weight(
            shape=(latent, 2 * channels),
            initializer=keras.initializers.RandomNormal(stddev=0.05),
            name="kernel",
        )

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        """x (1 + factor) + offset."""
        x, latent = inputs
        style = ops.matmul(latent, self.kernel)[:, None, None]
        factor, offset = ops.split(style, 2, axis=-1)
        return x * (1.0 + factor) + offset

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        """The picture's shape."""
        return input_shape[0]


@keras.saving.register_keras_serializable("facehal")
class Upscaler(layers.Layer):
    """The learned 2× pixel-shuffle layer between two GAN blocks (section 3.1, figure 2).

    (n, h, w, 3) in [0, 1] → (n, 2h, 2w, 3), not clipped: it is an input, never an output.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.conv = convolution(12, "conv", initializer=ICNR())
        self.shuffle = PixelShuffle(name="shuffle")

    def build(self, input_shape: Shape) -> None:
        """Creates the convolution's variables."""
        self.conv.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Convolution to 12 channels, then depth to space."""
        return self.shuffle(self.conv(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Twice as high and wide, three channels."""
        shape: Shape = self.shuffle.compute_output_shape((*input_shape[:-1], 12))
        return shape
