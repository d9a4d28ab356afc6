"""Photos to photos with another person's face."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facehal.errors import FacehalError
from facehal.files import unique_names
from facehal.images import contact_sheet, write_png
from facehal.inference.swap import Swapper
from facehal.jobs.mapping import each
from facehal.jobs.records import Skipped

SHEET_ROWS = 24  # of swapped.png
OUTPUTS = ("swapped", "swapped.png")  # in the output folder


@dataclass(frozen=True)
class Done:
    """What :func:`swap` did.

    Attributes:
        sheet: path of ``swapped.png``.
        photos: how many there were.
        pictures: how many got another face.
    """

    sheet: Path
    photos: int
    pictures: int


def swap(
    photos: Sequence[Path],
    out: str | os.PathLike[str],
    swapper: Swapper,
    *,
    progress: bool = True,
) -> Done:
    """Writes ``swapped/NAME.png`` for every photo, and ``swapped.png`` to look at.

    Photos without a face or that cannot be read are skipped, said so on standard error and listed
    in ``skipped.csv``. What was finished is on the sheet and in the list also after Ctrl-C.

    Args:
        photos: files. The pictures have their names; two of one name get a number.
        out: folder for the pictures.
        swapper: the model, and whose face.
        progress: draw a bar on standard error where there are several photos.

    Raises:
        ImageError: a picture cannot be written.
        FacehalError: none of the photos could be used.
    """
    out = Path(out)
    names = unique_names([photo.stem for photo in photos])
    rows: list[list[np.ndarray]] = []
    sheet = out / "swapped.png"
    with Skipped(out / "skipped.csv") as skipped:
        try:
            for done in each(
                swapper.swap,
                photos,
                skipped=skipped,
                unit="photo",
                progress=progress and len(photos) > 1,
            ):
                one = done.result
                write_png(out / "swapped" / f"{names[done.index]}.png", one.picture)
                if len(rows) < SHEET_ROWS:
                    rows.append([one.before, one.crop, one.made, one.after])
        finally:
            if rows:
                labels = ["photo", "crop", f"as the {swapper.identity}", "swapped"]
                write_png(sheet, contact_sheet(rows, labels=labels))
        count = len(photos) - len(skipped)
    if count == 0:
        raise FacehalError(f"none of {len(photos)} photos could be used; see {skipped.path}")
    return Done(sheet, len(photos), count)
