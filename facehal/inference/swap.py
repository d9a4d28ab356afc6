"""One person's face on photos of another, by a trained face swap (section 4.2)."""

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facehal.errors import FacehalError, NoFaceError
from facehal.faces.alignment import alignment_matrix, transform, warp
from facehal.faces.landmarks import LandmarkDetector
from facehal.faces.mask import hull_mask
from facehal.images import read_image, to_float
from facehal.inference.hallucinator import load_keras
from facehal.models.deepfake.geometry import crop_matrix, fade, shifted
from facehal.models.deepfake.model import ROLES, Deepfake
from facehal.shipped import find_model

MASKS = ("rectangle", "hull")
SOFT = 2  # side of the box that blurs the edge of a hull, in pixels of the photo


@dataclass(frozen=True)
class Swapped:
    """A photo with another face, and how it came about.

    Attributes:
        picture: (H, W, 3) uint8, of the photo's size.
        crop: (c, c, 3) float32 in [0, 1]: the tight crop of the photo's largest face.
        made: (c, c, 3) float32 in [0, 1]: what the decoder made of it, in the crop's mean colour.
        before, after: (S, S, 3) uint8: the photo and the picture, aligned by the eyes.
    """

    picture: np.ndarray
    crop: np.ndarray
    made: np.ndarray
    before: np.ndarray
    after: np.ndarray


class Swapper:
    """Puts one person's face on photos.

    The face is detected, cropped by the square of :mod:`facehal.models.deepfake.geometry`, sent
    through the encoder and the person's decoder, shifted to the crop's mean colours and laid back:
    as faceswap's converter *adjust* does.

    Args:
        model: a trained face swap.
        identity: whose face, ``source`` or ``target``; by default the model's own.
        mask: ``rectangle``, the whole crop with a faded border, or ``hull``: what of it lies inside
            the hull of the landmarks, as in faceswap's converter *masked*.

    Raises:
        FacehalError: no such identity or mask.
    """

    def __init__(self, model: Deepfake, identity: str | None = None, mask: str = "rectangle"):
        self.model, self.identity, self.mask = model, identity or model.identity, mask
        if self.identity not in ROLES:
            raise FacehalError(f"identity {identity}: there are {' and '.join(ROLES)}")
        if mask not in MASKS:
            raise FacehalError(f"mask {mask}: there are {' and '.join(MASKS)}")
        self._detector: LandmarkDetector | None = None

    def swap(self, photo: str | os.PathLike[str]) -> Swapped:
        """The person's face in place of a photo's largest one.

        Raises:
            ImageError: the file cannot be read.
            NoFaceError: no face was found.
            WeightsError: dlib or its landmark model is not installed.
        """
        image = read_image(photo)
        if self._detector is None:
            self._detector = LandmarkDetector()
        faces = self._detector.detect(image)
        if not faces:
            raise NoFaceError(f"{photo}: no face found; use a photo that shows one from the front")
        return self.swap_face(image, faces[0].points)

    def swap_face(self, photo: np.ndarray, points: np.ndarray) -> Swapped:
        """The same where the landmarks are known.

        Args:
            photo: (H, W, 3) uint8 RGB.
            points: (68, 2) in it.
        """
        side, size = self.model.resolutions[-1], self.model.crop
        align = alignment_matrix(points, side)
        matrix = crop_matrix(side, size) @ np.vstack([align, (0, 0, 1)])
        crop = to_float(warp(photo, matrix, size))
        made = np.asarray(self.model.reconstruct(crop[None], self.identity))
        made = np.asarray(shifted(made, crop[None]))[0]
        picture = self._laid_back(photo, made, points, matrix)
        before, after = (warp(one, align, side) for one in (photo, picture))
        return Swapped(picture, crop, made, before, after)

    def _laid_back(
        self, photo: np.ndarray, made: np.ndarray, points: np.ndarray, matrix: np.ndarray
    ) -> np.ndarray:
        """The photo with a new crop in the place of the old one; only its box is worked on."""
        inverse = cv2.invertAffineTransform(matrix)
        low, high = -0.5, len(made) - 0.5
        corners = np.array([[low, low], [high, low], [high, high], [low, high]])
        around = transform(corners, inverse)
        left, top = np.maximum(np.floor(around.min(0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(around.max(0)) + 1, photo.shape[1::-1]).astype(int)
        into, size = inverse - [[0, 0, left], [0, 0, top]], (int(right - left), int(bottom - top))
        new = np.clip(warp(made, into, size, cv2.INTER_CUBIC), 0, 1) * 255
        whole = self.mask == "rectangle"
        shape = fade(len(made)) if whole else np.ones(made.shape[:2], np.float32)
        share = cv2.warpAffine(shape, into, size, flags=cv2.INTER_LINEAR)
        if not whole:
            hull = hull_mask(points - (left, top), max(size))[: size[1], : size[0]]
            share = cv2.blur(share * hull, (SOFT, SOFT))
        result: np.ndarray = photo.copy()
        own = result[top:bottom, left:right]
        own[:] = np.rint(own + share[..., None] * (new - own))
        return result


def load_deepfake(path: str | os.PathLike[str]) -> Deepfake:
    """A trained face swap.

    Raises:
        FacehalError: there is no such file, or it holds another kind of model.
    """
    file: Path = find_model(path)
    model = load_keras(file)
    if not isinstance(model, Deepfake):
        raise FacehalError(
            f"{path}: holds a {type(model).__name__}; a face is swapped by a model of "
            "`facehal train deepfake`"
        )
    return model
