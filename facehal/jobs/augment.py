"""Hallucinated versions of a whole prepared set, to train recognition networks on (section 4.4).

Made for sets of millions: of the pictures some hundred are in memory at a time, of everything else
a row per face. The pictures themselves say what is done, so that a job that was killed goes on.
"""

import contextlib
import csv
import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from facehal.data.faceset import FaceSet, read_face, shrunk
from facehal.errors import ConfigError, DataError
from facehal.faces.mask import hull_masks
from facehal.files import (
    locked,
    remove_unfinished,
    replacing,
    unique_names,
    write_text,
)
from facehal.images import WRITERS, contact_sheet, read_image, to_float, write_png
from facehal.inference.hallucinator import Portable, portable
from facehal.jobs.mapping import Engine, Threads, each, processes
from facehal.jobs.on_ray import Ray
from facehal.jobs.records import Skipped
from facehal.places import Address, between, is_address, modified, overlapped, place
from facehal.processes import usable_cores
from facehal.shipped import find_model
from facehal.weights.store import file_sha256

SHOWN = 12  # faces in augmented.png
SHOWN_VARIANTS = 4  # of each
TRAINING_SHARE = 0.9  # "90% of the data is used for training and the rest for validation"
COLUMNS = ["file", "subject", "label", "synthetic", "variant", "split"]


@dataclass(frozen=True)
class Augmented:
    """What came of :func:`augment`.

    Attributes:
        images: path of ``images.csv``.
        faces: that were hallucinated, now or earlier.
        pictures: hallucinated pictures of them in the folder.
        subjects: people they show.
        new: pictures made by this call; the others were there.
        skipped: faces that could not be used; ``skipped.csv`` says why.
    """

    images: Path
    faces: int
    pictures: int
    subjects: int
    new: int
    skipped: int


def augment(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] = "compact",
    *,
    variants: int = 0,
    form: str = "png",
    engine: str | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    on: Ray | None = None,
    progress: bool = True,
) -> Augmented:
    """Hallucinates new context around every face of a prepared set, a folder per subject.

    The paper labels a hallucinated picture as the subject of the face that it was made from, and
    trains on the real pictures (its Dataset 1) or on both (Dataset 2). ``images.csv`` lists both:
    the rows with ``synthetic`` 0 are Dataset 1, all rows Dataset 2.

    Stopped, it goes on where it was: a picture that exists and is newer than its face is kept, and
    only the others are made. More ``variants`` in the same folder are added to those there.

    Damaged faces are skipped, said so on standard error and listed in ``skipped.csv``
    (:class:`facehal.jobs.records.Skipped`); ``images.csv`` is without them.

    Args:
        data: a folder that ``preprocess`` wrote from photos in a folder per subject; here and for
            ``out`` an address of a bucket, too (:mod:`facehal.places`), where one job at a time may
            write: nothing keeps a second one out.
        out: folder for ``pictures/SUBJECT/NAME.png``; ``images.csv`` (``file``, relative to
            ``out``; ``subject``; ``label``, subjects numbered from 0; ``synthetic``, 0 or 1;
            ``variant``, 0 or its number; ``split``, ``train`` or ``val``, 9 : 1, a face and its
            hallucinations in the same one); ``augmented.png`` to look at; ``augment.json``, which
            model made them.
        model: a ``.keras`` or ``.onnx`` file or a shipped model. The pictures have its largest
            resolution.
        variants: also ``NAME_v1.png`` … so many other pictures of every face, by the seeds 1, 2, …
            as :func:`facehal.jobs.hallucinate.hallucinate` has them; ``NAME.png`` is the single
            best one.
        form: ``png``, or ``webp``, with a loss, a sixth of the size.
        engine: as :func:`facehal.load`; ``onnxruntime`` is the faster one on a CPU.
        limit: use only the first faces.
        batch_size: faces that a worker has in hand and its model takes at a time.
        workers: processes, each with the model; by default one for each core that may be used, and
            with the engine ``keras``, which knows itself how to use cores or a GPU, this one alone.
        on: a Ray cluster, where the work is done instead.
        progress: draw a bar on standard error.

    Raises:
        DataError: no prepared faces, faces without a subject, none that can be used, ``out``
            holds the pictures of another model or is written to by another process, or a worker
            process died.
        ConfigError: an odd option.
        StorageError: no way into a bucket, or no longer; the pictures that are there stay.
        FacehalError: no such model, it knows no variants, or a file cannot be written.
    """
    if form not in WRITERS:
        raise ConfigError(f"format {form}: there are {' and '.join(WRITERS)}")
    if min(variants, batch_size - 1) < 0:
        raise ConfigError("variants are 0 or more, a batch 1 or more")
    data, out = place(data), place(out)
    prepared = FaceSet.open(data, limit)
    rows = prepared.frame
    _check_subjects(rows, data)
    source = portable(model, engine=engine, threads=1)
    names = _picture_names(rows)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error
    if on is not None:
        on.check(out, data)
        on.check_engine(source.engine)
        source = source.packed()
    with locked(out, DataError), Skipped(out / "skipped.csv") as skipped:
        _claim(out, data, model, form)
        work = _Work(source, out, prepared.side, variants, form)

        begun = _begun(out, names, variants, form)

        def send(chunk: range) -> _Chunk:
            return _Chunk(
                prepared.paths(chunk),
                prepared.landmarks[chunk.start : chunk.stop],
                names[chunk.start : chunk.stop],
                begun[chunk.start : chunk.stop],
            )

        new, usable = 0, np.ones(len(rows), bool)
        starts = range(0, len(rows), batch_size)
        chunks = [range(i, min(i + batch_size, len(rows))) for i in starts]
        for done in each(
            work,
            chunks,
            send=send,
            engine=on or _here(source, workers, len(chunks)),
            size=len,
            unit="face",
            progress=progress,
        ):
            new += done.result.new
            for index, damage in done.result.damaged.items():
                row = done.item[index]
                usable[row] = False
                skipped.add(str(prepared.paths([row])[0]), damage)
        remove_unfinished(out / "pictures")
        faces = int(usable.sum())
        if not faces:
            raise DataError(f"none of {len(rows)} faces could be used; see {skipped.path}")
        subjects = _write_list(out, data, rows, names, usable, variants, form)
        _write_sheet(out, prepared, names, np.flatnonzero(usable), variants, form)
    return Augmented(out / "images.csv", faces, faces * (1 + variants), subjects, new, len(skipped))


