"""The public object: photo in, hallucinated picture out.

Nothing here imports Keras before a ``.keras`` file is read: with an exported model the first
picture is there sooner than TensorFlow would be imported.
"""

import functools
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from facehal.errors import FacehalError, ImageError, NoFaceError
from facehal.faces.alignment import align, alignment_matrix
from facehal.faces.background import replace_background
from facehal.faces.landmarks import LandmarkDetector
from facehal.faces.mask import hull_mask
from facehal.faces.paste import paste
from facehal.images import read_image, to_float, to_uint8
from facehal.inference.onnx_engine import OnnxEngine, earlier, prepared
from facehal.optional import installed, require, require_keras
from facehal.shipped import exported, find_model
from facehal.variants import latent_of

if TYPE_CHECKING:
    from facehal.models import PictureModel

DEFAULT = "compact"
ENGINES = ("keras", "onnxruntime")


@dataclass(frozen=True)
class AlignedFace:
    """What the model sees of a photo, and where it was cut out.

    Attributes:
        face: (S, S, 3) uint8 RGB, eyes level; S is 128, or the model's largest resolution.
        mask: (S, S) uint8; 1 inside the hull of the landmarks.
        points: (68, 2) float32 landmarks in ``face``.
        faces_found: how many faces the photo has; this is the largest.
        matrix: (2, 3) float64, the similarity that maps the photo's (x, y) onto those of ``face``.
    """

    face: np.ndarray
    mask: np.ndarray
    points: np.ndarray
    faces_found: int
    matrix: np.ndarray

    @property
    def masked(self) -> np.ndarray:
        """(S, S, 3) float32 in [0, 1], black outside the mask: the model's input."""
        return to_float(self.face) * self.mask[..., None].astype(np.float32)


class Engine(Protocol):
    """What runs a model: :class:`facehal.inference.keras_engine.KerasEngine` or
    :class:`facehal.inference.onnx_engine.OnnxEngine`."""

    resolutions: tuple[int, ...]
    latent: int

    def run(
        self, masked_faces: np.ndarray, masks: np.ndarray, latents: np.ndarray | None = None
    ) -> dict[int, np.ndarray]:
        """(n, S, S, 3), (n, S, S, 1) and, for variants, (n, latent), float32 → {resolution:
        pictures}, lowest first."""
        ...


def load(model: str | os.PathLike[str] = DEFAULT, *, engine: str | None = None) -> "Hallucinator":
    """A hallucinator from a shipped model's name or a file.

    Args:
        model: a shipped model's name, a ``.keras`` file that a run wrote, or a ``.onnx`` file that
            ``facehal export`` wrote.
        engine: ``keras``, with any of its backends and on a GPU; or ``onnxruntime`` (extra:
            ``onnx``), which needs neither, starts in a second and is the faster one on a CPU. A
            ``.keras`` file of one's own is exported for it once, into the folder of weights (extra:
            ``export``). Default: ``onnxruntime`` where it is installed and the model's exported
            file at hand, as a shipped model's is; else ``keras``. Their pictures are the same,
            variants included, to 1e-5.

    Raises:
        FacehalError: no such model, the file is not one of ours, no such engine, or what the engine
            needs is not installed.
    """
    return _open(portable(model, engine=engine))


@dataclass(frozen=True)
class Portable:
    """A model before it is loaded: what goes to another process, to be loaded there.

    :func:`portable` makes it.

    Attributes:
        path: its file, ``.keras`` for the engine ``keras``, ``.onnx`` for ``onnxruntime``.
        engine: as :func:`load`.
        threads: of ONNX Runtime; None: the cores that the process may use.
        content: of the file, where it is not read there, but goes along.
    """

    path: Path
    engine: str
    threads: int | None = None
    content: bytes | None = field(default=None, repr=False)

    def packed(self) -> "Portable":
        """The same with the file in it, for a worker on a machine that may not have it.

        Its other cores have workers of their own: one thread.
        """
        return replace(self, content=self.path.read_bytes(), threads=1)

    def load(self) -> "Hallucinator":
        """The model, once for each process: a second call gives the same object.

        Raises:
            FacehalError: as :func:`facehal.inference.hallucinator.load`.
        """
        with _LOADING:
            return _opened(self)


def portable(
    model: str | os.PathLike[str] = DEFAULT,
    *,
    engine: str | None = None,
    threads: int | None = None,
) -> Portable:
    """What :func:`load` would load, found and, for ONNX Runtime, exported, but not loaded.

    Args:
        model: as :func:`load`.
        engine: as :func:`load`.
        threads: of ONNX Runtime; default: the cores that the process may use.

    Raises:
        FacehalError: as :func:`load`.
    """
    path = find_model(model)
    engine = chosen_engine(path, engine)
    if engine == "onnxruntime":
        path = prepare_onnx(path)
    elif path.suffix.lower() == ".onnx":
        raise FacehalError(f"{path}: an ONNX file, which engine keras cannot run")
    return Portable(path, engine, threads)


