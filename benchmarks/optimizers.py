"""The joined Adam beside Keras's own: graph building, a step, memory.

python benchmarks/optimizers.py
python benchmarks/optimizers.py --experiments compact --backend jax
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import common

KINDS = ("joined", "adam")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--experiments", nargs="+", default=["compact", "standard", "cascaded"], metavar="NAME"
    )
    parser.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def peak() -> float:
    """GiB, of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def worker(options: argparse.Namespace) -> None:
    """The optimizer of all generators, on gradients that are the weights themselves."""
    import keras
    import keras_side
    import numpy as np

    from facehal.backend import Stepper, resolve_jit
    from facehal.layers.optimizers import adam
    from facehal.models import load_config

    experiment, kind = options.worker
    # Drawing 200 million values takes longer than all the rest.
    keras.initializers.HeNormal.__call__ = lambda self, shape, dtype=None: keras.ops.ones(shape)
    from facehal.layers import convolution

    convolution.HeNormal.__call__ = keras.initializers.HeNormal.__call__
    config = load_config(experiment)
    variables = keras_side.untrained(config).trainable_variables
    training = config.training
    optimizer = adam(
        kind,
        variables,
        training.generator_rate,
        training.beta1,
        training.beta2,
        decay=training.decay,
        total_steps=keras_side.SCHEDULE,
        name=kind,
    )
    optimizer.build(variables)

    def step(key, batch):
        optimizer.apply([v.value * batch["scale"][0] for v in variables], variables)

    stepper = Stepper(step, [*variables, *optimizer.variables], resolve_jit("auto"))
    batch = {"scale": np.ones(1, np.float32)}
    before, times = peak(), []
    with stepper.running():
        for _ in range(options.steps + 1):
            start = time.perf_counter()
            stepper(None, batch)
            stepper.read(optimizer.iterations)
            times.append(time.perf_counter() - start)
    values = sum(int(np.prod(v.shape)) for v in variables)
    print(
        json.dumps(
            {
                "values": values,
                "first": times[0],
                "step": sorted(times[1:])[options.steps // 2],
                "memory": peak() - before,
            }
        )
    )


def main() -> None:
    options = parse()
    if options.worker:
        return worker(options)
    print(f"{common.machine()}; {options.backend}; median of {options.steps} steps\n")
    print("| experiment | million values | Adam | first step, s | step, ms | memory, GiB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for experiment in options.experiments:
        for kind in KINDS:
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--worker", experiment, kind],
                env=common.backend_environment(options.backend),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {experiment} | {found['values'] / 1e6:.1f} | {kind} | {found['first']:.2f} | "
                f"{found['step'] * 1000:.1f} | {found['memory']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
