"""PieAPP v0.1 (Prashnani et al. 2018), the paper's mean perceptual error (section 4, metric 4)."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from facehal.features.pieapp import DENSE, PATCH, SPARSE, Channels, PieAPP
from facehal.metrics import MetricError, checked_pairs, in_batches
from facehal.weights import store

STRIDES = {"sparse": SPARSE, "dense": DENSE}
"""Pixels between patches. The paper predates the authors' change of their default to dense."""


def pieapp(
    originals: Any,
    hallucinated: Any,
    sampling: str = "sparse",
    channels: Channels = "bgr",
    batch_size: int = 4,
    progress: bool = False,
) -> np.ndarray:
    """Perceptual error of each hallucinated picture against its original, (n,) float64.

    About 0 for equal pictures, else more. Not symmetric: the original is the reference.

    Args:
        originals: (n, H, W, 3) RGB in [0, 1], H and W of 64 or more.
        hallucinated: the same.
        sampling: `"sparse"` (9 patches at 128x128) or `"dense"` (121); they differ, name it.
        channels: order of colours as the network is fed, `"bgr"` (the authors' program) or `"rgb"`;
            the pictures are RGB for both.
        batch_size: pictures at a time.
        progress: draw a bar on standard error.

    Raises:
        MetricError: not pairs of RGB pictures in [0, 1], too small, or an unknown option.
        WeightsError: the weights `pieapp` are not on this machine; says how to get them.
    """
    if sampling not in STRIDES:
        raise MetricError(f"PieAPP's sampling must be one of {', '.join(STRIDES)}: {sampling!r}")
    if channels not in ("bgr", "rgb"):
        raise MetricError(f"PieAPP's channels must be 'bgr' or 'rgb': {channels!r}")
    pairs = checked_pairs(originals, hallucinated, PATCH, "PieAPP")
    network = _network(sampling, channels, store.path("pieapp"))
    errors = in_batches(
        network, *pairs, batch_size=batch_size, progress=progress, label=f"PieAPP {sampling}"
    )
    return errors.astype(np.float64)


@lru_cache(maxsize=2)
def _network(sampling: str, channels: Channels, file: Path) -> PieAPP:
    """One network per kind and weight file, made once."""
    return PieAPP(STRIDES[sampling], channels)