def _open(model: Portable) -> "Hallucinator":
    if model.content is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / model.path.name
            path.write_bytes(model.content)
            return _open(replace(model, path=path, content=None))
    if model.engine == "onnxruntime":
        return Hallucinator(OnnxEngine(model.path, model.threads))
    model_in_keras = load_keras(model.path)
    from facehal.inference.keras_engine import KerasEngine

    return Hallucinator(KerasEngine(model_in_keras))


_LOADING = threading.Lock()
_opened = functools.lru_cache(maxsize=1)(_open)


def chosen_engine(path: Path, engine: str | None) -> str:
    """The engine of a model's file: the one that is asked for, else as :func:`load` says.

    Raises:
        FacehalError: no such engine.
    """
    if engine is None:
        if path.suffix.lower() == ".onnx":
            return "onnxruntime"
        quick = installed("onnxruntime") and onnx_at_hand(path) is not None
        return "onnxruntime" if quick else "keras"
    if engine not in ENGINES:
        raise FacehalError(f"engine {engine}: there are {' and '.join(ENGINES)}")
    return engine


def onnx_at_hand(path: Path) -> Path | None:
    """The ONNX file of a model that need not be made: itself, a shipped one, or an earlier one."""
    if path.suffix.lower() == ".onnx":
        return path
    return exported(path) or earlier(path)


def prepare_onnx(path: Path) -> Path:
    """The ONNX file of a model; made and checked where none is at hand.

    That takes some ten seconds; afterwards it is read from the folder of weights.

    Raises:
        FacehalError: the model cannot be read, a package of the extra is missing, or the cache
            cannot be written.
    """
    found = onnx_at_hand(path)
    if found is not None:
        return found
    require("onnx", f"making an engine of {path.name}")
    require("onnxruntime", "engine onnxruntime")
    model = load_keras(path)
    from facehal.inference.export import export

    target = prepared(path)
    export(model, "onnx", target, path.name)
    return target


def needs_keras(model: str | os.PathLike[str], engine: str | None) -> bool:
    """Whether :func:`load` will import Keras: not where an exported file is at hand and runs."""
    path = find_model(model)
    return chosen_engine(path, engine) == "keras" or onnx_at_hand(path) is None


def load_keras(path: Path) -> "PictureModel":
    """The Keras model in a ``.keras`` file.

    Raises:
        FacehalError: the file is not a saved model, or not one of ours; or Keras's backend is not
            installed.
    """
    if path.suffix.lower() != ".keras":  # before Keras is imported for nothing
        raise FacehalError(f"{path}: not a .keras file; name one that a run wrote")
    require_keras()
    from facehal.models.base import read_model

    return read_model(path)


