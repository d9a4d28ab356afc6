"""Preprocessing: faces per second, on one core and on all.

python benchmarks/preprocessing.py
python benchmarks/preprocessing.py --photos data/raw/lfw_dev
"""

import argparse
import os
import tempfile
from pathlib import Path

import common


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder; default: the sample set")
    parser.add_argument("--count", type=int, default=200, help="photos of the sample set")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    from facehal.data.samples import write_samples
    from facehal.jobs.preprocess import preprocess

    everywhere = os.cpu_count() or 1
    speeds: dict[int, list[float]] = {1: []} | {everywhere: []}
    with tempfile.TemporaryDirectory() as folder:
        photos = options.photos
        if photos is None:
            photos = Path(folder) / "photos"
            write_samples(photos, options.count)
        for index in range(options.rounds):
            for workers in speeds:
                out = Path(folder) / f"out_{index}_{workers}"
                summary = preprocess(photos, out, workers=workers, progress=False)
                speeds[workers].append(summary.ok / summary.seconds)
    print(f"\nPreprocessing, {summary.photos} photos, {summary.ok} faces")
    print(f"{common.machine()}; {options.rounds} rounds by turns, the best of them\n")
    rows = [
        [str(workers), f"{max(speed):.1f}", f"{max(speed) / workers:.1f}"]
        for workers, speed in speeds.items()
    ]
    print(common.table(["processes", "faces per second", "faces per second and core"], rows))


if __name__ == "__main__":
    main()
