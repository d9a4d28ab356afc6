"""From nothing to the first hallucinated picture, and to the end of the first training step.

python benchmarks/startup.py
python benchmarks/startup.py --backends tensorflow jax --rounds 3
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

STAGES = {
    "picture": ["imported", "model loaded", "first picture", "second picture"],
    "step": ["imported", "model built", "first step", "second step"],
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help=".keras file; default: the shipped model")
    parser.add_argument("--size", default="compact", help="of the training step")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--identity", action="store_true", help="identity term (dlib) at 128")
    parser.add_argument("--no-perceptual", action="store_true", help="leave LPIPS out")
    parser.add_argument("--backends", nargs="+", default=["tensorflow"])
    parser.add_argument("--what", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=[*STAGES, "model"], help=argparse.SUPPRESS)
    return parser.parse_args()


def child(options: argparse.Namespace) -> None:
    """Prints the seconds since the process was started, stage by stage, and its peak memory."""
    marks: list[float] = []

    def mark() -> None:
        marks.append(time.time() - float(os.environ["STARTED"]))

    if options.child == "picture":
        picture(options.model, mark)
    elif options.child == "step":
        training(options, mark)
    else:
        return make_model(options)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("@" + json.dumps({"marks": marks, "mib": peak / 1024}))


def picture(model: str | None, mark) -> None:
    import keras_side
    import numpy as np

    import facehal

    mark()
    hallucinator = facehal.load(*([model] if model else []))
    mark()
    x = keras_side.batch(1, hallucinator.side)
    masked = x["faces"].astype(np.float32) / 255 * x["masks"][..., None]
    for _ in range(2):
        hallucinator.from_masks(masked, masks=x["masks"])
        mark()


def training(options: argparse.Namespace, mark) -> None:
    import keras
    import keras_side

    from facehal.data.pairs import Pairs, Stretch
    from facehal.training.run import CascadeTrainer  # with all that a run imports

    mark()
    keras.utils.set_random_seed(0)
    trainer = CascadeTrainer(keras_side.configuration(options))
    mark()
    data = keras_side.batch(options.batch, trainer.resolutions[-1])
    pairs = Pairs(data["faces"], data["masks"], options.batch)
    for index in range(2):
        trainer.fit(Stretch(pairs, index, index + 1), verbose=0, shuffle=False)
        mark()


def make_model(options: argparse.Namespace) -> None:
    """An untrained cascade where none is shipped: it takes as long as a trained one."""
    from facehal.config import from_dict
    from facehal.models.cascade import Cascade
    from facehal.models.saving import save_model

    network = from_dict({"size": options.size}).network
    cascade = Cascade(network.base, network.cap, "batch", network.resolutions)
    save_model(cascade, options.model)


def start(backend: str, arguments: list[str]) -> dict:
    environment = common.backend_environment(backend) | {"STARTED": repr(time.time())}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{backend} failed:\n{done.stderr[-3000:]}")
    found = [line for line in done.stdout.splitlines() if line.startswith("@")]
    return json.loads(found[-1][1:]) if found else {}


def main() -> None:
    options = parse()
    if options.child:
        return child(options)
    with tempfile.TemporaryDirectory() as folder:
        arguments = sys.argv[1:]
        note = ""
        if "picture" in options.what and options.model is None and not shipped():
            model = str(Path(folder) / "untrained.keras")
            arguments = [*arguments, "--model", model]
            start("tensorflow", [*arguments, "--child", "model"])
            note = "; no model is shipped: an untrained one"
        found = {
            (what, backend): [
                start(backend, [*arguments, "--child", what]) for _ in range(options.rounds)
            ]
            for what in options.what
            for backend in options.backends
        }
    for what, stages in STAGES.items():
        rows = []
        for backend in options.backends:
            runs = found.get((what, backend))
            if not runs:
                continue
            middle = [statistics.median(run["marks"][i] for run in runs) for i in range(4)]
            memory = statistics.median(run["mib"] for run in runs)
            rows.append([backend, *(f"{s:.1f}" for s in middle), f"{memory:.0f}"])
        if rows:
            about = f"a batch of {options.batch}" if what == "step" else f"one picture{note}"
            print(f"\nSeconds since the process was started; cascade {options.size}, {about}")
            print(f"{common.machine()}; median of {options.rounds}\n")
            print(common.table(["backend", *stages, "peak memory, MiB"], rows))


def shipped() -> bool:
    folder = common.ROOT / "facehal" / "pretrained"
    return any(folder.glob("compact*.keras"))


if __name__ == "__main__":
    main()
