"""The progressively growing version (sections 3.1 and 4.3, figure 4): one block that grows."""

from typing import Any

import keras

from facehal.layers.pyramid import composite
from facehal.models.cascade.blocks import BlockModel, build_generator
from facehal.models.cascade.config import LARGEST, NetworkConfig

Tensor = Any

OUTER = ("entry", "entry_norm", "exit")  # a block's own layers; no other block can use them


@keras.saving.register_keras_serializable("facehal")
class ProGAN(BlockModel):
    """The generator of one block, straight from the masked face of its size.

    Block 8 is trained first; :func:`grow` puts the layers of the next size around it, up to 128.
    "During testing, the trained block 128 is used … directly" (section 3.1). Face pixels of the
    output are the originals'.

    Args:
        resolution: N, of this block: 8, 16, 32, 64, 128 …
        base, cap, normalization: see :class:`facehal.config.NetworkConfig`.

    Call it with ``{"masked_faces": (n, S, S, 3), "masks": (n, S, S, 1)}`` — in [0, 1], black
    outside the face, 1 = face, S at least N — for ``{"N": (n, N, N, 3)}`` in [0, 1], float32.
    """

    def __init__(
        self,
        resolution: int = 128,
        base: int = 64,
        cap: int = 512,
        normalization: str = "batch",
        **options: Any,
    ):
        super().__init__(**options)
        self.base, self.cap, self.normalization = base, cap, normalization
        self.resolutions = (resolution,)
        config = NetworkConfig(
            base=base, cap=cap, normalization=normalization, resolutions=self.resolutions
        )
        self.generators = [build_generator(0, config)]
        self.upscalers = []
        self.built = True

    def hallucinate(
        self,
        faces: dict[int, Tensor],
        masks: dict[int, Tensor],
        training: bool = False,
        latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Like calling the model, on pyramids ``{size: pictures}`` that were made before."""
        (size,) = self.resolutions
        output = self.generators[0](faces[size], training=training)
        return {str(size): composite(faces[size], masks[size], output)}

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "resolution": self.resolutions[0],
            "base": self.base,
            "cap": self.cap,
            "normalization": self.normalization,
            "name": self.name,
        }


def grow(previous: ProGAN) -> ProGAN:
    """The block of twice the resolution with the smaller block inside it (figure 4).

    All layers of ``previous`` but the two that touch pixels — the first convolution with its
    normalisation, and the last — come along bit for bit, with their statistics; the first and last
    convolutions and one more step down and up around the old ones are new. ``previous`` stays as
    it is.

    Raises:
        ValueError: ``previous`` is as large as a block can be.
    """
    (size,) = previous.resolutions
    if size >= LARGEST:
        raise ValueError(f"block {size} is the largest; there is none to grow into")
    config = {**previous.get_config(), "resolution": 2 * size}
    grown = ProGAN.from_config(config)
    old, new = previous.generators[0], grown.generators[0]
    for layer in old.layers:
        if layer.weights and layer.name not in OUTER:
            new.get_layer(layer.name).set_weights(layer.get_weights())
    return grown
