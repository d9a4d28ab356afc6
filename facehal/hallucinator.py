"""The public object: photo in, hallucinated picture out."""

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import cv2
import keras
import numpy as np

from facehal.errors import FacehalError, ImageError, NoFaceError
from facehal.faces.alignment import align
from facehal.faces.landmarks import LandmarkDetector
from facehal.faces.mask import hull_mask
from facehal.images import read_image, to_float, to_uint8
from facehal.models.cascade import Cascade

DEFAULT = "compact"


@dataclass(frozen=True)
class AlignedFace:
    """What the model sees of a photo.

    Attributes:
        face: (S, S, 3) uint8 RGB, eyes level; S is 128, or the model's largest resolution.
        mask: (S, S) uint8; 1 inside the hull of the landmarks.
        points: (68, 2) float32 landmarks in ``face``.
        faces_found: how many faces the photo has; this is the largest.
    """

    face: np.ndarray
    mask: np.ndarray
    points: np.ndarray
    faces_found: int

    @property
    def masked(self) -> np.ndarray:
        """(S, S, 3) float32 in [0, 1], black outside the mask: the model's input."""
        return to_float(self.face) * self.mask[..., None].astype(np.float32)


def shipped_models() -> dict[str, Path]:
    """The models in the package by name."""
    folder = resources.files("facehal") / "pretrained"
    return {path.stem: path for path in sorted(Path(str(folder)).glob("*.keras"))}


def load(model: str | os.PathLike[str] = DEFAULT) -> "Hallucinator":
    """A hallucinator from a shipped model's name or a ``.keras`` file that a run wrote.

    Raises:
        FacehalError: no such model, or the file is not one of ours.
    """
    shipped = shipped_models()
    path = Path(shipped.get(str(model), Path(model)))
    if not path.is_file():
        raise FacehalError(
            f"{model}: neither a .keras file nor a shipped model ({', '.join(shipped) or 'none'})"
        )
    try:
        cascade = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds for a file that is not its own
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FacehalError(
            f"{path}: not a saved model ({line}); name one that a run wrote"
        ) from error
    if not isinstance(cascade, Cascade):
        raise FacehalError(f"{path}: holds a {type(cascade).__name__}, not a facehal model")
    return Hallucinator(cascade)


class Hallucinator:
    """Generates forehead, hair, neck, clothes and background around a face.

    Args:
        model: a trained cascade. The shapes below are those of 128×128 models; one whose largest
            block is smaller takes and gives that size.
    """

    def __init__(self, model: Cascade):
        self.model = model
        self.side: int = model.resolutions[-1]
        self._detector: LandmarkDetector | None = None

    def prepare(self, photo: str | os.PathLike[str] | np.ndarray) -> AlignedFace:
        """Finds the largest face, aligns it and draws its mask (section 4, "Training Data").

        Args:
            photo: a file, or (H, W, 3) RGB, uint8 or float in [0, 1].

        Raises:
            ImageError: the file cannot be read, or the array is not a picture.
            NoFaceError: no face was found.
            WeightsError: dlib or its landmark model is not installed.
        """
        name = "the picture"
        if isinstance(photo, np.ndarray):
            if photo.ndim != 3 or photo.shape[2] != 3:
                raise ImageError(f"a photo has the shape (H, W, 3), not {photo.shape}")
            image = np.ascontiguousarray(to_uint8(photo))
        else:
            name = str(photo)
            image = read_image(photo)
        if self._detector is None:
            self._detector = LandmarkDetector()
        faces = self._detector.detect(image)
        if not faces:
            raise NoFaceError(f"{name}: no face found; use a photo that shows one from the front")
        face, points = align(image, faces[0].points, self.side)
        return AlignedFace(face, hull_mask(points, self.side), points, len(faces))

    def hallucinate(self, photo: str | os.PathLike[str] | np.ndarray) -> np.ndarray:
        """The hallucinated picture around the largest face of a photo.

        Args:
            photo: a file, or (H, W, 3) RGB, uint8 or float in [0, 1].

        Returns:
            (128, 128, 3) float32 in [0, 1], aligned by the eyes.

        Raises:
            ImageError, NoFaceError, WeightsError: as :meth:`prepare`.
        """
        found = self.prepare(photo)
        return self.from_masks(found.masked[None], masks=found.mask[None])[0]

    def from_masks(
        self,
        masked_faces: np.ndarray,
        masks: np.ndarray | None = None,
        *,
        all_resolutions: bool = False,
        batch_size: int = 32,
    ) -> np.ndarray | dict[int, np.ndarray]:
        """Hallucinates around aligned faces.

        Args:
            masked_faces: (n, 128, 128, 3) in [0, 1], black outside the face.
            masks: (n, 128, 128), 1 = face, 0 = to be hallucinated. Without them the mask of a face
                is what is not black in it, holes filled.
            all_resolutions: return the output of every block.
            batch_size: faces at a time; changes memory and speed, not the result.

        Returns:
            (n, 128, 128, 3) float32 in [0, 1]; or ``{8: (n, 8, 8, 3), …, 128: …}``.

        Raises:
            ImageError: wrong shape, a value outside [0, 1], or a face without pixels.
        """
        faces = np.asarray(masked_faces, np.float32)
        side = self.side
        if faces.ndim != 4 or faces.shape[1:] != (side, side, 3):
            raise ImageError(
                f"masked faces have the shape (n, {side}, {side}, 3), not {faces.shape}"
            )
        if faces.size and not (faces.min() >= 0 and faces.max() <= 1):
            raise ImageError(
                f"masked faces are in [0, 1]; these reach from {faces.min():g} to {faces.max():g}"
            )
        if len(faces) == 0:
            empty = {n: np.zeros((0, n, n, 3), np.float32) for n in self.model.resolutions}
            return empty if all_resolutions else empty[side]
        if masks is None:
            masks = np.stack([mask_of_pixels(face) for face in faces])
        masks = np.asarray(masks, np.float32)
        if masks.shape != faces.shape[:3] or not np.isin(masks, (0, 1)).all():
            raise ImageError(
                f"masks have the shape {faces.shape[:3]} and the values 0 and 1 (1 = face); "
                f"these are {masks.shape}"
            )
        masks = masks[..., None]
        outputs = self.model.predict(
            {"masked_faces": faces * masks, "masks": masks}, batch_size=batch_size, verbose=0
        )
        # In our order: JAX returns dictionaries sorted by their keys as text.
        pictures = {size: outputs[str(size)] for size in self.model.resolutions}
        return pictures if all_resolutions else pictures[side]


def mask_of_pixels(masked_face: np.ndarray) -> np.ndarray:
    """The mask of a face on black: (h, w, 3) → (h, w) uint8, what is not black, without holes.

    Black pixels inside a face (pupils, nostrils) belong to it.

    Raises:
        ImageError: all pixels are black.
    """
    lit = (masked_face.max(axis=-1) > 0).astype(np.uint8)
    contours, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        raise ImageError("a masked face is black all over; give a face on black, or its mask")
    return cv2.drawContours(lit, contours, -1, 1, thickness=cv2.FILLED)
