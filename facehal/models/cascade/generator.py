"""The generator of a GAN block: encoder, decoder, skip connections (section 3.1, figure 3)."""

from typing import Any

import keras
from keras import layers

from facehal.layers.convolution import ICNR, PixelShuffle, activation, convolution
from facehal.layers.normalization import normalizer
from facehal.models.cascade.layers import Modulation, ResidualBlock

Tensor = Any

SMALLEST = 4  # every encoder ends at 4×4


def channels_at(size: int, base: int, cap: int) -> int:
    """Channels of the layers at a spatial size: min(cap, base·128/size).

    They depend on the size alone, so the inner layers of block N are exactly those of block N/2,
    and a growing network can load them (section 3.1, "Progressively Growing Network").
    """
    return min(cap, base * 128 // size)


@keras.saving.register_keras_serializable("facehal")
class Generator(keras.Model):
    """Hallucinates the picture of one block.

    A dilated 3×3 convolution at full size, then log2(N) − 2 stride-2 convolutions down to 4×4,
    each followed by a residual block; as many convolution + pixel-shuffle steps up, each
    concatenated with the encoder layer of its size; a last convolution to three channels with
    tanh.

    Args:
        resolution: N, a power of two from 8.
        input_channels: 3 (the masked face) or 6 (with the upscaled output of the previous block).
        base: channels at 128×128.
        cap: most channels anywhere.
        normalization: ``batch`` or ``none``.
        latent: length of a latent vector that modulates the innermost layer and every layer of the
            decoder but the last; 0 is none.

    Input: (n, N, N, input_channels) in [0, 1], where there is a latent vector a list of it and
    (n, latent). Output: (n, N, N, 3) float32 in [0, 1], which is
    (tanh + 1) / 2.
    """

    def __init__(
        self,
        resolution: int,
        input_channels: int = 3,
        base: int = 64,
        cap: int = 512,
        normalization: str = "batch",
        latent: int = 0,
        **options: Any,
    ):
        if resolution <= SMALLEST or resolution & (resolution - 1):
            raise ValueError(f"a generator's resolution is a power of two from 8, not {resolution}")
        levels = (resolution // SMALLEST).bit_length()
        sizes = [resolution >> step for step in range(levels)]  # N … 4
        widths = {size: channels_at(size, base, cap) for size in sizes}
        bias = normalization == "none"

        def finish(x: Tensor, name: str) -> Tensor:
            norm = normalizer(normalization, f"{name}_norm")
            x = x if norm is None else norm(x)
            return activation(f"{name}_act")(x)

        style = keras.Input((latent,), name="latent") if latent else None

        def modulated(x: Tensor, size: int) -> Tensor:
            return x if style is None else Modulation(name=f"style_{size}")([x, style])

        # Encoder
        inputs = keras.Input((resolution, resolution, input_channels), name="masked_face")
        x = convolution(widths[resolution], "entry", dilation=2, use_bias=bias)(inputs)
        x = finish(x, "entry")
        skips = {resolution: x}
        for size in sizes[1:]:
            x = convolution(widths[size], f"down_{size}", stride=2, use_bias=bias)(x)
            x = finish(x, f"down_{size}")
            x = ResidualBlock(widths[size], normalization, name=f"residual_{size}")(x)
            skips[size] = x

        x = modulated(x, SMALLEST)
        # Decoder. Normalised after the shuffle, so that all four sub-pixels share their statistics.
        for size in reversed(sizes[:-1]):
            x = convolution(4 * widths[size], f"up_{size}", initializer=ICNR(), use_bias=bias)(x)
            x = PixelShuffle(name=f"shuffle_{size}")(x)
            x = finish(x, f"up_{size}")
            if size < resolution:
                x = modulated(x, size)
            x = layers.Concatenate(name=f"skip_{size}")([x, skips[size]])
        x = convolution(3, "exit")(x)
        x = layers.Activation("tanh", dtype="float32", name="tanh")(x)
        outputs = layers.Rescaling(0.5, offset=0.5, dtype="float32", name="picture")(x)

        both = inputs if style is None else [inputs, style]
        super().__init__(inputs=both, outputs=outputs, **options)
        self.resolution = resolution
        self.input_channels = input_channels
        self.base = base
        self.cap = cap
        self.normalization = normalization
        self.latent = latent

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "resolution": self.resolution,
            "input_channels": self.input_channels,
            "base": self.base,
            "cap": self.cap,
            "normalization": self.normalization,
            "latent": self.latent,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Generator":
        """Builds the network anew; without this Keras would read a functional graph."""
        return cls(**config)
