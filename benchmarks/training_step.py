"""The full training step of an experiment: TensorFlow, JAX and PyTorch by turns.

python benchmarks/training_step.py
python benchmarks/training_step.py --experiment tiny --batch 8 --systems torch jax
python benchmarks/training_step.py --experiment cascaded --without identity
"""

import argparse
import sys
import tempfile
from pathlib import Path

import common

SYSTEMS = {
    "torch": "torch",  # eager, channels_last
    "tensorflow": "tensorflow",  # as `facehal train` runs it: a plain graph on a CPU
    "tensorflow-xla": "tensorflow",  # jit_compile=True
    "jax": "jax",
}
# The step whose loss is compared: one at which the pictures have moved in both directions, by
# `translation: 7` one pixel down and two to the right.
COMPARED = 10
TWIN = "twin.npz"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common.experiment_options(parser)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a burst")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=["torch", "tensorflow", "jax"]
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def export(options: argparse.Namespace) -> None:
    """Draws the weights once; all systems start from them."""
    import keras_side
    import numpy as np

    from facehal.models import task_of

    config = keras_side.experiment(options)
    if "torch" in options.systems:
        keras_side.refuse_without_twin(config)
    trained = keras_side.trainer(task_of(config))
    keras_side.save_weights(trained, options.folder)
    if "torch" in options.systems:
        np.savez(options.folder / TWIN, **keras_side.export_trainer(trained))
    common.serve(lambda n: None, {"what": keras_side.described(config)})


def keras_worker(options: argparse.Namespace) -> None:
    import keras_side

    from facehal.models import task_of

    jit: bool | str = True if options.worker == "tensorflow-xla" else "auto"
    task = task_of(keras_side.experiment(options))
    trained, faces = keras_side.trainer(task, jit_compile=jit), keras_side.Input(task)
    keras_side.load_weights(trained, options.folder)
    loss = keras_side.first_loss(trained, faces.batch(0), COMPARED, jit)
    common.serve(lambda n: trained.fit(faces.stream(n)), {"loss": loss})


def torch_worker(options: argparse.Namespace) -> None:
    import keras_side
    import numpy as np
    import torch
    from torch_twin import TrainingStep

    from facehal.models import task_of

    torch.set_num_threads(common.cores())
    config = keras_side.experiment(options)
    faces = keras_side.Input(task_of(config))
    with np.load(options.folder / TWIN) as arrays:
        step = TrainingStep(config, dict(arrays))
    loss = float(step.losses(faces.batch(0), COMPARED).detach())
    step.native()
    common.serve(lambda n: [step(batch) for batch in faces.stream(n)], {"loss": loss})


def main() -> None:
    options = parse()
    if options.worker:
        work = {"export": export, "torch": torch_worker}.get(options.worker, keras_worker)
        return work(options)
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*sys.argv[1:], "--folder", folder]
        start = common.Worker(__file__, "export", "tensorflow", arguments)
        start.close()
        workers: list[common.Worker] = []
        with common.closing(workers):
            for name in options.systems:
                workers.append(common.Worker(__file__, name, SYSTEMS[name], arguments))
            times = common.paired(workers, options.rounds, options.seconds)
            losses = {worker.name: worker.about["loss"] for worker in workers}
    print(f"\nTraining step, {options.experiment}: {start.about['what']}")
    print(f"{common.machine()}; {options.rounds} rounds by turns\n")
    print("Loss of the same first step:", ", ".join(f"{n} {x:.6f}" for n, x in losses.items()))
    spread = max(losses.values()) - min(losses.values())
    print(f"(largest relative difference {spread / abs(max(losses.values())):.1e})\n")
    baseline = "torch" if "torch" in times else options.systems[0]
    print(common.speed_table(times, baseline, "s per step", 1.0))


if __name__ == "__main__":
    main()
