"""The Fréchet distance of two sets of pictures; in Inception's features it is FID (metric 3).

Heusel et al. 2017: ||m1 - m2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), of means m and covariances S
(N - 1 in the denominator). FID depends on how pictures come to 299x299, so that every result names
its mode. A set of n pictures with n far below 2048 gives a larger FID than a larger set of the same
kind: compare only sets of one size.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from facehal.features import inception_v3
from facehal.metrics import MetricError, checked, in_batches
from facehal.metrics.match_score import describe
from facehal.weights import store

TITLES = {
    "tf2015": "FID (tf2015)",
    "clean": "FID (clean)",
    "dlib_resnet": "Fréchet distance (dlib_resnet)",
}
"""How a table calls each mode.

`tf2015` is the published FID, resizing as TensorFlow 1 did; `clean` is clean-fid's way of resizing.
`dlib_resnet` is the same distance in the space of dlib's face descriptor: not an FID.
"""


def fid(
    originals: Any,
    hallucinated: Any,
    mode: str = "tf2015",
    batch_size: int = 32,
    progress: bool = False,
) -> float:
    """FID of two sets of pictures, 0 for equal ones; symmetric.

    Args:
        originals: (n, H, W, 3) RGB in [0, 1], n of 2 or more.
        hallucinated: the same; may differ in number and size, for these are sets and not pairs.
        mode: `"tf2015"` (the published one) or `"clean"`.
        batch_size: pictures at a time.
        progress: draw a bar on standard error.

    Raises:
        MetricError: not RGB pictures in [0, 1], fewer than two, or not a mode of FID.
        WeightsError: the weights `inception` are not on this machine; says how to get them.
    """
    if mode not in inception_v3.MODES:
        raise MetricError(f"FID's mode must be one of {', '.join(inception_v3.MODES)}: {mode!r}")
    return _between(originals, hallucinated, mode, batch_size, progress)


def frechet_dlib(
    originals: Any, hallucinated: Any, batch_size: int = 32, progress: bool = False
) -> float:
    """Fréchet distance in the space of dlib's face descriptor. Not an FID: name it as `TITLES` do.

    Args:
        originals: (n, N, N, 3) aligned faces, RGB in [0, 1], n of 2 or more.
        hallucinated: the same; may differ in number.
        batch_size: pictures at a time.
        progress: draw a bar on standard error.

    Raises:
        MetricError: not square RGB pictures in [0, 1], or fewer than two.
        WeightsError: dlib's weights are not on this machine; says how to get them.
    """
    return _between(originals, hallucinated, "dlib_resnet", batch_size, progress)


def _between(first: Any, second: Any, mode: str, batch_size: int, progress: bool) -> float:
    # Both are checked before the first costs its minutes.
    first, second = checked(first, "the originals"), checked(second, "the hallucinated")
    for images in (first, second):
        if len(images) < 2:
            raise MetricError("a covariance needs two pictures or more, not 1")
    return frechet_distance(
        features(first, mode, batch_size, progress), features(second, mode, batch_size, progress)
    )


def features(
    images: Any, mode: str = "tf2015", batch_size: int = 32, progress: bool = False
) -> np.ndarray:
    """The features in which a mode measures, (n, d) float32: pool3 (d 2048), or dlib's (d 128).

    Compute those of the originals once and compare many systems with them (`frechet_distance`).

    Args:
        images: (n, H, W, 3) RGB in [0, 1].
        mode: one of `TITLES`.
        batch_size: pictures at a time.
        progress: draw a bar on standard error.

    Raises:
        MetricError: not RGB pictures in [0, 1], or an unknown mode.
        WeightsError: the weights are not on this machine; says how to get them.
    """
    if mode not in TITLES:
        raise MetricError(f"mode must be one of {', '.join(TITLES)}: {mode!r}")
    if mode == "dlib_resnet":
        return describe(images, "dlib_resnet", batch_size, progress)
    images = checked(images)
    network = _network(cast(inception_v3.Mode, mode), store.path("inception"))
    return in_batches(
        network, images, batch_size=batch_size, progress=progress, label=f"inception {mode}"
    )


def statistics(features: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d), N - 1, of features (n, d); float64.

    Raises:
        MetricError: not (n, d) with n of 2 or more, or values that are not finite.
    """
    rows = _checked_features(features)
    return rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False))


def frechet_distance(first: Any, second: Any) -> float:
    """Fréchet distance of two sets of features, (n, d) and (m, d); n and m of 2 or more.

    Exact for any n, also below d, where the covariances have no inverse and the usual matrix root
    becomes complex or NaN: with S = A'A of the centred rows A, the trace of (S1 S2)^(1/2) is the
    sum of the singular values of A1 A2'.

    Raises:
        MetricError: not such features, different d, or values that are not finite.
    """
    first, second = _checked_features(first), _checked_features(second)
    return _distance(first.mean(axis=0), _root(first), second.mean(axis=0), _root(second))


def frechet_distance_of_statistics(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> float:
    """The same from `statistics`, such as others publish of a data set.

    Raises:
        MetricError: not (d,) and (d, d) twice, values that are not finite, or no covariance.
    """
    means, roots = [], []
    for mean, covariance in (first, second):
        mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        if mean.ndim != 1 or covariance.shape != mean.shape * 2:
            raise MetricError(
                f"statistics are (d,) and (d, d), not {mean.shape} and {covariance.shape}"
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise MetricError("statistics have values that are not finite")
        scale = np.abs(covariance).max()
        if np.abs(covariance - covariance.T).max() > 1e-6 * scale:
            raise MetricError("a covariance must be symmetric")
        values, vectors = np.linalg.eigh(covariance)
        if values[0] < -1e-6 * scale:
            raise MetricError("a covariance must have no negative eigenvalue")
        # Below this it is the rounding of zero, and the root of 1e-16 is no longer small.
        values[values < len(values) * np.finfo(np.float64).eps * values[-1]] = 0
        means.append(mean)
        roots.append(np.sqrt(values)[:, None] * vectors.T)
    return _distance(means[0], roots[0], means[1], roots[1])


def _checked_features(features: Any) -> np.ndarray:
    rows: np.ndarray = np.asarray(features, np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not rows.shape[1]:
        raise MetricError(f"features are (n, d) with n of 2 or more, not {rows.shape}")
    if not np.isfinite(rows).all():
        raise MetricError("features have values that are not finite")
    return rows


def _root(features: np.ndarray) -> np.ndarray:
    """R, of at most d rows, with R'R the covariance of the features."""
    centred: np.ndarray = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _distance(
    mean_a: np.ndarray, root_a: np.ndarray, mean_b: np.ndarray, root_b: np.ndarray
) -> float:
    if mean_a.shape != mean_b.shape:
        raise MetricError(f"features of {len(mean_a)} and {len(mean_b)} values do not compare")
    common = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    spread = np.square(root_a).sum() + np.square(root_b).sum() - 2 * common
    # Of equal sets rounding leaves some 1e-15 of the spread, of either sign.
    return float(np.square(mean_a - mean_b).sum() + max(0.0, spread))


@lru_cache(maxsize=2)
def _network(mode: inception_v3.Mode, file: Path) -> Callable[[np.ndarray], Any]:
    """The mode's features as a function of pictures, made once per weight file."""
    network = inception_v3.InceptionV3(mode=mode)
    return lambda images: network(images, training=False)
