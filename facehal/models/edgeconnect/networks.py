"""The networks of EdgeConnect (Nazeri et al. 2019, after Johnson et al. 2016 and pix2pixHD).

Both generators have one form, both discriminators another; what differs is what goes in and comes
out, and where kernels are divided by their spectral norm.
"""

from typing import Any

import keras
from keras import layers, ops

from facehal.layers.convolution import SLOPE, Normal
from facehal.layers.normalization import InstanceNormalization
from facehal.layers.spectral import SpectralConvolution

Tensor = Any

HALVINGS = 4
"""The sides of a generator's pictures are multiples of it."""


def _convolution(filters: int, size: int, name: str, spectral: bool, **options: Any) -> Any:
    """A convolution, transposed or not, whose kernel starts from N(0, 0.02)."""
    start = Normal(stddev=0.02)
    if spectral:
        return SpectralConvolution(filters, size, kernel_initializer=start, name=name, **options)
    transposed = options.pop("transposed", False)
    kind = layers.Conv2DTranspose if transposed else layers.Conv2D
    return kind(
        filters,
        size,
        strides=options.pop("stride", 1),
        dilation_rate=options.pop("dilation", 1),
        kernel_initializer=start,
        name=name,
        **options,
    )


def _reflected(x: Tensor, pixels: int) -> Tensor:
    """Mirrored at its borders, which do not come twice."""
    return ops.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")


@keras.saving.register_keras_serializable("facehal.edgeconnect")
class Generator(keras.Model):
    """Fills the hole of a picture, of edges or of colours.

    Two halvings, residual blocks with a dilated convolution each at a quarter of the side, two
    doublings; instance normalisation and ReLU behind all convolutions but the last, and no ReLU
    behind the sum of a block.

    Args:
        inputs: channels that go in.
        outputs: channels that come out.
        width: channels at full size; two and four times as many at a half and at a quarter.
        blocks: residual blocks.
        activation: of the last layer: ``sigmoid``, or ``tanh``, which is brought from (-1, 1) to
            (0, 1).
        spectral: divide the kernels of all layers but the last by their spectral norm.

    Input: (n, h, w, inputs), sides multiples of 4 from 12 on. Output: (n, h, w, outputs) float32 in
    (0, 1).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 64,
        blocks: int = 8,
        activation: str = "tanh",
        spectral: bool = False,
        **options: Any,
    ):
        def finished(x: Tensor, name: str) -> Tensor:
            return layers.ReLU(name=f"{name}_act")(InstanceNormalization(name=f"{name}_norm")(x))

        def strided(x: Tensor, filters: int, name: str, transposed: bool) -> Tensor:
            convolve = _convolution(
                filters, 4, name, spectral, stride=2, padding="same", transposed=transposed
            )
            return finished(convolve(x), name)

        picture = keras.Input((None, None, inputs), name="picture")
        x = _convolution(width, 7, "entry", spectral)(_reflected(picture, 3))
        x = finished(x, "entry")
        x = strided(x, 2 * width, "down_2", transposed=False)
        x = strided(x, 4 * width, "down_4", transposed=False)
        for number in range(blocks):
            name = f"block_{number}"

            def inner(x: Tensor, half: str, dilation: int, name: str = name) -> Tensor:
                convolve = _convolution(
                    4 * width,
                    3,
                    f"{name}_{half}",
                    spectral,
                    dilation=dilation,
                    use_bias=not spectral,
                )
                return convolve(_reflected(x, dilation))

            y = finished(inner(x, "a", dilation=2), f"{name}_a")
            y = InstanceNormalization(name=f"{name}_b_norm")(inner(y, "b", dilation=1))
            x = layers.Add(name=name)([x, y])
        x = strided(x, 2 * width, "up_2", transposed=True)
        x = strided(x, width, "up_1", transposed=True)
        x = _convolution(outputs, 7, "exit", False)(_reflected(x, 3))
        x = layers.Activation(activation, dtype="float32", name=activation)(x)
        if activation == "tanh":
            x = layers.Rescaling(0.5, offset=0.5, dtype="float32", name="unit")(x)

        super().__init__(inputs=picture, outputs=x, **options)
        self.arguments = {
            "inputs": inputs,
            "outputs": outputs,
            "width": width,
            "blocks": blocks,
            "activation": activation,
            "spectral": spectral,
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**self.arguments, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Generator":
        """Builds the network anew; without this Keras would read a functional graph."""
        return cls(**config)


def edge_generator(width: int, blocks: int) -> Generator:
    """G1: grey picture, edges and mask (1 = hole) to the probability of an edge."""
    return Generator(
        3, 1, width, blocks, activation="sigmoid", spectral=True, name="edge_generator"
    )


def picture_generator(width: int, blocks: int) -> Generator:
    """G2: picture and edges, no mask, to a picture."""
    return Generator(4, 3, width, blocks, name="picture_generator")


@keras.saving.register_keras_serializable("facehal.edgeconnect")
class Discriminator(keras.Model):
    """Tells real from generated patches of 70 pixels (Isola et al. 2017).

    Five 4×4 convolutions, three of them halving, each kernel divided by its spectral norm, without
    biases and normalisation; leaky ReLU 0.2.

    Args:
        inputs: channels that go in.
        width: channels of the first layer; 2, 4 and 8 times as many in the next.

    Input: (n, h, w, inputs), sides multiples of 8. Output: a list of the five layers' maps, the
    last (n, h/8 - 2, w/8 - 2, 1): float32, the logits of "real".
    """

    def __init__(self, inputs: int, width: int = 64, **options: Any):
        x = picture = keras.Input((None, None, inputs), name="picture")
        maps = []
        for number, (times, stride) in enumerate(((1, 2), (2, 2), (4, 2), (8, 1)), start=1):
            x = self._layer(x, times * width, stride, f"conv{number}")
            x = layers.LeakyReLU(negative_slope=SLOPE, name=f"act{number}")(x)
            maps.append(x)
        x = self._layer(x, 1, 1, "conv5")
        maps.append(layers.Activation("linear", dtype="float32", name="logits")(x))
        super().__init__(inputs=picture, outputs=maps, **options)
        self.arguments = {"inputs": inputs, "width": width}

    @staticmethod
    def _layer(x: Tensor, filters: int, stride: int, name: str) -> Tensor:
        # One pixel of zeros on every side, which "same" gives with a stride of 2 alone.
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        return _convolution(filters, 4, name, True, stride=stride, use_bias=False)(x)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**self.arguments, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Discriminator":
        """Builds the network anew; without this Keras would read a functional graph."""
        return cls(**config)
