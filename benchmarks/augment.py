"""A whole set hallucinated: faces per second and peak memory, over a growing number of faces.

python benchmarks/augment.py
python benchmarks/augment.py --faces 100000 --model small.onnx --ways cores
python benchmarks/augment.py --faces 2000 --variants 3 --format webp

The manifest has as many rows as asked for; the files behind them are the few hundred of the sample
set, and in the system's cache. Every line is a process of its own, the workers' memory is that of
the largest. Processor time is that of all processes, their start included: what a face takes where
nothing else runs. "again" is the same call once more: all pictures are there.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import common
from streaming import peak, write_set

WAYS = {"one": 1, "cores": None}  # → processes


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--files", type=int, default=300, help="photos of the sample set")
    parser.add_argument("--model", default="compact", help="a shipped one's name or a file")
    parser.add_argument("--engine", default="onnxruntime", help="or keras")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--variants", type=int, default=0)
    parser.add_argument("--format", default="png")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


class Watched:
    """Peak memory of the processes that this one starts, in MiB: of the largest."""

    def __init__(self) -> None:
        self.peak, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            for process in multiprocessing.active_children():
                try:
                    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                except OSError:  # it has just ended
                    continue
                size = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
                self.peak = max([self.peak, *(kilobytes / 1024 for kilobytes in size)])

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def child(words: dict) -> None:
    """Prints what one way takes."""
    from facehal.jobs.augment import augment

    start = time.perf_counter()
    with Watched() as watched:
        done = augment(**words, progress=False)
    seconds = time.perf_counter() - start
    found = {"seconds": seconds, "cpu": sum(os.times()[:4]), "new": done.new, "faces": done.faces}
    print(json.dumps(found | {"peak": peak(), "workers": watched.peak}))


def main() -> None:
    options = parse()
    if options.child:
        child(options.child)
        return

    def run(words: dict) -> dict:
        process = subprocess.run(
            [sys.executable, __file__, "--child", json.dumps(words)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=common.backend_environment("tensorflow"),
        )
        return json.loads(process.stdout.splitlines()[-1])

    from facehal.inference.hallucinator import portable

    portable(options.model, engine=options.engine)  # exported once, and not while it is timed
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder), max(options.faces), options.files)
        for count in options.faces:
            for way in options.ways:
                words = {
                    "data": f"{folder}/set",
                    "out": f"{folder}/{count}_{way}",
                    "model": options.model,
                    "engine": options.engine,
                    "limit": count,
                    "batch_size": options.batch,
                    "workers": WAYS[way],
                    "variants": options.variants,
                    "form": options.format,
                }
                found, again = run(words), run(words)
                assert again["new"] == 0
                rows.append(
                    [
                        f"{count:,}",
                        "one" if way == "one" else str(common.cores()),
                        f"{count / found['seconds']:.1f}",
                        f"{1000 * found['cpu'] / count:.1f}",
                        f"{found['peak']:.0f}",
                        f"{found['workers']:.0f}" if found["workers"] else "",
                        f"{count / again['seconds']:.0f}",
                    ]
                )
                print(rows[-1], file=sys.stderr)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"\n{common.machine()}{load}; {options.model}, {options.engine}, batch {options.batch}, "
        f"{1 + options.variants} pictures of a face, {options.format}\n"
    )
    header = ["faces", "processes", "faces/s", "processor ms per face", "peak, MiB"]
    print(common.table([*header, "of a worker, MiB", "again, faces/s"], rows))


if __name__ == "__main__":
    main()
