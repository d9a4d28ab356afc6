"""The batch job: a folder of photos to aligned faces and a manifest (section 4, "Training Data").

What lies in the output folder:

- `faces/…/name.png`: the aligned faces, RGB, in the photos' folder structure;
- `manifest.csv`: one row per photo, sorted by name, failed ones included
  (`facehal.data.schema.COLUMNS`);
- `contact_sheet.png`: faces from the whole set with the hull of their landmarks drawn in;
- `settings.json`: what the faces depend on besides the photos: their size, who found the landmarks;
- `manifest.partial.csv`: the journal, while the job runs or when it was cut off; in a bucket files
  in the folder `manifest.partial`.
"""

import csv
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from facehal.data.prepare import Given, detected, digest, empty_row, failed_row, prepare
from facehal.data.schema import COLUMNS, FACE_POINTS, PHOTO_POINTS, SIZE, Row
from facehal.errors import ConfigError, DataError, ImageError
from facehal.faces.alignment import EYE_DISTANCE, EYE_MIDDLE
from facehal.files import (
    first_outside,
    remove_unfinished,
    unique_names,
    write_bytes,
)
from facehal.images import contact_sheet, list_images, read_image, write_png
from facehal.jobs.mapping import Engine, each, processes
from facehal.jobs.on_ray import Ray
from facehal.jobs.records import (
    csv_bytes,
    journal_at,
    read_journal,
    read_rows,
    remove_journal,
    row_of,
    write_rows,
)
from facehal.places import here, is_address, place
from facehal.processes import usable_cores
from facehal.weights import store

JOURNAL = "manifest.partial.csv"
MIN_SIZE = 8
"""Smallest side of an aligned face in pixels: that of the first block."""

_TOGETHER = 16  # photos that go to a worker at once
_FROM_AFAR = 64  # and from a bucket or to one, where it asks for many at a time
_SHEET_FACES, _SHEET_COLUMNS, _SHEET_SIDE = 24, 6, 256

_Done = tuple[Row, bool]  # a row, and whether it was made now
_Earlier = Mapping[str, bytes]  # rows of earlier runs as lines, by photo
Points = Mapping[str, np.ndarray]


