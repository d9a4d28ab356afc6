"""The match score (section 4, metric 1, equation 7): does the hallucinated face stay the person?"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from facehal.features.descriptors import DESCRIPTORS, Describer
from facehal.metrics import MetricError, checked, checked_pairs, in_batches
from facehal.weights import store


def match_score(
    originals: Any,
    hallucinated: Any,
    descriptor: str = "resnet50_256d",
    batch_size: int = 32,
    progress: bool = False,
) -> np.ndarray:
    """Pearson correlation of both descriptors of each pair, (n,) float64 in [-1, 1]; symmetric.

    Its mean is equation 7; 1 means the same descriptor. dlib's descriptor was trained by Euclidean
    distance and its values share a mean of their own, so that strangers correlate too: over 80
    press photos of 40 people, 0.85 on average, and 0.95 two photos of one person.

    Args:
        originals: (n, N, N, 3) aligned faces, RGB in [0, 1].
        hallucinated: the same.
        descriptor: one of `facehal.features.descriptors.DESCRIPTORS`; the paper's is
            `"resnet50_256d"`.
        batch_size: pictures at a time.
        progress: draw a bar on standard error.

    Raises:
        MetricError: not pairs of RGB pictures in [0, 1], or an unknown descriptor.
        WeightsError: the descriptor's weights are not on this machine; says how to get them.
    """
    first, second = checked_pairs(originals, hallucinated)
    return pearson(
        describe(first, descriptor, batch_size, progress),
        describe(second, descriptor, batch_size, progress),
    )


def describe(
    images: Any, descriptor: str = "resnet50_256d", batch_size: int = 32, progress: bool = False
) -> np.ndarray:
    """The descriptor of each aligned face: (n, N, N, 3) RGB in [0, 1] to (n, d) float32.

    Compute those of the originals once and compare many systems with them (`pearson`).

    Args:
        images: faces as `facehal.faces.alignment` cuts them.
        descriptor: one of `facehal.features.descriptors.DESCRIPTORS`, which gives d.
        batch_size: pictures at a time.
        progress: draw a bar on standard error.

    Raises:
        MetricError: not RGB pictures in [0, 1], not square, or an unknown descriptor.
        WeightsError: its weights are not on this machine; says how to get them.
    """
    if descriptor not in DESCRIPTORS:
        raise MetricError(f"descriptor must be one of {', '.join(DESCRIPTORS)}: {descriptor!r}")
    images = checked(images)
    if images.shape[1] != images.shape[2]:
        raise MetricError(f"aligned faces are square, not {images.shape[1]}x{images.shape[2]}")
    network = _network(descriptor, store.path(DESCRIPTORS[descriptor].weights))
    return in_batches(network, images, batch_size=batch_size, progress=progress, label=descriptor)


def pearson(first: Any, second: Any) -> np.ndarray:
    """Pearson correlation row by row of descriptors, (n, d) twice to (n,) float64.

    Raises:
        MetricError: shapes that differ, values that are not finite, or a row without any variance.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise MetricError(
            f"descriptors must be two of one shape (n, d), not {first.shape} and {second.shape}"
        )
    first, second = standardised(first), standardised(second)
    # Rounding carries the correlation of equal rows past 1.
    return np.asarray(np.clip(np.einsum("nd,nd->n", first, second), -1, 1))


def standardised(descriptors: np.ndarray) -> np.ndarray:
    """Rows (n, d) with mean 0 and length 1, whose products are Pearson correlations.

    Raises:
        MetricError: values that are not finite, or a row without any variance.
    """
    finite = np.isfinite(descriptors).all(axis=1)
    if not finite.all():
        raise MetricError(f"descriptor {int(np.argmin(finite))} has values that are not finite")
    centred = descriptors - descriptors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # Of a constant row rounding leaves a little.
    varied = lengths > 1e-12 * np.linalg.norm(descriptors, axis=1, keepdims=True)
    if not varied.all():
        row = int(np.argmin(varied))
        raise MetricError(f"descriptor {row} is constant: it has no Pearson correlation")
    return np.asarray(centred / lengths)


@lru_cache(maxsize=2)
def _network(descriptor: str, file: Path) -> Describer:
    """The descriptor as a function of aligned faces, made once per weight file."""
    return DESCRIPTORS[descriptor].load()
