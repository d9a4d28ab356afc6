"""Prepared faces and their masks as pictures, for other programs to work on (section 4.1)."""

import os
from pathlib import Path

import numpy as np

from facehal.data.faceset import FaceSet
from facehal.errors import DataError
from facehal.images import resize, write_png
from facehal.jobs.mapping import Threads, each
from facehal.processes import usable_cores

CHUNK = 16  # faces that a thread has in hand


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
    faces = FaceSet.open(data, limit)
    names = [name.removeprefix("faces/") for name in faces.frame["face"]]
    if flat:
        names = [name.rsplit("/", 1)[-1] for name in names]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{data}: two faces are called {twice}; keep the subfolders")
    out = Path(out)

    def write(rows: range) -> None:
        for row, face, mask in zip(rows, *faces.read(rows), strict=True):
            face = resize(face, size)
            hole = resize(mask * np.uint8(255), size) <= 127
            shown = np.where(hole == (white == "hole"), 255, 0).astype(np.uint8)
            write_png(out / "faces" / names[row], face)
            write_png(out / "masked" / names[row], face * ~hole[..., None])
            write_png(out / "masks" / names[row], shown)

    # OpenCV decodes and encodes outside Python's lock.
    chunks = [range(i, min(i + CHUNK, len(faces))) for i in range(0, len(faces), CHUNK)]
    engine = Threads(min(8, usable_cores()))
    for _ in each(write, chunks, engine=engine, size=len, unit="face", progress=progress):
        pass
    return len(faces)
