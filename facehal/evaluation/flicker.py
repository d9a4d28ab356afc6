"""How much hallucinated surroundings flicker in a video, and what calming them costs."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm.auto import tqdm

from facehal.errors import DataError, NoFaceError
from facehal.faces.landmarks import LandmarkDetector
from facehal.faces.smoothing import find_tracks, smooth
from facehal.faces.tracking import FaceTracker
from facehal.files import write_bytes, write_text
from facehal.images import contact_sheet, resize, to_float
from facehal.inference.hallucinator import Hallucinator, load
from facehal.inference.video import Painted, Painter, Shot
from facehal.metrics.interval import Mean, bootstrap_mean
from facehal.metrics.lpips import lpips
from facehal.metrics.ssim import ssim
from facehal.training.provenance import origin
from facehal.videos import VideoReader
from facehal.weights.store import file_sha256

PER_FRAME, STEADY, BLENDED, FROZEN = "per frame", "smoothed landmarks", "blended", "frozen"
"""The ways that are compared: every frame as a photo of its own; its landmarks smoothed; that and
blended over time, which is what `facehal video` does; the first frame's surroundings held."""

_EVERY = 4  # so many frames apart are those that are compared with another way's
_APART = 0.5  # seconds, between the frames of `follows`
_BROAD = 32  # side of the pictures of `follows`
_COLUMNS, _CELL, _AMPLIFIED = 8, 96, 4  # of the picture
_GREY = np.float32(0.5)


@dataclass(frozen=True)
class _Way:
    """A clip in one of the ways: (n, S, S, 3) float32 pictures, (n, S, S) masks, the originals."""

    pictures: np.ndarray
    masks: np.ndarray
    originals: np.ndarray


def evaluate_flicker(
    clips: Sequence[Path],
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = "compact",
    engine: str | None = None,
    seed: int | None = None,
    limit: int = 120,
    progress: bool = True,
) -> Path:
    """Measures how calm the surroundings are, and whether they still follow the head.

    *Flicker* is LPIPS (0.0) of neighbouring frames, aligned, both grey where either has the face.
    A frozen picture has none: so there are also the distance to the original, the distance to what
    the model makes of the same aligned frame, and how much of the broad changes within half a
    second that the model makes show in the result (*follows*: the slope of the one by the other; 1
    is all of them, 0 none).

    Args:
        clips: videos of a face.
        out: folder for ``flicker.md``, ``flicker.json`` and ``flicker.jpg``, which shows the first
            and the last clip.
        model: a shipped model's name or a file.
        engine: as :func:`facehal.load`.
        seed: as for `facehal video`.
        limit: only the first frames of every clip; they are held in memory.
        progress: draw bars on standard error.

    Returns:
        The path of ``flicker.md``.

    Raises:
        ImageError: a clip cannot be read.
        DataError: there is none, or one shows a face in fewer than two seconds.
        NoFaceError: one shows none at all.
        WeightsError: LPIPS's weights, dlib or its landmarks are not here.
    """
    if not clips:
        raise DataError("no clips to measure; `facehal sample DIR --clips` makes some")
    out, hallucinator = Path(out), load(model, engine=engine)
    measured: dict[str, dict[str, dict[str, Mean | float]]] = {}
    rows: list[list[np.ndarray]] = []
    frames = 0
    for path in clips:
        ways, rate = _ways(path, hallucinator, seed, limit, progress)
        frames = len(ways[PER_FRAME].pictures)
        measured[path.stem] = {
            name: _measures(way, ways[STEADY], rate, progress) for name, way in ways.items()
        }
        if path in (clips[0], clips[-1]):
            rows += _rows(ways)
    facts = {
        "clips": {str(path): file_sha256(path) for path in clips},
        "frames": frames,
        "model": str(model),
        "seed": seed,
        **origin(),
    }
    write_text(
        out / "flicker.json",
        json.dumps({**facts, "measured": measured}, indent=1, default=asdict),
    )
    _write_picture(out / "flicker.jpg", rows)
    path = out / "flicker.md"
    write_text(path, _table(measured, str(model)))
    return path


def _ways(
    path: Path, hallucinator: Hallucinator, seed: int | None, limit: int, progress: bool
) -> tuple[dict[str, _Way], float]:
    """A clip's frames that have a face, in every way."""
    detector = LandmarkDetector()
    tracker = FaceTracker(detector)
    with VideoReader(path) as reader:
        rate, frames = float(reader.rate), list(islice(reader, limit))
    none = np.full((68, 2), np.nan, np.float32)
    alone, tracked = [], []
    for frame in tqdm(frames, desc=path.stem, unit="frame", disable=not progress, leave=False):
        faces = detector.detect(frame)
        alone.append(faces[0].points if faces else none)
        points = tracker.next(frame)
        tracked.append(none if points is None else points)
    raw = np.stack(tracked) if tracked else np.zeros((0, 68, 2), np.float32)
    tracks = find_tracks(raw, rate)
    there = [n for n in range(len(frames)) if tracks[n] == 0 and not np.isnan(alone[n]).any()]
    if not there:
        raise NoFaceError(f"{path}: no face found in its first {len(frames)} frames")
    if len(there) < 2 * _APART * rate:
        raise DataError(f"{path}: shows a face in {len(there)} frames; a second at least is needed")
    steady = smooth(raw, tracks, rate)
    frames = [frames[n] for n in there]

    def painted(points: np.ndarray, blend: bool) -> _Way:
        painter = Painter(hallucinator, rate, seed=seed, blend=blend)
        shots = (Shot(frame, some, 0) for frame, some in zip(frames, points, strict=True))
        made = list(painter.paint(shots))
        return _Way(*(np.stack(some) for some in zip(*map(_parts, made), strict=True)))

    alike = steady[there]
    ways = {PER_FRAME: painted(np.stack([alone[n] for n in there]), False)}
    ways |= {STEADY: painted(alike, False), BLENDED: painted(alike, True)}
    calm = ways[STEADY]
    held = np.where(calm.masks[..., None] == 1, calm.pictures, calm.pictures[:1])
    ways[FROZEN] = _Way(held, calm.masks, calm.originals)
    return ways, rate


