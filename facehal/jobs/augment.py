"""Hallucinated versions of a whole prepared set, to train recognition networks on (section 4.4)."""

import csv
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from facehal.data.faceset import FaceSet, shrunk
from facehal.errors import DataError
from facehal.files import unique_names, write_text
from facehal.images import contact_sheet, read_image, to_float, write_png
from facehal.inference.hallucinator import load
from facehal.jobs.mapping import Threads, each
from facehal.shipped import find_model
from facehal.weights.store import file_sha256

CHUNK = 256  # faces in memory at a time
SHOWN = 12  # faces in augmented.png
TRAINING_SHARE = 0.9  # "90% of the data is used for training and the rest for validation"


@dataclass(frozen=True)
class Augmented:
    """What came of :func:`augment`.

    Attributes:
        images: path of ``images.csv``.
        pictures: hallucinated pictures in the folder.
        subjects: people they show.
        new: pictures made by this call; the others were there.
    """

    images: Path
    pictures: int
    subjects: int
    new: int


def augment(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] = "compact",
    *,
    engine: str | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> Augmented:
    """Hallucinates new context around every face of a prepared set, a folder per subject.

    The paper labels a hallucinated picture as the subject of the face that it was made from, and
    trains on the real pictures (its Dataset 1) or on both (Dataset 2). ``images.csv`` lists both:
    the rows with ``synthetic`` 0 are Dataset 1, all rows Dataset 2.

    Stopped, it goes on where it was: a picture that exists and is newer than its face is kept.

    Args:
        data: a folder that ``preprocess`` wrote from photos in a folder per subject.
        out: folder for ``pictures/SUBJECT/NAME.png``; ``images.csv`` (``file``, relative to
            ``out``; ``subject``; ``label``, subjects numbered from 0; ``synthetic``, 0 or 1;
            ``split``, ``train`` or ``val``, 9 : 1, a face and its hallucination in the same one);
            ``augmented.png`` to look at; ``augment.json``, which model made them.
        model: a ``.keras`` or ``.onnx`` file or a shipped model. The pictures have its largest
            resolution.
        engine: as :func:`facehal.load`; ``onnxruntime`` is the faster one on a CPU.
        limit: use only the first faces.
        batch_size: faces that the model takes at a time.
        progress: draw a bar on standard error.

    Raises:
        DataError: no prepared faces, faces without a subject, a damaged face, or ``out`` holds the
            pictures of another model.
        FacehalError: no such model, or a file cannot be written.
    """
    data, out = Path(data), Path(out)
    prepared = FaceSet.open(data, limit)
    rows = prepared.frame.copy()
    _check_subjects(rows, data)
    hallucinator = load(model, engine=engine)
    _claim(out, data, model)
    rows["picture"] = _picture_names(rows)
    fresh = [_is_done(out / row.picture, data / row.face) for row in rows.itertuples()]
    waiting = rows[~np.array(fresh)]
    chunks = [waiting.iloc[i : i + CHUNK] for i in range(0, len(waiting), CHUNK)]

    def read(chunk: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        return shrunk(*prepared.read(chunk.index), hallucinator.side)

    def write(item: tuple[str, np.ndarray]) -> None:
        name, picture = item
        write_png(out / name, picture)

    # OpenCV works outside Python's lock: the next faces are read beside the model's work.
    for chunk in each(
        read,
        chunks,
        engine=Threads(1),
        size=len,
        finished=sum(fresh),
        unit="face",
        progress=progress,
    ):
        faces, masks = chunk.result
        masked = to_float(faces) * masks[..., None]
        pictures = hallucinator.from_masks(masked, masks, batch_size=batch_size)
        made = list(zip(chunk.item["picture"], pictures, strict=True))
        for _ in each(write, made, engine=Threads(2), progress=False):
            pass

    _write_list(out, data, rows)
    _write_sheet(out, prepared, rows, hallucinator.side)
    return Augmented(out / "images.csv", len(rows), rows["subject"].nunique(), len(waiting))


def _check_subjects(rows: pd.DataFrame, data: Path) -> None:
    """Every face needs a subject, whose name becomes a folder."""
    nameless = int((rows["subject"] == "").sum())
    if nameless:
        raise DataError(
            f"{data}: {nameless} of {len(rows)} faces have no subject; prepare photos that lie in "
            "a folder per subject"
        )
    for name in rows["subject"].unique():
        if name.startswith(".") or any(sign in name for sign in "/\\:\0"):
            raise DataError(f"{data}: the subject {name!r} cannot be the name of a folder")


def _claim(out: Path, data: Path, model: str | os.PathLike[str]) -> None:
    """Notes which model makes the pictures; refuses a folder with those of another one."""
    path = out / "augment.json"
    digest = file_sha256(find_model(model))
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); name another folder") from None
        if earlier.get("model_sha256") != digest:
            raise DataError(
                f"{out}: holds pictures of another model ({earlier.get('model')}); name another "
                "folder"
            )
        if earlier.get("data") != str(data.resolve()):
            raise DataError(
                f"{out}: holds pictures of other faces ({earlier.get('data')}); name another folder"
            )
    about = {"model": str(model), "model_sha256": digest, "data": str(data.resolve())}
    write_text(path, json.dumps(about, indent=2, ensure_ascii=False) + "\n", DataError)


def _picture_names(rows: pd.DataFrame) -> list[str]:
    """``pictures/SUBJECT/NAME.png``; names that two faces of a subject share get a number."""
    wanted = [
        f"pictures/{subject}/{Path(face).stem}"
        for face, subject in zip(rows["face"], rows["subject"], strict=True)
    ]
    return [f"{name}.png" for name in unique_names(wanted)]


def _is_done(picture: Path, face: Path) -> bool:
    try:
        return picture.stat().st_mtime >= face.stat().st_mtime
    except OSError:  # a missing face is named when it is read
        return False


def _write_list(out: Path, data: Path, rows: pd.DataFrame) -> None:
    subjects = {name: index for index, name in enumerate(sorted(rows["subject"].unique()))}
    training = np.random.default_rng(0).random(len(rows)) < TRAINING_SHARE
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "subject", "label", "synthetic", "split"])
    to_data = Path(os.path.relpath(data, out)).as_posix()
    for synthetic, folder, column in ((0, f"{to_data}/", "face"), (1, "", "picture")):
        for name, subject, train in zip(rows[column], rows["subject"], training, strict=True):
            split = "train" if train else "val"
            table.writerow([folder + name, subject, subjects[subject], synthetic, split])
    write_text(out / "images.csv", text.getvalue(), DataError)


def _write_sheet(out: Path, prepared: FaceSet, rows: pd.DataFrame, side: int) -> None:
    """Faces spread over the set, their masks and what was hallucinated, below each other."""
    chosen = rows.iloc[np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int)]
    faces, masks = shrunk(*prepared.read(chosen.index), side)
    made = [read_image(out / name) for name in chosen["picture"]]
    write_png(
        out / "augmented.png",
        contact_sheet([list(faces), list(faces * masks[..., None]), made], cell=128),
    )
