"""Time per epoch of every ProGAN stage beside the cascade, and of the two whole schedules.

python benchmarks/epoch_time.py
python benchmarks/epoch_time.py --size paper --rounds 5 --seconds 5
"""

import argparse
import statistics
import sys

import common

PAPER = (66.24, 96.53)  # hours on a Titan Xp (section 4.3): ProGAN, cascade
CASCADE = "cascade"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="compact", help="tiny, compact, standard or paper")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--faces", type=int, default=12_622, help="of an epoch; the paper's")
    parser.add_argument("--epochs", type=int, default=50, help="of the cascade and of every stage")
    parser.add_argument("--identity", action="store_true", help="identity term (dlib) at 128")
    parser.add_argument("--no-perceptual", action="store_true", help="leave LPIPS out")
    parser.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a burst")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(options: argparse.Namespace) -> None:
    """One trainer, the way that a run trains it."""
    from dataclasses import replace

    import keras_side

    config, stage = keras_side.configuration(options), 0
    sizes = config.network.resolutions
    if options.worker != CASCADE:
        config = replace(config, model="progan")
        stage = sizes.index(int(options.worker.removeprefix("block ")))
    trained = keras_side.trainer(config, stage)
    data = keras_side.batch(options.batch, sizes[-1])
    common.serve(lambda n: keras_side.steps(trained, data, options.batch, n))


def main() -> None:
    options = parse()
    if options.worker:
        return worker(options)
    from facehal.models import from_dict

    sizes = from_dict({"size": options.size}, source="--size").network.resolutions
    stages = [f"block {size}" for size in sizes]
    workers: list[common.Worker] = []
    with common.closing(workers):
        for name in (CASCADE, *stages):
            workers.append(common.Worker(__file__, name, options.backend, sys.argv[1:]))
        times = common.paired(workers, options.rounds, options.seconds)
    report(options, times, stages)


def report(options: argparse.Namespace, times: dict[str, list[float]], stages: list[str]) -> None:
    steps = options.faces // options.batch
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
                f"{middle * steps * options.epochs / 3600:.3g}",
                f"{statistics.median(shares):.2f} ({min(shares):.2f}–{max(shares):.2f})",
            ]
        )
    terms = ["L1", "LSGAN", "TV"] + ["LPIPS"] * (not options.no_perceptual)
    terms += ["identity (dlib)"] * options.identity
    print(f"\nProGAN by stage and the cascade, {options.size}, {options.backend}")
    print(f"batch {options.batch}, {' + '.join(terms)}; {steps} steps an epoch")
    print(f"{common.machine()}; {options.rounds} rounds by turns\n")
    header = ["trained", "s per step", "minutes per epoch", f"hours for {options.epochs} epochs"]
    print(common.table([*header, "of the cascade's time"], rows))
    progan, cascade = PAPER
    print(
        f"\nThe paper's whole schedules: {progan} h and {cascade} h, {progan / cascade:.2f} of the "
        "cascade's time (section 4.3)."
    )


if __name__ == "__main__":
    main()