@dataclass
class Summary:
    """What `preprocess` did; `str()` of it is a few lines for people."""

    out_dir: Path
    photos: int = 0
    ok: int = 0
    failed: int = 0
    several_faces: int = 0
    """Photos with more than one face, of which the largest was taken."""
    reused: int = 0
    """Photos done by an earlier run."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why photos failed, the most frequent reason first."""
    seconds: float = 0.0

    def __str__(self) -> str:
        new = self.photos - self.reused
        share = 100 * self.ok / max(self.photos, 1)
        lines = [f"{self.ok} of {self.photos} photos gave a face ({share:.1f} %): {self.out_dir}"]
        lines += [f"  {count} failed: {reason}" for reason, count in self.reasons.items()]
        if self.several_faces:
            lines.append(f"  {self.several_faces} had several faces: the largest was taken")
        if self.reused:
            lines.append(f"  {self.reused} were done by an earlier run")
        rate = f", {new / self.seconds:.0f} photos/s" if new and self.seconds > 0 else ""
        lines.append(f"  {self.seconds:.1f} s{rate}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row of the manifest; small, for there may be millions."""

    file: str
    face: str
    reason: str  # empty: it gave a face
    several: bool  # faces
    line: bytes

    @classmethod
    def of(cls, row: Row) -> "_Kept":
        reason = "" if row["status"] == "ok" else sys.intern(row["reason"] or row["status"])
        several = not reason and int(row["faces_found"]) > 1
        return cls(row["file"], row["face"], reason, several, csv_bytes([row], COLUMNS))


@dataclass(frozen=True)
class _Task:
    """One photo to do; small, for it travels to a worker process."""

    photo: Path
    row: Row  # file, face, subject
    out_dir: Path
    size: int
    earlier: bytes | None
    given: Given | None  # None: dlib finds the landmarks


def preprocess(
    raw_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    size: int = SIZE,
    workers: int | None = None,
    landmarks: str | os.PathLike[str] | None = None,
    on: Ray | None = None,
    progress: bool = True,
) -> Summary:
    """Detect, align and describe the largest face of every photo of a folder.

    The photos lie flat or in folders; the name of the folder that holds a photo is its subject
    (empty for photos directly in `raw_dir`). Where `raw_dir` has a `manifest.csv` with the
    columns `file` and `subject`, that one names the subjects instead.

    Results are kept as they come. A second run into the same folder does only what is missing:
    photos that are new or whose SHA-256 changed, and everything if `landmarks` or `size` changed.
    The manifest does not depend on the number of workers, nor on interruptions.

    With more than one worker the caller's script must be importable (the usual
    `if __name__ == "__main__":`), as always with Python's multiprocessing.

    Args:
        raw_dir: folder of photos; here and for `out_dir` an address of a bucket, too
            (:mod:`facehal.places`).
        out_dir: where the results go; it may lie inside `raw_dir`.
        size: side of the aligned faces in pixels, 8 or more. Photos whose eyes are less than
            size / 8 pixels apart are left out: they would be enlarged more than twice.
        workers: processes; by default one for each core that may be used. 1 works in this process.
        landmarks: CSV with landmarks found elsewhere, so that dlib is not needed: columns `file`
            (relative to `raw_dir`) and px0, py0 … px67, py67 in pixels of the upright photo. An
            earlier `manifest.csv` is such a file. Photos without points in it fail.
        on: a Ray cluster, where the work is done instead of in processes of this machine.
        progress: show a bar.

    Raises:
        DataError: no photos, an unusable landmarks file, a worker process died, `out_dir`
            cannot be written, or its manifest names faces outside of it.
        ConfigError: fewer than one worker, or a size below 8.
        WeightsError: dlib or its model is not installed (and `landmarks` is not given).
        StorageError: no way into a bucket, or no longer; what is done has been kept.
        KeyboardInterrupt: passed on, after what is done has been kept.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    if size < MIN_SIZE:
        raise ConfigError(f"size must be at least {MIN_SIZE}, not {size}")
    start = time.perf_counter()
    raw, out = place(raw_dir), place(out_dir)
    photos = _photos(raw, out)
    given = None if landmarks is None else read_landmarks(landmarks)
    if given is None:
        store.path("dlib_landmarks")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if on is not None:
            on.check(out, raw)
        earlier = _earlier_rows(out, _settings(size, landmarks))
        engine = on or processes(workers or usable_cores(), len(photos))
        tasks = _tasks(raw, out, size, photos, earlier, given)
        rows, reused = _work(photos, tasks, out, earlier, engine, progress)
        rows.sort(key=lambda row: row.file)
        _tidy(out, rows, earlier)
        write_rows(out / "manifest.csv", COLUMNS, (row.line for row in rows))
        _write_sheet(out, [row for row in rows if not row.reason])
        remove_journal(out / JOURNAL)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
    except ImageError as error:
        raise DataError(str(error)) from error
    reasons = Counter(row.reason for row in rows if row.reason)
    return Summary(
        out_dir=out,
        photos=len(rows),
        ok=len(rows) - reasons.total(),
        failed=reasons.total(),
        several_faces=sum(row.several for row in rows),
        reused=reused,
        reasons=dict(reasons.most_common()),
        seconds=time.perf_counter() - start,
    )


def read_landmarks(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read landmarks found elsewhere: photo (as in `file`) to (68, 2) float32.

    Rows with empty points (failed ones of a manifest) are left out.

    Raises:
        DataError: the file is missing, no CSV, lacks columns, or has points that are no numbers.
    """
    try:
        with (
            here(place(path)) as at,
            at.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file,
        ):
            reader = csv.DictReader(file)
            missing = [c for c in ["file", *PHOTO_POINTS] if c not in (reader.fieldnames or [])]
            if missing:
                raise DataError(f"{path}: the column {missing[0]} is missing (file, px0, py0 …)")
            found = {}
            for row in reader:
                values = [row[column] for column in PHOTO_POINTS]
                if any(values):
                    found[row["file"]] = np.array(values, np.float32).reshape(68, 2)
                    if not np.isfinite(found[row["file"]]).all():
                        raise ValueError
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: line {reader.line_num}: 68 points are needed") from error
    if not found:
        raise DataError(f"{path}: no landmarks in this file")
    return found


def _photos(raw: Path, out: Path) -> list[Path]:
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder of photos")
    inside, outside = out.resolve(), raw.resolve()
    apart = is_address(raw) != is_address(out)
    if not apart and (inside == outside or outside.is_relative_to(inside / "faces")):
        raise DataError(f"{out}: the results would overwrite the photos: name another folder")
    photos = list_images(raw)
    if not apart and inside.is_relative_to(outside):
        photos = [photo for photo in photos if not photo.resolve().is_relative_to(inside)]
    if not photos:
        raise DataError(f"{raw}: no pictures in this folder (jpg, png, webp, bmp, tif)")
    return photos


def _settings(size: int, landmarks: str | os.PathLike[str] | None) -> bytes:
    source = "dlib"
    if landmarks is not None:
        source = hashlib.sha256(place(landmarks).read_bytes()).hexdigest()
    settings = {
        "version": 1,
        "size": size,
        "eye_distance": EYE_DISTANCE,
        "eye_middle": EYE_MIDDLE,
        "landmarks": source,
    }
    return (json.dumps(settings, indent=2) + "\n").encode()


def _earlier_rows(out: Path, settings: bytes) -> dict[str, bytes]:
    """Rows of earlier runs by file, as lines; none if they were made with other settings.

    Then their faces go: all are made anew, and some may not come again (a larger size leaves out
    more photos).

    Raises:
        DataError: they name faces outside of the folder.
    """
    note = out / "settings.json"
    rows: dict[str, bytes] = {}
    for name, read in (("manifest.csv", read_rows), (JOURNAL, read_journal)):
        found = {row["file"]: csv_bytes([row], COLUMNS) for row in read(out / name, COLUMNS)}
        # They will be written over and deleted.
        strange = first_outside(out, _faces(found))
        if strange is not None:
            raise DataError(
                f"{out / name}: {strange!r} is no face of this folder: delete {name}, or name "
                "another folder"
            )
        rows |= found
    if note.is_file() and note.read_bytes() == settings:
        return rows
    for face in _faces(rows):
        (out / face).unlink(missing_ok=True)
    (out / "manifest.csv").unlink(missing_ok=True)
    remove_journal(out / JOURNAL)
    write_bytes(note, settings)
    return {}


def _faces(earlier: _Earlier) -> Iterator[str]:
    """The faces that earlier runs have written."""
    for line in earlier.values():
        if face := row_of(line, COLUMNS)["face"]:
            yield face


def _tasks(
    raw: Path,
    out: Path,
    size: int,
    photos: list[Path],
    earlier: _Earlier,
    given: Points | None,
) -> Callable[[int], _Task]:
    """The task of a photo, by its number."""
    files = [photo.relative_to(raw).as_posix() for photo in photos]
    faces = _face_names(files)
    subjects = _subjects(raw)

    def task(index: int) -> _Task:
        photo, file, face = photos[index], files[index], faces[index]
        parent = photo.parent.name if photo.parent != raw else ""
        row = {"file": file, "face": face, "subject": subjects.get(file, parent)}
        points = None if given is None else Given(given.get(file))
        return _Task(photo, row, out, size, earlier.get(file), points)

    return task


def _subjects(raw: Path) -> dict[str, str]:
    path = raw / "manifest.csv"
    if not path.is_file():
        return {}
    with (
        here(path) as at,
        at.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file,
    ):
        reader = csv.DictReader(file)
        if not {"file", "subject"} <= set(reader.fieldnames or []):
            return {}
        return {row["file"]: row["subject"] or "" for row in reader}


def _face_names(files: list[str]) -> list[str]:
    """PNG names: the photo's without its suffix, or with it where two photos would share one."""
    stems = [file[: -len(Path(file).suffix)] for file in files]
    # Compared in lower case: some file systems know no other.
    counts = Counter(stem.lower() for stem in stems)
    wanted = [
        stem if counts[stem.lower()] == 1 else file for file, stem in zip(files, stems, strict=True)
    ]
    return [f"faces/{name}.png" for name in unique_names(wanted)]


def _work(
    photos: list[Path],
    tasks: Callable[[int], _Task],
    out: Path,
    earlier: _Earlier,
    engine: Engine,
    progress: bool,
) -> tuple[list[_Kept], int]:
    """Do all tasks, noting each in the journal; returns the rows and how many were there."""
    rows, reused = [], 0
    waits = is_address(out) or is_address(photos[0])
    before = (row_of(line, COLUMNS) for line in earlier.values())
    with journal_at(out / JOURNAL, COLUMNS, before) as journal:
        for done in each(
            _do,
            range(len(photos)),
            send=tasks,
            engine=engine,
            together=_FROM_AFAR if waits else _TOGETHER,
            waits=waits,
            journal=lambda results: journal.note(row for row, is_new in results if is_new),
            unit="photo",
            progress=progress,
        ):
            row, is_new = done.result
            rows.append(_Kept.of(row))
            reused += not is_new
    return rows, reused


def _do(task: _Task) -> _Done:
    row = empty_row() | task.row
    try:
        photo = task.photo.read_bytes()
    except OSError as error:
        return failed_row(row, error.strerror or "cannot be read"), True
    earlier = None if task.earlier is None else row_of(task.earlier, COLUMNS)
    if earlier is not None and _is_done(task, earlier, digest(photo)):
        return earlier, False
    made, face = prepare(photo, size=task.size, find=task.given or detected)
    if face is None:
        return made | {"file": row["file"], "subject": row["subject"]}, True
    write_png(task.out_dir / task.row["face"], face)
    return made | task.row, True


def _is_done(task: _Task, earlier: Row, digest: str) -> bool:
    if earlier["source_sha256"] != digest or earlier["subject"] != task.row["subject"]:
        return False
    if earlier["status"] != "ok":
        return True
    return earlier["face"] == task.row["face"] and (task.out_dir / earlier["face"]).is_file()


def _tidy(out: Path, rows: list[_Kept], earlier: _Earlier) -> None:
    """Delete the faces of earlier runs whose photos are gone, failed now, or were renamed.

    Half-written files, too, which a killed run leaves under their temporary names.
    """
    remove_unfinished(out / "faces")
    kept = {row.face for row in rows}
    for face in _faces(earlier):
        if face not in kept:
            (out / face).unlink(missing_ok=True)


def _write_sheet(out: Path, ok: list[_Kept]) -> None:
    cells = []
    # Spread over the whole set: the first ones may all be of one person.
    chosen = np.linspace(0, len(ok) - 1, min(_SHEET_FACES, len(ok))).astype(int)
    for row in [row_of(ok[index].line, COLUMNS) for index in chosen]:
        face = read_image(out / row["face"])
        # Enlarged first, so that the hull is a thin line; its points are pixel centres.
        times = max(1, _SHEET_SIDE // face.shape[0])
        face = face.repeat(times, axis=0).repeat(times, axis=1)
        points = np.array([row[column] for column in FACE_POINTS], np.float32).reshape(68, 2)
        hull = cv2.convexHull(np.rint((points + 0.5) * times - 0.5).astype(np.int32))
        cv2.polylines(face, [hull], isClosed=True, color=(0, 255, 0), lineType=cv2.LINE_AA)
        cells.append(face)
    if cells:
        grid = [cells[i : i + _SHEET_COLUMNS] for i in range(0, len(cells), _SHEET_COLUMNS)]
        write_png(out / "contact_sheet.png", contact_sheet(grid))
    else:
        (out / "contact_sheet.png").unlink(missing_ok=True)
