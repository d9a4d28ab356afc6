"""What the benchmarks share: one process per system, timed by turns, and a Markdown table."""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What an experiment can do without, and the section of its file that says so.
PARTS = {
    "perceptual": "loss",
    "adversarial": "loss",
    "identity": "loss",
    "gradient_penalty": "loss",
    "lattice": "loss",
    "latent": "network",
}


def experiment_options(parser: argparse.ArgumentParser, default: str = "compact") -> None:
    """``--experiment`` and what may be changed of it; ``keras_side.experiment`` reads them."""
    parser.add_argument(
        "--experiment", default=default, metavar="NAME", help="a shipped experiment or a file"
    )
    parser.add_argument("--batch", type=int, help="in place of the experiment's batch size")
    parser.add_argument(
        "--without", nargs="+", choices=PARTS, default=[], help="parts of it to leave out"
    )


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Processor, cores and the versions of what is measured, in one line."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((s.split(":", 1)[1].strip() for s in lines if s.startswith("model name")), cpu)
    versions = [f"Python {platform.python_version()}"]
    for name in ("tensorflow", "keras", "jax", "onnxruntime", "torch", "ray"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    return f"{cpu}, {cores()} cores, {platform.system()}; {', '.join(versions)}"


def backend_environment(backend: str) -> dict[str, str]:
    """The environment of a process that runs on this backend."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": backend if backend in ("tensorflow", "jax") else "tensorflow",
    }


class Worker:
    """A process of its own that runs ``burst(n)`` when told to and says how long it took.

    The file of the benchmark is started anew with ``--worker NAME``; its other side is
    :func:`serve`.
    """

    def __init__(self, file: str, name: str, backend: str, arguments: list[str]):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed with it
        self.process = subprocess.Popen(
            [sys.executable, file, "--worker", name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=backend_environment(backend),
        )
        self.about = self._answer()

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        self.process.wait()
        self.errors.seek(0)
        raise SystemExit(f"{self.name} failed:\n{self.errors.read()[-3000:]}")

    def run(self, count: int) -> float:
        """Seconds for ``count`` calls."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(call: Callable[[int], object], about: dict | None = None) -> None:
    """Times ``call(n)`` for every number that comes in, until the input ends."""
    call(1)  # tracing and compiling
    call(1)
    print("@" + json.dumps(about or {}), flush=True)
    for line in sys.stdin:
        count = int(line)
        start = time.perf_counter()
        call(count)
        print("@" + json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def paired(workers: list[Worker], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds per call of every worker and round, taken by turns so that noise is shared.

    Every burst lasts about ``seconds``. The order turns round from one round to the next.
    """
    counts = {}
    for worker in workers:
        once = min(worker.run(1), worker.run(1))
        counts[worker.name] = max(1, round(seconds / max(once, 1e-6)))
    times: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for index in range(rounds):
        for worker in workers if index % 2 == 0 else reversed(workers):
            time.sleep(0.3)  # the last one's threads go to sleep
            count = counts[worker.name]
            times[worker.name].append(worker.run(count) / count)
    return times


def ratio(times: dict[str, list[float]], name: str, reference: str) -> tuple[float, float, float]:
    """How many times as fast as the reference: median, lowest and highest of the rounds."""
    values = [b / a for a, b in zip(times[name], times[reference], strict=True)]
    return statistics.median(values), min(values), max(values)


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed_table(times: dict[str, list[float]], reference: str, unit: str, scale: float) -> str:
    """A row per system: median time, and how many times as fast as the reference."""
    rows = []
    for name, values in times.items():
        middle, low, high = ratio(times, name, reference)
        rows.append(
            [
                name,
                f"{statistics.median(values) * scale:.3g}",
                f"{middle:.2f}",
                f"{low:.2f}–{high:.2f}",
            ]
        )
    return table(["system", unit, f"times as fast as {reference}", "over the rounds"], rows)


@contextlib.contextmanager
def closing(workers: list[Worker]) -> Iterator[list[Worker]]:
    try:
        yield workers
    finally:
        for worker in workers:
            worker.close()
