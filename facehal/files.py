"""Files that are written whole or not at all, and folders that one process writes to at a time."""

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath

from facehal.errors import FacehalError
from facehal.places import Address, is_address, path_of


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all, making its folder; OSError as from `open`."""
    path = path_of(path)
    if is_address(path):
        path.write_bytes(data)  # whole or not at all, as buckets have it
        return
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


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Delete what `write_bytes` had not finished, anywhere in a folder, when it was killed."""
    if is_address(folder):  # where that does not stay behind
        return
    for unfinished in Path(folder).rglob(".*.tmp"):
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, sync: bool = False) -> Iterator[Path]:
    """Write a file or a folder whole or not at all: where to write it, which takes its place.

    For what others write to a path of their own choice of ending (`write_bytes` is for bytes that
    are at hand). What is to be written goes to the path that is given here: the same name, in a
    hidden folder beside ``path``, which has room for further files and is gone at the end. Where
    the block raises, ``path`` stays as it was.

    Args:
        path: its folder is made; an older file there is replaced, a folder only if it is empty.
        sync: wait until a file is on the disk before it takes the old one's place.

    Raises:
        OSError: it cannot be written.
    """
    path = path_of(path)
    if isinstance(path, Address):
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / path.name
            yield part
            path.upload(part)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        part = Path(folder) / path.name
        yield part
        # Some programs make private files; a result is as readable as any file of its user.
        part.chmod((0o777 if part.is_dir() else 0o666) & ~umask())
        if sync and part.is_file():
            with part.open("rb") as written:
                os.fsync(written.fileno())
        os.replace(part, path)


@contextlib.contextmanager
def locked(
    folder: str | os.PathLike[str], error: type[FacehalError] = FacehalError
) -> Iterator[None]:
    """Keeps out whoever else asks for the same folder, until left or the process ends.

    The lock is on the file ``.lock`` in the folder, which may stay behind: it means nothing when
    nobody holds it. A file system without locks lets everybody in, and so does a bucket.

    Args:
        folder: an existing folder.
        error: the class raised where somebody else is in.

    Raises:
        FacehalError: as ``error``: "folder: another process is writing to it …".
    """
    if is_address(folder):
        yield
        return
    import filelock  # here: most commands lock nothing, and start sooner without it

    lock: filelock.BaseFileLock
    path = Path(folder) / ".lock"
    try:
        # Where locks are missing, a marker that a crash leaves behind would lock everybody out.
        lock = filelock.FileLock(path, timeout=0, fallback_to_soft=False)
    except TypeError:  # earlier versions know no such marker
        lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise error(
            f"{folder}: another process is writing to it; wait for its end, or name another folder"
        ) from None
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()


def leaves_folder(name: str) -> bool:
    """Whether a name that a list in a folder gives cannot be that of a file below the folder.

    So are empty and absolute ones, those with a drive, and those that go up by ``..``, between
    slashes or backslashes. It is the same on every system: lists are passed on with their files.
    """
    if name and name[0] not in "/\\" and name[1:2] != ":" and ".." not in name:  # nearly all
        return "\0" in name
    path = PureWindowsPath(name)  # to which both are separators
    return not name or bool(path.anchor) or ".." in path.parts or "\0" in name


def first_outside(folder: str | os.PathLike[str], names: Iterable[str]) -> str | None:
    """The first of the names in a folder's list that leads out of the folder; None: none does.

    Besides :func:`leaves_folder`: those in a folder that is a link to somewhere else. The files
    themselves are not looked at (:func:`linked_out`): there may be many.
    """
    if is_address(folder):  # no links there
        return next(filter(leaves_folder, names), None)
    places, known = _places(folder), set[str]()
    for name in names:
        if leaves_folder(name):
            return name
        parent = os.path.dirname(name)
        if parent not in known:
            if not _real(os.path.join(folder, parent)).startswith(places):
                return name
            known.add(parent)
    return None


def linked_out(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> bool:
    """Whether a file of a folder is a link to something outside of it."""
    return (
        not is_address(path)
        and os.path.islink(path)
        and not _real(path).startswith(_places(folder))
    )


def _places(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Where a folder's files are: it may be a link, and so may its ``faces``, to a larger disk."""
    return _real(folder), _real(os.path.join(folder, "faces"))


def _real(path: str | os.PathLike[str]) -> str:
    """Where a path is without links, so that what is below it begins with it."""
    return os.path.join(os.path.normcase(os.path.realpath(path)), "")


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file in hexadecimal; OSError where it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def unique_names(wanted: Iterable[str]) -> list[str]:
    """File names in the order of the wanted ones, each of its own: ``x``, ``x_2``, ``x_3``.

    Compared in lower case: some file systems know no other.
    """
    names = []
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last one tried of every name: those before are taken
    for name in wanted:
        unique, number = name, numbers.get(name.lower(), 1)
        while unique.lower() in taken:
            number += 1
            unique = f"{name}_{number}"
        numbers[name.lower()] = number
        taken.add(unique.lower())
        names.append(unique)
    return names


_UMASK = threading.Lock()


def umask() -> int:
    """The permissions that this process withholds; reading them takes setting them for a moment."""
    with _UMASK:
        mask = os.umask(0o022)
        os.umask(mask)
    return mask
