"""EdgeConnect: first the edges of what is missing, then its colours."""

from typing import Any

import keras
from keras import ops

from facehal.layers.pyramid import composite
from facehal.models.base import PictureModel
from facehal.models.edgeconnect.canny import canny, grey
from facehal.models.edgeconnect.networks import edge_generator, picture_generator

Tensor = Any

WHOLE = 0.999  # a pixel that is face for less belongs to the hole, as in the authors' programs


def hole_of(masks: Tensor) -> Tensor:
    """1 where a pixel is not, or not wholly, face: what the authors call the mask."""
    return ops.cast(masks < WHOLE, "float32")


def painted(pictures: Tensor, hole: Tensor) -> Tensor:
    """Pictures, grey or in colours, with a white hole."""
    return pictures * (1.0 - hole) + hole


@keras.saving.register_keras_serializable("facehal")
class EdgeConnect(PictureModel):
    """Edge generator and picture generator: from a masked face to its picture.

    Canny's edges of the face are taken in the graph; the edge generator adds those of the hole, the
    picture generator paints by all of them.

    Args:
        resolution: S, a multiple of 8.
        width: channels of the generators at full size.
        blocks: residual blocks of each.
        sigma: of the blur before Canny's edges are taken, in pixels.
        merged: give the picture generator Canny's edges where the face is, as its training does.
            By default it gets the edge generator's everywhere, as in the authors' test program.

    Call it with ``{"masked_faces": (n, S, S, 3), "masks": (n, S, S, 1)}``, in [0, 1], black outside
    the face, 1 = face, for ``{"S": (n, S, S, 3)}`` in [0, 1], float32.
    """

    def __init__(
        self,
        resolution: int = 256,
        width: int = 64,
        blocks: int = 8,
        sigma: float = 2.0,
        merged: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        self.resolutions = (resolution,)
        self.width, self.blocks, self.sigma, self.merged = width, blocks, sigma, merged
        self.edges = edge_generator(width, blocks)
        self.pictures = picture_generator(width, blocks)
        self.built = True

    def completed_edges(
        self, pictures: Tensor, edges: Tensor, hole: Tensor, training: bool = False
    ) -> Tensor:
        """What the edge generator makes of the known edges: probabilities (n, h, w, 1).

        Args:
            pictures: (n, h, w, 1), grey.
            edges: (n, h, w, 1), 1 on an edge.
            hole: (n, h, w, 1), 1 where pictures and edges are to be left out.
            training: of the networks.
        """
        seen = [painted(pictures, hole), edges * (1.0 - hole), hole]
        probabilities: Tensor = self.edges(ops.concatenate(seen, axis=-1), training=training)
        return probabilities

    def painted_by(
        self, pictures: Tensor, edges: Tensor, hole: Tensor, training: bool = False
    ) -> Tensor:
        """What the picture generator makes of it, known pixels too: (n, h, w, 3) in (0, 1).

        Args:
            pictures: (n, h, w, 3).
            edges: (n, h, w, 1), of the hole as well.
            hole: (n, h, w, 1), 1 where pictures are to be left out.
            training: of the networks.
        """
        seen = ops.concatenate([painted(pictures, hole), edges], axis=-1)
        output: Tensor = self.pictures(seen, training=training)
        return output

    def hallucinate(
        self,
        faces: dict[int, Tensor],
        masks: dict[int, Tensor],
        training: bool = False,
        latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Like calling the model, on pyramids that were made before."""
        (size,) = self.resolutions
        face, hole = ops.cast(faces[size], "float32"), hole_of(masks[size])
        face_grey = grey(face)
        known = canny(face_grey, 1.0 - hole, self.sigma)
        edges = self.completed_edges(face_grey, known, hole, training)
        if self.merged:
            edges = edges * hole + known * (1.0 - hole)
        output = self.painted_by(face, edges, hole, training)
        return {str(size): composite(faces[size], masks[size], output)}

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "resolution": self.resolutions[0],
            "width": self.width,
            "blocks": self.blocks,
            "sigma": self.sigma,
            "merged": self.merged,
            "name": self.name,
        }
