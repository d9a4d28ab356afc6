"""From nothing to the first hallucinated picture, and to the end of the first training step.

python benchmarks/startup.py
python benchmarks/startup.py --backends tensorflow jax --rounds 3
python benchmarks/startup.py --what command picture --backends onnxruntime tensorflow
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

VERBS = ("--help", "doctor", "hallucinate")
STAGES = {
    "command": ["--help", "doctor", "hallucinate", *(f"{verb}, CPU" for verb in VERBS)],
    "picture": ["imported", "model loaded", "first picture", "second picture"],
    "step": ["imported", "model built", "first step", "second step"],
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help=".keras file; default: the shipped model")
    common.experiment_options(parser)  # of the training step
    parser.add_argument("--backends", nargs="+", default=["tensorflow"])
    parser.add_argument("--what", nargs="+", choices=STAGES, default=["picture", "step"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=["picture", "step"], help=argparse.SUPPRESS)
    return parser.parse_args()


def child(options: argparse.Namespace) -> None:
    """Prints the seconds since the process was started, stage by stage, and its peak memory."""
    marks: list[float] = []

    def mark() -> None:
        marks.append(time.time() - float(os.environ["STARTED"]))

    if options.child == "picture":
        picture(options.model, os.environ["ENGINE"], mark)
    else:
        training(options, mark)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("@" + json.dumps({"marks": marks, "mib": peak / 1024}))


def picture(model: str | None, engine: str, mark) -> None:
    import numpy as np

    import facehal

    mark()
    hallucinator = facehal.load(*([model] if model else []), engine=engine)
    mark()
    mask = np.zeros((1, hallucinator.side, hallucinator.side), np.uint8)
    mask[:, hallucinator.side // 3 :, hallucinator.side // 4 : -hallucinator.side // 4] = 1
    masked = np.float32(0.5) * np.repeat(mask[..., None], 3, axis=-1)
    for _ in range(2):
        hallucinator.from_masks(masked, masks=mask)
        mark()


def training(options: argparse.Namespace, mark) -> None:
    import keras_side

    import facehal.training.run  # noqa: F401  with all that a run imports
    from facehal.models import task_of

    mark()
    task = task_of(keras_side.experiment(options))
    trained = keras_side.trainer(task)
    mark()
    faces = keras_side.Input(task)
    for _ in range(2):
        trained.fit(faces.stream(1))
        mark()


def start(backend: str, arguments: list[str]) -> dict:
    environment = common.backend_environment(backend)
    environment |= {"STARTED": repr(time.time()), "ENGINE": engine_of(backend)}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{backend} failed:\n{done.stderr[-3000:]}")
    found = [line for line in done.stdout.splitlines() if line.startswith("@")]
    return json.loads(found[-1][1:]) if found else {}


def engine_of(backend: str) -> str:
    return backend if backend == "onnxruntime" else "keras"


def command(backend: str, model: str | None, photo: Path) -> dict:
    """Seconds of whole commands, from start to exit, by the clock and of processor time."""
    words = [str(photo), "--out", str(photo.parent / "out"), "--engine", engine_of(backend)]
    words += ["--model", model] if model else []
    clock, computing = [], []
    for verb in VERBS:
        before, used = time.perf_counter(), children_time()
        facehal([verb, *(words if verb == "hallucinate" else [])], backend)
        clock.append(time.perf_counter() - before)
        computing.append(children_time() - used)
    return {"marks": [*clock, *computing]}


def children_time() -> float:
    """Processor time of the processes that have ended, which a busy machine hardly changes."""
    times = os.times()
    return times.children_user + times.children_system


def facehal(words: list[str], backend: str = "tensorflow") -> None:
    code = "from facehal.cli import main; main()"
    environment = common.backend_environment(backend)
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"facehal {' '.join(words)} failed:\n{done.stderr[-3000:]}")


def main() -> None:
    options = parse()
    if options.child:
        return child(options)
    with tempfile.TemporaryDirectory() as folder:
        arguments = sys.argv[1:]
        if "onnxruntime" in options.backends:  # made once, on its first use: not what is measured
            start("onnxruntime", [*arguments, "--child", "picture"])
        photos = Path(folder) / "photos"
        if "command" in options.what:
            facehal(["sample", str(photos), "--portraits"])
        found = {
            (what, backend): [
                command(backend, options.model, sorted(photos.glob("*.png"))[0])
                if what == "command"
                else start(backend, [*arguments, "--child", what])
                for _ in range(options.rounds)
            ]
            for what in options.what
            for backend in options.backends
            if (what, backend) != ("step", "onnxruntime")
        }
    for what, stages in STAGES.items():
        rows = []
        for backend in options.backends:
            runs = found.get((what, backend))
            if not runs:
                continue
            middle = [
                statistics.median(run["marks"][i] for run in runs) for i in range(len(stages))
            ]
            peaks = [run["mib"] for run in runs if "mib" in run]
            memory = [f"{statistics.median(peaks):.0f}"] if peaks else []
            rows.append([backend, *(f"{s:.2f}" for s in middle), *memory])
        if rows:
            shown = options.model or "the shipped model"
            about = f"training of {options.experiment}" if what == "step" else f"picture of {shown}"
            memory = [] if what == "command" else ["peak memory, MiB"]
            print(f"\nSeconds since the process was started; {about}")
            print(f"{common.machine()}; median of {options.rounds}\n")
            print(common.table(["backend", *stages, *memory], rows))


if __name__ == "__main__":
    main()
