"""The batch job: a folder of photos to aligned faces and a manifest (section 4, "Training Data").

What lies in the output folder:

- `faces/…/name.png`: the aligned faces, 128x128 RGB, in the photos' folder structure;
- `manifest.csv`: one row per photo, sorted by name, failed ones included (`COLUMNS`);
- `contact_sheet.png`: faces from the whole set with the hull of their landmarks drawn in;
- `settings.json`: what the faces depend on besides the photos;
- `manifest.partial.csv`: the journal, while the job runs or when it was cut off.
"""

import csv
import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from facehal.data.schema import COLUMNS, FACE_POINTS, PHOTO_POINTS, SIZE
from facehal.errors import ConfigError, DataError, ImageError
from facehal.faces.alignment import EYE_DISTANCE, EYE_MIDDLE, align, eye_distance
from facehal.faces.landmarks import LandmarkDetector
from facehal.files import write_bytes
from facehal.images import (
    contact_sheet,
    decode_image,
    list_images,
    read_image,
    write_png,
)
from facehal.weights import store

MIN_SIDE = 32
"""Photos with a shorter side, in pixels, are left out."""
MIN_EYE_DISTANCE = 16
"""Faces whose eyes are closer, in pixels of the photo, are left out: half of what they become."""

_LARGEST_CHUNK = 16
_SHEET_FACES, _SHEET_COLUMNS = 24, 6

Row = dict[str, str]
_Done = tuple[Row, bool]  # a row, and whether it was made now
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


@dataclass(frozen=True)
class _Task:
    """One photo to do; small, for it travels to a worker process."""

    photo: Path
    row: Row  # file, face, subject
    out_dir: Path
    earlier: Row | None
    given: np.ndarray | None
    detect: bool


