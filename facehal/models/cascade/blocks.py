"""GAN blocks: a generator and a discriminator each; the base of the cascade and of ProGAN."""

from typing import Any

from facehal.models.base import PictureModel
from facehal.models.cascade.config import NetworkConfig
from facehal.models.cascade.discriminator import Discriminator
from facehal.models.cascade.folding import fold
from facehal.models.cascade.generator import Generator
from facehal.models.cascade.layers import Upscaler
from facehal.models.cascade.onnx import onnx_graph


def build_generator(index: int, config: NetworkConfig) -> Generator:
    """The generator of one block of a cascade, named ``generator_N``."""
    resolution = config.resolutions[index]
    base, cap = config.width_of(index)
    return Generator(
        resolution,
        6 if index else 3,
        base=base,
        cap=cap,
        normalization=config.normalization,
        latent=config.latent,
        name=f"generator_{resolution}",
    )


def build_discriminator(resolution: int, config: NetworkConfig) -> Discriminator:
    """The discriminator of one block, named ``discriminator_N``."""
    return Discriminator(
        resolution,
        width=config.discriminator_width,
        strides=config.strides,
        normalization=config.discriminator_normalization,
        name=f"discriminator_{resolution}",
    )


class BlockModel(PictureModel):
    """Generators of one or several blocks: what the cascade and the growing network share.

    Attributes:
        resolutions: of the blocks, lowest first.
        generators: one a block, in the same order.
        upscalers: between the blocks; one block alone has none.
        normalization: ``batch`` or ``none``.
        latent: length of the vector that chooses among variants; 0 where there is one answer.

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
