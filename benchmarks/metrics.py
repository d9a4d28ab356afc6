"""Speed of every metric, and of a verification over as many descriptors as LFW has pictures.

python benchmarks/metrics.py

The speed of a network does not depend on its weights: those that are not here are drawn at random.
"""

import argparse
import resource
import subprocess
import sys
import time

import common


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--descriptors", type=int, default=13_233)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def speeds(count: int) -> list[list]:
    """Images per second of each metric, after a first call; a pair counts once."""
    import numpy as np

    from facehal.features.dlib_resnet import DlibResNet, aligned_chip
    from facehal.features.inception_v3 import InceptionV3
    from facehal.features.lpips import LPIPS
    from facehal.features.pieapp import PieAPP
    from facehal.features.resnet50 import ResNet50
    from facehal.metrics import in_batches
    from facehal.metrics.ssim import ssim

    random = np.random.default_rng(0)
    a = random.random((count, 128, 128, 3), np.float32)
    b = np.clip(a + random.normal(0, 0.05, a.shape), 0, 1).astype(np.float32)

    def batched(function, size, *arrays):
        def run():
            in_batches(function, *arrays, batch_size=size, progress=False, label="")

        return run

    dlib, lpips = DlibResNet(), LPIPS("0.0")
    resnet, inception, pieapp = (
        ResNet50(weights=None),
        InceptionV3(weights=None),
        PieAPP(weights=None),
    )
    metrics = {
        "SSIM": lambda: ssim(a, b),
        "LPIPS v0.0": batched(lpips, 32, a, b),
        "dlib_resnet descriptor": batched(lambda x: dlib(aligned_chip(x), training=False), 32, a),
        "ResNet-50-256D descriptor": batched(lambda x: resnet(x, training=False), 32, a),
        "Inception features (tf2015)": batched(lambda x: inception(x, training=False), 32, a),
        "PieAPP, sparse": batched(pieapp, 4, a, b),
    }
    rows = []
    for name, run in metrics.items():
        run()
        start, cpu = time.perf_counter(), time.process_time()
        run()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        rows.append([name, f"{count / wall:.1f}", f"{count / cpu:.1f}"])
    return rows


def verification(count: int) -> None:
    """Prints seconds and peak memory of all pairs of ``count`` synthetic descriptors."""
    import numpy as np

    from facehal.metrics.verification import verification as verify

    random = np.random.default_rng(0)
    subjects = random.integers(count // 2, size=count)
    descriptors = random.normal(size=(count, 256)) + random.normal(size=(count, 256))[subjects]
    start = time.perf_counter()
    found = verify(descriptors, list(subjects))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pairs = found.genuine + found.impostor
    print(
        f"Verification, {count} descriptors of 256, {pairs} pairs: {seconds:.1f} s, {peak:.0f} MiB"
    )


def main() -> None:
    options = parse()
    if options.child:
        verification(options.descriptors)
        return
    print(common.machine())
    # In a process of its own, and first: a child's peak counts from its parent's size.
    words = [sys.executable, __file__, "--child", "--descriptors", str(options.descriptors)]
    print(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    print(f"{options.pictures} pictures of 128×128\n")
    print("| metric | images/s | images per CPU second |\n| --- | --- | --- |")
    for row in speeds(options.pictures):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
