"""SSIM (Wang et al. 2004), the paper's measure of noise (section 4, metric 2).

The paper does not say grey or RGB, nor which constants. Here: RGB, the mean over channels and over
all positions where the window lies wholly inside; Gaussian window of 11x11 with sigma 1.5,
K1 = 0.01, K2 = 0.03, population covariance, data range 1.
"""

from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from facehal.metrics import checked_pairs

WINDOW = 11
"""Width and height of the window, and so of the smallest picture."""

_SIGMA, _C1, _C2 = 1.5, 0.01**2, 0.03**2
_KERNEL = np.exp(-0.5 * (np.arange(WINDOW) - WINDOW // 2) ** 2 / _SIGMA**2)
_KERNEL /= _KERNEL.sum()


def ssim(originals: Any, hallucinated: Any, progress: bool = False) -> np.ndarray:
    """SSIM of each pair, (n,) float64 of at most 1, which means equal; symmetric.

    Computed in float64 and without a network, so that neither backend nor batch plays a part: in
    float32 the variance of a bright flat region drowns in rounding.

    Args:
        originals: (n, H, W, 3) RGB in [0, 1], H and W of 11 or more.
        hallucinated: the same.
        progress: draw a bar on standard error.

    Raises:
        MetricError: not pairs of RGB pictures in [0, 1], or smaller than 11x11.
    """
    first, second = checked_pairs(originals, hallucinated, WINDOW, "SSIM")
    pairs = tqdm(
        zip(first, second, strict=True),
        total=len(first),
        desc="SSIM",
        unit="picture",
        disable=not progress,
    )
    return np.array([_ssim(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs])


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    half = WINDOW // 2
    maps = np.concatenate([a, b, a * b, a * a + b * b], axis=2)
    filtered = cv2.sepFilter2D(maps, cv2.CV_64F, _KERNEL, _KERNEL)[half:-half, half:-half]
    mean_a, mean_b, product, squares = np.split(filtered, 4, axis=2)
    means, powers = mean_a * mean_b, mean_a**2 + mean_b**2
    light = (2 * means + _C1) / (powers + _C1)
    structure = (2 * (product - means) + _C2) / (squares - powers + _C2)
    return float(np.mean(light * structure))
