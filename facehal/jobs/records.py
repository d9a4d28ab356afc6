"""What a job writes down besides its results: a journal of rows, and a list of what it skipped."""

import csv
import io
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from tqdm.auto import tqdm

from facehal.errors import FacehalError
from facehal.files import replacing, write_text
from facehal.places import Address, here, is_address, path_of

Row = dict[str, str]
"""Column → value."""


def csv_bytes(rows: Iterable[Row], columns: Sequence[str], *, head: bool = False) -> bytes:
    """Rows as CSV; names that are no UTF-8 come out as the bytes they were."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if head:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def row_of(line: bytes, columns: Sequence[str]) -> Row:
    """The row that `csv_bytes` wrote alone: a seventh of its size, to keep many."""
    text = io.StringIO(line.decode("utf-8", "surrogateescape"), newline="")
    return next(csv.DictReader(text, columns))


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of such a CSV, as they are read; none where it is missing or has other columns.

    A last line that is torn, as a killed process leaves it, does not count.
    """
    if not path.is_file():
        return
    with here(path) as at, at.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(_whole(file))
        if reader.fieldnames != list(columns):
            return
        for row in reader:
            if None not in row and None not in row.values():
                yield row


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """All lines but a last one without its end."""
    last = ""
    for line in lines:
        if last:
            yield last
        last = line
    if last.endswith("\n"):
        yield last


class RowJournal:
    """Rows in a CSV, each in the hands of the system as soon as it is noted.

    Args:
        path: the file; its folder is made.
        columns: of the rows.
        rows: what the journal begins with. It is written anew, for its last line may be torn.
    """

    def __init__(self, path: Path, columns: Sequence[str], rows: Iterable[Row] = ()) -> None:
        self.path, self.columns = path, columns
        write_rows(path, columns, (csv_bytes([row], columns) for row in rows))
        self._file: IO[bytes] = open(path, "ab")  # noqa: SIM115

    def note(self, results: Iterable[Row]) -> None:
        """Adds rows."""
        self._file.write(csv_bytes(results, self.columns))
        self._file.flush()

    def __enter__(self) -> "RowJournal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


PART_ROWS, PART_SECONDS = 2000, 20.0
"""When a :class:`PartedJournal` writes a file: whichever comes first."""


class PartedJournal:
    """The same in a bucket, where nothing can be appended: numbered files of some rows each.

    Rows that are in none of them yet are lost with the process: those of the last
    :data:`PART_SECONDS`, or of what a worker had in hand.

    Args:
        path: what its file would be called elsewhere.
        columns: of the rows.
        rows: what the journal begins with. They take the place of what is there.
    """

    def __init__(self, path: Path, columns: Sequence[str], rows: Iterable[Row] = ()) -> None:
        self.columns = columns
        self._folder = _parts_folder(path)
        earlier = _parts_of(path)
        self._number = int(earlier[-1].stem) if earlier else 0
        self._write(csv_bytes([row], columns) for row in rows)
        for part in earlier:  # only now: killed in between, the rows are there twice
            part.unlink(missing_ok=True)

    def note(self, results: Iterable[Row]) -> None:
        """Adds rows."""
        self._lines += [csv_bytes([row], self.columns) for row in results]
        waited = time.monotonic() - self._written
        if self._lines and (len(self._lines) >= PART_ROWS or waited >= PART_SECONDS):
            self._write(self._lines)

    def _write(self, lines: Iterable[bytes]) -> None:
        self._number += 1
        write_rows(self._folder / f"{self._number:08d}.csv", self.columns, lines)
        self._lines: list[bytes] = []
        self._written = time.monotonic()

    def __enter__(self) -> "PartedJournal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._lines:
            self._write(self._lines)


def journal_at(
    path: Path, columns: Sequence[str], rows: Iterable[Row] = ()
) -> RowJournal | PartedJournal:
    """A journal: a file, or in a bucket files in a folder, whose name is without the ending."""
    if is_address(path):
        return PartedJournal(path, columns, rows)
    return RowJournal(path, columns, rows)


def read_journal(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of such a journal, in their order; otherwise as :func:`read_rows`."""
    for part in _parts_of(path):
        yield from read_rows(part, columns)


def remove_journal(path: Path) -> None:
    """Deletes such a journal, if there is one."""
    for part in _parts_of(path):
        part.unlink(missing_ok=True)


def _parts_folder(path: Path) -> Path:
    return path.with_name(path.stem)


def _parts_of(path: Path) -> list[Path]:
    """The files of a journal, one after the other."""
    if not is_address(path):
        return [path]
    files = cast(Address, _parts_folder(path)).files()
    return sorted(file for file in files if file.stem.isdecimal())


def write_rows(path: Path, columns: Sequence[str], lines: Iterable[bytes]) -> None:
    """A CSV of rows that `csv_bytes` wrote, whole or not at all; OSError as from `open`."""
    with replacing(path) as part, part.open("wb") as file:
        file.write(csv_bytes([], columns, head=True))
        file.writelines(lines)


class Skipped:
    """Items that a job cannot use and why: said at once, listed in a CSV (``file``, ``reason``).

    As a context: the list of an earlier run goes at its beginning, this one's is written at its
    end, also after Ctrl-C or an error. Where nothing was skipped there is none.

    Args:
        path: the list.
        say: print a line for every item on standard error.

    Raises:
        FacehalError: the list cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, say: bool = True) -> None:
        self.path, self.say = path_of(path), say
        self._rows: list[tuple[str, str]] = []

    def add(self, name: str, error: FacehalError) -> None:
        """Takes down an item."""
        self._rows.append((name, str(error)))
        if self.say:
            tqdm.write(f"skipped: {error}", file=sys.stderr)

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> "Skipped":
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            folder = self.path.parent
            raise FacehalError(
                f"{folder}: cannot be written ({error.strerror or error})"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._rows:
            text = io.StringIO()
            csv.writer(text).writerows([("file", "reason"), *sorted(self._rows)])
            write_text(self.path, text.getvalue())
