"""LPIPS (Zhang et al. 2018) of original and hallucinated; the paper trains with it (equation 2).

Not one of the paper's four metrics: its columns tell what the training's perceptual term reached.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from facehal.features.alexnet import SMALLEST
from facehal.features.lpips import LPIPS, VERSIONS
from facehal.metrics import MetricError, checked_pairs, in_batches
from facehal.weights import store


def lpips(
    originals: Any,
    hallucinated: Any,
    version: str = "0.0",
    batch_size: int = 32,
    progress: bool = False,
) -> np.ndarray:
    """LPIPS distance of each pair, (n,) float64; 0 means equal; symmetric.

    Args:
        originals: (n, H, W, 3) RGB in [0, 1], H and W of 31 or more.
        hallucinated: the same.
        version: "0.0" (the one that the paper trains with) or "0.1".
        batch_size: pictures at a time.
        progress: draw a bar on standard error.

    Raises:
        MetricError: not pairs of RGB pictures in [0, 1], too small, or an unknown version.
        WeightsError: the weights `alexnet` or `lpips` are not on this machine.
    """
    if version not in VERSIONS:
        raise MetricError(f"LPIPS version must be one of {VERSIONS}: {version!r}")
    pairs = checked_pairs(originals, hallucinated, SMALLEST, "LPIPS")
    network = _network(version, store.path("alexnet"), store.path("lpips"))
    distances = in_batches(
        network, *pairs, batch_size=batch_size, progress=progress, label=f"LPIPS v{version}"
    )
    return distances.astype(np.float64)


@lru_cache(maxsize=2)
def _network(version: str, *files: Path) -> LPIPS:
    """One network per version and weight files, made once."""
    return LPIPS(version)
