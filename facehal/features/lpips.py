"""LPIPS of Zhang et al. 2018 with AlexNet: the perceptual loss (equation 2), and a metric."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from facehal.features.alexnet import SMALLEST, AlexNet
from facehal.weights import store
from facehal.weights.converters import lpips as published

VERSIONS = published.VERSIONS
"""The published versions; the paper trains with the first."""

# v0.1's scaling of [-1, 1], as published; v0.0, which the paper names, has none.
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)

Tensor = Any


class LPIPS:
    """LPIPS distance of pictures, differentiable; 0 means equal.

    A plain object, not a layer: its frozen variables join no model's weights or saved file.

    Args:
        version: "0.0" (the paper's) or "0.1".

    Raises:
        ValueError: unknown version.
        WeightsError: the weights `alexnet` or `lpips` are not on this machine.
    """

    def __init__(self, version: str = "0.0") -> None:
        if version not in VERSIONS:
            raise ValueError(f"LPIPS version must be one of {VERSIONS}: {version!r}")
        self.version = version
        heads = store.load("lpips", published.SHAPES)
        self.heads = [heads[f"v{version}.lin{tap}"][:, None] for tap in range(5)]
        self.network = AlexNet()

    def __call__(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Distance of each pair: (n, H, W, 3) twice, RGB in [0, 1], to (n,) float32.

        The gradient flows to `y_pred` only.

        Raises:
            ValueError: not RGB batches of the same height and width of 31 pixels or more.
        """
        target = [ops.stop_gradient(tap) for tap in self.features(y_true)]
        return self.distance(target, self.features(y_pred))

    def features(self, images: Tensor) -> list[Tensor]:
        """Five maps, each position of unit length over its channels.

        Compute those of a fixed picture once and reuse them in `distance`.

        Args:
            images: (n, H, W, 3), RGB in [0, 1].

        Raises:
            ValueError: not an RGB batch of at least 31x31 pixels.
        """
        images = ops.convert_to_tensor(images, dtype="float32")
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[3] != 3:
            raise ValueError(f"LPIPS takes RGB pictures (n, H, W, 3), not {shape}")
        if any(side is not None and side < SMALLEST for side in shape[1:3]):
            raise ValueError(
                f"LPIPS needs pictures of {SMALLEST}x{SMALLEST} pixels or more, "
                f"not {shape[1]}x{shape[2]}"
            )
        scaled = images * 2.0 - 1.0
        if self.version == "0.1":
            scaled = (scaled - _SHIFT) / _SCALE
        return [_unit(tap) for tap in self.network(scaled, training=False)]

    def distance(self, taps_a: Sequence[Tensor], taps_b: Sequence[Tensor]) -> Tensor:
        """Distance (n,) of pictures given by their `features`."""
        return sum(self.per_tap(taps_a, taps_b))

    def per_tap(self, taps_a: Sequence[Tensor], taps_b: Sequence[Tensor]) -> list[Tensor]:
        """What each of the five taps adds to the distance: five times (n,)."""
        if any(a.shape[1:] != b.shape[1:] for a, b in zip(taps_a, taps_b, strict=True)):
            raise ValueError("LPIPS compares pictures of the same height and width")
        return [
            ops.mean(ops.matmul(ops.square(a - b), head), axis=(1, 2, 3))
            for a, b, head in zip(taps_a, taps_b, self.heads, strict=True)
        ]


def _unit(tap: Tensor) -> Tensor:
    # The root of zero has no finite gradient: a position without any activation would give NaN.
    # The floor is below the published epsilon and changes no other value.
    square = ops.maximum(ops.sum(ops.square(tap), axis=-1, keepdims=True), 1e-20)
    return tap / (ops.sqrt(square) + 1e-10)
