"""Prepared faces and their masks as pictures, for other programs to work on (section 4.1)."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from facehal.data.faceset import load_rows, read_manifest, usable
from facehal.errors import DataError
from facehal.images import resize, write_png

CHUNK = 256  # faces in memory at a time


def write_masks(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = 128,
    white: str = "hole",
    flat: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> int:
    """Writes ``faces/NAME.png``, ``masked/NAME.png`` and ``masks/NAME.png`` for every face.

    NAME is what the pictures that come back must be called for
    :func:`facehal.evaluation.table1.table1`.

    Args:
        data: a folder that ``preprocess`` wrote.
        out: folder for the pictures; those of the same names are written over.
        size: side in pixels that the other program wants; faces are resized, masks without grey.
        white: what is white in a mask, ``hole`` (to be hallucinated; most programs) or ``face``.
        flat: no subfolders, for programs that look into one folder only.
        limit: only the first faces.
        progress: draw a bar on standard error.

    Returns:
        How many faces.

    Raises:
        DataError: no prepared faces, an odd option, ``out`` is ``data`` itself, or with ``flat``
            two faces of one name.
        ImageError: a picture cannot be written.
    """
    if white not in ("hole", "face"):
        raise DataError(f"white in a mask is 'hole' or 'face', not {white!r}")
    if Path(out).resolve() == Path(data).resolve():
        raise DataError(f"{out}: its prepared faces would be written over; name another folder")
    rows = usable(read_manifest(data), limit)
    names = [name.removeprefix("faces/") for name in rows["face"]]
    if flat:
        names = [name.rsplit("/", 1)[-1] for name in names]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{data}: two faces are called {twice}; keep the subfolders")
    out = Path(out)

    def write(name: str, face: np.ndarray, mask: np.ndarray) -> None:
        face = resize(face, size)
        mask = resize(mask * np.uint8(255), size) > 127
        write_png(out / "faces" / name, face)
        write_png(out / "masked" / name, face * mask[..., None])
        write_png(out / "masks" / name, np.where(mask == (white == "face"), 255, 0).astype("uint8"))

    # OpenCV encodes outside Python's lock.
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(total=len(rows), unit="face", disable=not progress) as bar,
    ):
        for start in range(0, len(rows), CHUNK):
            faces, masks = load_rows(data, rows.iloc[start : start + CHUNK])
            list(pool.map(write, names[start : start + CHUNK], faces, masks))
            bar.update(len(faces))
    return len(rows)