def preprocess(
    raw_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    workers: int | None = None,
    landmarks: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Summary:
    """Detect, align and describe the largest face of every photo of a folder.

    The photos lie flat or in folders; the name of the folder that holds a photo is its subject
    (empty for photos directly in `raw_dir`). Where `raw_dir` has a `manifest.csv` with the
    columns `file` and `subject`, that one names the subjects instead.

    Results are kept as they come. A second run into the same folder does only what is missing:
    photos that are new or whose SHA-256 changed, and everything if `landmarks` changed. The
    manifest does not depend on the number of workers, nor on interruptions.

    With more than one worker the caller's script must be importable (the usual
    `if __name__ == "__main__":`), as always with Python's multiprocessing.

    Args:
        raw_dir: folder of photos.
        out_dir: where the results go; it may lie inside `raw_dir`.
        workers: processes; by default one per core. 1 works in this process.
        landmarks: CSV with landmarks found elsewhere, so that dlib is not needed: columns `file`
            (relative to `raw_dir`) and px0, py0 … px67, py67 in pixels of the upright photo. An
            earlier `manifest.csv` is such a file. Photos without points in it fail.
        progress: show a bar.

    Raises:
        DataError: no photos, an unusable landmarks file, or `out_dir` cannot be written.
        ConfigError: fewer than one worker.
        WeightsError: dlib or its model is not installed (and `landmarks` is not given).
        KeyboardInterrupt: passed on, after what is done has been kept.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    start = time.perf_counter()
    raw, out = Path(raw_dir), Path(out_dir)
    photos = _photos(raw, out)
    given = None if landmarks is None else read_landmarks(landmarks)
    if given is None:
        store.path("dlib_landmarks")
    try:
        out.mkdir(parents=True, exist_ok=True)
        earlier = _earlier_rows(out, _settings(landmarks))
        tasks = _tasks(raw, out, photos, earlier, given)
        count = workers or os.cpu_count() or 1
        rows, reused = _work(tasks, out, count, progress)
        rows.sort(key=lambda row: row["file"])
        _tidy(out, rows, earlier)
        write_bytes(out / "manifest.csv", _csv(rows, head=True))
        _write_sheet(out, rows)
        (out / "manifest.partial.csv").unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
    except ImageError as error:
        raise DataError(str(error)) from error
    ok = [row for row in rows if row["status"] == "ok"]
    return Summary(
        out_dir=out,
        photos=len(rows),
        ok=len(ok),
        failed=len(rows) - len(ok),
        several_faces=sum(int(row["faces_found"]) > 1 for row in ok),
        reused=reused,
        reasons=dict(Counter(r["reason"] for r in rows if r["status"] != "ok").most_common()),
        seconds=time.perf_counter() - start,
    )


def read_landmarks(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read landmarks found elsewhere: photo (as in `file`) to (68, 2) float32.

    Rows with empty points (failed ones of a manifest) are left out.

    Raises:
        DataError: the file is missing, no CSV, lacks columns, or has points that are no numbers.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
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
    if inside == outside or outside.is_relative_to(inside / "faces"):
        raise DataError(f"{out}: the results would overwrite the photos: name another folder")
    photos = list_images(raw)
    if inside.is_relative_to(outside):
        photos = [photo for photo in photos if not photo.resolve().is_relative_to(inside)]
    if not photos:
        raise DataError(f"{raw}: no pictures in this folder (jpg, png, webp, bmp, tif)")
    return photos


def _settings(landmarks: str | os.PathLike[str] | None) -> bytes:
    source = "dlib"
    if landmarks is not None:
        source = hashlib.sha256(Path(landmarks).read_bytes()).hexdigest()
    settings = {
        "version": 1,
        "size": SIZE,
        "eye_distance": EYE_DISTANCE,
        "eye_middle": EYE_MIDDLE,
        "landmarks": source,
    }
    return (json.dumps(settings, indent=2) + "\n").encode()


def _earlier_rows(out: Path, settings: bytes) -> dict[str, Row]:
    """Rows of earlier runs by file; none if they were made with other settings."""
    note = out / "settings.json"
    journal = out / "manifest.partial.csv"
    rows: dict[str, Row] = {}
    if note.is_file() and note.read_bytes() == settings:
        for path in (out / "manifest.csv", journal):
            rows.update((row["file"], row) for row in _read_rows(path))
        # The journal is written anew, for its last line may be torn.
        write_bytes(journal, _csv(rows.values(), head=True))
    else:
        (out / "manifest.csv").unlink(missing_ok=True)
        write_bytes(journal, _csv([], head=True))
        write_bytes(note, settings)
    return rows


def _read_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        return
    text = path.read_text("utf-8", errors="surrogateescape")
    lines = io.StringIO(text[: text.rfind("\n") + 1], newline="")
    reader = csv.DictReader(lines)
    if reader.fieldnames != COLUMNS:
        return
    for row in reader:
        if None not in row and None not in row.values():
            yield row


def _csv(rows: Iterable[Row], *, head: bool = False) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    if head:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _tasks(
    raw: Path, out: Path, photos: list[Path], earlier: Mapping[str, Row], given: Points | None
) -> list[_Task]:
    files = [photo.relative_to(raw).as_posix() for photo in photos]
    subjects = _subjects(raw)
    tasks = []
    for photo, file, face in zip(photos, files, _face_names(files), strict=True):
        parent = photo.parent.name if photo.parent != raw else ""
        row = {"file": file, "face": face, "subject": subjects.get(file, parent)}
        points = None if given is None else given.get(file)
        tasks.append(_Task(photo, row, out, earlier.get(file), points, detect=given is None))
    return tasks


def _subjects(raw: Path) -> dict[str, str]:
    path = raw / "manifest.csv"
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        if not {"file", "subject"} <= set(reader.fieldnames or []):
            return {}
        return {row["file"]: row["subject"] or "" for row in reader}


def _face_names(files: list[str]) -> list[str]:
    """PNG names: the photo's without its suffix, or with it where two photos would share one."""
    # Compared in lower case: some file systems know no other.
    stems = [file[: -len(Path(file).suffix)] for file in files]
    counts = Counter(stem.lower() for stem in stems)
    taken: set[str] = set()
    names = []
    for file, stem in zip(files, stems, strict=True):
        name = stem if counts[stem.lower()] == 1 else file
        while name.lower() in taken or (name == file and counts[name.lower()]):
            name += "_"
        taken.add(name.lower())
        names.append(f"faces/{name}.png")
    return names


def _work(tasks: list[_Task], out: Path, workers: int, progress: bool) -> tuple[list[Row], int]:
    """Do all tasks, noting each chunk in the journal; returns the rows and how many were kept."""
    size = max(1, min(_LARGEST_CHUNK, len(tasks) // (4 * workers)))
    chunks = [tasks[i : i + size] for i in range(0, len(tasks), size)]
    rows: list[Row] = []
    reused = 0
    with (
        open(out / "manifest.partial.csv", "ab") as journal,
        tqdm(total=len(tasks), unit="photo", disable=not progress) as bar,
    ):
        for done in _results(chunks, min(workers, len(chunks))):
            new = [row for row, is_new in done if is_new]
            journal.write(_csv(new))
            journal.flush()
            rows += [row for row, _ in done]
            reused += len(done) - len(new)
            bar.update(len(done))
    return rows, reused


def _results(chunks: list[list[_Task]], workers: int) -> Iterator[list[_Done]]:
    if workers == 1:
        yield from map(_do_chunk, chunks)
        return
    # Not fork: the caller may hold TensorFlow's threads, which a forked child does not survive.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        waiting: set[Future[list[_Done]]] = set()
        queue = iter(chunks)
        while True:
            # A short queue: on Ctrl-C only chunks already begun are waited for.
            for chunk in queue:
                waiting.add(pool.submit(_do_chunk, chunk))
                if len(waiting) >= 3 * workers:
                    break
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died: run again, it goes on; if memory ran out, with fewer workers;"
            ' from a script, below `if __name__ == "__main__":`'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    # Ctrl-C reaches the whole process group; the parent alone decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    # A killed parent cannot tell its workers to stop.
    threading.Thread(target=follow, daemon=True).start()


@lru_cache(maxsize=1)
def _detector() -> LandmarkDetector:
    return LandmarkDetector()


def _do_chunk(tasks: list[_Task]) -> list[_Done]:
    return [_do(task) for task in tasks]


def _do(task: _Task) -> _Done:
    row = dict.fromkeys(COLUMNS, "") | task.row
    try:
        data = task.photo.read_bytes()
        row["source_sha256"] = hashlib.sha256(data).hexdigest()
        if task.earlier is not None and _is_done(task, task.earlier, row["source_sha256"]):
            return task.earlier, False
        face = _face_of(decode_image(data), task, row)
    except OSError as error:
        return _failed(row, error.strerror or "cannot be read")
    except ImageError as error:
        return _failed(row, str(error))
    except (cv2.error, MemoryError, RuntimeError) as error:
        # One strange photo must not end a night's work; the reason is there to be read.
        return _failed(row, " ".join(f"{type(error).__name__}: {error}".split())[:200])
    write_png(task.out_dir / task.row["face"], face)
    return row | {"status": "ok"}, True


def _is_done(task: _Task, earlier: Row, digest: str) -> bool:
    if earlier["source_sha256"] != digest or earlier["subject"] != task.row["subject"]:
        return False
    if earlier["status"] != "ok":
        return True
    return earlier["face"] == task.row["face"] and (task.out_dir / earlier["face"]).is_file()


def _failed(row: Row, reason: str) -> _Done:
    return row | {"status": "failed", "reason": reason, "face": ""}, True


def _face_of(image: np.ndarray, task: _Task, row: Row) -> np.ndarray:
    """Return the aligned face and fill in the row; ImageError with the reason if there is none."""
    height, width = image.shape[:2]
    row |= {"width": str(width), "height": str(height)}
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"the photo is smaller than {MIN_SIDE} pixels")
    if task.detect:
        faces = _detector().detect(image)
        row["faces_found"] = str(len(faces))
        if not faces:
            raise ImageError("no face found")
        points, box = faces[0].points, faces[0].box
    elif task.given is not None:
        points = task.given
        row["faces_found"] = "1"
        low, high = np.floor(points.min(0)), np.ceil(points.max(0))
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    else:
        raise ImageError("no points for this photo in the landmarks file")
    row |= dict(zip(("left", "top", "right", "bottom"), map(str, box), strict=True))
    row |= _numbers(PHOTO_POINTS, points)
    if eye_distance(points) < MIN_EYE_DISTANCE:
        raise ImageError(f"the eyes are less than {MIN_EYE_DISTANCE} pixels apart")
    face, aligned = align(image, points, SIZE)
    row |= _numbers(FACE_POINTS, aligned)
    return face


def _numbers(columns: list[str], points: np.ndarray) -> Row:
    return {name: f"{value:.3f}" for name, value in zip(columns, points.ravel(), strict=True)}


def _tidy(out: Path, rows: list[Row], earlier: Mapping[str, Row]) -> None:
    """Delete the faces of earlier runs whose photos are gone, failed now, or were renamed.

    Half-written files, too, which a killed run leaves under their temporary names.
    """
    for unfinished in (out / "faces").rglob(".*.tmp"):
        unfinished.unlink(missing_ok=True)
    kept = {row["face"] for row in rows}
    for row in earlier.values():
        if row["face"] and row["face"] not in kept:
            (out / row["face"]).unlink(missing_ok=True)


def _write_sheet(out: Path, rows: list[Row]) -> None:
    cells = []
    ok = [row for row in rows if row["status"] == "ok"]
    # Spread over the whole set: the first ones may all be of one person.
    chosen = np.linspace(0, len(ok) - 1, min(_SHEET_FACES, len(ok))).astype(int)
    for row in [ok[index] for index in chosen]:
        # Enlarged first, so that the hull is a thin line; its points are pixel centres.
        face = read_image(out / row["face"]).repeat(2, axis=0).repeat(2, axis=1)
        points = np.array([row[column] for column in FACE_POINTS], np.float32).reshape(68, 2)
        hull = cv2.convexHull(np.rint((points + 0.5) * 2 - 0.5).astype(np.int32))
        cv2.polylines(face, [hull], isClosed=True, color=(0, 255, 0), lineType=cv2.LINE_AA)
        cells.append(face)
    if cells:
        grid = [cells[i : i + _SHEET_COLUMNS] for i in range(0, len(cells), _SHEET_COLUMNS)]
        write_png(out / "contact_sheet.png", contact_sheet(grid))
    else:
        (out / "contact_sheet.png").unlink(missing_ok=True)
