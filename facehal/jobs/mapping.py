"""One map over many items that can be interrupted: what every job of this folder runs on.

:func:`each` knows the items, the bar, the journal and the list of what was skipped; an engine knows
only where a piece of work is done: in this process, in threads, in processes of this machine, on a
Ray cluster (:mod:`facehal.jobs.on_ray`). An engine gives results as they come; what a job writes
must not depend on their order.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import cv2
from tqdm.auto import tqdm

from facehal.errors import ConfigError, DataError, FacehalError
from facehal.jobs.records import Skipped
from facehal.places import overlapped
from facehal.processes import follow_parent, ignore_interrupts, interrupts_held

Item = TypeVar("Item")
Result = TypeVar("Result")
Piece = TypeVar("Piece")
Answer = TypeVar("Answer")

_AHEAD = 3  # pieces in an engine's hands for every worker: none waits, and Ctrl-C is quick


class Engine(Protocol):
    """Where pieces of work are done."""

    workers: int
    """Pieces that are worked on at once."""

    def run(self, work: Callable[[Piece], Answer], pieces: Iterable[Piece]) -> Iterator[Answer]:
        """The work's answers as they come, in any order.

        Pieces are taken one after the other, and only a few ahead of the answers: who stops giving
        pieces stops the engine. Closing the iterator (Ctrl-C does) ends it, too: pieces not begun
        are dropped, those begun waited for. What the work raises is raised.
        """
        ...


class Serial:
    """In this process, one after the other."""

    workers = 1

    def run(self, work: Callable[[Piece], Answer], pieces: Iterable[Piece]) -> Iterator[Answer]:
        """As :meth:`Engine.run`; in order."""
        return map(work, pieces)


class Threads:
    """In threads of this process: for work that waits for files, or that OpenCV does."""

    def __init__(self, workers: int) -> None:
        self.workers = _at_least_one(workers)

    def run(self, work: Callable[[Piece], Answer], pieces: Iterable[Piece]) -> Iterator[Answer]:
        """As :meth:`Engine.run`."""
        return _pooled(ThreadPoolExecutor(self.workers), self.workers, work, pieces)


class Processes:
    """In processes of this machine: for work that computes.

    The work and its pieces travel: a function of a module, and small ones. The caller's script must
    be importable (the usual ``if __name__ == "__main__":``).
    """

    def __init__(self, workers: int) -> None:
        self.workers = _at_least_one(workers)

    def run(self, work: Callable[[Piece], Answer], pieces: Iterable[Piece]) -> Iterator[Answer]:
        """As :meth:`Engine.run`.

        Raises:
            DataError: a process died.
        """
        # Not fork: the caller may hold TensorFlow's threads, which a forked child does not survive.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
        try:
            yield from _pooled(pool, self.workers, work, pieces)
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process died: run again, it goes on; if memory ran out, with fewer "
                'workers; from a script, below `if __name__ == "__main__":`'
            ) from error


def _at_least_one(workers: int) -> int:
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    return workers


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes are as many as the cores
    ignore_interrupts()
    follow_parent()


def _pooled(
    pool: Executor, workers: int, work: Callable[[Piece], Answer], pieces: Iterable[Piece]
) -> Iterator[Answer]:
    """The pool is shut down at the end, whatever ends it."""
    try:
        waiting: set[Future[Answer]] = set()
        queue = iter(pieces)
        while True:
            for piece in queue:
                with interrupts_held():  # this may begin a process
                    waiting.add(pool.submit(work, piece))
                if len(waiting) >= _AHEAD * workers:
                    break
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def processes(workers: int, items: int) -> Engine:
    """An engine of so many processes, of fewer for few items; one works in this process.

    Raises:
        ConfigError: fewer than one.
    """
    _at_least_one(workers)
    workers = min(workers, items)
    return Processes(workers) if workers > 1 else Serial()


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """An item and what came of it.

    Attributes:
        index: its place among the items.
        item: the item itself.
        result: what the work gave.
    """

    index: int
    item: Item
    result: Result


def each(
    work: Callable[[Any], Result],
    items: Sequence[Item],
    *,
    send: Callable[[Item], object] | None = None,
    engine: Engine | None = None,
    together: int = 1,
    waits: bool = False,
    journal: Callable[[Sequence[Result]], object] | None = None,
    skipped: Skipped | None = None,
    name: Callable[[Item], str] = str,
    size: Callable[[Item], int] | None = None,
    finished: int = 0,
    unit: str = "file",
    what: str | None = None,
    progress: bool = True,
) -> Iterator[Done[Item, Result]]:
    """Does the work for every item; gives what came of each as it comes.

    Items are begun in their order, whatever the engine; ``index`` tells where a result belongs.
    Ctrl-C (KeyboardInterrupt) is passed on; what was given before is kept, in the journal, too.

    Args:
        work: an item → its result. Processes need a function of a module, or an object that can be
            pickled.
        items: all of them, known before.
        send: what the work gets in an item's stead, made when its turn comes: so millions of items
            may be numbers, and what they stand for is in memory for a moment only.
        engine: where; by default in this process.
        together: the most items that go to a worker at once, where there are several: small work
            is not worth a way of its own.
        waits: the work waits for a bucket: a worker does those that go to it together in threads.
        journal: notes results, before they are given, where a killed process cannot take them
            with it.
        skipped: takes the items for which the work raises a FacehalError; the others go on.
            Without it that error is raised when what was begun is done: always that of the first
            such item, whatever the engine.
        name: what ``skipped`` calls an item.
        size: how much an item counts in the bar, for items that stand for many.
        finished: how much of the bar an earlier run has done.
        unit: what the bar counts.
        what: a word before the bar, which then goes when it is full.
        progress: draw the bar on standard error.

    Raises:
        FacehalError: of an item, where ``skipped`` is not given.
        DataError: a worker process died.
        Exception: any other that the work raises, at once.
    """
    engine = engine or Serial()
    failed: dict[int, FacehalError] = {}
    alone = engine.workers == 1 and not waits
    many = 1 if alone else max(1, min(together, len(items) // (4 * engine.workers)))

    def pieces() -> Iterator[list[tuple[int, object]]]:
        for start in range(0, len(items), many):
            if failed:
                return
            several = items[start : start + many]
            yield list(enumerate(several if send is None else map(send, several), start))

    total = finished + (len(items) if size is None else sum(map(size, items)))
    with tqdm(
        total=total,
        initial=finished,
        unit=unit,
        desc=what,
        leave=what is None,
        disable=not progress,
        smoothing=0.05,
    ) as bar:
        answers = engine.run(_Piecewise(work, waits), pieces())
        try:
            for answer in answers:
                if journal is not None:
                    journal([one for _, one in answer if not isinstance(one, _Failed)])
                for index, result in answer:
                    item = items[index]
                    bar.update(1 if size is None else size(item))
                    if not isinstance(result, _Failed):
                        yield Done(index, item, result)
                    elif skipped is not None:
                        skipped.add(name(item), result.error)
                    else:
                        failed[index] = result.error
        finally:
            if close := getattr(answers, "close", None):  # at once, not when it is collected
                close()
    if failed:
        raise failed[min(failed)]


@dataclass(frozen=True)
class _Failed:
    error: FacehalError


@dataclass(frozen=True)
class _Piecewise:
    """The work on several items, in one go and with the errors that belong to one item."""

    work: Callable[[Any], object]
    waits: bool

    def __call__(self, piece: list[tuple[int, object]]) -> list[tuple[int, Any]]:
        with overlapped(waits=self.waits) as mapped:
            return list(mapped(self._one, piece))

    def _one(self, numbered: tuple[int, object]) -> tuple[int, object]:
        index, item = numbered
        try:
            return index, self.work(item)
        except FacehalError as error:
            return index, _Failed(error)
