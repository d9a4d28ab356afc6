"""Faces and their 68 landmarks: dlib's HOG detector and its iBUG 300-W shape predictor.

The paper detects with dlib and takes the landmarks from its reference [11]; ours are dlib's, for
they come with a pip package. dlib itself is imported when a detector is made, not before.
"""

import math
from dataclasses import dataclass

import numpy as np

from facehal.errors import WeightsError
from facehal.images import resize
from facehal.weights import store

# The HOG detector finds faces of about 80 pixels and more; photos are searched at this size.
_DETECTION_SIDE = 1000
# The predictor reads a face at this width: its answers are whole pixels, so that on a face of
# 90 pixels, enlarged, they become thirds of a pixel, and a huge face is not read as noise.
_PREDICTION_WIDTH = 256


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the photo ((0, 0) = centre of the top left pixel)."""

    box: tuple[int, int, int, int]
    """Left, top, right, bottom of dlib's detection; may reach beyond the photo."""

    points: np.ndarray
    """(68, 2) float32 landmarks as x, y: 0-16 jaw, 17-26 brows, 27-35 nose, 36-41 and 42-47 eyes
    (the subject's right one first), 48-67 mouth."""

    score: float
    """dlib's detection score; above 0."""


class LandmarkDetector:
    """Finds faces and their landmarks; holds dlib's models (100 MB), so make one and keep it.

    Photos whose longer side exceeds 1000 pixels are searched at 1000 pixels. Where nothing is
    found, the search is repeated once at twice the scale (a small picture is enlarged, a large
    one shrunk to 2000 instead), which halves the smallest face that can be found: about 40 pixels
    in a small picture. The landmarks are read from the photo itself.

    Args:
        upsample: how many times the picture is doubled already in the first search.

    Raises:
        WeightsError: dlib or its landmark model is not installed.
    """

    def __init__(self, upsample: int = 0):
        if upsample < 0:
            raise ValueError(f"upsample must not be negative, but is {upsample}")
        path = store.path("dlib_landmarks")
        try:
            import dlib
        except ImportError as error:
            raise WeightsError("dlib is not installed: `pip install dlib-bin` (or dlib)") from error
        self.upsample = upsample
        self._dlib = dlib
        self._detect = dlib.get_frontal_face_detector()
        self._predict = dlib.shape_predictor(str(path))

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the faces of a photo, the largest first; empty if there is none.

        Only the part of a face's box that lies in the photo counts for its size: the detector
        knows few sizes, and a neighbour cut by the border shall not win by a rounding. Of equal
        ones the higher score comes first.

        Args:
            image: (H, W, 3) uint8 RGB.

        Raises:
            ValueError: another shape or number type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"a photo must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
        scale = min(1.0, _DETECTION_SIDE / max(image.shape[:2])) * 2**self.upsample
        found = self.search(image, scale) or self.search(image, 2 * scale)
        faces = [Face(_whole(box), self.landmarks(image, box), score) for box, score in found]
        return sorted(faces, key=lambda face: (-_visible(face.box, image), -face.score))

    def search(self, image: np.ndarray, scale: float) -> list[tuple[np.ndarray, float]]:
        """Searches a photo at one scale: boxes (left, top, right, bottom) in it, float, and scores.

        Args:
            image: (H, W, 3) uint8 RGB.
            scale: of the searched picture to the photo; faces of about 80 pixels there are found.
        """
        height, width = image.shape[:2]
        size = max(1, round(width * scale)), max(1, round(height * scale))
        found, scores, _ = self._detect.run(resize(image, size), 0, 0.0)
        factor = np.array([width / size[0], height / size[1]] * 2)
        boxes = [
            (np.array([r.left(), r.top(), r.right(), r.bottom()]) + 0.5) * factor - 0.5
            for r in found
        ]
        return list(zip(boxes, map(float, scores), strict=True))

    def landmarks(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """The (68, 2) float32 landmarks of the face in a box (left, top, right, bottom), float."""
        height, width = image.shape[:2]
        side = max(box[2] - box[0], box[3] - box[1], 1.0)
        # The predictor reads pixels around the box, too, and takes those off the picture as black.
        margin = side / 2
        left, top = (max(0, math.floor(v - margin)) for v in box[:2])
        right = min(width, math.ceil(box[2] + margin) + 1)
        bottom = min(height, math.ceil(box[3] + margin) + 1)
        scale = _PREDICTION_WIDTH / side
        size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
        crop = resize(np.ascontiguousarray(image[top:bottom, left:right]), size)
        factor = np.array([size[0] / (right - left), size[1] / (bottom - top)])
        origin = np.array([left, top])
        corners = (box.reshape(2, 2) - origin + 0.5) * factor - 0.5
        shape = self._predict(crop, self._dlib.rectangle(*_whole(corners.ravel())))
        points = np.array([(part.x, part.y) for part in shape.parts()], np.float64)
        placed: np.ndarray = (points + 0.5) / factor - 0.5 + origin
        return placed.astype(np.float32)


def _whole(box: np.ndarray) -> tuple[int, int, int, int]:
    left, top, right, bottom = (int(v) for v in np.rint(box))
    return left, top, right, bottom


def _visible(box: tuple[int, int, int, int], image: np.ndarray) -> int:
    """Area of the part of a box that lies in the picture, in square pixels."""
    left, top, right, bottom = box
    height, width = map(int, image.shape[:2])
    return (min(right + 1, width) - max(left, 0)) * (min(bottom + 1, height) - max(top, 0))
