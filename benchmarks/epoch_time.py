"""Time per epoch of every ProGAN stage beside the cascade, and of the two whole schedules.

python benchmarks/epoch_time.py
python benchmarks/epoch_time.py --experiment progan --rounds 5 --seconds 5

The experiment is one of ProGAN's. The cascade beside it has the same blocks, losses and batches: no
widths of its own for a block and no latent vector, which ProGAN cannot have.
"""

import argparse
import statistics
import sys

import common

PAPER = (66.24, 96.53)  # hours on a Titan Xp (section 4.3): ProGAN, cascade
CASCADE = "cascade"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common.experiment_options(parser, default="progan_compact")
    parser.add_argument("--faces", type=int, default=12_622, help="of an epoch; the paper's")
    parser.add_argument("--epochs", type=int, default=50, help="of the cascade and of every stage")
    parser.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a burst")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(options: argparse.Namespace) -> None:
    """One trainer, the way that a run trains it."""
    from dataclasses import replace

    import keras_side

    from facehal.models import task_of

    config, stage = keras_side.experiment(options), 0
    if config.model != "progan":
        raise SystemExit(f"{options.experiment}: trains {config.model}; name one of ProGAN's")
    about = {
        "what": keras_side.described(config),
        "blocks": config.network.resolutions,
        "batch": config.training.batch_size,
    }
    if options.worker == CASCADE:
        config = replace(config, model="cascaded")
    else:
        stage = config.network.resolutions.index(int(options.worker.removeprefix("block ")))
    task = task_of(config)
    trained, faces = keras_side.trainer(task, stage), keras_side.Input(task)
    common.serve(lambda n: trained.fit(faces.stream(n)), about)


def main() -> None:
    options = parse()
    if options.worker:
        return worker(options)
    workers: list[common.Worker] = []
    with common.closing(workers):
        workers.append(common.Worker(__file__, CASCADE, options.backend, sys.argv[1:]))
        about = workers[0].about
        stages = [f"block {size}" for size in about["blocks"]]
        for name in stages:
            workers.append(common.Worker(__file__, name, options.backend, sys.argv[1:]))
        times = common.paired(workers, options.rounds, options.seconds)
    steps = options.faces // about["batch"]
    rows = compared(times, stages, steps, options.epochs)
    print(f"\nProGAN by stage and the cascade, {options.experiment} on {options.backend}:")
    print(f"{about['what']}; {steps} steps an epoch")
    print(f"{common.machine()}; {options.rounds} rounds by turns\n")
    header = ["trained", "s per step", "minutes per epoch", f"hours for {options.epochs} epochs"]
    print(common.table([*header, "of the cascade's time"], rows))
    progan, cascade = PAPER
    print(
        f"\nThe paper's whole schedules: {progan} h and {cascade} h, {progan / cascade:.2f} of the "
        "cascade's time (section 4.3)."
    )


def compared(
    times: dict[str, list[float]], stages: list[str], steps: int, epochs: int
) -> list[list[str]]:
    """The table's rows: every stage, all of them together, the cascade."""
    names = [*stages, "all stages", CASCADE]
    times["all stages"] = [sum(burst) for burst in zip(*(times[n] for n in stages), strict=True)]
    rows = []
    for name in names:
        middle = statistics.median(times[name])
        shares = [a / b for a, b in zip(times[name], times[CASCADE], strict=True)]
        rows.append(
            [
                name,
                f"{middle:.3g}",
                f"{middle * steps / 60:.3g}",
                f"{middle * steps * epochs / 3600:.3g}",
                f"{statistics.median(shares):.2f} ({min(shares):.2f}–{max(shares):.2f})",
            ]
        )
    return rows


if __name__ == "__main__":
    main()
