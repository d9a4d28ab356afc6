"""GAN blocks: a generator and a discriminator each; the base of the cascade and of ProGAN."""

from typing import Any

from facehal.models.base import PictureModel
from facehal.models.cascade.config import NetworkConfig
from facehal.models.cascade.discriminator import Discriminator
from facehal.models.cascade.folding import fold
from facehal.models.cascade.generator import Generator
from facehal.models.cascade.layers import Upscaler
from facehal.models.cascade.onnx import onnx_graph


def build_generator(resolution: int, config: NetworkConfig, input_channels: int) -> Generator:
    """The generator of one block, named ``generator_N``."""
    return Generator(
        resolution,
        input_channels,
        base=config.base,
        cap=config.cap,
        normalization=config.normalization,
        name=f"generator_{resolution}",
    )


def build_discriminator(resolution: int, config: NetworkConfig) -> Discriminator:
    """The discriminator of one block, named ``discriminator_N``."""
    return Discriminator(
        resolution,
        width=config.discriminator_width,
        strides=config.strides,
        name=f"discriminator_{resolution}",
    )


class BlockModel(PictureModel):
    """Generators of one or several blocks: what the cascade and the growing network share.

    Attributes:
        resolutions: of the blocks, lowest first.
        generators: one a block, in the same order.
        upscalers: between the blocks; one block alone has none.
        normalization: ``batch`` or ``none``.

    A subclass sets these and gives :meth:`hallucinate` and ``get_config``.
    """

    generators: list[Generator]
    upscalers: list[Upscaler]
    normalization: str

    def folded(self) -> "BlockModel":
        """Batch normalisation folded into the convolutions."""
        model: BlockModel = fold(self)
        return model

    def onnx_graph(self, metadata: dict[str, str]) -> Any:
        """See :func:`facehal.models.cascade.onnx.onnx_graph`."""
        return onnx_graph(self, metadata)
