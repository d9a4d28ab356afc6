"""Where the time of a training step goes: the full step beside steps that leave a part out.

python benchmarks/step_shares.py
python benchmarks/step_shares.py --size paper --batch 10 --backend jax --identity vgg_face
"""

import argparse
import statistics
import sys

import common

# Section 4: "image mirroring", read as a set of twice the photos: the longer of the two readings.
PAPER_FACES, PAPER_EPOCHS, PAPER_HOURS = 2 * 12_622, 50, 96.53
FULL = "every term"
PARTS = {  # what is left out, and how
    "identity": {"identity": 0.0},
    "LPIPS": {"perceptual": 0.0},
    "discriminators": {"adversarial": 0.0},
    "all three": {"identity": 0.0, "perceptual": 0.0, "adversarial": 0.0},
}
INPUT = "input"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="compact", help="tiny, compact, standard or paper")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--identity", default="dlib_resnet", choices=["dlib_resnet", "vgg_face", "none"]
    )
    parser.add_argument("--identity-from", type=int, default=8, help="smallest block that has it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a burst")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(options: argparse.Namespace) -> None:
    import keras_side

    from facehal.data.pipeline import Loaded, Pipeline
    from facehal.models import from_dict

    loss = {"identity_from": options.identity_from}
    if options.identity == "none":
        loss["identity"] = 0.0
    else:
        loss["identity_network"] = options.identity
    config = from_dict(
        {
            "size": options.size,
            "loss": {**loss, **PARTS.get(options.worker, {})},
            "training": {"batch_size": options.batch, "precision": options.precision},
        }
    )
    side = config.network.resolutions[-1]
    data = keras_side.batch(10 * options.batch, side)
    if options.worker == INPUT:
        pipeline = Pipeline(Loaded(data["faces"], data["masks"]), options.batch)
        return common.serve(lambda n: [pipeline.batch(step) for step in range(n)])
    trained = keras_side.trainer(config)
    common.serve(lambda n: keras_side.steps(trained, data, options.batch, n))


def main() -> None:
    options = parse()
    if options.worker:
        return worker(options)
    names = [FULL, *PARTS, INPUT]
    if options.identity == "none":
        names.remove("identity")
    workers: list[common.Worker] = []
    with common.closing(workers):
        for name in names:
            workers.append(common.Worker(__file__, name, options.backend, sys.argv[1:]))
        times = common.paired(workers, options.rounds, options.seconds)
    rows = [[FULL, f"{statistics.median(times[FULL]):.3g}", ""]]
    for name in names[1:]:
        pairs = list(zip(times[name], times[FULL], strict=True))
        if name == INPUT:  # measured alone: it runs beside the step
            seconds, shares = [a for a, _ in pairs], [a / b for a, b in pairs]
            label = "input (beside the step)"
        else:
            seconds, shares = [b - a for a, b in pairs], [1 - a / b for a, b in pairs]
            label = name
        if name == "all three":
            seconds, shares = [a for a, _ in pairs], [a / b for a, b in pairs]
            label = "the rest: generators, L1, TV, Adam"
        share = f"{statistics.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})"
        rows.append([label, f"{statistics.median(seconds):.3g}", share])
    step = statistics.median(times[FULL])
    print(f"\nTraining step, cascade {options.size}, batch {options.batch}, {options.precision},")
    print(f"identity {options.identity} from {options.identity_from} up, {options.backend}")
    print(f"{common.machine()}; {options.rounds} rounds by turns\n")
    print(common.table(["part", "s per step", "share"], rows))
    hours = PAPER_FACES * PAPER_EPOCHS / options.batch * step / 3600
    print(
        f"\n{options.batch / step:.3g} faces per second. The paper's schedule (12,622 faces "
        f"and their mirror images, {PAPER_EPOCHS} epochs) would take {hours:.3g} h, extrapolated; "
        f"on a Titan Xp, at full size, it took {PAPER_HOURS} h."
    )


if __name__ == "__main__":
    main()
