"""Where the time of a training step goes: the full step beside steps that leave a part out.

python benchmarks/step_shares.py
python benchmarks/step_shares.py --experiment cascaded --backend jax
"""

import argparse
import statistics
import sys

import common

# Section 4: "image mirroring", read as a set of twice the photos: the longer of the two readings.
PAPER_FACES, PAPER_EPOCHS, PAPER_HOURS = 2 * 12_622, 50, 96.53
FULL, REST, INPUT = "every part", "all of these", "input"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common.experiment_options(parser)
    parser.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a burst")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(options: argparse.Namespace) -> None:
    import keras_side

    from facehal.models import task_of

    left_out = common.PARTS if options.worker == REST else {options.worker} & set(common.PARTS)
    options.without = [*options.without, *left_out]
    config = keras_side.experiment(options)
    task = task_of(config)
    faces = keras_side.Input(task)
    if options.worker == INPUT:
        return common.serve(lambda n: [faces.batch(step) for step in range(n)])
    trained = keras_side.trainer(task)
    about = {
        "what": keras_side.described(config),
        "parts": list(keras_side.parts(config)),
        "batch": config.training.batch_size,
    }
    common.serve(lambda n: trained.fit(faces.stream(n)), about)


def main() -> None:
    options = parse()
    if options.worker:
        return worker(options)
    workers: list[common.Worker] = []
    with common.closing(workers):
        workers.append(common.Worker(__file__, FULL, options.backend, sys.argv[1:]))
        about = workers[0].about
        for name in (*about["parts"], REST, INPUT):
            workers.append(common.Worker(__file__, name, options.backend, sys.argv[1:]))
        times = common.paired(workers, options.rounds, options.seconds)
    full = times.pop(FULL)
    step = statistics.median(full)
    rows = [[FULL, f"{step:.3g}", ""], *(row(name, times[name], full) for name in times)]
    print(f"\nTraining step, {options.experiment} on {options.backend}:")
    print(about["what"])
    print(f"{common.machine()}; {options.rounds} rounds by turns\n")
    print(common.table(["part", "s per step", "share"], rows))
    batch = about["batch"]
    hours = PAPER_FACES * PAPER_EPOCHS / batch * step / 3600
    print(
        f"\n{batch / step:.3g} faces per second. The paper's schedule (12,622 faces "
        f"and their mirror images, {PAPER_EPOCHS} epochs) would take {hours:.3g} h, extrapolated; "
        f"on a Titan Xp, at full size, it took {PAPER_HOURS} h."
    )


def row(name: str, times: list[float], full: list[float]) -> list[str]:
    """Seconds and share of a part: what the step without it saves, or what it takes alone."""
    label = {
        REST: "the rest: generators, pixel term, Adam",
        INPUT: "input (beside the step)",
    }.get(name)
    alone = label is not None
    pairs = list(zip(times, full, strict=True))
    seconds = statistics.median(a if alone else b - a for a, b in pairs)
    shares = [a / b if alone else 1 - a / b for a, b in pairs]
    share = f"{statistics.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})"
    return [label or name, f"{seconds:.3g}", share]


if __name__ == "__main__":
    main()
