"""Where files lie: in a folder of this machine, or below an address in a bucket (extra: buckets).

:func:`place` makes of ``s3://bucket/folder`` an :class:`Address`, of every other name a `Path`.
What a bucket does not know, folders, appending, renaming and links, an address does not know
either: who needs them asks :func:`is_address`.
"""

import contextlib
import errno
import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, cast

from facehal.errors import DataError, FacehalError, StorageError, first_line
from facehal.optional import require

# `Path` leaves one slash of two, Windows turns it; `C:/` is a drive.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):[/\\]+", re.IGNORECASE)
# Of a refused request: it is not the file's fault, and the next one is refused, too.
_CREDENTIALS = re.compile(r"token|expired|signature|access ?key|credential", re.IGNORECASE)

_REQUESTS = 16  # of a process to a bucket at a time


def place(path: "str | os.PathLike[str] | Address") -> Path:
    """Where something lies: a `Path`, or an :class:`Address` for ``s3://…`` and the like.

    An address is said to be a path, which it resembles: it has those of a path's methods that are
    used here. A URL that went through `Path` is mended.

    Raises:
        FacehalError: a URL, and the package that reads such ones is not installed.
        DataError: a URL of a kind that nobody knows, or ``file://``.
        StorageError: no way into the bucket.
    """
    if isinstance(path, Address):
        return cast(Path, path)
    url = _URL.match(os.fspath(path))
    if url is None:
        return Path(path)
    rest = os.fspath(path)[url.end() :]
    if isinstance(path, os.PathLike):
        rest = rest.replace(os.sep, "/")
    address = Address(f"{url[1].lower()}://{rest}".rstrip("/"))
    if url[1].lower() in ("file", "local"):
        raise DataError(f"{path}: name the folder itself, without {url[1]}://")
    address.file_system()
    return cast(Path, address)


def path_of(path: "str | os.PathLike[str] | Address") -> Path:
    """The same where few can use an address: one made by :func:`place` passes, no URL does.

    Raises:
        DataError: a URL.
    """
    if isinstance(path, Address):
        return cast(Path, path)
    if _URL.match(os.fspath(path)):
        raise DataError(
            f"{path}: an address, which preprocess, augment and hallucinate alone know: copy the "
            "folder to this machine"
        )
    return Path(path)


def is_address(path: object) -> bool:
    """Whether something lies in a bucket."""
    return isinstance(path, Address)


def modified(path: Path) -> float:
    """When a file was written last, in seconds since 1970; OSError as from `os.stat`."""
    return path.modified() if isinstance(path, Address) else os.stat(path).st_mtime


def between(start: Path, target: Path) -> str:
    """The way from a folder to another, with slashes; all of it where they share no beginning."""
    if isinstance(target, Address):
        # The bucket, too, must be the same: the name behind the double slash.
        if isinstance(start, Address) and start.url.split("/")[:3] == target.url.split("/")[:3]:
            return posixpath.relpath(f"/{target.url}", f"/{start.url}")
        return target.url
    if isinstance(start, Address):
        return target.resolve().as_posix()
    return Path(os.path.relpath(target, start)).as_posix()


@contextlib.contextmanager
def overlapped(*, waits: bool) -> Iterator[Callable[..., Iterator[Any]]]:
    """`map`, in threads for work that waits for a bucket: sixteen requests wait as long as one."""
    if not waits:
        yield map
        return
    with ThreadPoolExecutor(_REQUESTS) as pool:
        yield pool.map


@contextlib.contextmanager
def here(path: Path) -> Iterator[Path]:
    """A file as one of this machine: itself, or a copy for as long; OSError as from `open`.

    For what reads it bit by bit, in whatever way.
    """
    if not isinstance(path, Address):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        path.download(copy)
        yield copy


@cache
def _file_system(bucket: str, process: int) -> Any:
    """What fsspec makes of a bucket: one in a process, which its threads share."""
    import fsspec.core

    # Others write there, too: what was listed once does not hold.
    return fsspec.core.url_to_fs(bucket, use_listings_cache=False)[0]


