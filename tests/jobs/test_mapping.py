"""The map that every job runs on: what it gives, keeps, skips and says, on each of its engines."""

import os
import sys
from pathlib import Path

import pytest

from facehal.errors import ConfigError, DataError, ImageError
from facehal.jobs.mapping import Processes, Serial, Threads, each, processes
from facehal.jobs.records import RowJournal, Skipped, csv_bytes, read_rows

sys.path.insert(0, str(Path(__file__).parent))
from work import doubled, killed

ENGINES = [Serial(), Threads(3), Processes(2)]
IDS = ["serial", "threads", "processes"]


@pytest.mark.parametrize("engine", ENGINES, ids=IDS)
@pytest.mark.parametrize("together", [1, 4])
def test_results_know_their_place(engine, together):
    items = [n for n in range(40) if n not in (7, 11)]
    found = list(each(doubled, items, engine=engine, together=together, progress=False))
    assert sorted(done.index for done in found) == list(range(38))
    assert all(items[d.index] == d.item and d.result == 2 * d.item for d in found)


@pytest.mark.parametrize("engine", ENGINES, ids=IDS)
def test_an_item_that_cannot_be_used_is_skipped(engine, tmp_path, capsys):
    with Skipped(tmp_path / "skipped.csv") as skipped:
        found = list(each(doubled, range(20), engine=engine, skipped=skipped, progress=False))
    assert len(found) == 18 and len(skipped) == 2
    text = (tmp_path / "skipped.csv").read_text()
    assert text.splitlines() == ["file,reason", "11,11: not a picture", "7,7: not a picture"]
    assert capsys.readouterr().err.count("skipped: ") == 2
    with Skipped(tmp_path / "skipped.csv"):
        pass
    assert not (tmp_path / "skipped.csv").exists()  # the list of an earlier run goes


@pytest.mark.parametrize("engine", ENGINES, ids=IDS)
def test_without_a_list_it_is_the_first_error(engine):
    """Whichever worker was quicker."""
    with pytest.raises(ImageError, match=r"^7: not a picture$"):
        list(each(doubled, range(40), engine=engine, progress=False))


@pytest.mark.parametrize("engine", ENGINES, ids=IDS)
def test_the_journal_has_a_result_before_the_caller(engine):
    noted: list[int] = []
    for done in each(
        doubled, range(7), engine=engine, journal=noted.extend, together=2, progress=False
    ):
        assert done.result in noted
    assert sorted(noted) == [2 * n for n in range(7)]


@pytest.mark.parametrize("engine", ENGINES, ids=IDS)
def test_stopped_in_the_middle(engine):
    """As Ctrl-C does it; the engine's threads and processes end with it."""
    noted: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        for done in each(doubled, range(6), engine=engine, journal=noted.extend, progress=False):
            if done.index >= 2:
                raise KeyboardInterrupt
    assert noted and set(noted) <= {0, 2, 4, 6, 8, 10}


def test_a_worker_that_dies():
    with pytest.raises(DataError, match="a worker process died: run again, it goes on"):
        list(each(killed, range(12), engine=Processes(2), progress=False))


def test_choice_of_engines():
    assert isinstance(processes(1, 50), Serial) and isinstance(processes(4, 1), Serial)
    assert processes(4, 3).workers == 3 and isinstance(processes(2, 9), Processes)
    for make in (lambda: processes(0, 9), lambda: Threads(0), lambda: Processes(-1)):
        with pytest.raises(ConfigError, match="workers must be at least 1"):
            make()


def test_a_torn_journal(tmp_path):
    """A killed process leaves half a line; names that are no UTF-8 stay as they are."""
    path, columns = tmp_path / "rows.csv", ["file", "x"]
    odd = os.fsdecode(b"a\xff.png")
    with RowJournal(path, columns, [{"file": odd, "x": "1"}]) as journal:
        journal.note([{"file": "b", "x": "2"}])
        assert [row["x"] for row in read_rows(path, columns)] == ["1", "2"]
    whole = path.read_bytes()
    assert whole == b"file,x\na\xff.png,1\nb,2\n"
    path.write_bytes(whole + b"c,3")
    assert [row["file"] for row in read_rows(path, columns)] == [odd, "b"]
    assert list(read_rows(path, ["file"])) == [] == list(read_rows(tmp_path / "no.csv", columns))
    assert csv_bytes([{"file": "d"}], columns) == b"d,\n"
