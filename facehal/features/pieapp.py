"""PieAPP v0.1 (Prashnani et al. 2018): the perceptual error of one picture against another."""

from typing import Any, Literal

import keras
from keras import ops

from facehal.features import set_arrays
from facehal.layers import resampling
from facehal.weights import store
from facehal.weights.arrays import Shapes
from facehal.weights.converters import pieapp as published

PATCH = 64
"""Width and height of the patches that are compared, and of the smallest picture."""

SPARSE = 27
"""Pixels between patches: the default when the paper was written; 9 patches at 128x128."""

DENSE = 6
"""Pixels between patches: the authors' later default; 121 patches at 128x128."""

Tensor = Any
Channels = Literal["bgr", "rgb"]


def PatchNetwork(
    weights: str | None = "pieapp", width: int = 64, hidden: int = 512, name: str = "pieapp"
) -> keras.Model:
    """PieAPP's network, frozen: pairs of patches to their errors and weights.

    Two inputs (p, 64, 64, 3) float32, the reference's patches and the other picture's, 0-255 in
    the order of colours that the weights are taken to have; two outputs (p, 1) float32.

    Args:
        weights: name in the weight store; None leaves them random (tests).
        width: channels of the first convolution (smaller in tests).
        hidden: size of the dense layers (smaller in tests).
        name: of the model.

    Raises:
        WeightsError: the weights are not on this machine; says how to get them.
    """
    shapes = published.network_shapes(width, hidden)
    # First, so that missing weights cost no time.
    arrays = store.load(weights, shapes) if weights else {}
    pair = [keras.Input((PATCH, PATCH, 3), dtype="float32", name=n) for n in ("reference", "other")]
    trunk = _trunk(shapes)
    # Every map, and the last one alone.
    (maps, last), (other_maps, other_last) = (trunk(patch) for patch in pair)
    difference = keras.layers.Subtract(dtype="float32", name="difference")([maps, other_maps])
    coarse = keras.layers.Subtract(dtype="float32", name="coarse")([last, other_last])

    def head(x: Any, kind: str) -> Any:
        x = keras.layers.Dense(hidden, "relu", dtype="float32", name=f"fc1_{kind}")(x)
        return keras.layers.Dense(1, dtype="float32", name=f"fc2_{kind}")(x)

    error = keras.layers.Dense(1, dtype="float32", name="ref_score_subtract")(
        head(difference, "score") * 0.01
    )
    model = keras.Model(pair, [error, head(coarse, "weight") + 1e-6], name=name)
    model.trainable = False
    if weights:
        set_arrays(model, arrays)
    return model


def _trunk(shapes: Shapes) -> keras.Model:
    """Patches to all five maps, flattened and joined, and to the last map, flattened."""
    x = patch = keras.Input((PATCH, PATCH, 3), dtype="float32")
    maps = []
    for number in range(1, 12):
        filters = shapes[f"conv{number}.bias"][0]
        x = keras.layers.Conv2D(
            filters, 3, padding="same", activation="relu", dtype="float32", name=f"conv{number}"
        )(x)
        if number in (3, 5, 7, 9, 11):
            maps.append(keras.layers.Flatten(dtype="float32", name=f"flat{number}")(x))
        elif number > 1:
            x = keras.layers.MaxPooling2D(2, dtype="float32", name=f"pool{number}")(x)
    joined = keras.layers.Concatenate(dtype="float32", name="maps")(maps)
    return keras.Model(patch, [joined, maps[-1]], name="trunk")


class PieAPP:
    """Perceptual error of pictures against references: about 0 for equal ones, else more.

    The sum over patches of weight times error, divided by the sum of the weights; patches lie on
    the grid of all multiples of the stride that fit (the authors' program adds a last row and
    column at the border to pictures whose grid fills a multiple of ten patches).

    Not symmetric: the first argument is the reference. A plain object, not a layer: its frozen
    variables join no model's weights or saved file.

    Args:
        stride: pixels between patches, `SPARSE` (27) or `DENSE` (6).
        channels: order in which colours are fed: `"bgr"`, as the authors' program reads its
            pictures (OpenCV), or `"rgb"`, as piq does. The results differ: name it.
        weights: name in the weight store; None leaves them random (tests).
        patches: how many patches go through the network at once; only memory and speed depend
            on it (a few megabytes each).
        width: see `PatchNetwork`.
        hidden: see `PatchNetwork`.

    Raises:
        ValueError: an unknown order of colours, or numbers below one.
        WeightsError: the weights are not on this machine; says how to get them.
    """

    def __init__(
        self,
        stride: int = SPARSE,
        channels: Channels = "bgr",
        weights: str | None = "pieapp",
        patches: int = 36,
        width: int = 64,
        hidden: int = 512,
    ) -> None:
        if channels not in ("bgr", "rgb"):
            raise ValueError(f"channels must be 'bgr' or 'rgb': {channels!r}")
        if stride < 1 or patches < 1:
            raise ValueError(f"stride and patches must be 1 or more: {stride}, {patches}")
        self.stride, self.channels, self.patches = stride, channels, patches
        self.network = PatchNetwork(weights, width, hidden)

    def __call__(self, references: Tensor, pictures: Tensor) -> Tensor:
        """Error of each picture against its reference: (n,) float32.

        Args:
            references: (n, H, W, 3) RGB in [0, 1], H and W at least 64; not rounded to levels.
            pictures: the same shape.

        Raises:
            ValueError: pictures of another shape, or smaller.
        """
        pair = [ops.convert_to_tensor(p, dtype="float32") for p in (references, pictures)]
        height, width = resampling.known_size(pair[0])
        if tuple(pair[0].shape) != tuple(pair[1].shape):
            raise ValueError(
                f"references and pictures differ: {tuple(pair[0].shape)}, {tuple(pair[1].shape)}"
            )
        if min(height, width) < PATCH:
            raise ValueError(f"PieAPP needs {PATCH}x{PATCH} pixels or more, not {height}x{width}")
        if self.channels == "bgr":
            pair = [ops.flip(p, axis=-1) for p in pair]
        pair = [p * 255.0 for p in pair]
        corners = [
            (top, left)
            for top in range(0, height - PATCH + 1, self.stride)
            for left in range(0, width - PATCH + 1, self.stride)
        ]
        count = pair[0].shape[0]
        blocks = []
        for start in range(0, count, self.patches):
            block = [p[start : start + self.patches] for p in pair]
            blocks.append(self._block(block, corners))
        return ops.concatenate(blocks) if blocks else ops.zeros((0,), "float32")

    def _block(self, pair: list[Tensor], corners: list[tuple[int, int]]) -> Tensor:
        """At most `patches` pictures, as many corners of each at a time as that allows."""
        count = pair[0].shape[0]
        together = max(1, self.patches // count)
        total = weight = 0.0
        for start in range(0, len(corners), together):
            chosen = corners[start : start + together]
            reference, other = (
                ops.concatenate([p[:, t : t + PATCH, s : s + PATCH] for t, s in chosen])
                for p in pair
            )
            errors, weights = (
                ops.reshape(x, (len(chosen), count))
                for x in self.network([reference, other], training=False)
            )
            total = total + ops.sum(errors * weights, axis=0)
            weight = weight + ops.sum(weights, axis=0)
        return total / weight
