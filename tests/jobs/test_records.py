"""The journal of rows and the list of what was skipped: whole after whatever ended a job."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facehal.errors import FacehalError, ImageError
from facehal.jobs.records import RowJournal, Skipped, csv_bytes, read_rows, row_of

COLUMNS = ["file", "x"]
ODD = os.fsdecode(b"a\xff.png")  # a name that is no UTF-8, as Python reads it from a folder


def test_a_torn_journal(tmp_path):
    """A killed process leaves half a line; names that are no UTF-8 stay as they are."""
    path, columns = tmp_path / "rows.csv", COLUMNS
    with RowJournal(path, columns, [{"file": ODD, "x": "1"}]) as journal:
        journal.note([{"file": "b", "x": "2"}])
        assert [row["x"] for row in read_rows(path, columns)] == ["1", "2"]
    whole = path.read_bytes()
    assert whole == b"file,x\na\xff.png,1\nb,2\n"
    path.write_bytes(whole + b"c,3")
    assert [row["file"] for row in read_rows(path, columns)] == [ODD, "b"]
    assert list(read_rows(path, ["file"])) == [] == list(read_rows(tmp_path / "no.csv", columns))
    assert csv_bytes([{"file": "d"}], columns) == b"d,\n"


def test_torn_anywhere(tmp_path):
    """Wherever the last row ends, the rows before it are read, and never half of a row."""
    path = tmp_path / "rows.csv"
    rows = [{"file": "a", "x": "1"}, {"file": 'b "of"\nc, d', "x": "2"}, {"file": ODD, "x": "3"}]
    whole = csv_bytes(rows, COLUMNS, head=True)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        found = list(read_rows(path, COLUMNS))
        assert found == rows[: len(found)], length
        ends = [len(csv_bytes(rows[:n], COLUMNS, head=True)) for n in range(4)]
        assert len(found) == sum(length >= end for end in ends[1:]), length


def test_a_row_kept_as_its_line():
    for row in ({"file": ODD, "x": ""}, {"file": 'b "of"\r\nc, d', "x": "2"}):
        assert row_of(csv_bytes([row], COLUMNS), COLUMNS) == row


def test_a_journal_goes_on_from_what_was_read(tmp_path):
    path = tmp_path / "deep" / "rows.csv"
    with RowJournal(path, COLUMNS) as journal:
        journal.note([{"file": "a", "x": "1"}])
    path.write_bytes(path.read_bytes() + b"b,")
    with RowJournal(path, COLUMNS, list(read_rows(path, COLUMNS))) as journal:
        journal.note([{"file": "c", "x": "3"}])
    assert path.read_bytes() == b"file,x\na,1\nc,3\n"


@pytest.mark.skipif(os.name != "posix", reason="kills with a signal")
def test_what_is_noted_outlives_the_process(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from facehal.jobs.records import RowJournal\n"
        "journal = RowJournal(Path(sys.argv[1]), ['file', 'x'])\n"
        "journal.note([{'file': str(n), 'x': 'y'} for n in range(3)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path, root = tmp_path / "rows.csv", Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code, path], cwd=root, check=False)
    assert [row["file"] for row in read_rows(path, COLUMNS)] == ["0", "1", "2"]


def test_the_list_of_skipped_items_comes_and_goes(tmp_path, capsys):
    path = tmp_path / "out" / "skipped.csv"
    with Skipped(path) as skipped:
        skipped.add("b.png", ImageError("b.png: cut short"))
        skipped.add(ODD, ImageError("no picture, none"))
        assert not path.exists()
    assert path.read_bytes().splitlines() == [
        b"file,reason",
        b'a\xff.png,"no picture, none"',
        b"b.png,b.png: cut short",
    ]
    said = capsys.readouterr().err.splitlines()
    assert said == ["skipped: b.png: cut short", "skipped: no picture, none"]
    with Skipped(path, say=False) as skipped:
        assert not path.exists()  # also if this run is killed, it is not the list of another one
        skipped.add("c", ImageError("c"))
    assert capsys.readouterr().err == "" and len(skipped) == 1
    with Skipped(path):
        pass
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, FacehalError("full"), ValueError])
def test_the_list_is_written_whatever_ends_the_job(error, tmp_path):
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind), Skipped(tmp_path / "skipped.csv", say=False) as skipped:
        skipped.add("a", ImageError("a: empty"))
        raise error
    assert (tmp_path / "skipped.csv").read_text().splitlines()[1] == "a,a: empty"


def test_a_list_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "skipped.csv").mkdir()
    for folder in (tmp_path / "file", tmp_path):
        refused = pytest.raises(FacehalError, match=f"{folder.name}: cannot be written")
        with refused, Skipped(folder / "skipped.csv"):
            raise AssertionError("not begun")
