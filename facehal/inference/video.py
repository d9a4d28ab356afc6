"""Surroundings that stay calm from frame to frame.

A model that sees one frame at a time gives every frame a slightly other hair and background: they
flicker. Here a frame's surroundings are a little of its own and much of those before it: a
recursive filter along the motion (Dubois, Sabri, "Noise reduction in image sequences using
motion-compensated temporal filtering", IEEE Transactions on Communications, 1984). The motion is
the head's, as its smoothed landmarks say: the filter works in the aligned square, which moves,
turns and grows with the eyes. Optical flow on top of that was tried and made things worse
(docs/video.md). The face's own pixels are always those of the frame itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from facehal.faces.alignment import align, alignment_matrix
from facehal.faces.mask import hull_mask
from facehal.images import resize, to_float, to_uint8
from facehal.inference.hallucinator import AlignedFace, Hallucinator

CALM = 0.4
"""In seconds: after this time about a third of what a frame brought is left."""

_SEAM = 1 / 256  # of the width: standard deviation of the soft edge of a face in an enlarged square


class Blender:
    """Blends every picture's context with that of the pictures before it.

    Args:
        rate: frames per second.
        history: what :attr:`history` was, to go on from.
    """

    def __init__(self, rate: float, history: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        self.keep = float(np.exp(-1 / (rate * CALM)))
        self.history = history
        """The last picture that was given, and (S, S) where it is context; None at a start."""

    def next(self, picture: np.ndarray, mask: np.ndarray, *, cut: bool = False) -> np.ndarray:
        """The next picture, its context blended with the earlier ones.

        Args:
            picture: (S, S, 3) float32 in [0, 1], aligned: what the model made of a frame.
            mask: (S, S), 1 = face.
            cut: nothing was shown before, or another face.

        Returns:
            (S, S, 3) float32 in [0, 1]; inside the mask it is ``picture``.
        """
        context = (np.asarray(mask) == 0).astype(np.float32)
        if self.history is not None and not cut:
            before, was_context = self.history
            # Where the face has just uncovered something there is no history.
            share = self.keep * context * was_context
            picture = picture + share[..., None] * (before - picture)
        self.history = picture, context
        return picture


@dataclass(frozen=True)
class Painted:
    """A frame's face and its surroundings.

    Attributes:
        picture: (S, S, 3) float32 in [0, 1], aligned; S is the model's largest resolution.
        face: the aligned face that it was made from.
    """

    picture: np.ndarray
    face: AlignedFace


class Painter:
    """Hallucinates around the face of frame after frame.

    Args:
        hallucinator: the model.
        rate: frames per second.
        seed: one of the variants for all frames; None: the single best picture.
        blend: over time; without it every frame is the model's alone.
        history: of the blender, to go on from.
    """

    def __init__(
        self,
        hallucinator: Hallucinator,
        rate: float,
        *,
        seed: int | None = None,
        blend: bool = True,
        history: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.hallucinator, self.seed = hallucinator, seed
        self.blender = Blender(rate, history) if blend else None

    def paint(
        self, frames: Sequence[np.ndarray], points: np.ndarray, cuts: Sequence[bool] | np.ndarray
    ) -> list[Painted]:
        """The next frames, as one batch.

        Args:
            frames: (H, W, 3) uint8 RGB.
            points: (n, 68, 2) landmarks in them.
            cuts: for every frame whether it shows another face than the one before it.
        """
        side = self.hallucinator.side
        faces = [seen(frame, some, side) for frame, some in zip(frames, points, strict=True)]
        if not faces:
            return []
        pictures = self.hallucinator.from_masks(
            np.stack([face.masked for face in faces]),
            np.stack([face.mask for face in faces]),
            seeds=[self.seed] * len(faces),
        )
        assert isinstance(pictures, np.ndarray)
        if self.blender is not None:
            pictures = np.stack(
                [
                    self.blender.next(picture, face.mask, cut=cut)
                    for picture, face, cut in zip(pictures, faces, cuts, strict=True)
                ]
            )
        return [Painted(*pair) for pair in zip(pictures, faces, strict=True)]


def seen(frame: np.ndarray, points: np.ndarray, side: int) -> AlignedFace:
    """What a model sees of a frame, (H, W, 3) uint8, whose (68, 2) landmarks are known."""
    face, inside = align(frame, points, side)
    return AlignedFace(face, hull_mask(inside, side), inside, 1, alignment_matrix(points, side))


def square(frame: np.ndarray, points: np.ndarray, painted: Painted, side: int) -> np.ndarray:
    """The aligned square of a frame, its face as sharp as the frame has it.

    Args:
        frame: (H, W, 3) uint8 RGB.
        points: (68, 2) landmarks in it.
        painted: what was made of it.
        side: width and height of the square; the model's own gives its picture as it is.

    Returns:
        (side, side, 3) uint8.
    """
    if side == len(painted.picture):
        return to_uint8(painted.picture)
    face, inside = align(frame, points, side)
    share = cv2.GaussianBlur(hull_mask(inside, side).astype(np.float32), (0, 0), _SEAM * side)
    if side < len(painted.picture):
        around = resize(painted.picture, side)
    else:
        around = cv2.resize(painted.picture, (side, side), interpolation=cv2.INTER_CUBIC)
    return to_uint8(around + share[..., None] * (to_float(face) - around))
