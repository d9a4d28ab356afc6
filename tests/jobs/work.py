"""Work for the map's tests: worker processes must be able to import it."""

import contextlib
import os
import signal
import time
from pathlib import Path

from facehal.errors import ImageError


def doubled(number: int) -> int:
    if number in (7, 11):
        raise ImageError(f"{number}: not a picture")
    return 2 * number


def killed(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def broken(number: int) -> float:
    return 1 / (number - 4)


def stopped(number: int) -> int:
    if number == 2:
        raise ImageError(f"{number}: not a picture")
    if number == 30:
        raise KeyboardInterrupt
    return number


def slow(number: int) -> int:
    time.sleep(2 if number == 10 else 0.02)
    return number


def killed_once(item: tuple[Path, int]) -> int:
    """The process dies over the first item that finds the folder's mark, and takes it with it."""
    folder, number = item
    time.sleep(0.02)
    with contextlib.suppress(FileNotFoundError):
        (folder / "kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    with open(folder / str(os.getpid()), "a") as file:
        print(number, file=file)
    return number
