"""Jobs on a Ray cluster of this machine beside its own processes: faces per second, and what it
costs.

python benchmarks/ray_jobs.py
python benchmarks/ray_jobs.py --faces 5000 --rounds 5

By turns, whole calls, as many workers here as there; the cluster's start is told apart. "nothing"
sends chunks of faces to workers that do nothing with them: the map alone.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common
from streaming import write_set

BATCH = 32


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=2000, help="that are augmented")
    parser.add_argument("--photos", type=int, default=300, help="that are preprocessed")
    parser.add_argument("--chunks", type=int, default=1000, help=f"of {BATCH} faces, for nothing")
    parser.add_argument("--model", default="compact", help="a shipped one's name or a file")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def nothing(chunk: object) -> None:
    """The work of the map alone."""


def main() -> None:
    options = parse()
    # Ray's workers give way to all other processes; those that they are compared with do not.
    path = common.backend_environment("tensorflow")["PYTHONPATH"]
    os.environ.update({"RAY_worker_niceness": "0", "PYTHONPATH": path})

    from facehal.data.faceset import FaceSet
    from facehal.inference.hallucinator import portable
    from facehal.jobs.augment import augment
    from facehal.jobs.mapping import Processes, each
    from facehal.jobs.on_ray import Ray
    from facehal.jobs.preprocess import preprocess

    portable(options.model, engine="onnxruntime")  # exported once, and not while it is timed
    start = time.perf_counter()
    with Ray() as cluster, tempfile.TemporaryDirectory() as name:
        started, folder = time.perf_counter() - start, Path(name)
        write_set(folder, options.faces, options.photos)
        faces = FaceSet.open(folder / "set", BATCH)
        chunk = faces.paths(range(BATCH)), faces.landmarks

        def run_nothing(on: Ray | None, out: Path) -> None:
            engine = on or Processes(cluster.workers)
            for _ in each(nothing, [chunk] * options.chunks, engine=engine, progress=False):
                pass

        def run_preprocess(on: Ray | None, out: Path) -> None:
            preprocess(folder / "photos", out, workers=cluster.workers, on=on, progress=False)

        def run_augment(on: Ray | None, out: Path) -> None:
            words = {"engine": "onnxruntime", "batch_size": BATCH, "workers": cluster.workers}
            augment(folder / "set", out, options.model, **words, on=on, progress=False)

        jobs: dict[str, tuple[Callable[[Ray | None, Path], None], int]] = {
            "nothing": (run_nothing, options.chunks * BATCH),
            "preprocess": (run_preprocess, options.photos),
            "augment": (run_augment, options.faces),
        }
        rows = []
        for job, (call, count) in jobs.items():
            seconds: dict[str, list[float]] = {"here": [], "ray": []}
            for index in range(options.rounds):
                for way in ("here", "ray") if index % 2 == 0 else ("ray", "here"):
                    start = time.perf_counter()
                    call(cluster if way == "ray" else None, folder / f"{job}_{way}_{index}")
                    seconds[way].append(time.perf_counter() - start)
            middle, low, high = common.ratio(seconds, "ray", "here")
            dearer = [a - b for a, b in zip(seconds["ray"], seconds["here"], strict=True)]
            rows.append(
                [
                    job,
                    f"{count:,}",
                    *(f"{count / statistics.median(seconds[way]):.0f}" for way in seconds),
                    f"{middle:.2f} ({low:.2f}–{high:.2f})",
                    f"{1000 * statistics.median(dearer) / count:+.2f}",
                ]
            )
            print(rows[-1], file=sys.stderr)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"\n{common.machine()}{load}; {cluster.workers} workers; Ray started in {started:.1f} s\n"
    )
    header = ["job", "faces", "processes, faces/s", "Ray, faces/s", "times as fast"]
    print(common.table([*header, "s more per 1,000 faces"], rows))


if __name__ == "__main__":
    main()
