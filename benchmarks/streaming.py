"""Batches of a set too large for memory: seconds to the first one, faces per second, peak memory.

python benchmarks/streaming.py
python benchmarks/streaming.py --rows 100000 --batches 32

The manifest has as many rows as asked for, each with a name, a subject and a hash of its own; the
files behind them are the few hundred of the sample set. Each line is a process of its own; the
files are in the system's cache.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

STEPS = 30  # of the training


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000, help="of the manifest")
    parser.add_argument("--files", type=int, default=300, help="photos of the sample set")
    parser.add_argument("--held", type=int, default=20_000, help="faces of the set in memory")
    parser.add_argument("--batches", type=int, nargs="*", default=[10, 64], help="none: no table")
    parser.add_argument("--train", action="store_true", help="train on it, too (LPIPS weights)")
    parser.add_argument("--steps", type=int, default=1000, help="batches of 10; fewer of larger")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_set(folder: Path, rows: int, files: int) -> None:
    """Prepared sample faces, and a manifest that names each of them by many ways."""
    from facehal.data.samples import write_samples
    from facehal.data.schema import COLUMNS
    from facehal.jobs.preprocess import preprocess

    write_samples(folder / "photos", files)
    preprocess(folder / "photos", folder / "prepared", progress=False)
    head, *lines = (folder / "prepared/manifest.csv").read_text().splitlines()
    file, face, subject, sha256 = map(COLUMNS.index, ("file", "face", "subject", "source_sha256"))
    known = [line.split(",", sha256 + 1) for line in lines if ",ok," in line]
    set_folder = folder / "set"
    (set_folder / "faces").mkdir(parents=True)
    (folder / "prepared/faces").rename(set_folder / "faces/real")
    (set_folder / "settings.json").write_bytes((folder / "prepared/settings.json").read_bytes())
    with open(set_folder / "manifest.csv", "w") as manifest:
        manifest.write(f"{head}\n")
        for index in range(rows):
            turn, place = divmod(index, len(known))
            if not place:
                (set_folder / f"faces/{turn:05d}").symlink_to("real")
            row = list(known[place])
            row[file] = f"{turn:05d}/{row[file]}"
            row[face] = row[face].replace("faces/", f"faces/{turn:05d}/")
            row[subject] = f"subject {index // 20}"
            row[sha256] = f"{index:064x}"
            manifest.write(",".join(row) + "\n")


def peak() -> float:
    """Peak memory of this process in MiB; its parent's does not count, as with getrusage."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def child(folder: str, limit: int | None, memory: float, batch: int, steps: int) -> None:
    """Prints what one way of reading takes; time counts from before the package is imported."""
    start = time.perf_counter()
    from facehal.data.faceset import FaceSet
    from facehal.data.pipeline import open_pipeline, prefetched

    imported, base = time.perf_counter() - start, peak()
    faces = FaceSet.open(folder, limit)
    opened = time.perf_counter() - start
    pipeline = open_pipeline(faces, batch, memory=memory, noise=100, labels=True)
    pipeline.batch(0)
    first = time.perf_counter() - start
    begun = time.perf_counter()
    for _ in prefetched(pipeline, 1, 1 + steps):
        pass
    speed = steps * batch / (time.perf_counter() - begun)
    found = {"rows": len(faces), "imported": imported, "opened": opened, "first": first}
    print(json.dumps(found | {"speed": speed, "base": base, "peak": peak()}))


def train(folder: str, out: str) -> None:
    """Prints what a run of the compact cascade takes on such a set, up to its first checkpoint."""
    start = time.perf_counter()
    from facehal.models import load_config
    from facehal.training.run import Run

    config = load_config("compact").replace_training(checkpoint_steps=STEPS)
    run = Run(config, folder, out, max_minutes=0, progress=False)
    built = time.perf_counter() - start
    run.fit()
    seconds = time.perf_counter() - start
    print(json.dumps({"built": built, "seconds": seconds, "step": run.step, "peak": peak()}))


def main() -> None:
    options = parse()
    if options.child:
        act = train if "out" in options.child else child
        act(**options.child)
        return
    rows, trained = [], {}

    def run(words: dict) -> dict:
        process = subprocess.run(
            [sys.executable, __file__, "--child", json.dumps(words)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=common.backend_environment("tensorflow"),
        )
        return json.loads(process.stdout.splitlines()[-1])

    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder), options.rows, options.files)
        if options.train:
            trained = run({"folder": f"{folder}/set", "out": f"{folder}/run"})
        size = (Path(folder) / "set/manifest.csv").stat().st_size / 1e6
        held = min(options.held, options.rows)
        ways = [("streamed", None, 0), ("streamed", held, 0), ("in memory", held, 1e12)]
        for batch in options.batches:
            for name, limit, memory in ways:
                steps = max(1, options.steps * 10 // batch)
                words = {"folder": f"{folder}/set", "limit": limit, "memory": memory}
                found = run(words | {"batch": batch, "steps": steps})
                rows.append(
                    [name, f"{found['rows']:,}", str(batch)]
                    + [f"{found[key]:.1f}" for key in ("imported", "opened", "first")]
                    + [f"{found[key]:.0f}" for key in ("speed", "base", "peak")]
                )
    print(f"\n{common.machine()}; a manifest of {options.rows:,} rows, {size:.0f} MB\n")
    if trained:
        print(
            f"compact.yaml on all rows: {trained['built']:.0f} s to the first step, {STEPS} steps "
            f"and a checkpoint in {trained['seconds'] - trained['built']:.0f} s, peak "
            f"{trained['peak']:.0f} MiB\n"
        )
    if not rows:
        return
    header = ["faces", "rows", "batch", "imported, s", "opened, s", "first batch, s"]
    print(common.table([*header, "faces/s", "imported, MiB", "peak, MiB"], rows))


if __name__ == "__main__":
    main()
