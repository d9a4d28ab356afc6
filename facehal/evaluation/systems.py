"""What a table compares: saved models, other programs' pictures, and the reference rows."""

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from facehal.data.faceset import load_rows, read_manifest, shrunk, usable
from facehal.errors import DataError
from facehal.images import list_images, read_image, to_float, to_uint8
from facehal.jobs.mapping import Threads, each
from facehal.processes import usable_cores

BLOCK = 256  # faces computed with at a time: a whole set in floats would be gigabytes


@dataclass(frozen=True)
class Faces:
    """The prepared faces that are evaluated.

    Attributes:
        faces: (n, 128, 128, 3) uint8 RGB.
        masks: (n, 128, 128) uint8, 1 = face.
        names: the faces' paths without suffix, relative to the folder that ``preprocess`` wrote;
            a system's picture of a face has the same name.
        subjects: (n,) who is on it.
        failed: photos of the set in which no face was found.
    """

    faces: np.ndarray
    masks: np.ndarray
    names: list[str]
    subjects: np.ndarray
    failed: int

    @classmethod
    def load(cls, folder: str | os.PathLike[str], limit: int | None = None) -> "Faces":
        """Reads what ``preprocess`` wrote.

        Raises:
            DataError: no prepared faces there.
        """
        manifest = read_manifest(folder)
        frame = usable(manifest, limit)
        faces, masks = load_rows(folder, frame)
        failed = int((manifest["status"] != "ok").sum())
        names = [name.removeprefix("faces/").removesuffix(".png") for name in frame["face"]]
        return cls(faces, masks, names, frame["subject"].to_numpy(), failed)

    def at(self, side: int) -> "Faces":
        """The same at a smaller size, for models whose largest resolution it is."""
        faces, masks = shrunk(self.faces, self.masks, side)
        return replace(self, faces=faces, masks=masks)

    @property
    def originals(self) -> np.ndarray:
        """(n, 128, 128, 3) float32 in [0, 1]."""
        return to_float(self.faces)

    @property
    def masked(self) -> np.ndarray:
        """The same, black outside the mask."""
        pictures: np.ndarray = self.originals * self.masks[..., None]
        return pictures


def of_model(path: str, data: Faces) -> np.ndarray:
    """What a saved or shipped model hallucinates: (n, 128, 128, 3) float32 in [0, 1].

    Raises:
        FacehalError: no such model, or of another size than 128×128.
    """
    from facehal.inference.hallucinator import load

    pictures = load(path).from_masks(data.masked, data.masks)
    assert isinstance(pictures, np.ndarray)
    return pictures


def of_folder(folder: Path, data: Faces) -> np.ndarray:
    """Pictures that another program made of the same faces.

    A picture has the name of its face, in the same subfolder or, where no other face is called
    so, directly in ``folder``; any format, 128×128.

    Raises:
        DataError: a picture is missing, cannot be read, or has another size.
    """
    files = {
        str(path.relative_to(folder).with_suffix("")).replace(os.sep, "/"): path
        for path in list_images(folder)
    }
    pictures = np.empty((len(data.names), *data.faces.shape[1:]), np.float32)
    count = Counter(name.rsplit("/", 1)[-1] for name in data.names)

    def read(name: str) -> np.ndarray:
        path, flat = files.get(name), name.rsplit("/", 1)[-1]
        if path is None and count[flat] == 1:  # of two faces it would be the picture of one only
            path = files.get(flat)
        if path is None:
            raise DataError(
                f"{folder}: no picture of {name}; a system's pictures have the names of the faces"
            )
        picture = read_image(path)
        if picture.shape != pictures.shape[1:]:
            height, width = pictures.shape[1:3]
            size = f"{picture.shape[1]}×{picture.shape[0]}"
            raise DataError(f"{path}: is {size}, not {width}×{height}")
        return picture

    # OpenCV decodes outside Python's lock.
    engine = Threads(usable_cores())
    for done in each(read, data.names, engine=engine, unit="picture", what=folder.name):
        pictures[done.index] = to_float(done.result)
    return pictures


def system(value: str, data: Faces) -> np.ndarray:
    """A system by what stands behind ``NAME=``: a folder of pictures, a file or a model's name."""
    return of_folder(Path(value), data) if Path(value).is_dir() else of_model(value, data)


# -- Reference rows: a model that does not beat them is not worth a table.


def face_mask(data: Faces) -> np.ndarray:
    """The input itself: the face on black."""
    return data.masked


def mean_context(data: Faces, training: Faces) -> np.ndarray:
    """Every face on the mean of the training faces' context pixels."""
    total = np.zeros(training.faces.shape[1:], np.float64)
    count = np.zeros((*training.faces.shape[1:3], 1), np.float64)
    for start in range(0, len(training.faces), BLOCK):
        context = 1 - training.masks[start : start + BLOCK, ..., None]
        total += (training.faces[start : start + BLOCK] * context).sum(axis=0, dtype=np.float64)
        count += context.sum(axis=0, dtype=np.float64)
    plain = training.faces.mean(axis=0, dtype=np.float64)
    mean = np.where(count > 0, total / np.maximum(count, 1), plain) / 255
    # Not as float64, which would make all pictures float64 on the way.
    return _composite(data, np.broadcast_to(mean.astype(np.float32), data.faces.shape))


def nearest_context(data: Faces, training: Faces, side: int = 32) -> np.ndarray:
    """Every face on the context of the training face whose masked picture is nearest.

    Nearest by the squared difference of the masked faces at ``side``×``side``.
    """
    ours, theirs = _small(data, side), _small(training, side)
    squares = (theirs**2).sum(axis=1)
    nearest = np.empty(len(ours), int)
    for start in range(0, len(ours), BLOCK):
        block = ours[start : start + BLOCK]
        nearest[start : start + BLOCK] = (squares - 2 * block @ theirs.T).argmin(axis=1)
    return _composite(data, to_float(training.faces[nearest]))


def _small(data: Faces, side: int) -> np.ndarray:
    """Masked faces as rows of a matrix, shrunk by area."""
    rows = np.empty((len(data.faces), side * side * 3), np.float32)
    for index, (face, mask) in enumerate(zip(data.faces, data.masks, strict=True)):
        small = cv2.resize(face * mask[..., None], (side, side), interpolation=cv2.INTER_AREA)
        rows[index] = small.ravel() / 255
    return rows


def _composite(data: Faces, context: np.ndarray) -> np.ndarray:
    masks = data.masks[..., None].astype(np.float32)
    pictures: np.ndarray = data.masked + (1 - masks) * context
    return pictures.astype(np.float32)


def as_written(pictures: np.ndarray) -> np.ndarray:
    """Pictures as a PNG would hold them, uint8: so models and folders of pictures are measured
    alike, and many systems can be kept at once."""
    written = np.empty(pictures.shape, np.uint8)
    for start in range(0, len(pictures), BLOCK):
        written[start : start + BLOCK] = to_uint8(pictures[start : start + BLOCK])
    return written
