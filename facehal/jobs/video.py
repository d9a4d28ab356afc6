"""A video to a video with hallucinated surroundings of its face; long ones can be interrupted.

Two passes over the frames. The first finds the landmarks of every frame and notes them in a file;
the second smooths them with those of the frames around, hallucinates, blends over time and writes
pieces of a few seconds. Finished pieces are joined. In memory are some dozen frames, however long
the video is.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from facehal.errors import FacehalError, ImageError, NoFaceError
from facehal.faces.landmarks import LandmarkDetector
from facehal.faces.paste import paste as paste_into
from facehal.faces.smoothing import MARGIN, find_tracks, smooth
from facehal.faces.tracking import FaceTracker
from facehal.files import locked, replacing, write_bytes, write_text
from facehal.inference.hallucinator import Hallucinator, load
from facehal.inference.video import BATCH, Painted, Painter, Shot, square
from facehal.shipped import find_model
from facehal.videos import TRUE_COLOURS, Tools, VideoReader, join, piece_writer, tools
from facehal.weights.store import file_sha256

PIECE = 120  # frames; whole batches, so that a frame meets the same ones whenever it is made
_UNEVEN = 0.1  # seconds that a frame may be early or late before it is said; the eye sees more
_WHOLE = 0.98  # of the frames that a file promises; some only guess
_COLUMNS = 1 + 2 * 68  # of the noted landmarks: the frame's time in seconds, then x, y


@dataclass(frozen=True)
class Summary:
    """What :func:`video` did.

    Attributes:
        video: path of the video.
        frames: how many it has.
        found: in how many of them a face was found.
        bridged: in how many more its place is known from the frames around.
        lost: how many show no face: black in an aligned clip, else as they were.
        faces: how many faces were followed, one after the other; 1 unless there are cuts or gaps.
        codec: H.264, or MPEG-4 Part 2.
        sound: "kept", "none", or "left out" and why.
        remarks: what else the user should know.
        new: False where the video was finished by an earlier call.
    """

    video: Path
    frames: int
    found: int
    bridged: int
    lost: int
    faces: int
    codec: str
    sound: str
    remarks: tuple[str, ...] = ()
    new: bool = True


def video(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] = "compact",
    *,
    engine: str | None = None,
    seed: int | None = None,
    paste: bool = False,
    size: int | None = None,
    blend: bool = True,
    progress: bool = True,
) -> Summary:
    """Hallucinates around one face through a video.

    Of several faces the largest of the first frame with a face is followed, until it is lost. Up to
    half a second without it is bridged; in frames without a face beyond that, an aligned clip is
    black and ``paste`` leaves the frame as it is. The sound goes with it where there is an ffmpeg
    (extra: ``video``); without one with x264 the video is MPEG-4 Part 2, which browsers do not
    play.

    Stopped, it goes on where it was: the folder ``OUT.part`` beside ``out`` holds what is finished,
    and goes at the end. ``OUT.json`` then says what was done.

    Args:
        source: the video; what OpenCV reads.
        out: the video to write, an ``.mp4``.
        model: a ``.keras`` or ``.onnx`` file or a shipped model.
        engine: as :func:`facehal.load`; ``onnxruntime`` is the faster one on a CPU.
        seed: the variant, 0 or more, for the whole video; None is the single best picture.
        paste: the whole frames, hallucinated around the face, in place of the aligned square.
        size: side of the aligned square in pixels, an even number; by default the model's. In a
            larger one the face is as sharp as the frames have it; what is around it is enlarged.
        blend: over time. Without it hair and background flicker: for comparisons.
        progress: draw bars on standard error.

    Raises:
        ImageError: the source is not a video that can be read, or has no frames.
        NoFaceError: no face in any frame.
        FacehalError: ``out`` is there already and of another job, is no ``.mp4`` or cannot be
            written; no such model; it knows no variants.
        WeightsError: dlib or its landmark model is not installed.
    """
    source, out = Path(source), Path(out)
    if out.suffix.lower() != ".mp4":
        raise FacehalError(f"{out}: a video is written as .mp4; name one")
    if size is not None and (size < 2 or size % 2):
        raise FacehalError(f"size {size}: the side of a video is an even number of 2 or more")
    if size is not None and paste:
        raise FacehalError(f"size {size}: a pasted video has the size of its source")
    if seed is not None and seed < 0:
        raise FacehalError(f"seed {seed}: a seed is 0 or more")
    with VideoReader(source) as reader:
        rate, expected = reader.rate, reader.expected
    using = tools()
    facts = source.stat()
    job = {
        "source": str(source.resolve()),
        "bytes": facts.st_size,
        "modified": facts.st_mtime_ns,
        "model": str(model),
        "model_sha256": file_sha256(find_model(model)),
        **{"engine": engine, "seed": seed, "paste": paste, "size": size, "blend": blend},
        "codec": using.codec,
    }
    work = _Work(out, job)
    if (earlier := work.finished()) is not None:
        return earlier
    with work:
        hallucinator = load(model, engine=engine)
        if seed is not None and not hallucinator.latent:
            raise FacehalError(f"{model}: knows one picture for every face; leave out the seed")
        shown = _Shown(_tracked(work, source, expected, progress), float(rate))
        if not shown.any():
            work.remove()
            raise NoFaceError(
                f"{source}: no face found in its {shown.count} frames; use a video that shows one "
                "from the front"
            )
        make = _Pieces(work, source, shown, hallucinator, using, seed, paste, size, blend)
        pieces = make.write(progress)
        with replacing(out) as part:
            sound = join(pieces, part, rate, using, source)
        summary = shown.summary(out, using.codec, sound, expected)
        work.finish(summary)
    return summary


class _Work:
    """The folder of an unfinished video, and the note beside a finished one."""

    def __init__(self, out: Path, job: dict[str, Any]) -> None:
        self.out, self.job = out, job
        self.folder = out.with_name(f"{out.name}.part")
        self.note = out.with_name(f"{out.name}.json")
        self._needed = True

    def finished(self) -> Summary | None:
        """What an earlier call of the same job did, where it came to its end.

        Raises:
            FacehalError: the video, or the folder, is of another job.
        """
        begun = _read(self.folder / "job.json")
        if self.folder.is_dir() and begun not in (None, self.job):
            raise FacehalError(
                f"{self.folder}: holds another unfinished video ({_difference(begun, self.job)}); "
                "remove it, or name another file"
            )
        if not self.out.exists():
            return None
        ended = _read(self.note) or {}
        if ended.get("job") == self.job:
            done = ended["done"]
            done |= {"video": self.out, "remarks": tuple(done["remarks"]), "new": False}
            return Summary(**done)
        if begun is None:
            why = f" of another job ({_difference(ended['job'], self.job)})" if ended else ""
            raise FacehalError(f"{self.out}: is there already{why}; remove it, or name another")
        return None

    def __enter__(self) -> "_Work":
        try:
            (self.folder / "pieces").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FacehalError(
                f"{self.folder}: cannot be written ({error.strerror or error})"
            ) from error
        self._lock = locked(self.folder)
        self._lock.__enter__()
        write_text(self.folder / "job.json", json.dumps(self.job))
        return self

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)
        if not self._needed:  # now: a file that is locked cannot be removed everywhere
            shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, summary: Summary) -> None:
        """Notes what was done beside the video; the folder goes."""
        done = {k: v for k, v in asdict(summary).items() if k not in ("video", "new")}
        write_text(self.note, json.dumps({"job": self.job, "done": done}, indent=1) + "\n")
        self.remove()

    def remove(self) -> None:
        """The folder goes at the end."""
        self._needed = False


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _difference(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    name = next(name for name in wanted if there.get(name) != wanted[name])
    return f"its {name.replace('_', ' ')}: {there.get(name)}"


def _tracked(work: _Work, source: Path, expected: int, progress: bool) -> Path:
    """The first pass: a file of float32, `_COLUMNS` for every frame, NaN where there is no face.

    Raises:
        ImageError: there are no frames.
    """
    path, ended = work.folder / "landmarks.f32", work.folder / "landmarks.json"
    if not ended.exists():
        rows = _rows(path) if path.exists() else np.zeros((0, _COLUMNS), np.float32)
        whole = len(rows)
        tracker = FaceTracker(LandmarkDetector(), *_last_seen(rows))
        with open(path, "ab") as file:
            file.truncate(4 * _COLUMNS * whole)  # a killed process leaves a torn row
            with (
                VideoReader(source, skip=whole) as reader,
                _bar("faces", expected, whole, progress) as bar,
            ):
                for frame in reader:
                    row = np.full(_COLUMNS, np.nan, np.float32)
                    row[0] = reader.seconds
                    if (points := tracker.next(frame)) is not None:
                        row[1:] = points.ravel()
                    file.write(row.tobytes())
                    file.flush()
                    bar.update()
        write_bytes(ended, b"{}")
    if not path.stat().st_size:
        work.remove()
        raise ImageError(f"{source}: no frames that can be read in it (damaged, or cut short?)")
    return path


def _rows(path: Path, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Whole rows of what was noted: (n, 137) float32."""
    count = -1 if stop is None else (stop - start) * _COLUMNS
    values = np.fromfile(path, np.float32, count, offset=4 * _COLUMNS * start)
    return values[: len(values) // _COLUMNS * _COLUMNS].reshape(-1, _COLUMNS)


def _last_seen(rows: np.ndarray) -> tuple[np.ndarray | None, int]:
    """The landmarks of the last frame with a face, and how many frames came behind it."""
    seen = np.flatnonzero(~np.isnan(rows[:, 1]))
    if not len(seen):
        return None, len(rows)
    return rows[seen[-1], 1:].reshape(68, 2), len(rows) - 1 - int(seen[-1])


def _bar(what: str, total: int, done: int, progress: bool) -> Any:
    return tqdm(
        total=total or None,
        initial=done,
        desc=what,
        unit="frame",
        disable=not progress,
        leave=False,
    )


class _Shown:
    """Which face is where: smoothed, a window at a time."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self.count = path.stat().st_size // (4 * _COLUMNS)
        """Frames of the video."""

    def piece(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a piece's frames: (n, 68, 2) landmarks; (n,) if there is a face; where it is new.

        Computed from the frames of the piece and `MARGIN` around it, whenever it is asked for.
        """
        start, stop = self._span(number)
        margin = round(MARGIN * self.rate) + 1
        low, high = max(0, start - margin), min(self.count, stop + margin)
        points = _rows(self.path, low, high)[:, 1:].reshape(-1, 68, 2)
        tracks = find_tracks(points, self.rate)
        begins = (np.diff(tracks, prepend=-1) != 0) & (tracks >= 0)
        inner = slice(start - low, stop - low)
        return smooth(points, tracks, self.rate)[inner], (tracks >= 0)[inner], begins[inner]

    def any(self) -> bool:
        """Whether a face was found in any frame."""
        return any(self._noted(number)[1].any() for number in range(self.pieces))

    def _span(self, number: int) -> tuple[int, int]:
        return number * PIECE, min((number + 1) * PIECE, self.count)

    def _noted(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """When the frames of a piece are shown, in seconds, and whether a face was found there."""
        rows = _rows(self.path, *self._span(number))
        return rows[:, 0].astype(np.float64), ~np.isnan(rows[:, 1])

    @property
    def pieces(self) -> int:
        """How many there are."""
        return -(-self.count // PIECE)

    def shots(self, frames: Iterator[np.ndarray], start: int) -> Iterator[Shot]:
        """The frames of the video from a certain one on, each with its face."""
        face = 0
        for number in range(start // PIECE, self.pieces):
            points, there, begins = self.piece(number)
            faces = face + np.cumsum(begins)
            face = int(faces[-1])
            for n in range(max(0, start - number * PIECE), len(there)):
                frame = next(frames, None)
                if frame is None:
                    return
                yield Shot(frame, points[n], int(faces[n]) if there[n] else -1)

    def summary(self, out: Path, codec: str, sound: str, expected: int) -> Summary:
        """Counts what was shown."""
        frames, found, shown, faces, uneven = self.count, 0, 0, 0, 0.0
        start = float(_rows(self.path, 0, 1)[0, 0])
        for number in range(self.pieces):
            _, there, begins = self.piece(number)
            seconds, seen = self._noted(number)
            found += int(seen.sum())
            shown += int(there.sum())
            faces += int(begins.sum())
            even = start + (number * PIECE + np.arange(len(seconds))) / self.rate
            uneven = max(uneven, float(np.abs(seconds - even).max()))
        remarks = []
        if not TRUE_COLOURS:
            remarks.append(
                "this OpenCV reads most videos with slightly wrong colours; version 4.13 does not "
                "(pip install 'facehal[video]')"
            )
        if frames < _WHOLE * expected:
            remarks.append(
                f"{expected - frames} of {expected} frames could not be read: cut short?"
            )
        if uneven > _UNEVEN:
            remarks.append(
                f"the frame rate varies: written at {self.rate:.4g} frames per second throughout, "
                f"so that the sound is up to {uneven:.2g} s off"
            )
        counts = (frames, found, shown - found, frames - shown, faces)
        return Summary(out, *counts, codec, sound, tuple(remarks))


@dataclass(frozen=True)
class _Pieces:
    """The second pass."""

    work: _Work
    source: Path
    shown: _Shown
    hallucinator: Hallucinator
    using: Tools
    seed: int | None
    paste: bool
    size: int | None
    blend: bool

    def write(self, progress: bool) -> list[Path]:
        """Writes the pieces that are not there yet; gives all of them."""
        total, folder = self.shown.count, self.work.folder / "pieces"
        count, suffix = self.shown.pieces, self.using.piece_suffix
        paths = [folder / f"{number:06}{suffix}" for number in range(count)]
        first = next((n for n, path in enumerate(paths) if not path.exists()), count)
        if first == count:
            return paths
        painter = Painter(self.hallucinator, self.shown.rate, seed=self.seed, blend=self.blend)
        # The pictures of a piece need some of those before it: whole batches, the same as ever.
        start = max(0, first * PIECE - BATCH * -(-painter.reach // BATCH))
        with (
            VideoReader(self.source, skip=start) as reader,
            _bar("frames", total, first * PIECE, progress) as bar,
        ):
            made = painter.paint(self.shown.shots(iter(reader), start))
            for _ in islice(made, first * PIECE - start):
                pass
            for number in range(first, count):
                wanted = min(PIECE, total - number * PIECE)
                with (
                    replacing(paths[number]) as part,
                    piece_writer(part, reader.rate, self.using) as writer,
                ):
                    done = 0
                    for one in islice(made, wanted):
                        writer.write(self._frame(one))
                        bar.update()
                        done += 1
                    if done < wanted:
                        raise ImageError(f"{self.source}: has fewer frames than a moment ago")
        return paths

    def _frame(self, made: Painted) -> np.ndarray:
        side, frame = self.size or self.hallucinator.side, made.shot.frame
        if made.picture is None or made.face is None:
            return frame if self.paste else np.zeros((side, side, 3), np.uint8)
        if self.paste:
            return paste_into(frame, made.picture, made.face.points, made.face.matrix)
        return square(made.shot, made.picture, side)
