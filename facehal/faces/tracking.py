"""One face through the frames of a video, by dlib's detector and landmarks.

Every frame is searched where the face was last, which is little work however large the frame is,
and tells in every frame whether there still is a face. The landmarks do not depend on the
detector's boxes, which jump: the predictor reads them twice, the second time from the box that
belongs to the first answer.
"""

import numpy as np

from facehal.faces.landmarks import LandmarkDetector

EVERYWHERE = 5
"""While there is no face, every so many frames are searched as a whole."""

# dlib's box by the 68 landmarks of the same face, means over 250 photos of LFW: its middle behind
# theirs as parts of its side, and its side by their root mean square distance from their middle.
_MIDDLE, _SIDE = np.array([-0.015, -0.068]), 2.69

_AROUND = 2.4  # sides of the last box that are searched
_NEAR_SIDE = 110  # pixels that the last box has in that search; the detector needs 80
_SAME = 0.3  # intersection over union of two frames' boxes that are one face


def box_of(points: np.ndarray) -> np.ndarray:
    """The box that dlib's detector would give: (68, 2) landmarks → left, top, right, bottom."""
    points = np.asarray(points, np.float64)
    middle = points.mean(0)
    side = _SIDE * np.sqrt(((points - middle) ** 2).sum(1).mean())
    middle = middle + side * _MIDDLE
    return np.concatenate([middle - side / 2, middle + side / 2])


class FaceTracker:
    """Follows a face: the largest of the frame where one is first seen, then that one.

    A larger face beside it does not take its place. When it is lost, the one that comes back where
    it was counts as the same, or else the largest.

    Args:
        detector: finds faces.
        last: (68, 2) landmarks of the frame where the face was last seen, to go on from.
        lost: frames since then.
    """

    def __init__(
        self, detector: LandmarkDetector, last: np.ndarray | None = None, lost: int = 0
    ) -> None:
        self.detector, self.lost = detector, lost
        self._box = None if last is None else box_of(last)

    def next(self, frame: np.ndarray) -> np.ndarray | None:
        """The (68, 2) float32 landmarks in the next frame, (H, W, 3) uint8 RGB; None: no face."""
        box = None if self._box is None else self._near(frame, self._box)
        if box is None and self.lost % EVERYWHERE == 0:
            box = self._anywhere(frame)
        if box is None:
            self.lost += 1
            return None
        first = self.detector.landmarks(frame, box)
        points = self.detector.landmarks(frame, box_of(first))
        self._box, self.lost = box_of(points), 0
        return points

    def _near(self, frame: np.ndarray, last: np.ndarray) -> np.ndarray | None:
        """The box of the same face around its last place."""
        middle, side = (last[:2] + last[2:]) / 2, last[2] - last[0]
        low = np.maximum(np.floor(middle - side * _AROUND / 2), 0).astype(int)
        high = np.minimum(np.ceil(middle + side * _AROUND / 2), frame.shape[1::-1]).astype(int)
        if (high <= low).any():
            return None
        crop = np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]])
        boxes = [box + np.tile(low, 2) for box, _ in self.detector.search(crop, _NEAR_SIDE / side)]
        best = max(boxes, key=lambda box: _overlap(box, last), default=None)
        return best if best is not None and _overlap(best, last) > _SAME else None

    def _anywhere(self, frame: np.ndarray) -> np.ndarray | None:
        boxes = [np.array(face.box, np.float64) for face in self.detector.detect(frame)]
        if self._box is not None:
            last = self._box
            boxes.sort(key=lambda box: _overlap(box, last) <= _SAME)  # stable: else the largest
        return boxes[0] if boxes else None


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    across = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(across, 0)))
    return common / float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common)
