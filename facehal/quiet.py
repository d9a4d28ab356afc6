"""What C libraries write to standard error by themselves, kept back while they are at work.

OpenCV has a level for the lines of its own logger, which TIFF's go through as well; libpng's and
libjpeg's go straight to file descriptor 2, and OpenCV lets nobody in between. So the descriptor is
redirected, for as long as one call takes, and what is not theirs is written when it is back.

What remains: a library with a C runtime of its own, as on Windows, may hold another descriptor than
Python's, and its lines still show. Of a process that dies in the meantime the last lines are lost.
"""

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

import cv2

# How the lines of libpng (pngerror.c) and of libjpeg (the warnings of jerror.h) begin.
_THEIRS = re.compile(
    rb"(?:libpng (?:error|warning): |Corrupt JPEG data: |Premature end of JPEG file"
    rb"|Inconsistent progression sequence |Invalid SOS parameters |Unknown Adobe color transform "
    rb"|Warning: unknown JFIF revision |Application transferred too many scanlines)[^\r\n]*\r?\n?"
)
_LOGGING = getattr(cv2.utils, "logging", cv2)  # OpenCV 5, and before
_SILENT = 0  # OpenCV's LOG_LEVEL_SILENT
_LOCK = threading.Lock()


@contextlib.contextmanager
def kept_back(shown: Callable[[bytes], bytes]) -> Iterator[None]:
    """Keeps back what this process writes to standard error, below Python, too.

    Args:
        shown: all that was written → what of it is written in the end, also where the block raises.
    """
    try:
        kept, real = tempfile.TemporaryFile(), os.dup(2)  # noqa: SIM115  closed below
    except OSError:  # standard error is closed, or nothing can be kept: then nothing is redirected
        yield
        return
    with kept:
        _flush()
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(real, 2)
            os.close(real)
            kept.seek(0)
            if written := shown(kept.read()):
                os.write(2, written)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Of what is written meanwhile, the lines of OpenCV, libpng and libjpeg do not show.

    Those of Python, of other threads and of other libraries do, a moment later. One thread at a
    time is in it: the descriptor and the level belong to the whole process.
    """
    with _LOCK, kept_back(lambda written: _THEIRS.sub(b"", written)):
        level = _LOGGING.getLogLevel()
        _LOGGING.setLogLevel(_SILENT)
        try:
            yield
        finally:
            _LOGGING.setLogLevel(level)
