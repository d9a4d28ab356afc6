"""The map that every job runs on: what it gives, keeps, skips and says, on each of its engines."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from facehal.errors import ConfigError, DataError, ImageError
from facehal.jobs.mapping import Processes, Serial, Threads, each, processes
from facehal.jobs.records import Skipped

sys.path.insert(0, str(Path(__file__).parent))
from work import broken, doubled, killed, stopped

ENGINES = [Serial(), Threads(3), Processes(2)]
IDS = ["serial", "threads", "processes"]
ROOT = Path(__file__).resolve().parents[2]


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


def test_a_worker_that_dies_takes_nothing_noted_with_it():
    noted: list[int] = []
    given: list[int] = []
    with pytest.raises(DataError):
        for done in each(
            killed, range(60), engine=Processes(2), journal=noted.extend, progress=False
        ):
            given.append(done.result)
    assert given == noted and 5 not in noted


def test_the_engine_does_not_matter():
    """Results in the items' order, what is noted, and what is skipped are the same everywhere."""
    found = []
    for engine in ENGINES:
        noted: list[int] = []
        skipped = Skipped("unused", say=False)
        results = each(
            doubled,
            range(30),
            engine=engine,
            together=3,
            journal=noted.extend,
            skipped=skipped,
            progress=False,
        )
        places = sorted((done.index, done.item, done.result) for done in results)
        found.append((places, sorted(noted), len(skipped)))
    assert found[0] == found[1] == found[2]


def test_one_after_the_other_keeps_the_order():
    assert [done.index for done in each(int, "0123", progress=False)] == [0, 1, 2, 3]
    assert list(each(int, [], engine=Threads(2), progress=False)) == []


@pytest.mark.parametrize("engine", ENGINES, ids=IDS)
def test_an_error_that_is_not_ours_is_not_skipped(engine, tmp_path):
    """A mistake of the program must not end as a line in a list of unusable photos."""
    with (
        pytest.raises(ZeroDivisionError),
        Skipped(tmp_path / "skipped.csv") as skipped,
    ):
        list(each(broken, range(9), engine=engine, skipped=skipped, progress=False))
    assert len(skipped) == 0


@pytest.mark.parametrize("engine", ENGINES, ids=IDS)
def test_after_an_error_nothing_new_is_begun(engine):
    noted: list[int] = []
    with pytest.raises(ImageError, match=r"^7: "):
        list(each(doubled, range(5000), engine=engine, journal=noted.extend, progress=False))
    assert {2 * n for n in range(7)} <= set(noted) and len(noted) < 100


@pytest.mark.parametrize("engine", ENGINES[:2], ids=IDS[:2])
def test_stopped_by_the_work_itself(engine, tmp_path):
    noted: list[int] = []
    with (
        pytest.raises(KeyboardInterrupt),
        Skipped(tmp_path / "skipped.csv", say=False) as skipped,
    ):
        list(
            each(
                stopped,
                range(40),
                engine=engine,
                journal=noted.extend,
                skipped=skipped,
                progress=False,
            )
        )
    assert set(noted) <= set(range(40)) - {2, 30}
    # With threads the interrupt may be met before the skipped item is taken down.
    if isinstance(engine, Serial):
        assert noted == [0, 1, *range(3, 30)]
        assert (tmp_path / "skipped.csv").read_text().splitlines()[1] == "2,2: not a picture"


STOPPED = """
import sys
sys.path.insert(0, sys.argv[1])
from work import slow
from facehal.jobs.mapping import Processes, Serial, Threads, each

def main():
    engine = {"serial": Serial, "threads": lambda: Threads(2), "processes": lambda: Processes(2)}
    with open(sys.argv[3], "a") as file:
        def note(results):
            for one in results:
                print(one, file=file, flush=True)
        items = range(int(sys.argv[4]))
        for done in each(slow, items, engine=engine[sys.argv[2]](), journal=note):
            print(done.result, flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(os.name != "posix", reason="stops with a signal")
@pytest.mark.parametrize(
    ("engine", "items"),
    # The last item of few takes long: a worker that has nothing to do hears Ctrl-C, too.
    [("serial", 2000), ("threads", 2000), ("processes", 2000), ("processes", 11)],
)
def test_ctrl_c(engine, items, tmp_path):
    """Of a whole group of processes, as a terminal sends it."""
    (tmp_path / "job.py").write_text(STOPPED)
    journal = tmp_path / "journal"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "job.py", Path(__file__).parent, engine, journal, str(items)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 10:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    # Also the workers end: they hold the pipes' other ends.
    given, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert said.count("Traceback") == 1 and "KeyboardInterrupt" in said
    noted = journal.read_text().split()
    assert set(given.split()) <= set(noted) and 10 <= len(noted) < items
    assert len(noted) - len(given.split()) <= 1  # noted, and stopped before it was given


def test_the_bar_counts_what_an_item_stands_for(capsys):
    chunks = [range(3), range(3, 5)]
    for _ in each(len, chunks, size=len, finished=5, unit="face"):
        pass
    assert "10/10" in capsys.readouterr().err
    for _ in each(len, chunks, progress=False):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("engine", ENGINES, ids=IDS)
def test_what_is_sent_in_an_items_stead(engine):
    """It is made in the caller's process, and not long before its turn."""
    made: list[range] = []

    def send(item: range) -> int:
        made.append(item)
        return item.start

    chunks = [range(n, n + 3) for n in range(100, 400, 3)]
    results = each(doubled, chunks, send=send, engine=engine, together=2, progress=False)
    first = next(results)
    assert len(made) <= 2 * (1 + 3 * engine.workers)
    found = [first, *results]
    assert made == chunks
    assert all(one.item == chunks[one.index] and one.result == 2 * one.item.start for one in found)


def test_left_early_the_engine_ends():
    """Who needs no more results waits for what was begun, and for nothing else."""
    begun: list[int] = []
    go_on = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            go_on.wait(30)
        return number

    results = each(work, range(1000), engine=Threads(2), progress=False)
    assert next(results).result == 0
    threading.Timer(0.5, go_on.set).start()
    results.close()
    assert go_on.is_set()
    # One thread was at 1, the other had 0 and may have taken 2; the engine had more in hand.
    assert sorted(begun) in ([0, 1], [0, 1, 2])
