"""Files that are written whole or not at all, and folders that one process writes to at a time."""

import contextlib
import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from facehal.errors import FacehalError


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all, making its folder; OSError as from `open`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp makes private files; a result is as readable as any file of its user.
        os.chmod(name, 0o666 & ~umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(
    path: str | os.PathLike[str], text: str, error: type[FacehalError] = FacehalError
) -> None:
    """Write a UTF-8 text file whole or not at all, making its folder.

    Args:
        error: the class raised where the file cannot be written.

    Raises:
        FacehalError: as ``error``: "path: cannot be written (reason)".
    """
    try:
        # File names that are no UTF-8 are texts with surrogates; they come out as they were.
        write_bytes(path, text.encode("utf-8", "surrogateescape"))
    except OSError as reason:
        raise error(f"{path}: cannot be written ({reason.strerror or reason})") from reason


@contextlib.contextmanager
def locked(
    folder: str | os.PathLike[str], error: type[FacehalError] = FacehalError
) -> Iterator[None]:
    """Keeps out whoever else asks for the same folder, until left or the process ends.

    A file system without locks lets everybody in.

    Args:
        error: the class raised where somebody else is in.

    Raises:
        FacehalError: as ``error``: "folder: another process is writing to it …".
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise error(
                f"{folder}: another process is writing to it; wait for its end, or name another "
                "folder"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


_UMASK = threading.Lock()


def umask() -> int:
    """The permissions that this process withholds; reading them takes setting them for a moment."""
    with _UMASK:
        mask = os.umask(0o022)
        os.umask(mask)
    return mask
