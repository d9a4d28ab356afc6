"""Runs in processes of their own, killed and resumed, and what sets two run folders apart."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 900

SCRIPT = """
import sys
from facehal.models import load_config
from facehal.training.run import Run
config, data, *words = sys.argv[1:]
runs = []
for word in words:
    if word in ("stop", "resume"):
        runs[-1][word] = True
    else:
        runs.append({"folder": word})
for run in runs:
    minutes = 0 if run.pop("stop", False) else None
    Run(load_config(config), data, limit=18, progress=False, max_minutes=minutes, **run).fit()
"""


class RunProcess:
    """A run over 18 faces with one thread: with several, TensorFlow adds up in another order from
    run to run, and Adam's first steps, which look at signs only, make much of the last bit.

    ``RunProcess(config, data, folder)``; "resume" behind a folder resumes, "stop" stops the run
    after its first steps. More folders have their turns in the same process.
    """

    def __init__(self, *arguments: object):
        threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **threads},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def kill_when(self, reached: Callable[[], bool]) -> None:
        """SIGKILL as soon as ``reached`` says so, which must be while the run goes on."""
        until = time.monotonic() + LIMIT_S
        while not reached():
            assert self.process.poll() is None, self.process.stderr.read()[-2000:].decode()
            assert time.monotonic() < until
            time.sleep(0.005)
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL

    def finish(self) -> None:
        """Waits for its good end."""
        _, errors = self.process.communicate(timeout=LIMIT_S)
        assert self.process.returncode == 0, errors[-2000:].decode()


@pytest.fixture
def run_process() -> type[RunProcess]:
    return RunProcess


def _rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def rows_of() -> Callable[[Path], list[dict[str, str]]]:
    """The rows of a run's history as they stand in the file."""
    return _rows_of


def _weights(path: Path) -> list[np.ndarray]:
    return [v.numpy() for v in keras.models.load_model(path).variables]


@pytest.fixture
def assert_equal_runs(record_property) -> Callable[..., None]:
    """Two run folders have the same history (but for the seconds) and the same models."""

    def check(ours: Path, theirs: Path, epochs: int, *models: str) -> None:
        rows, others = _rows_of(ours), _rows_of(theirs)
        assert len(rows) == len(others) == epochs
        apart = moved = 0.0
        for a, b in zip(rows, others, strict=True):
            assert [k for k in a if a[k] == ""] == [k for k in b if b[k] == ""]
            values = [(float(a[k]), float(b[k])) for k in b if b[k] and k != "seconds"]
            apart = max(apart, *(abs(x - y) / abs(y) for x, y in values))
        for name in models:
            pairs = zip(_weights(ours / name), _weights(theirs / name), strict=True)
            moved = max(moved, *(float(np.abs(a - b).max()) for a, b in pairs))
        record_property("history_apart", apart)
        record_property("weights_apart", moved)
        print(f"history apart {apart:.1e} relative, weights apart {moved:.1e}")
        # Achieved: 0 and 0.
        assert apart < 1e-5
        assert moved < 1e-4

    return check
