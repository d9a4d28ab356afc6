"""SymmFCNet: what the mirror image knows is taken from there, the rest is reconstructed.

A hole pixel whose counterpart on the other half of the face is known is filled by warping the
mirror image (FlowNet) and relighting it (LightNet): stage I. What neither half knows is painted by
RecNet: stage II. Li et al. 2018, "Learning Symmetry Consistent Deep CNNs for Face Completion"; the
order of the networks and their inputs from ``test.lua`` of csxmli2016/SymmFCNet. That program
has a fourth network, MaskNet, which finds the hole; ours is given. Its straight-through binariser
(``lib/Binary.lua``) is left out with it: the warped mask stays fractional at its edge, and so the
picture a continuous function of the flow.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.layers.pyramid import composite
from facehal.layers.sampling import grid_sampled, own_places
from facehal.models.base import PictureModel
from facehal.models.symmfcnet.networks import (
    BRIGHTEST,
    flow_network,
    light_network,
    reconstruction_network,
)

Tensor = Any


@dataclass(frozen=True)
class Warped:
    """What stage I makes of n faces of S×S pixels.

    Attributes:
        picture: (n, S, S, 3), known pixels, relit mirrored ones where those are known, else noise.
        grid: (n, S, S, 2) in [-1, 1], where each pixel's counterpart lies in the mirror image.
        relit: (n, S, S, 3), the whole warped mirror image times the illumination ratio.
        counterpart: (n, S, S, 1), 1 where the counterpart is known, a fraction at its edge.
        hole: (n, S, S, 1), 1 where the pixel itself is not.
        both: (n, S, S, 1), 1 where neither is.
    """

    picture: Tensor
    grid: Tensor
    relit: Tensor
    counterpart: Tensor
    hole: Tensor
    both: Tensor


def mirror(pictures: Tensor) -> Tensor:
    """(n, h, w, c), left and right changed."""
    return ops.flip(pictures, axis=2)


@keras.saving.register_keras_serializable("facehal")
class SymmFCNet(PictureModel):
    """FlowNet, LightNet and RecNet, from a masked face to a picture.

    The hole is filled with uniform noise, as the authors' loader does; here it is one pattern for
    all faces, so that a face always has the same picture. The authors paste softly, over a hole
    that is dilated and blurred and so bleeds into the face; here known pixels stay.

    Args:
        resolution: side S of the pictures in pixels.
        flow_base, flow_cap, light_base, light_cap, reconstruction_base, reconstruction_cap,
        normalization: see :class:`facehal.models.symmfcnet.config.NetworkConfig`.
        flow_kind: its ``flow``.
        reconstructs: False is stage I alone, without RecNet; what neither half of the face knows
            stays noise.

    Call it with ``{"masked_faces": (n, S, S, 3), "masks": (n, S, S, 1)}`` — in [0, 1], black
    outside the face, 1 = face — for ``{"S": (n, S, S, 3)}`` in [0, 1], float32.
    """

    def __init__(
        self,
        resolution: int = 256,
        flow_base: int = 64,
        flow_cap: int = 1024,
        flow_kind: str = "absolute",
        light_base: int = 64,
        light_cap: int = 512,
        reconstruction_base: int = 64,
        reconstruction_cap: int = 512,
        normalization: str = "batch",
        reconstructs: bool = True,
        **options: Any,
    ):
        super().__init__(**options)
        self.resolutions = (resolution,)
        self.reconstructs = reconstructs
        self._arguments = {
            "flow_base": flow_base,
            "flow_cap": flow_cap,
            "flow_kind": flow_kind,
            "light_base": light_base,
            "light_cap": light_cap,
            "reconstruction_base": reconstruction_base,
            "reconstruction_cap": reconstruction_cap,
            "normalization": normalization,
        }
        self.flow_kind = flow_kind
        # A displacement begins with none at all. Noise in its place is so rough that smoothness
        # alone is learnt, and Adam remembers these gradients for a thousand steps.
        moves = flow_kind == "displacement"
        self.flow = flow_network(resolution, flow_base, flow_cap, silent=moves)
        self.light = light_network(resolution, light_base, light_cap, normalization)
        self.reconstruction = None
        if reconstructs:
            self.reconstruction = reconstruction_network(
                resolution, reconstruction_base, reconstruction_cap, normalization
            )
        # What a displacement is added to, before the tanh, which never quite reaches the edge.
        self._start: Any = 0.0
        if moves:
            self._start = np.arctanh(own_places(resolution) * (1.0 - 1.0 / resolution))
        self._noise = np.random.default_rng(0).random((1, resolution, resolution, 3), np.float32)
        self.built = True

    def hallucinate(
        self,
        faces: dict[int, Tensor],
        masks: dict[int, Tensor],
        training: bool = False,
        latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """See :meth:`facehal.models.base.PictureModel.hallucinate`."""
        size = self.resolutions[-1]
        face, mask = faces[size], masks[size]
        warped = self.warp(face, mask, self._noise, training=training)
        picture = ops.clip(warped.picture, 0.0, 1.0)
        if self.reconstructs:
            picture, _ = self.reconstruct(warped, training=training)
        return {str(size): composite(face, mask, picture)}

    def warp(self, face: Tensor, mask: Tensor, noise: Tensor, training: bool = False) -> Warped:
        """Stage I.

        Args:
            face: (n, S, S, 3) in [0, 1], black outside the mask.
            mask: (n, S, S, 1), 1 = face.
            noise: (n or 1, S, S, 3) in [0, 1], what the hole is filled with.
            training: update the statistics of batch normalisation.
        """
        hole = 1.0 - mask
        picture = composite(face, mask, noise)
        mirrored, mirrored_mask = mirror(picture), mirror(mask)
        seen = ops.concatenate([picture, mirrored, hole, 1.0 - mirrored_mask], axis=-1)
        grid = ops.tanh(self.flow(seen, training=training) + self._start)
        # The mask is warped and not the hole: what is read outside of the picture is not known.
        read = grid_sampled(ops.concatenate([mirrored, mirrored_mask], axis=-1), grid)
        warped, counterpart = read[..., :3], read[..., 3:]
        # LightNet lights what the flow brings. Were the flow to please it, background would be
        # read from wherever in the face it has the same colour: so it did, without these stops.
        still, seen_counterpart = ops.stop_gradient(warped), ops.stop_gradient(counterpart)
        seen = [picture, mirrored, still, hole, 1.0 - seen_counterpart]
        ratio = BRIGHTEST * self.light(ops.concatenate(seen, axis=-1), training=training)
        one = hole * counterpart
        return Warped(
            picture=picture + one * (ratio * warped - picture),
            grid=grid,
            relit=ratio * still,
            counterpart=counterpart,
            hole=hole,
            both=hole - one,
        )

    def reconstruct(
        self, warped: Warped, training: bool = False, mirrored: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Stage II.

        Args:
            warped: what stage I made.
            training: update the statistics of batch normalisation.
            mirrored: reconstruct the mirror images in the same pass; they follow the n pictures.

        Returns:
            Pictures (n or 2n, S, S, 3) in [0, 1] and RecNet's features
            (n or 2n, S / 4, S / 4, channels).
        """
        assert self.reconstruction is not None
        seen = [warped.picture, warped.hole, 1.0 - warped.counterpart]
        seen = ops.concatenate(seen, axis=-1)
        if mirrored:
            seen = ops.concatenate([seen, mirror(seen)], axis=0)
        pictures, features = self.reconstruction(seen, training=training)
        return pictures, features

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "resolution": self.resolutions[-1],
            **self._arguments,
            "reconstructs": self.reconstructs,
            "name": self.name,
        }
