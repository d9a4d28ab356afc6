"""The cascade of GAN blocks (section 3.1, figure 2)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from facehal.layers.pyramid import composite
from facehal.models.cascade.blocks import BlockModel, build_generator
from facehal.models.cascade.config import NetworkConfig
from facehal.models.cascade.layers import Upscaler

Tensor = Any


@keras.saving.register_keras_serializable("facehal")
class Cascade(BlockModel):
    """Generators and upscalers of all blocks: from a masked face to pictures of every resolution.

    The input of block N is the masked face at N and, from the second block on, the output of the
    previous block upscaled by a learned pixel-shuffle layer. Face pixels of every output are the
    originals'.

    Args:
        base, cap, normalization, resolutions, end_to_end, widths, latent: see
            :class:`facehal.models.cascade.config.NetworkConfig`. Without ``end_to_end`` no
            gradient crosses from one block into the previous one ("independently", section 3.2).

    Call it with ``{"masked_faces": (n, S, S, 3), "masks": (n, S, S, 1)}`` — in [0, 1], black
    outside the face, 1 = face, S the largest resolution — for ``{"8": (n, 8, 8, 3), …}`` in
    [0, 1], float32. ``"latent"`` (n, latent), normal numbers, chooses another variant; zeros or
    none are the single best picture.
    """

    def __init__(
        self,
        base: int = 64,
        cap: int = 512,
        normalization: str = "batch",
        resolutions: Sequence[int] = (8, 16, 32, 64, 128),
        end_to_end: bool = False,
        widths: Sequence[Sequence[int]] = (),
        latent: int = 0,
        **options: Any,
    ):
        super().__init__(**options)
        self.base, self.cap, self.normalization = base, cap, normalization
        self.resolutions = tuple(resolutions)
        self.end_to_end, self.latent = end_to_end, latent
        self.widths = tuple((one[0], one[1]) for one in widths)
        config = NetworkConfig(
            base=base,
            cap=cap,
            widths=self.widths,
            normalization=normalization,
            resolutions=self.resolutions,
            latent=latent,
        )
        self.generators = [build_generator(index, config) for index in range(len(resolutions))]
        self.upscalers = [Upscaler(name=f"upscaler_{size}") for size in self.resolutions[:-1]]
        for size, upscaler in zip(self.resolutions, self.upscalers, strict=False):
            upscaler.build((None, size, size, 3))
        self.built = True

    def hallucinate(
        self,
        faces: dict[int, Tensor],
        masks: dict[int, Tensor],
        training: bool = False,
        latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Like calling the model, on pyramids that were made before."""
        if self.latent and latent is None:
            first = faces[self.resolutions[0]]
            latent = ops.zeros((ops.shape(first)[0], self.latent), first.dtype)
        outputs: dict[str, Tensor] = {}
        previous = None
        for index, size in enumerate(self.resolutions):
            x = faces[size]
            if previous is not None:
                rough = self.upscalers[index - 1](previous)
                x = ops.concatenate([x, ops.cast(rough, x.dtype)], axis=-1)
            inputs = [x, latent] if self.latent else x
            output = self.generators[index](inputs, training=training)
            output = composite(faces[size], masks[size], output)
            outputs[str(size)] = output
            previous = output if self.end_to_end else ops.stop_gradient(output)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "base": self.base,
            "cap": self.cap,
            "normalization": self.normalization,
            "resolutions": list(self.resolutions),
            "end_to_end": self.end_to_end,
            "widths": [list(one) for one in self.widths],
            "latent": self.latent,
            "name": self.name,
        }
