"""Reading what `facehal.jobs.preprocess` wrote: the manifest, the faces and their masks."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from facehal.data.schema import COLUMNS, FACE_POINTS, SIZE, TEXT_COLUMNS
from facehal.errors import DataError, ImageError
from facehal.faces.mask import hull_masks
from facehal.images import read_image


def read_manifest(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Read and check the manifest of a preprocessed folder: one row per photo, failed ones too.

    The columns are those of `facehal.jobs.preprocess.COLUMNS`; text columns hold strings (empty
    where there is nothing), the others numbers (NaN where there is nothing).

    Raises:
        DataError: no manifest, not one of ours, or no usable face in it.
    """
    path = Path(folder) / "manifest.csv"
    if not path.is_file():
        hint = f"run `facehal preprocess PHOTOS {folder}` first"
        if path.with_name("manifest.partial.csv").is_file():
            hint = "preprocessing was interrupted: run it again, it goes on"
        raise DataError(f"{path}: no manifest: {hint}")
    # "NA" and "None" are names of people, too: only numbers can be missing.
    missing = {name: [""] for name in COLUMNS if name not in TEXT_COLUMNS}
    try:
        frame = pd.read_csv(
            path,
            dtype=dict.fromkeys(TEXT_COLUMNS, str),
            keep_default_na=False,
            na_values=missing,
            encoding_errors="surrogateescape",
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a manifest: {str(error).splitlines()[0]}") from error
    absent = [name for name in COLUMNS if name not in frame.columns]
    if absent:
        raise DataError(f"{path}: the column {absent[0]} is missing: preprocess the photos again")
    ok = frame[frame["status"] == "ok"]
    if ok.empty:
        raise DataError(f"{path}: none of its {len(frame)} photos gave a face")
    numbers = ok[FACE_POINTS]
    if not all(map(pd.api.types.is_numeric_dtype, numbers.dtypes)) or numbers.isna().any(axis=None):
        raise DataError(f"{path}: a face has no landmarks: preprocess the photos again")
    return frame


def load_faces(
    folder: str | os.PathLike[str], *, limit: int | None = None, progress: bool = False
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Load the aligned faces of a preprocessed folder and their masks.

    Args:
        folder: output folder of `preprocess`.
        limit: take the first so many faces in the order of the manifest.
        progress: show a bar.

    Returns:
        faces (n, 128, 128, 3) uint8 RGB, masks (n, 128, 128) uint8 with 1 = face, and the
        manifest's rows of these faces, numbered from 0.

    Raises:
        DataError: as `read_manifest`, or a face's file is missing, damaged or of another size.
    """
    frame = usable(read_manifest(folder), limit)
    return *load_rows(folder, frame, progress=progress), frame


def usable(frame: pd.DataFrame, limit: int | None = None) -> pd.DataFrame:
    """The rows of a manifest that have a face, numbered from 0; at most the first ``limit``."""
    frame = frame[frame["status"] == "ok"].head(limit if limit is not None else len(frame))
    return frame.reset_index(drop=True)


def load_rows(
    folder: str | os.PathLike[str], frame: pd.DataFrame, *, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Load the faces of some rows of `usable`, for sets that do not fit into memory at once.

    Returns:
        faces (n, 128, 128, 3) uint8 RGB and masks (n, 128, 128) uint8 with 1 = face.

    Raises:
        DataError: a face's file is missing, damaged or of another size.
    """
    folder = Path(folder)
    faces = np.empty((len(frame), SIZE, SIZE, 3), np.uint8)

    def load(item: tuple[int, str]) -> None:
        index, name = item
        try:
            face = read_image(folder / name)
        except ImageError as error:
            raise DataError(f"{error}: preprocess the photos again") from error
        if face.shape != faces.shape[1:]:
            raise DataError(f"{folder / name}: must be {SIZE}x{SIZE}: preprocess the photos again")
        faces[index] = face

    # OpenCV decodes outside Python's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        loading = pool.map(load, enumerate(frame["face"]))
        for _ in tqdm(loading, total=len(frame), unit="face", disable=not progress):
            pass
    points = frame[FACE_POINTS].to_numpy(np.float32).reshape(-1, 68, 2)
    return faces, hull_masks(points, SIZE)


def shrunk(faces: np.ndarray, masks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Prepared faces and masks for a model whose largest resolution is smaller (the tiny size).

    Args:
        faces: (n, S, S, 3) uint8.
        masks: (n, S, S) uint8, 1 = face.
        size: divides S. Faces become the mean over squares of S / size, masks the pixel at the
            middle of each, so that they stay 0 and 1.

    Returns:
        (n, size, size, 3) and (n, size, size) uint8; the arrays themselves where S is ``size``.
    """
    step = faces.shape[1] // size
    if step == 1:
        return faces, masks
    boxes = (len(faces), size, step, size, step)
    small = faces.reshape(*boxes, 3).mean(axis=(2, 4)).round().astype(np.uint8)
    return small, masks[:, step // 2 :: step, step // 2 :: step].copy()
