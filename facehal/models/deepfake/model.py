"""The model of a face swap: autoencoder of two people, and pictures to lay the new face on."""

from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.layers.pyramid import composite
from facehal.layers.resampling import pillow
from facehal.models.base import PictureModel
from facehal.models.deepfake.geometry import blended, face_side, mapped, to_crop
from facehal.models.deepfake.networks import build_decoder, build_encoder

Tensor = Any

ROLES = ("source", "target")
"""Whose face is put on, and whose pictures it is put on (the words of section 4.2)."""

COARSE = 16  # side of the pictures in which faces are compared with the target's
TINY = 1e-6  # in place of no known pixel at all


@keras.saving.register_keras_serializable("facehal")
class Deepfake(PictureModel):
    """From a masked face to the source's face on a picture of the target (section 4.2, figure 6).

    The tight crop of the face goes through the encoder and a decoder; what comes out is laid on
    that of the target's pictures whose face is most like the masked one. Crop pixels outside the
    mask, some at the brows and beside the chin, take the mean colour of those inside: they are
    context, which the model must not know.

    Unlike the other families it fills no hole: the face is made anew, so that the pixels of the
    masked face do not stay unless ``paste`` puts them back.

    Args:
        crop, width, dense, targets, identity, paste: see
            :class:`facehal.models.deepfake.config.NetworkConfig`.

    Attributes:
        pictures: (targets, S, S, 3) of the target, aligned, in [0, 1]; :meth:`set_targets`.
    """

    def __init__(
        self,
        crop: int = 64,
        width: int = 128,
        dense: int = 1024,
        targets: int = 16,
        identity: str = "source",
        paste: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        self.crop, self.width, self.dense, self.targets = crop, width, dense, targets
        self.identity, self.paste = identity, paste
        side = face_side(crop)
        self.resolutions = (side,)
        self.encoder = build_encoder(crop, width, dense)
        self.source_decoder, self.target_decoder = (
            build_decoder(crop, width, f"{role}_decoder") for role in ROLES
        )
        self.pictures = self.add_weight(
            shape=(targets, side, side, 3), initializer="zeros", trainable=False, name="pictures"
        )
        self.built = True

    def decoder(self, role: str) -> keras.Model:
        """That of one of :data:`ROLES`."""
        return {"source": self.source_decoder, "target": self.target_decoder}[role]

    def reconstruct(self, crops: Tensor, role: str) -> Tensor:
        """Crops as one person's face: (n, c, c, 3) in [0, 1] → the same shape and range."""
        return self.decoder(role)(self.encoder(crops))

    def set_targets(self, pictures: np.ndarray) -> None:
        """The pictures to lay faces on.

        Args:
            pictures: (n, S, S, 3) of aligned faces, uint8 or in [0, 1]; evenly spread ones are
                taken of more than :attr:`targets`, of fewer some several times.
        """
        count = len(pictures)
        chosen = pictures[np.linspace(0, count - 1, self.targets).astype(int)]
        self.pictures.assign(chosen.astype(np.float32) / (255 if chosen.dtype == np.uint8 else 1))

    def hallucinate(
        self,
        faces: dict[int, Tensor],
        masks: dict[int, Tensor],
        training: bool = False,
        latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Like calling the model, on pictures of its one size."""
        side = self.resolutions[-1]
        crops = self.reconstruct(self.crops(faces[side], masks[side]), self.identity)
        picture = blended(self.nearest(faces[side], masks[side]), crops)
        if self.paste:
            picture = composite(faces[side], masks[side], picture)
        return {str(side): picture}

    def crops(self, faces: Tensor, masks: Tensor) -> Tensor:
        """Tight crops of masked faces, their unknown pixels in the mean colour of the known ones.

        Args:
            faces: (n, S, S, 3) in [0, 1], black outside the mask.
            masks: (n, S, S, 1), 1 = face.

        Returns:
            (n, c, c, 3) in [0, 1].
        """
        cut = to_crop(self.resolutions[-1], self.crop)
        crops, known = mapped(faces, cut), mapped(masks, cut)
        sums, count = (ops.sum(x, axis=(1, 2), keepdims=True) for x in (crops, known))
        return crops + (1.0 - known) * sums / ops.maximum(count, TINY)

    def nearest(self, faces: Tensor, masks: Tensor) -> Tensor:
        """For each masked face the target's picture whose pixels inside the mask differ least.

        Squared differences at 16×16 pixels, so that pose and light count and details do not.
        """
        side = self.resolutions[-1]
        small = pillow(side, COARSE, "bilinear")
        ours, parts, theirs = (
            mapped(x, (small, small)) for x in (faces, masks, ops.convert_to_tensor(self.pictures))
        )
        values = COARSE * COARSE * 3
        parts = ops.broadcast_to(parts, ops.shape(ours))
        ours, parts = (ops.reshape(x, (-1, values)) for x in (ours, parts))
        theirs = ops.transpose(ops.reshape(theirs, (self.targets, values)))
        # |ours - parts · theirs|² without what all of the pictures have in common.
        apart = ops.matmul(parts * parts, theirs * theirs) - 2.0 * ops.matmul(parts * ours, theirs)
        best = ops.cast(apart == ops.min(apart, axis=1, keepdims=True), "float32")
        shares = best / ops.sum(best, axis=1, keepdims=True)  # equal pictures share
        chosen = ops.matmul(shares, ops.reshape(self.pictures, (self.targets, -1)))
        return ops.reshape(chosen, (-1, side, side, 3))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "crop": self.crop,
            "width": self.width,
            "dense": self.dense,
            "targets": self.targets,
            "identity": self.identity,
            "paste": self.paste,
            "name": self.name,
        }