def _parts(one: Painted) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert one.picture is not None and one.face is not None  # every shot has a face
    return one.picture, one.face.mask, to_float(one.face.face)


def _measures(way: _Way, model: _Way, rate: float, progress: bool) -> dict[str, Mean | float]:
    """Of one way; ``model``: what the model makes of the aligned frames of the steady ways."""
    some = slice(None, None, _EVERY)
    hidden = (way.masks[1:] | way.masks[:-1])[..., None] == 1
    after, before = (
        np.where(hidden, _GREY, way.pictures[part]) for part in (np.s_[1:], np.s_[:-1])
    )
    found: dict[str, Mean | float] = {
        "flicker": bootstrap_mean(lpips(after, before, progress=progress)),
        "to the original": bootstrap_mean(lpips(way.originals[some], way.pictures[some])),
    }
    if np.array_equal(way.originals, model.originals):
        found["to the model's"] = bootstrap_mean(lpips(model.pictures[some], way.pictures[some]))
        found["SSIM to the model's"] = bootstrap_mean(
            ssim(model.pictures[some], way.pictures[some])
        )
        found["follows"] = follows(way.pictures, model.pictures, way.masks, round(_APART * rate))
    return found


def follows(pictures: np.ndarray, others: np.ndarray, masks: np.ndarray, apart: int) -> float:
    """How much of one sequence's broad changes another shows, outside the face.

    Args:
        pictures: (n, S, S, 3) of the one that is asked about.
        others: (n, S, S, 3), the same frames as they change on their own.
        masks: (n, S, S), 1 = face.
        apart: how many frames a change takes.

    Returns:
        The slope of the one's changes by the other's: 1 where they are alike, 0 where the pictures
        stand still.
    """
    context = np.stack([resize(1 - mask.astype(np.float32), _BROAD) for mask in masks]) == 1

    def changes(some: np.ndarray) -> np.ndarray:
        small = np.stack([resize(picture, _BROAD) for picture in some])
        inside = (context[apart:] & context[:-apart])[..., None]
        return np.where(inside, small[apart:] - small[:-apart], 0).astype(np.float64)

    own, wanted = changes(pictures), changes(others)
    return float((own * wanted).sum() / (wanted**2).sum())


def _rows(ways: dict[str, _Way]) -> list[list[np.ndarray]]:
    """Neighbouring frames below each other: original, two ways, and what changes in them."""
    middle = max(0, (len(ways[PER_FRAME].pictures) - _COLUMNS - 1) // 2)
    chosen, before = (slice(middle + n, middle + n + _COLUMNS) for n in (1, 0))
    shown = [list(ways[BLENDED].originals[chosen])]
    for name in (PER_FRAME, BLENDED):
        shown.append(list(ways[name].pictures[chosen]))
    for name in (PER_FRAME, BLENDED):
        way = ways[name]
        change = np.abs(way.pictures[chosen] - way.pictures[before]) * _AMPLIFIED
        face = (way.masks[chosen] | way.masks[before])[..., None] == 1
        shown.append(list(np.where(face, 0, change.clip(0, 1)).astype(np.float32)))
    return shown


def _write_picture(path: Path, rows: list[list[np.ndarray]]) -> None:
    shown = [[resize(picture, _CELL) for picture in row] for row in rows]
    sheet = cv2.cvtColor(contact_sheet(shown), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 85])
    write_bytes(path, data.tobytes())


def _table(measured: dict[str, dict[str, dict[str, Any]]], model: str) -> str:
    columns = ("to the original", "to the model's", "SSIM to the model's", "follows")
    lines = [
        f"# Flicker, model {model}",
        "",
        "Flicker: LPIPS 0.0 of neighbouring frames outside the face. *to the original*, *to the "
        "model's*: LPIPS 0.0 to the aligned frame, and to what the model makes of the same aligned "
        "frame. *follows*: how much of the model's broad changes within half a second shows. Means "
        "with 95 % intervals over frames, which are not independent: too narrow. The picture: of "
        "the first and the last clip neighbouring frames, per frame, blended, and what changes "
        f"from one frame to the next in both, times {_AMPLIFIED}.",
        "",
        "| clip | way | flicker ↓ | of per frame ↓ | " + " | ".join(columns) + " |",
        "| --- " * (4 + len(columns)) + "|",
    ]
    for clip, ways in measured.items():
        base = ways[PER_FRAME]["flicker"].value
        for name, found in ways.items():
            flicker = found["flicker"]
            cells = [clip, name, _cell(flicker), f"{flicker.value / base:.3f}" if base else ""]
            cells += [_cell(found.get(column)) for column in columns]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Mean | float | None) -> str:
    if isinstance(value, Mean):
        return f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]"
    return "" if value is None else f"{value:.2f}"