def _here(source: Portable, workers: int | None, chunks: int) -> Engine:
    """Where the work is done when nobody says otherwise."""
    if source.engine == "keras" and workers is None:
        return Threads(3)  # one is with the model, the others read and write meanwhile
    return processes(workers or usable_cores(), chunks)


@dataclass(frozen=True)
class _Chunk:
    """Faces that are worked on together; small, for it travels."""

    faces: Sequence[Path]
    points: np.ndarray  # (n, 68, 2)
    names: Sequence[str]  # of their pictures, without the ending
    begun: np.ndarray  # (n,) bool, whether there may be any of them


@dataclass
class _Outcome:
    new: int = 0  # pictures
    damaged: dict[int, DataError] = field(default_factory=dict)  # by their number in the chunk


# The engine `keras` works in threads, whose model one of them has at a time.
_MODEL = threading.Lock()


@dataclass(frozen=True)
class _Work:
    """A chunk of faces → their pictures in the folder, where they are not there yet."""

    model: Portable
    out: Path
    side: int  # of the faces
    variants: int
    form: str

    def __call__(self, chunk: _Chunk) -> _Outcome:
        waits = is_address(self.out) or is_address(chunk.faces[0])
        with overlapped(waits=waits) as mapped:
            return self._made(chunk, mapped)

    def _made(self, chunk: _Chunk, mapped: Callable[..., Iterator[Any]]) -> _Outcome:
        outcome = _Outcome()
        missing = list(mapped(self._missing, chunk.faces, chunk.names, chunk.begun))
        wanting = [index for index, seeds in enumerate(missing) if seeds]
        read: dict[int, np.ndarray] = {}
        found = mapped(self._read, [chunk.faces[index] for index in wanting])
        for index, face in zip(wanting, found, strict=True):
            if isinstance(face, DataError):
                outcome.damaged[index] = face
            else:
                read[index] = face
        if not read:
            return outcome
        hallucinator = self.model.load()
        places = list(read)
        whole = np.stack(list(read.values())), hull_masks(chunk.points[places], self.side)
        faces, masks = shrunk(*whole, hallucinator.side)
        masked = to_float(faces) * masks[..., None]
        for seed in range(self.variants + 1):
            wanted = [i for i, index in enumerate(places) if seed in missing[index]]
            if not wanted:
                continue
            with _MODEL:
                pictures = hallucinator.from_masks(
                    masked[wanted],
                    masks[wanted],
                    seeds=[seed or None] * len(wanted),
                    batch_size=len(wanted),
                )
            names = [_picture(chunk.names[places[i]], seed, self.form) for i in wanted]
            for _ in mapped(WRITERS[self.form], [self.out / name for name in names], pictures):
                pass
            outcome.new += len(wanted)
        return outcome

    def _read(self, face: Path) -> np.ndarray | DataError:
        try:
            return read_face(face, self.side)
        except DataError as error:
            return error

    def _missing(self, face: Path, name: str, begun: bool) -> list[int]:
        """Which of a face's pictures are not there, or are older than it."""
        made: dict[int, float] = {}
        for seed in range(self.variants + 1) if begun else ():
            with contextlib.suppress(OSError):
                made[seed] = modified(self.out / _picture(name, seed, self.form))
        try:
            prepared = modified(face) if made else math.inf
        except OSError:  # it is named when it is read
            prepared = math.inf
        return [n for n in range(self.variants + 1) if made.get(n, -math.inf) < prepared]


