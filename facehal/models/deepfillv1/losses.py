"""The losses of DeepFillv1: discounted L1 and a Wasserstein GAN whose penalty looks at the hole.

Pictures are (n, h, w, 3) in [-1, 1], where L1 is twice what it is in [0, 1]; holes (n, h, w, 1),
1 = to be hallucinated; every function of tensors returns a scalar.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from keras import ops

from facehal.backend import input_gradient

Tensor = Any


def discounts(masks: np.ndarray, factor: float) -> np.ndarray:
    """How much a pixel counts: the less the farther it is from what is known.

    The authors' is ``factor`` to the power of the distance to the nearest edge of a square hole,
    which there is the nearest known pixel, too.

    Args:
        masks: (n, S, S) uint8, 1 = face.
        factor: a pixel of distance.

    Returns:
        (n, S, S) float32, ``factor`` to the power of the Euclidean distance to the nearest pixel of
        the face; 1 on the face. A picture without a face counts almost nowhere.
    """
    distances = [
        cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for mask in masks
    ]
    # In float64: NumPy's power of float32 differs in the last bit by its place in memory.
    # So do OpenCV's roots; the squares are whole numbers.
    squares = np.rint(np.stack(distances).astype(np.float64) ** 2)
    powers: np.ndarray = factor ** np.sqrt(squares)
    return powers.astype(np.float32)


def weighted_l1(target: Tensor, output: Tensor, where: Tensor, weights: Tensor = 1.0) -> Tensor:
    """Mean of weighted absolute differences over a part of the pictures.

    Over the pixels of the whole batch together: the authors divide by the mean of their batch's
    mask, and so a picture counts by the size of its part.

    Args:
        target: original pictures.
        output: painted ones.
        where: (n, h, w, 1), 1 = counts, 0 = does not.
        weights: broadcast to (n, h, w, 1).
    """
    differences = ops.mean(ops.abs(target - output), axis=-1, keepdims=True)
    # A batch without such a pixel has no loss: not 0/0.
    return ops.sum(weights * where * differences) / ops.maximum(ops.sum(where), 1.0)


def penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, hole: Tensor, share: Tensor
) -> Tensor:
    """Gradient penalty (Gulrajani et al. 2017) at random pictures between real and painted ones.

    Only the gradient in the hole has its norm taken: elsewhere both pictures are the same.

    Args:
        critic: a network; it must not update its state.
        real: original pictures.
        fake: painted ones.
        hole: of the pictures.
        share: (n,) in [0, 1], of the painted one.
    """
    between = real + share[:, None, None, None] * (fake - real)
    slope = input_gradient(critic, between)
    # The root has no slope at 0.
    norm = ops.sqrt(ops.sum(ops.square(slope) * hole, axis=(1, 2, 3)) + 1e-12)
    return ops.mean(ops.square(norm - 1.0))