@dataclass(frozen=True, slots=True)
class Address:
    """A file or a folder in a bucket, with those of a path's methods that the jobs use.

    Small, and it travels: every process opens the bucket itself. What is written is whole or is not
    there, as buckets have it. Nothing is kept of what a bucket said before.

    Attributes:
        url: ``s3://bucket/folder/file``, without a slash at its end.

    Raises:
        FileNotFoundError: by every method that reads: there is no such file.
        PermissionError: by the methods that read it all: it may not be read.
        StorageError: any other trouble with the bucket, that the next file would have, too.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str | os.PathLike[str]) -> "Address":
        return Address(f"{self.url}/{os.fspath(name)}")

    def __lt__(self, other: "Address") -> bool:  # as paths: by the names between the slashes
        return self.url.split("/") < other.url.split("/")

    @property
    def name(self) -> str:
        """As a path's."""
        return PurePosixPath(self.url).name

    @property
    def stem(self) -> str:
        """As a path's."""
        return PurePosixPath(self.url).stem

    @property
    def suffix(self) -> str:
        """As a path's."""
        return PurePosixPath(self.url).suffix

    @property
    def parent(self) -> "Address":
        """As a path's."""
        return Address(self.url.rpartition("/")[0])

    def with_name(self, name: str) -> "Address":
        """As a path's."""
        return self.parent / name

    def resolve(self) -> "Address":
        """Itself: there are no links."""
        return self

    def relative_to(self, folder: "Address") -> PurePosixPath:
        """As a path's."""
        return PurePosixPath(self.url).relative_to(folder.url)

    def is_relative_to(self, folder: "Address") -> bool:
        """As a path's."""
        return f"{self.url}/".startswith(f"{folder.url}/")

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: a folder is there as soon as a file is in it."""

    def exists(self) -> bool:
        """Whether there is such a file, or files below it."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """As a path's."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether there are files below it."""
        return self._kind() == "directory"

    def _kind(self) -> str | None:
        with self._opened() as (files, key):
            try:
                return str(files.info(key)["type"])
            except FileNotFoundError:
                return None

    def files(self) -> list[Path]:
        """All files below it, in depth and in any order; addresses, as :func:`place` gives them."""
        try:
            with self._opened() as (files, key):
                found = files.find(key)
        except FileNotFoundError:
            return []
        start = len(key.rstrip("/")) + 1
        return [cast(Path, self / name[start:]) for name in found if name[start:]]

    def modified(self) -> float:
        """When it was written last, in seconds since 1970."""
        with self._opened() as (files, key):
            return float(files.modified(key).timestamp())

    def read_bytes(self) -> bytes:
        """As a path's."""
        with self._opened(reading=True) as (files, key):
            return bytes(files.cat_file(key))

    def read_text(self, encoding: str) -> str:
        """As a path's."""
        return self.read_bytes().decode(encoding)

    def download(self, target: Path) -> None:
        """Copies it to a file of this machine."""
        with self._opened(reading=True) as (files, key):
            files.get_file(key, str(target))

    def write_bytes(self, data: bytes) -> None:
        """As a path's."""
        with self._opened() as (files, key):
            files.pipe_file(key, data)

    def upload(self, source: Path) -> None:
        """Copies a file of this machine, of any size, to here."""
        with self._opened() as (files, key):
            files.put_file(str(source), key)

    def unlink(self, missing_ok: bool = False) -> None:
        """As a path's; a bucket may not say whether there was such a file."""
        try:
            with self._opened() as (files, key):
                files.rm_file(key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def file_system(self) -> tuple[Any, str]:
        """What fsspec opens for it, one in a process, and its name there.

        Raises:
            FacehalError: a package is not installed.
            DataError: nobody knows such addresses.
            StorageError: no way into the bucket.
        """
        core = require("fsspec.core", self.url)
        try:
            files = _file_system("/".join(self.url.split("/")[:3]), os.getpid())
            return files, str(core.strip_protocol(self.url))
        except ImportError as error:
            raise FacehalError(f"{self}: {first_line(error)}") from error
        except ValueError as error:
            raise DataError(f"{self}: {first_line(error)}: not an address of a bucket") from error
        except Exception as error:
            raise self._unreachable(error) from error

    @contextlib.contextmanager
    def _opened(self, *, reading: bool = False) -> Iterator[tuple[Any, str]]:
        files, key = self.file_system()
        try:
            yield files, key
        except FileNotFoundError as error:
            said = first_line(error)
            is_bucket = "bucket" in said and key not in said
            missing = said if is_bucket else os.strerror(errno.ENOENT)
            raise FileNotFoundError(errno.ENOENT, missing) from error
        except PermissionError as error:
            said = first_line(error)
            if not reading or _CREDENTIALS.search(said):
                raise self._unreachable(error) from error
            raise PermissionError(errno.EACCES, said) from error
        except Exception as error:  # of whatever package is below: they share no class
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> StorageError:
        return StorageError(
            f"{self}: no way to it ({first_line(error)}); look after the bucket's name, the "
            "credentials and the network, and run again"
        )
