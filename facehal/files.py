"""Files that are written whole or not at all: to a temporary name, then renamed."""

import os
import tempfile
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
        os.chmod(name, 0o666 & ~_umask())
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
        write_bytes(path, text.encode("utf-8"))
    except OSError as reason:
        raise error(f"{path}: cannot be written ({reason.strerror or reason})") from reason


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
