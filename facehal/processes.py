"""What several processes of ours have in common: how many, and that none outlives its parent.

Everything here works on Linux, macOS and Windows; what only one of them can do is asked for first.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator


def usable_cores() -> int:
    """How many cores this process may use; at least 1.

    On Linux it may be bound to fewer than the machine has (``taskset``, containers). Other systems
    tell only what the machine has.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ignore_interrupts() -> None:
    """For a worker: Ctrl-C reaches the whole group of processes; the parent alone decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits for the end of the block; a process that is begun in it never hears it.

    Not even while it is starting, before it could say so itself. Windows knows no such thing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """Ends this process when the one that started it is gone, killed or not.

    A killed parent cannot tell its children to stop. A process of :mod:`multiprocessing` knows its
    parent; any other must have a pipe as its standard input that the parent holds and never writes
    to (``subprocess.Popen(…, stdin=subprocess.PIPE)``).
    """
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        else:
            os.read(0, 1)  # not sys.stdin: Python could not end while a thread waits in it
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
