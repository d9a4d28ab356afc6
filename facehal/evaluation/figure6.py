"""Figure 6: faces of the source on pictures of the target, step by step."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facehal.images import contact_sheet, list_images, write_png
from facehal.inference.hallucinator import AlignedFace, Hallucinator, load
from facehal.inference.keras_engine import KerasEngine
from facehal.inference.swap import load_deepfake
from facehal.models.deepfake.geometry import mapped, square, to_face

ROWS = 24  # of the picture


def figure6(
    model: str | os.PathLike[str],
    photos: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    targets: Sequence[str | os.PathLike[str]] = (),
    beside: str | os.PathLike[str] | None = None,
) -> Path:
    """Draws a row for every photo: source, rectangle, hallucinated, target, blended.

    The rectangle is the tight crop of the masked face, as the encoder gets it; hallucinated is what
    the decoder makes of it; the target is the picture that is nearest among those in the model, or
    among ``targets``; blended is the model's picture, as in Table 1.

    Args:
        model: a trained face swap.
        photos: files and folders, of the source; at most the first 24 are shown.
        out: the PNG.
        targets: photos of the target, in place of those in the model.
        beside: another model, for a column with what it makes of the same masked face: the figure's
            bottom row.

    Raises:
        FacehalError: no such model, or one of another kind.
        ImageError: a photo cannot be read, or there is none.
        NoFaceError: a photo shows no face.
        WeightsError: dlib or its landmark model is not installed.
    """
    deepfake = load_deepfake(model)
    swap = Hallucinator(KerasEngine(deepfake))
    if targets:
        faces = [swap.prepare(path).face for path in list_images(targets)]
        deepfake.set_targets(np.stack(faces))
    files = list_images(photos)[:ROWS]
    found = [swap.prepare(path) for path in files]
    masked, masks = _inputs(found)
    crops = deepfake.crops(masked, masks[..., None])
    made = deepfake.reconstruct(crops, deepfake.identity)
    columns = {
        "source": np.stack([one.face for one in found]),
        "rectangle": _in_place(crops, swap.side),
        "hallucinated": _in_place(made, swap.side),
        "target": np.asarray(deepfake.nearest(masked, masks[..., None])),
        "blended": swap.from_masks(masked, masks),
    }
    if beside is not None:
        other = load(beside)
        others = _inputs([other.prepare(path) for path in files])
        columns[Path(beside).stem] = other.from_masks(*others)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    write_png(out, contact_sheet(rows, labels=list(columns)))
    return Path(out)


def _inputs(found: Sequence[AlignedFace]) -> tuple[np.ndarray, np.ndarray]:
    """Masked faces (n, S, S, 3) and masks (n, S, S), float32."""
    masks = np.stack([one.mask for one in found]).astype(np.float32)
    return np.stack([one.masked for one in found]), masks


def _in_place(crops: np.ndarray, side: int) -> np.ndarray:
    """Crops on black, where they are in the face: (n, c, c, 3) → (n, side, side, 3)."""
    there = np.asarray(mapped(crops, to_face(side, crops.shape[1])))
    placed: np.ndarray = there * square(side)[..., None]
    return placed
