"""The closed-form terms of the loss: pixel, adversarial, total variation (equations 1, 3, 5); R1
and the lattice term, which are not the paper's.

Pictures are (n, h, w, 3) float32 in [0, 1]; probabilities (n,) in (0, 1); every function returns a
scalar, averaged over the batch.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

Tensor = Any


def l1(target: Tensor, output: Tensor) -> Tensor:
    """Equation 1: mean absolute difference over all pixels and channels."""
    return ops.mean(ops.abs(target - output))


def l2(target: Tensor, output: Tensor) -> Tensor:
    """The ablation's pixel term: mean squared difference over all pixels and channels."""
    return ops.mean(ops.square(target - output))


PIXEL_TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "l2": l2}


def adversarial(probability_of_output: Tensor) -> Tensor:
    """Equation 3, LSGAN for the generator: mean of (D(G(x)) − 1)²."""
    return ops.mean(ops.square(probability_of_output - 1.0))


def discriminator_real(probability_of_target: Tensor, smoothing: float = 0.9) -> Tensor:
    """LSGAN for the discriminator on real pictures, with one-sided label smoothing.

    Mean of (D(y) − ``smoothing``)²; section 4 smooths "the real mini-batch" only.
    """
    return ops.mean(ops.square(probability_of_target - smoothing))


def discriminator_fake(probability_of_output: Tensor) -> Tensor:
    """LSGAN for the discriminator on hallucinated pictures: mean of D(G(x))²."""
    return ops.mean(ops.square(probability_of_output))


def gradient_penalty(slope: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018, equation 9): half the squared gradient on real pictures.

    Args:
        slope: (n, h, w, 3), of the discriminator's output by its picture.
    """
    return 0.5 * ops.mean(ops.sum(ops.square(slope), axis=(1, 2, 3)))


def total_variation(output: Tensor) -> Tensor:
    """Equation 5: squared differences of neighbours, summed per picture, mean over the batch."""
    right = ops.sum(ops.square(output[:, :, 1:] - output[:, :, :-1]), axis=(1, 2, 3))
    down = ops.sum(ops.square(output[:, 1:] - output[:, :-1]), axis=(1, 2, 3))
    return ops.mean(right + down)


TILE, REGION = 8, 32  # pixels; the lattices that are looked for, and where


def lattice(output: Tensor) -> Tensor:
    """What stands on a grid of pixels, whatever the face: the hatch of upsampling by shuffles.

    Ours, not the paper's. Of a photograph's fine detail no pixel of a tile of 8×8 is brighter than
    the others, taken over many tiles and pictures. Detail is what a binomial filter of 5×5 takes
    away; its mean over the batch and the tiles of each region of 32×32 is squared and averaged.

    Args:
        output: (n, h, w, 3); sides are multiples of 32.
    """
    _, height, width, channels = output.shape
    down = _smooth(output)
    fine = output[:, 2:-2, 2:-2] - ops.transpose(
        _smooth(ops.transpose(down, (0, 2, 1, 3))), (0, 2, 1, 3)
    )
    fine = ops.pad(fine, ((0, 0), (2, 2), (2, 2), (0, 0)))
    tiles = REGION // TILE
    shape = (-1, height // REGION, tiles, TILE, width // REGION, tiles, TILE, channels)
    return ops.mean(ops.square(ops.mean(ops.reshape(fine, shape), axis=(0, 2, 5))))


def _smooth(pictures: Tensor) -> Tensor:
    """Binomial filter of five along the second axis, which loses two pixels at either end."""
    weights = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
    length = pictures.shape[1] - 4
    return sum(weight * pictures[:, n : n + length] for n, weight in enumerate(weights))
