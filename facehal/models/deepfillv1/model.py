"""DeepFillv1 as a model of this package: a masked face in, a picture around it out."""

from typing import Any

import keras
from keras import ops

from facehal.layers.pyramid import composite
from facehal.models.base import PictureModel
from facehal.models.deepfillv1.networks import coarse_network, refinement_network

Tensor = Any


@keras.saving.register_keras_serializable("facehal")
class DeepFill(PictureModel):
    """Generative image inpainting with contextual attention (Yu et al., CVPR 2018).

    A coarse network paints a rough picture, a refinement network paints it again with patches of
    what is known. The networks see pictures as their authors' do, blue first and in [-1, 1]; the
    order of colours and the range are changed here, so that published weights fit unchanged.

    Args:
        resolution: S, a multiple of 8; 256 as published.
        width: channels of the first layer, even; 32 as published.
    """

    def __init__(self, resolution: int = 256, width: int = 32, **options: Any):
        if resolution < 16 or resolution % 8:
            raise ValueError(f"resolution is a multiple of 8 from 16, not {resolution}")
        super().__init__(**options)
        self.resolutions = (resolution,)
        self.width = width
        self.coarse = coarse_network(resolution, width)
        self.refinement = refinement_network(resolution, width)
        self.built = True

    def completed(
        self, known: Tensor, hole: Tensor, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What both networks paint, hole and known pixels alike.

        The refinement network sees the coarse picture's hole only, and sends its gradient back.

        Args:
            known: (n, S, S, 3) RGB in [-1, 1], 0 in the hole.
            hole: (n, S, S, 1), 1 = to be hallucinated.
            training: as Keras's.

        Returns:
            The coarse and the refined picture, (n, S, S, 3) RGB float32 in [-1, 1] each.
        """
        known = ops.flip(known, axis=-1)
        more = ops.concatenate([ops.ones_like(hole), hole], axis=-1)
        coarse = self.coarse(ops.concatenate([known, more], axis=-1), training=training)
        rough = known + hole * coarse
        refined = self.refinement(ops.concatenate([rough, more], axis=-1), training=training)
        return ops.flip(coarse, axis=-1), ops.flip(refined, axis=-1)

    def hallucinate(
        self,
        faces: dict[int, Tensor],
        masks: dict[int, Tensor],
        training: bool = False,
        latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The refined picture with the face's own pixels pasted."""
        (size,) = self.resolutions
        face, mask = faces[size], masks[size]
        _, refined = self.completed(2.0 * face - mask, 1.0 - mask, training=training)
        return {str(size): composite(face, mask, 0.5 * (refined + 1.0))}

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"resolution": self.resolutions[0], "width": self.width, "name": self.name}
