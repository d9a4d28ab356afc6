"""Faces by who is on them: what a recognition network is trained and validated on (section 4.4)."""

import csv
import json
import os
from collections.abc import Container, Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd

from facehal.data.faceset import FaceSet
from facehal.errors import DataError


def with_photos(faces: FaceSet, least: int) -> FaceSet:
    """The faces of people who have so many or more; the set itself where nobody has fewer.

    Raises:
        DataError: faces without a subject; nobody has so many, or but one person.
    """
    labels = faces.labels
    nameless = int((labels < 0).sum())
    if nameless:
        raise DataError(
            f"{faces.folders[0]}: {nameless} of {len(faces)} faces have no subject: sort the "
            "photos into a folder per subject, or name them in a manifest.csv beside them"
        )
    photos = np.bincount(labels)
    if (photos >= least).sum() < 2:
        raise DataError(
            f"{faces.folders[0]}: telling people apart takes two or more with {least} photos each; "
            f"of {len(photos)} the one with most has {photos.max()}"
        )
    known = photos[labels] >= least
    return faces if known.all() else faces.chosen(np.flatnonzero(known))


def split(faces: FaceSet, share: float) -> tuple[FaceSet, FaceSet | None]:
    """Of everybody's photos a share is held out: (those to train on, those held out).

    Of a person with n photos n·share, rounded, those whose SHA-256 is lowest; one at least stays.
    It depends on nothing but the photos, so that every data arm and every seed holds out the same.

    Args:
        faces: with subjects.
        share: in [0, 1).

    Returns:
        The second is None where nothing is held out.
    """
    frame = pd.DataFrame({"label": faces.labels, "photo": faces.frame["source_sha256"]})
    place = frame.sort_values("photo", kind="stable").groupby("label").cumcount().sort_index()
    photos = np.bincount(faces.labels)
    many = np.minimum(np.floor(photos * share + 0.5), photos - 1)
    held = place.to_numpy() < many[faces.labels]
    if not held.any():
        return faces, None
    return faces.chosen(np.flatnonzero(~held)), faces.chosen(np.flatnonzero(held))


def hallucinated(
    faces: FaceSet, folders: Sequence[str | os.PathLike[str]], variants: int | None = None
) -> FaceSet:
    """The pictures that ``facehal augment`` made of some faces, as a set of their own.

    Each has the subject, the photo's hash and the landmarks of its face; a face without a picture
    (augment may have skipped it) has none.

    Args:
        faces: of whom; a picture of any other face is left out.
        folders: what augment wrote, for each folder of ``faces`` one, in any order.
        variants: take of every face the single best picture and the first so many variants; None:
            all that there are.

    Raises:
        DataError: a folder was not written by augment or from these faces, a picture lies outside
            of it, or none is of these faces.
    """
    frames, points, places = [], [], []
    for place, folder in enumerate(map(Path, folders)):
        mine = np.flatnonzero(faces.places == _made_from(faces, folder)).tolist()
        known = {faces.frame["face"].iloc[row]: row for row in mine}
        found = list(_pictures(folder, known, variants))
        if not found:
            raise DataError(f"{folder / 'images.csv'}: none of its pictures is of these faces")
        rows = [known[face] for face, _ in found]
        frame = faces.frame.iloc[rows].reset_index(drop=True)
        frames.append(frame.assign(face=pd.Series([name for _, name in found], dtype=object)))
        points.append(faces.landmarks[rows])
        places.append(np.full(len(rows), place, np.intp))
    made = FaceSet(
        tuple(map(Path, folders)),
        pd.concat(frames, ignore_index=True),
        np.concatenate(points),
        faces.side,
        np.concatenate(places),
    )
    made.read([0])  # one of another size is said before the training
    return made


def _made_from(faces: FaceSet, folder: Path) -> int:
    """Which of the set's folders augment's folder was made from."""
    path = folder / "augment.json"
    try:
        data = Path(json.loads(path.read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run `facehal augment` first") from None
    for place, one in enumerate(faces.folders):
        if one.resolve() == data.resolve():
            return place
    raise DataError(f"{folder}: holds pictures of {data}, which is not among the faces")


def _pictures(
    folder: Path, faces: Container[str], variants: int | None
) -> Iterator[tuple[str, str]]:
    """(face, picture) for the pictures of some faces, in the order of ``images.csv``.

    The list has the real pictures first, then in the same order the best pictures, then the first
    variants, and so on.
    """
    path = folder / "images.csv"
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        real = [row for row in rows if row["synthetic"] == "0"]
        made = [(int(row.get("variant") or 0), row) for row in rows if row["synthetic"] == "1"]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); run `facehal augment` first") from None
    if not real or len(made) % len(real):
        raise DataError(f"{path}: not a list that augment wrote; run `facehal augment` again")
    for (variant, row), owner in zip(made, cycle(real), strict=False):
        name = row["file"]
        if not Path(name).name.startswith(Path(owner["file"]).stem):
            raise DataError(
                f"{path}: {name} is not of {owner['file']}; run `facehal augment` again"
            )
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise DataError(f"{path}: the picture {name!r} lies outside of the folder: not read")
        face = _ending(owner["file"], faces)
        if face and (variants is None or variant <= variants):
            yield face, name


def _ending(file: str, faces: Container[str]) -> str | None:
    """The face that a path ends with: the list names it relative to augment's folder."""
    parts = file.split("/")
    endings = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((one for one in endings if one in faces), None)
