"""From a seed to the latent vector that chooses a variant ("style based noise", section 5)."""

import numpy as np

SPREAD = 0.7
"""Standard deviation of the latent numbers that a seed gives. They were learnt with 1; nearer to
the middle variants are less unlike each other, more like photographs ("truncation", Brock et al.
2019): ``experiments/shipped/README.md`` has the figures."""


def latent_of(seed: int | None, length: int) -> np.ndarray:
    """(length,) float32: normal numbers, the same for a seed everywhere; of None zeros, the single
    best picture."""
    if seed is None:
        return np.zeros(length, np.float32)
    return (SPREAD * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)
