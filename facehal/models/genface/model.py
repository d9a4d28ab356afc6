"""GenFace as a picture model: noise in the hole, the completion network, the face put back."""

from typing import Any

import numpy as np
from keras import ops, saving

from facehal.layers.pyramid import composite
from facehal.models.base import PictureModel
from facehal.models.genface.networks import Completion
from facehal.models.genface.poisson import blended

Tensor = Any

BLENDINGS = ("paste", "poisson")
"""How the picture meets the face."""


@saving.register_keras_serializable("facehal")
class GenFace(PictureModel):
    """Generative Face Completion (Li et al., CVPR 2017), for the hole around a face.

    The network has no mask as an input: it sees where the hole is by the noise in it. At inference
    that is always the same pattern, so that a face always gives the same picture.

    Args:
        resolution: S, a multiple of 16; 128 is the authors'.
        base: channels of the first level; 32 is the authors'.
        features: length of the code in the middle; 4096 is the authors'.
        blending: ``paste`` puts the face into what was painted, ``poisson`` also moves the level of
            what was painted to the face's, as the authors' test program does
            (:mod:`facehal.models.genface.poisson`).
        seed: of the pattern.
    """

    def __init__(
        self,
        resolution: int = 128,
        base: int = 32,
        features: int = 4096,
        blending: str = "paste",
        seed: int = 0,
        **options: Any,
    ):
        # Filling and pasting stay in float32; the network has the precision that is set.
        super().__init__(dtype="float32", **options)
        if blending not in BLENDINGS:
            raise ValueError(f"blending is one of {', '.join(BLENDINGS)}, not {blending!r}")
        self.resolutions = (resolution,)
        self.base, self.features, self.blending, self.seed = base, features, blending, seed
        self.network = Completion(resolution, base, features, name="completion")
        # NumPy's old generator: it alone is promised to give these numbers in every version.
        shape = (1, resolution, resolution, 3)
        self.pattern = np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)
        self.built = True

    def paint(self, faces: Tensor, masks: Tensor, noise: Tensor, training: bool = False) -> Tensor:
        """The network's whole picture, the face painted too.

        Args:
            faces: (n, S, S, 3) in [0, 1], black outside the face.
            masks: (n, S, S, 1), 1 = face.
            noise: (n, S, S, 3) or (1, S, S, 3), uniform in [-1, 1]: what fills the hole.
            training: as of every Keras model.

        Returns:
            (n, S, S, 3) float32, meant for [-1, 1].
        """
        # The faces are multiplied by their mask already.
        return self.network(2.0 * faces - masks + (1.0 - masks) * noise, training=training)

    def hallucinate(
        self,
        faces: dict[int, Tensor],
        masks: dict[int, Tensor],
        training: bool = False,
        latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Like calling the model, on pyramids that were made before."""
        (size,) = self.resolutions
        face, mask = faces[size], masks[size]
        picture = (self.paint(face, mask, self.pattern, training) + 1.0) / 2.0
        if self.blending == "poisson":
            picture = blended(face, mask, picture)
        return {str(size): composite(face, mask, ops.clip(picture, 0.0, 1.0))}

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "resolution": self.resolutions[0],
            "base": self.base,
            "features": self.features,
            "blending": self.blending,
            "seed": self.seed,
            "name": self.name,
        }
