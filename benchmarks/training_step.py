"""The full training step: TensorFlow, JAX and PyTorch by turns.

python benchmarks/training_step.py
python benchmarks/training_step.py --size compact --batch 10 --identity --systems torch jax
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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="compact", help="tiny, compact, standard or paper")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--identity", action="store_true", help="identity term (dlib) at 128")
    parser.add_argument("--no-perceptual", action="store_true", help="leave LPIPS out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a burst")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=["torch", "tensorflow", "jax"]
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    return parser.parse_args()


def export(options: argparse.Namespace) -> None:
    """Draws the weights once; all systems start from them. Prints the loss of the first step."""
    import keras_side
    import numpy as np

    trained = keras_side.trainer(keras_side.configuration(options), jit_compile=False)
    np.savez(options.weights, **keras_side.export_trainer(trained))
    x = keras_side.batch(options.batch, trained.system.resolutions[-1])
    loss, _ = trained.system.loss(x, 0)
    common.serve(lambda n: None, {"loss": float(loss)})


def keras_worker(options: argparse.Namespace) -> None:
    import keras_side

    jit: bool | str = True if options.worker == "tensorflow-xla" else "auto"
    trained = keras_side.trainer(keras_side.configuration(options), jit_compile=jit)
    data = keras_side.batch(options.batch, trained.system.resolutions[-1])
    common.serve(lambda n: keras_side.steps(trained, data, options.batch, n))


def torch_worker(options: argparse.Namespace) -> None:
    import keras_side
    import numpy as np
    import torch
    from torch_twin import TrainingStep

    torch.set_num_threads(common.cores())
    config = keras_side.configuration(options)
    with np.load(options.weights) as arrays:
        step = TrainingStep(config, dict(arrays))
    x = keras_side.batch(options.batch, config.network.resolutions[-1])
    loss = float(step.losses(x["faces"], x["masks"]).detach())
    step.native()
    common.serve(lambda n: [step(x["faces"], x["masks"]) for _ in range(n)], {"loss": loss})


def main() -> None:
    options = parse()
    if options.worker:
        work = {"export": export, "torch": torch_worker}.get(options.worker, keras_worker)
        return work(options)
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "weights.npz")
        arguments = [*sys.argv[1:], "--weights", weights]
        reference = common.Worker(__file__, "export", "tensorflow", arguments)
        reference.close()
        workers: list[common.Worker] = []
        with common.closing(workers):
            for name in options.systems:
                workers.append(common.Worker(__file__, name, SYSTEMS[name], arguments))
            times = common.paired(workers, options.rounds, options.seconds)
            about = {worker.name: worker.about for worker in workers}
    terms = ["L1", "LSGAN", "TV"] + ["LPIPS"] * (not options.no_perceptual)
    terms += ["identity (dlib)"] * options.identity
    print(f"\nTraining step, cascade {options.size}, batch {options.batch}, {' + '.join(terms)}")
    print(f"{common.machine()}; {options.rounds} rounds by turns\n")
    if "torch" in about:
        ours, theirs = reference.about["loss"], about["torch"]["loss"]
        print(
            f"Loss of the same first step: Keras {ours:.6f}, PyTorch {theirs:.6f} "
            f"(relative difference {abs(ours - theirs) / abs(ours):.1e})\n"
        )
    baseline = "torch" if "torch" in times else options.systems[0]
    print(common.speed_table(times, baseline, "s per step", 1.0))


if __name__ == "__main__":
    main()