def _begun(out: Path, names: Sequence[str], variants: int, form: str) -> np.ndarray:
    """(n,) bool: of which faces there may be pictures; in a bucket one list of all says it.

    There a question for each costs as much as writing it.
    """
    if not is_address(out):
        return np.ones(len(names), bool)
    there = {str(file) for file in cast(Address, out / "pictures").files()}

    def wanted(name: str) -> Iterator[str]:
        return (f"{out}/{_picture(name, seed, form)}" for seed in range(variants + 1))

    return np.array([not there.isdisjoint(wanted(name)) for name in names], bool)


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


def _claim(out: Path, data: Path, model: str | os.PathLike[str], form: str) -> None:
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
        if earlier.get("format", "png") != form:
            raise DataError(f"{out}: its pictures are not {form}; name another folder")
    about = {
        "model": str(model),
        "model_sha256": digest,
        "data": str(data.resolve()),
        "format": form,
    }
    write_text(path, json.dumps(about, indent=2, ensure_ascii=False) + "\n", DataError)


_LIKE_A_VARIANT = re.compile(r"_v\d+$")


def _picture_names(rows: pd.DataFrame) -> list[str]:
    """``pictures/SUBJECT/NAME``; names that two faces of a subject share get a number.

    None ends as a variant's name does: that of a face which is called so gets an underscore.
    """
    wanted = [
        _LIKE_A_VARIANT.sub(r"\g<0>_", f"pictures/{subject}/{Path(face).stem}")
        for face, subject in zip(rows["face"], rows["subject"], strict=True)
    ]
    return unique_names(wanted)


def _picture(name: str, variant: int, form: str) -> str:
    """The file of a face's picture; variant 0 is the single best one."""
    return f"{name}_v{variant}.{form}" if variant else f"{name}.{form}"


def _write_list(
    out: Path,
    data: Path,
    rows: pd.DataFrame,
    names: Sequence[str],
    usable: np.ndarray,
    variants: int,
    form: str,
) -> int:
    """Writes ``images.csv``, line by line; returns how many subjects it has."""
    subjects = rows["subject"].to_numpy(object)
    labels = {name: index for index, name in enumerate(sorted(set(subjects[usable])))}
    # Of every face, also of a damaged one: the others' split does not change when it is mended.
    training = np.random.default_rng(0).random(len(rows)) < TRAINING_SHARE
    to_data = between(out, data)
    faces = rows["face"].to_numpy(object)
    path = out / "images.csv"
    try:
        with (
            replacing(path) as part,
            part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for variant in range(-1, variants + 1):  # the real pictures first
                real = variant < 0
                for row in np.flatnonzero(usable).tolist():
                    where = (
                        f"{to_data}/{faces[row]}" if real else _picture(names[row], variant, form)
                    )
                    split = "train" if training[row] else "val"
                    subject = subjects[row]
                    line = [where, subject, labels[subject], int(not real), max(variant, 0), split]
                    table.writerow(line)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
    return len(labels)


def _write_sheet(
    out: Path,
    prepared: FaceSet,
    names: Sequence[str],
    usable: np.ndarray,
    variants: int,
    form: str,
) -> None:
    """Faces spread over the set, their masks and what was hallucinated, below each other."""
    chosen = usable[np.linspace(0, len(usable) - 1, min(SHOWN, len(usable))).astype(int)]
    made = [
        [read_image(out / _picture(names[row], variant, form)) for row in chosen.tolist()]
        for variant in range(min(variants, SHOWN_VARIANTS) + 1)
    ]
    faces, masks = shrunk(*prepared.read(chosen), made[0][0].shape[0])
    shown = [list(faces), list(faces * masks[..., None]), *made]
    write_png(out / "augmented.png", contact_sheet(shown, cell=128))
