"""One photo → one row of the manifest and one aligned face (section 4, "Training Data").

Nothing here knows of folders, processes or earlier runs: that is `facehal.jobs.preprocess`.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from facehal.data.schema import COLUMNS, FACE_POINTS, PHOTO_POINTS, SIZE, Row
from facehal.errors import ImageError, typed_line
from facehal.faces.alignment import EYE_DISTANCE, align, eye_distance
from facehal.faces.landmarks import LandmarkDetector
from facehal.images import decode_image

MIN_SIDE = 32
"""Photos with a shorter side, in pixels, are left out."""


def min_eye_distance(size: int) -> float:
    """Faces whose eyes are closer, in pixels of the photo, are left out: half of what they become.

    Args:
        size: of the aligned face; 128 gives 16.
    """
    return EYE_DISTANCE * size / 2


@dataclass(frozen=True)
class Found:
    """What was found in a photo.

    Attributes:
        faces: how many faces.
        points: (68, 2) landmarks of the largest one in pixels of the photo; None without a face.
        box: left, top, right, bottom of it, whole pixels of the photo; None without a face.
    """

    faces: int
    points: np.ndarray | None = None
    box: tuple[int, int, int, int] | None = None


Finder = Callable[[np.ndarray], Found]
"""A photo (H, W, 3) uint8 RGB → what is in it; ImageError with the reason if that is not known."""


# Photos from a bucket are prepared in threads; the detector is for one of them at a time.
_DETECTING = threading.Lock()


@lru_cache(maxsize=1)
def _detector() -> LandmarkDetector:
    return LandmarkDetector()


def detected(photo: np.ndarray) -> Found:
    """What dlib finds; its models (100 MB) are read once in a process.

    Raises:
        WeightsError: dlib or its landmark model is not installed.
    """
    with _DETECTING:
        faces = _detector().detect(photo)
    return Found(len(faces), faces[0].points, faces[0].box) if faces else Found(0)


@dataclass(frozen=True)
class Given:
    """Landmarks found elsewhere; the box is what they fill.

    Attributes:
        points: (68, 2) float32 in pixels of the upright photo, or None where there are none.
    """

    points: np.ndarray | None

    def __call__(self, photo: np.ndarray) -> Found:
        """As :data:`Finder`; the photo itself is not looked at."""
        if self.points is None:
            raise ImageError("no points for this photo in the landmarks file")
        low, high = np.floor(self.points.min(0)), np.ceil(self.points.max(0))
        return Found(1, self.points, (int(low[0]), int(low[1]), int(high[0]), int(high[1])))


def digest(photo: bytes) -> str:
    """What `source_sha256` says of a photo's file: 64 hexadecimal digits."""
    return hashlib.sha256(photo).hexdigest()


def empty_row() -> Row:
    """A row of the manifest in which nothing is known yet."""
    return dict.fromkeys(COLUMNS, "")


def failed_row(row: Row, reason: str) -> Row:
    """The row of a photo that gives no face."""
    return row | {"status": "failed", "reason": reason, "face": ""}


def prepare(
    photo: bytes, *, size: int = SIZE, find: Finder = detected
) -> tuple[Row, np.ndarray | None]:
    """Finds the largest face of a photo, aligns and describes it.

    Args:
        photo: the bytes of its file.
        size: side of the aligned face in pixels, 8 or more.
        find: what finds the landmarks.

    Returns:
        The manifest's row, complete but for `file`, `face` and `subject`, and the aligned face
        (size, size, 3) uint8 RGB. A photo that gives none has `status` failed, the `reason`, what
        was known by then, and None for the face.

    Raises:
        WeightsError: as :func:`detected`.
    """
    row = empty_row() | {"source_sha256": digest(photo)}
    try:
        face = _face_of(decode_image(photo), size, find, row)
    except ImageError as error:
        return failed_row(row, str(error)), None
    except (cv2.error, MemoryError, RuntimeError) as error:
        # One strange photo must not end a night's work; the reason is there to be read.
        return failed_row(row, typed_line(error)), None
    return row | {"status": "ok"}, face


def _face_of(photo: np.ndarray, size: int, find: Finder, row: Row) -> np.ndarray:
    """Return the aligned face and fill in the row; ImageError with the reason if there is none."""
    height, width = photo.shape[:2]
    row |= {"width": str(width), "height": str(height)}
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"the photo is smaller than {MIN_SIDE} pixels")
    found = find(photo)
    row["faces_found"] = str(found.faces)
    if found.points is None or found.box is None:
        raise ImageError("no face found")
    row |= dict(zip(("left", "top", "right", "bottom"), map(str, found.box), strict=True))
    row |= _numbers(PHOTO_POINTS, found.points)
    nearest = min_eye_distance(size)
    if eye_distance(found.points) < nearest:
        raise ImageError(f"the eyes are less than {nearest:g} pixels apart")
    face, aligned = align(photo, found.points, size)
    row |= _numbers(FACE_POINTS, aligned)
    return face


def _numbers(columns: list[str], points: np.ndarray) -> Row:
    return {name: f"{value:.3f}" for name, value in zip(columns, points.ravel(), strict=True)}
