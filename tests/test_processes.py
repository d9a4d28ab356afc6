"""Cores that may be used, and processes that neither Ctrl-C nor a lost parent leaves astray."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from facehal.processes import usable_cores

ROOT = Path(__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="signals as Linux and macOS know them")


def started(code: str, *words: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_cores_where_the_system_tells_only_what_the_machine_has(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process can be bound on Linux")
def test_cores_of_a_process_that_is_bound_to_one():
    code = (
        "import os; from facehal.processes import usable_cores;"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(usable_cores())"
    )
    assert started(code).communicate(timeout=60)[0] == "1\n"
    assert usable_cores() == len(os.sched_getaffinity(0))


@posix
def test_a_worker_does_not_hear_ctrl_c():
    code = (
        "from facehal.processes import ignore_interrupts; ignore_interrupts();"
        "print('on', flush=True); print(input())"
    )
    process = started(code, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate("still\n", timeout=60)[0] == "still\n"
    assert process.returncode == 0


FOLLOWS = (
    "import time; from facehal.processes import follow_parent; follow_parent();"
    "print('on', flush=True); time.sleep({seconds})"
)


def test_a_process_ends_with_the_pipe_of_its_parent():
    process = started(FOLLOWS.format(seconds=60), stdin=subprocess.PIPE)
    assert process.stdout.readline() == "on\n" and process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=30) == 1


def test_a_process_that_follows_can_end_by_itself():
    process = started(FOLLOWS.format(seconds=0), stdin=subprocess.PIPE)
    assert process.wait(timeout=60) == 0
    process.stdin.close()


CHILD = """
import multiprocessing, time
from facehal.processes import follow_parent

def follow():
    follow_parent()
    print("on", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=follow).start()
    time.sleep(60)
"""


@posix
def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "job.py").write_text(CHILD)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "job.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "on\n"
    process.kill()
    # The child holds the pipe's other end: it is closed when the child is gone.
    assert process.communicate(timeout=30)[0] == ""
