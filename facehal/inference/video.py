"""Surroundings that stay calm from frame to frame.

A model that sees one frame at a time gives every frame a slightly other hair and background: they
flicker. Here a frame's surroundings are a mean over those of the frames around it, behind as well
as before, so that they do not lag: a Gaussian filter along the motion (motion-compensated temporal
filtering: Dubois, Sabri, IEEE Transactions on Communications, 1984). The motion is the head's, as
its smoothed landmarks say: the filter works in the aligned square, which moves, turns and grows
with the eyes. A recursive filter and optical flow on top of it were tried and were worse
(docs/video.md). The face's own pixels are always those of the frame itself.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np

from facehal.faces.alignment import align, alignment_matrix
from facehal.faces.mask import hull_mask
from facehal.images import resize, to_float, to_uint8
from facehal.inference.hallucinator import AlignedFace, Hallucinator

CALM = 0.125
"""In seconds: the standard deviation of the filter."""

BATCH = 8
"""Frames that the model takes at a time."""

_REACH = 2.5  # standard deviations that the filter looks ahead and back
_SEAM = 1 / 256  # of the width: standard deviation of the soft edge of a face in an enlarged square


@dataclass(frozen=True)
class Shot:
    """A frame and whose face is where in it.

    Attributes:
        frame: (H, W, 3) uint8 RGB.
        points: (68, 2) landmarks in it; they do not count where there is no face.
        track: the same number for frames that show the same face; below 0: no face.
    """

    frame: np.ndarray
    points: np.ndarray
    track: int


@dataclass(frozen=True)
class Painted:
    """A frame, its aligned face, and that with hallucinated surroundings.

    Attributes:
        shot: the frame.
        face: what the model saw of it; None without a face.
        picture: (S, S, 3) float32 in [0, 1], S the model's largest resolution; None without a face.
    """

    shot: Shot
    face: AlignedFace | None = None
    picture: np.ndarray | None = None


class Painter:
    """Hallucinates around the face of frame after frame.

    Args:
        hallucinator: the model.
        rate: frames per second.
        seed: one of the variants for all frames; None: the single best picture.
        blend: over time; without it every picture is the model's alone.
    """

    def __init__(
        self,
        hallucinator: Hallucinator,
        rate: float,
        *,
        seed: int | None = None,
        blend: bool = True,
    ) -> None:
        self.hallucinator, self.seed = hallucinator, seed
        self._spread = CALM * rate
        self.reach = math.ceil(_REACH * self._spread) if blend else 0
        """How many frames behind and before one have a part in its picture."""

    def paint(self, shots: Iterable[Shot]) -> Iterator[Painted]:
        """The frames with their pictures, in order; it reads `reach` and a batch ahead.

        Inside the mask a picture is the frame's own; a pixel of the surroundings is the weighted
        mean over those frames of the same track where it belongs to the surroundings, too.
        """
        near: deque[Painted] = deque()  # those around the next to be given, which is number `at`
        at = 0
        for one in self._alone(iter(shots)):
            near.append(one)
            if len(near) - at > self.reach:
                yield self._calm(near, at)
                # Only its picture will be asked for; frames may be large.
                near[at] = replace(near[at], shot=replace(near[at].shot, frame=_NOTHING))
                at += 1
                if at > self.reach:
                    near.popleft()
                    at -= 1
        for last in range(at, len(near)):
            yield self._calm(near, last)

    def _alone(self, shots: Iterator[Shot]) -> Iterator[Painted]:
        """Every frame for itself."""
        side = self.hallucinator.side
        while batch := list(islice(shots, BATCH)):
            faces = [_seen(shot, side) if shot.track >= 0 else None for shot in batch]
            there = [face for face in faces if face is not None]
            pictures = iter(())
            if there:
                made = self.hallucinator.from_masks(
                    np.stack([face.masked for face in there]),
                    np.stack([face.mask for face in there]),
                    seeds=[self.seed] * len(there),
                )
                assert isinstance(made, np.ndarray)
                pictures = iter(made)
            for shot, face in zip(batch, faces, strict=True):
                yield Painted(shot) if face is None else Painted(shot, face, next(pictures))

    def _calm(self, near: deque[Painted], at: int) -> Painted:
        middle = near[at]
        if middle.picture is None or middle.face is None or not self.reach:
            return middle
        total, weights = np.zeros_like(middle.picture), np.zeros_like(middle.picture[..., :1])
        for n in range(max(0, at - self.reach), min(len(near), at + self.reach + 1)):
            other = near[n]
            if other.picture is None or other.face is None:
                continue
            if other.shot.track == middle.shot.track:
                weight = math.exp(-(((n - at) / self._spread) ** 2) / 2)
                context = (other.face.mask == 0)[..., None] * np.float32(weight)
                total += context * other.picture
                weights += context
        own = middle.face.mask[..., None] == 1
        mean = np.where(own, middle.picture, total / np.where(own, 1, weights))
        return replace(middle, picture=mean)


_NOTHING = np.zeros((0, 0, 3), np.uint8)


def _seen(shot: Shot, side: int) -> AlignedFace:
    """What a model sees of a frame whose landmarks are known."""
    face, points = align(shot.frame, shot.points, side)
    matrix = alignment_matrix(shot.points, side)
    return AlignedFace(face, hull_mask(points, side), points, 1, matrix)


def square(shot: Shot, picture: np.ndarray, side: int) -> np.ndarray:
    """The aligned square of a frame at any size, its face as sharp as the frame has it.

    Args:
        shot: the frame.
        picture: (S, S, 3) float32 in [0, 1], what was made of it.
        side: width and height of the square; where it is S the picture stays as it is.

    Returns:
        (side, side, 3) uint8.
    """
    if side == len(picture):
        return to_uint8(picture)
    face, points = align(shot.frame, shot.points, side)
    share = cv2.GaussianBlur(hull_mask(points, side).astype(np.float32), (0, 0), _SEAM * side)
    if side < len(picture):
        around = resize(picture, side)
    else:
        around = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    return to_uint8(around + share[..., None] * (to_float(face) - around))