class Hallucinator:
    """Generates forehead, hair, neck, clothes and background around a face.

    Args:
        engine: what runs the model; :func:`load` makes it. The shapes below are those of 128×128
            models; one whose largest block is smaller takes and gives that size.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        self.resolutions = engine.resolutions
        self.side: int = engine.resolutions[-1]
        self.latent: int = engine.latent
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
        image, name = _read(photo)
        return self._find(image, name)

    def _find(self, image: np.ndarray, name: str) -> AlignedFace:
        if self._detector is None:
            self._detector = LandmarkDetector()
        faces = self._detector.detect(image)
        if not faces:
            raise NoFaceError(f"{name}: no face found; use a photo that shows one from the front")
        matrix = alignment_matrix(faces[0].points, self.side)
        face, points = align(image, faces[0].points, self.side)
        return AlignedFace(face, hull_mask(points, self.side), points, len(faces), matrix)

    def hallucinate(
        self, photo: str | os.PathLike[str] | np.ndarray, *, seed: int | None = None
    ) -> np.ndarray:
        """The hallucinated picture around the largest face of a photo.

        Args:
            photo: a file, or (H, W, 3) RGB, uint8 or float in [0, 1].
            seed: which of the variants, 0 or more, always the same one; None is the single best
                picture.

        Returns:
            (128, 128, 3) float32 in [0, 1], aligned by the eyes.

        Raises:
            ImageError, NoFaceError, WeightsError: as :meth:`prepare`.
            FacehalError: the model knows no variants.
        """
        return self._around(self.prepare(photo), seed)

    def paste(
        self, photo: str | os.PathLike[str] | np.ndarray, *, seed: int | None = None
    ) -> np.ndarray:
        """The photo itself with hallucinated surroundings of its largest face.

        The face keeps its own pixels, and so does what lies farther off than the model sees;
        :func:`facehal.faces.paste.paste` says how.

        Args:
            photo: a file, or (H, W, 3) RGB, uint8 or float in [0, 1].
            seed: as :meth:`hallucinate`.

        Returns:
            (H, W, 3) uint8, of the photo's size.

        Raises:
            ImageError, NoFaceError, WeightsError: as :meth:`prepare`.
        """
        image, name = _read(photo)
        found = self._find(image, name)
        return paste(image, self._around(found, seed), found.points, found.matrix)

    def replace_background(
        self,
        photo: str | os.PathLike[str] | np.ndarray,
        background: str | os.PathLike[str] | np.ndarray,
        *,
        seed: int | None = None,
    ) -> np.ndarray:
        """The hallucinated person of a photo in front of another picture.

        :mod:`facehal.faces.background` says how, and what it cannot do.

        Args:
            photo: a file, or (H, W, 3) RGB, uint8 or float in [0, 1].
            background: likewise, of any size; its middle fills the square.
            seed: as :meth:`hallucinate`.

        Returns:
            (128, 128, 3) float32 in [0, 1], aligned by the eyes.

        Raises:
            ImageError, NoFaceError, WeightsError: as :meth:`prepare`; ImageError also where the
                background cannot be read or is not a picture.
        """
        behind, _ = _read(background)
        found = self.prepare(photo)
        return replace_background(self._around(found, seed), found.points, behind)

    def _around(self, found: AlignedFace, seed: int | None) -> np.ndarray:
        return self.from_masks(found.masked[None], masks=found.mask[None], seeds=[seed])[0]

    def _latents(self, seeds: Sequence[int | None], count: int) -> np.ndarray | None:
        """(n, latent), normal numbers for every seed; zeros, the best picture, for None."""
        if len(seeds) != count:
            raise ValueError(f"{len(seeds)} seeds for {count} faces")
        if any(seed is not None and seed < 0 for seed in seeds):
            raise ValueError(f"a seed is 0 or more, not {min(s for s in seeds if s is not None)}")
        if all(seed is None for seed in seeds):
            return None
        if not self.latent:
            raise FacehalError(
                "this model knows one picture for every face; variants need one that was trained "
                "with network.latent"
            )
        return np.stack([latent_of(seed, self.latent) for seed in seeds])

    def from_masks(
        self,
        masked_faces: np.ndarray,
        masks: np.ndarray | None = None,
        *,
        seeds: Sequence[int | None] | None = None,
        all_resolutions: bool = False,
        batch_size: int = 32,
    ) -> np.ndarray | dict[int, np.ndarray]:
        """Hallucinates around aligned faces.

        Args:
            masked_faces: (n, 128, 128, 3) in [0, 1], black outside the face.
            masks: (n, 128, 128), 1 = face, 0 = to be hallucinated. Without them the mask of a face
                is what is not black in it, holes filled.
            seeds: for every face which of its variants, 0 or more, or None: the single best
                picture, as without ``seeds``.
            all_resolutions: return the output of every block.
            batch_size: faces at a time; changes memory and speed, not the result.

        Returns:
            (n, 128, 128, 3) float32 in [0, 1]; or ``{8: (n, 8, 8, 3), …, 128: …}``.

        Raises:
            ImageError: wrong shape, a value outside [0, 1], or a face without pixels.
            FacehalError: the model knows no variants.
            ValueError: a batch size below 1, a negative seed, or not one for every face.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is 1 or more, not {batch_size}")
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
        latents = None if seeds is None else self._latents(seeds, len(faces))
        if len(faces) == 0:
            empty = {n: np.zeros((0, n, n, 3), np.float32) for n in self.resolutions}
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
        faces = faces * masks
        slices = [slice(n, n + batch_size) for n in range(0, len(faces), batch_size)]
        parts = [
            self.engine.run(faces[part], masks[part], None if latents is None else latents[part])
            for part in slices
        ]
        sizes = self.resolutions if all_resolutions else (side,)
        pictures = {size: np.concatenate([part[size] for part in parts]) for size in sizes}
        return pictures if all_resolutions else pictures[side]


def _read(photo: str | os.PathLike[str] | np.ndarray) -> tuple[np.ndarray, str]:
    """A photo as (H, W, 3) uint8 RGB, and what an error calls it."""
    if not isinstance(photo, np.ndarray):
        return read_image(photo), str(photo)
    if photo.ndim != 3 or photo.shape[2] != 3:
        raise ImageError(f"a photo has the shape (H, W, 3), not {photo.shape}")
    return np.ascontiguousarray(to_uint8(photo)), "the picture"


def mask_of_pixels(masked_face: np.ndarray) -> np.ndarray:
    """The mask of a face on black: (h, w, 3) → (h, w) uint8, what is not black, without holes.

    Black pixels inside a face (pupils, nostrils) belong to it.

    Raises:
        ImageError: all pixels are black.
    """
    lit: np.ndarray = (masked_face.max(axis=-1) > 0).astype(np.uint8)
    contours, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        raise ImageError("a masked face is black all over; give a face on black, or its mask")
    cv2.drawContours(lit, contours, -1, 1, thickness=cv2.FILLED)
    return lit
