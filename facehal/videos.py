"""Reading, writing and joining video files. Frames are (H, W, 3) uint8 RGB.

OpenCV reads. What writes is an ffmpeg with x264 where there is one (the extra ``video`` brings it,
or it is on the PATH): H.264, which browsers play. Otherwise it is OpenCV, MPEG-4 Part 2.

Not handled: a variable frame rate is written as the constant average; transparency, a depth of more
than 8 bits, and subtitles are lost.
"""

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

import cv2
import numpy as np

from facehal.errors import FacehalError, ImageError
from facehal.images import EXTENSIONS

H264, MPEG4 = "H.264", "MPEG-4 Part 2"

TRUE_COLOURS = tuple(map(int, cv2.__version__.split(".")[:2])) >= (4, 13)
"""Whether this OpenCV heeds what a video says of its colours; earlier ones take all for BT.601."""

_QUALITY = 18
"""x264's constant rate factor: visually without loss, by its makers' guide."""
_SOUNDS = ("aac", "mp3")  # stay as they are: every player takes them in an .mp4
_PIECE_QUALITY = 95  # of the JPEGs that pieces consist of where OpenCV writes


class VideoReader:
    """The frames of a video, one after the other, as they are meant to be seen (turned).

    Attributes:
        size: width and height in pixels.
        rate: frames per second, on average.
        expected: how many frames the file says there are; 0 where it does not.
        seconds: when the frame that was read last is shown, from the start of the file.

    Args:
        path: the file.
        skip: frames to leave out at its beginning; they are decoded, for positions that a file
            names are not exact, but cost less than reading.

    Raises:
        ImageError: "path: reason": missing, a folder, a picture, or nothing that can be read.
    """

    def __init__(self, path: str | os.PathLike[str], skip: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ImageError(f"{path}: no such file")
        if self.path.suffix.lower() in EXTENSIONS:
            raise ImageError(f"{path}: a picture, not a video; `facehal hallucinate` takes those")
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        if not self._capture.isOpened() or not (np.isfinite(rate) and rate > 0):
            self._capture.release()
            raise ImageError(f"{path}: not a video that can be read (or damaged, or cut short)")
        width, height = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
        self.size = int(self._capture.get(width)), int(self._capture.get(height))
        # 29.97 is 30000/1001: over an hour the sound would lag behind the rounded number.
        self.rate = Fraction(rate).limit_denominator(1001)
        self.expected = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.seconds = 0.0
        for _ in range(skip):
            self._capture.grab()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            there, frame = self._capture.read()
            if not there:
                return
            self.seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()


@dataclass(frozen=True)
class Tools:
    """What is here to write videos with.

    Attributes:
        ffmpeg: an ffmpeg to run, or None.
        codec: `H264` or `MPEG4`.
    """

    ffmpeg: str | None
    codec: str

    @property
    def piece_suffix(self) -> str:
        """Of the files that :func:`join` puts together."""
        return ".mp4" if self.codec == H264 else ".avi"


@lru_cache(maxsize=1)
def tools() -> Tools:
    """The ffmpeg of the package imageio-ffmpeg, or else that of the PATH; its codec."""
    try:
        ffmpeg = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # not installed; or it has no program for this system
        ffmpeg = shutil.which("ffmpeg")
    encodes = ffmpeg is not None and "libx264" in _run(ffmpeg, "-encoders").stdout
    return Tools(ffmpeg, H264 if encodes else MPEG4)


class Writer(Protocol):
    """What frames are written with; as a context it ends the file."""

    def write(self, frame: np.ndarray) -> None:
        """The next frame, (H, W, 3) uint8, of the size of the others."""
        ...

    def __enter__(self) -> "Writer": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def piece_writer(path: Path, rate: Fraction, using: Tools) -> Writer:
    """Writes a piece of a video, for :func:`join`; its name ends in ``using.piece_suffix``."""
    if using.codec == H264:
        assert using.ffmpeg is not None
        return _FfmpegWriter(path, rate, using.ffmpeg)
    return _OpenCvWriter(path, rate, "MJPG")


def write_video(
    path: str | os.PathLike[str],
    frames: Sequence[np.ndarray] | Iterator[np.ndarray],
    rate: Fraction | int,
    using: Tools | None = None,
) -> None:
    """Writes a whole video without sound, at the path itself.

    Args:
        path: an ``.mp4``; its folder is there.
        frames: (H, W, 3) uint8, all of one size. A side of odd length gets one more pixel, for the
            codecs know no other.
        rate: frames per second.
        using: default: :func:`tools`.

    Raises:
        FacehalError: it cannot be written.
    """
    using = using or tools()
    rate = Fraction(rate)
    writer = (
        piece_writer(Path(path), rate, using)
        if using.codec == H264
        else _OpenCvWriter(Path(path), rate, "mp4v")
    )
    with writer:
        for frame in frames:
            writer.write(frame)


def join(
    pieces: Sequence[Path], path: Path, rate: Fraction, using: Tools, sound_of: Path | None = None
) -> str:
    """Makes one video of pieces that :func:`piece_writer` wrote.

    With ffmpeg nothing is encoded again. OpenCV cannot do that: its pieces are JPEGs, which become
    MPEG-4 here.

    Args:
        pieces: in their order, at least one.
        path: the video, an ``.mp4``, written at this path itself.
        rate: frames per second.
        using: what the pieces were written with.
        sound_of: a video whose sound goes with it.

    Returns:
        What became of the sound, in words: "kept", "none", or "left out (reason)".

    Raises:
        FacehalError: it cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".joining-") as folder:
        silent = Path(folder) / "silent.mp4"
        if using.codec == H264:
            assert using.ffmpeg is not None
            listed = Path(folder) / "pieces.txt"
            listed.write_text("".join(_listed(piece, rate) for piece in pieces), encoding="utf-8")
            words = ["-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy"]
            done = _run(using.ffmpeg, *words, "-movflags", "+faststart", str(silent))
            if done.returncode:
                raise FacehalError(f"{path}: cannot be written ({_last_line(done.stderr)})")
        else:
            frames = (frame for piece in pieces for frame in VideoReader(piece))
            write_video(silent, frames, rate, using)
        sound = "none"
        if sound_of is not None:
            sound = _add_sound(silent, sound_of, path, using.ffmpeg)
        if sound != "kept":
            os.replace(silent, path)
    return sound


def _listed(piece: Path, rate: Fraction) -> str:
    """What ffmpeg is told of a piece; the length that a file gives itself is rounded."""
    name = str(piece.resolve()).replace("'", r"'\''")
    with VideoReader(piece) as reader:
        return f"file '{name}'\nduration {float(reader.expected / rate):.6f}\n"


def _add_sound(silent: Path, source: Path, path: Path, ffmpeg: str | None) -> str:
    """The first sound track of a video beside the pictures of another; as :func:`join`."""
    if ffmpeg is None:
        return "left out, if there is any (no ffmpeg here: pip install 'facehal[video]')"
    found = re.search(
        r": Audio: (\w+)", _run(ffmpeg, "-loglevel", "info", "-i", str(source)).stderr
    )
    if found is None:
        return "none"
    both = ["-i", str(silent), "-i", str(source), "-map", "0:v", "-map", "1:a:0", "-c:v", "copy"]
    coded = ["-c:a", "copy" if found[1] in _SOUNDS else "aac", "-movflags", "+faststart"]
    done = _run(ffmpeg, *both, *coded, str(path))
    if done.returncode == 0:
        return "kept"
    return f"left out ({_last_line(done.stderr)})"


class _FfmpegWriter:
    """H.264 by a process of ffmpeg that reads raw frames."""

    def __init__(self, path: Path, rate: Fraction, ffmpeg: str) -> None:
        self.path, self.rate, self._ffmpeg = path, rate, ffmpeg
        self._process: subprocess.Popen[bytes] | None = None
        # Not a pipe, which would fill up while nobody reads.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the rest

    def write(self, frame: np.ndarray) -> None:
        frame = _even(frame)
        if self._process is None:
            size = f"{frame.shape[1]}x{frame.shape[0]}"
            raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(self.rate)]
            # Players take untagged colours for those of BT.709 or of BT.601 as they please.
            tags = [f"-{name}" for name in ("colorspace", "color_primaries", "color_trc")]
            colours = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p"]
            colours += [word for tag in tags for word in (tag, "bt709")]
            coded = ["-c:v", "libx264", "-crf", str(_QUALITY)]
            self._process = subprocess.Popen(
                [*_quiet(self._ffmpeg), *raw, "-i", "-", *colours, *coded, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for this process, which ends the other
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            raise self._failed() from error

    def __enter__(self) -> "_FfmpegWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._process is None:
                return
            assert self._process.stdin is not None
            if kind is not None:
                self._process.kill()
            with contextlib.suppress(OSError):  # where it ended before its status says so
                self._process.stdin.close()
            if self._process.wait() and kind is None:
                raise self._failed()
        finally:
            self._errors.close()

    def _failed(self) -> FacehalError:
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace")
        return FacehalError(f"{self.path}: cannot be written ({_last_line(said)})")


class _OpenCvWriter:
    """OpenCV's own JPEGs for pieces, or MPEG-4."""

    def __init__(self, path: Path, rate: Fraction, code: str) -> None:
        self.path, self.rate, self.code = path, rate, code
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        frame = _even(frame)
        if self._writer is None:
            backend = cv2.CAP_OPENCV_MJPEG if self.code == "MJPG" else cv2.CAP_FFMPEG
            quality = [cv2.VIDEOWRITER_PROP_QUALITY, _PIECE_QUALITY] if self.code == "MJPG" else []
            code, size = cv2.VideoWriter.fourcc(*self.code), frame.shape[1::-1]
            self._writer = cv2.VideoWriter(
                str(self.path), backend, code, float(self.rate), size, quality
            )
            if not self._writer.isOpened():
                raise FacehalError(f"{self.path}: cannot be written (OpenCV does not say why)")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __enter__(self) -> "_OpenCvWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()


def _even(frame: np.ndarray) -> np.ndarray:
    """With an even width and height: the last column or row once more."""
    height, width = frame.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _quiet(ffmpeg: str) -> list[str]:
    return [ffmpeg, "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]


def _run(ffmpeg: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*_quiet(ffmpeg), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def _last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1][:200] if lines else "ffmpeg does not say why"
