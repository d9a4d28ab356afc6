"""dlib's face descriptor, rebuilt from its published weights: 128 numbers per face.

The network is that of dlib's example `dnn_face_recognition_ex.cpp` (King 2017): a ResNet of 29
convolutions for 150x150 pictures. Two faces are the same person, says dlib, when their descriptors
are less than 0.6 apart.
"""

from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.features import set_arrays
from facehal.weights import store
from facehal.weights.converters import dlib_resnet as published

CHIP = 150
"""Width and height of the pictures that the network was trained on."""

SIZE = 128
"""Length of the descriptor."""

CROP = (0.147, 0.225, 0.716)
"""Left, top and side of dlib's chip within our aligned face, as fractions of its width.

dlib cuts its chip by a similarity that fits nose, eyes and mouth to a mean face (`get_face_chip`,
padding 0.25), ours fits the eye centres alone, so the way from one to the other differs from face
to face. These are medians over 596 press photos, one per person: `get_face_chip_details` and
`alignment_matrix` on the same landmarks (at 16 times the size, for dlib rounds them to pixels),
the chip's centre and side then expressed in the aligned face. What a constant crop leaves:
standard deviations of 0.013 and 0.015 in the centre, 0.044 in the side, 2.3 degrees of rotation.
On 300 frontal portraits: 0.007, 0.007, 0.021 and 1.1 degrees.
"""

Tensor = Any


def DlibResNet(weights: str | None = "dlib_resnet", name: str = "dlib_resnet") -> keras.Model:
    """dlib's descriptor network, frozen: (n, 150, 150, 3) RGB in [0, 1] to (n, 128) float32.

    The affine layers and the input's scaling are folded into the convolutions' weights. As in
    dlib, convolutions of stride 2 do not pad, and the smaller of two added maps is filled up with
    zeros on the right, below, and in the channels that it lacks.

    Args:
        weights: name in the weight store; None leaves them random (tests).
        name: of the model.

    Raises:
        WeightsError: the file is not on this machine, or is not dlib's.
    """
    # JAX would take seconds to draw what is overwritten.
    start = "glorot_uniform" if weights is None else "zeros"
    x = picture = keras.Input((CHIP, CHIP, 3), dtype="float32")
    x = keras.layers.Conv2D(
        32, 7, 2, activation="relu", kernel_initializer=start, dtype="float32", name="stem"
    )(x)
    x = keras.layers.MaxPooling2D(3, 2, dtype="float32", name="pool")(x)
    for index, (stride, filters) in enumerate(published.BLOCKS):
        shortcut = x
        if stride == 2:
            shortcut = keras.layers.AveragePooling2D(2, dtype="float32", name=f"half{index}")(x)
        x = keras.layers.Conv2D(
            filters,
            3,
            stride,
            padding="same" if stride == 1 else "valid",
            activation="relu",
            kernel_initializer=start,
            dtype="float32",
            name=f"block{index}a",
        )(x)
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer=start,
            dtype="float32",
            name=f"block{index}b",
        )(x)
        x = ops.relu(_fill(x, shortcut) + _fill(shortcut, x))
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="mean")(x)
    x = keras.layers.Dense(
        SIZE, use_bias=False, kernel_initializer=start, dtype="float32", name="descriptor"
    )(x)
    model = keras.Model(picture, x, name=name)
    model.trainable = False
    if weights is not None:
        set_arrays(model, published.convert(store.path(weights)))
    return model


def _fill(x: Tensor, like: Tensor) -> Tensor:
    """`x` with zeros after its end wherever `like` is larger."""
    missing = [max(0, b - a) for a, b in zip(x.shape[1:], like.shape[1:], strict=True)]
    return ops.pad(x, [(0, 0), *((0, more) for more in missing)]) if any(missing) else x


def aligned_chip(images: Tensor) -> Tensor:
    """Our aligned faces resampled to dlib's chip, differentiably.

    A fixed crop (`CROP`), bilinear, averaging where it shrinks: two matrix products.

    Args:
        images: (n, N, N, 3) faces as `facehal.faces.alignment` cuts them, of any size N.

    Returns:
        (n, 150, 150, 3) in the range of the input.

    Raises:
        ValueError: the pictures are not square, or their size is not known.
    """
    images = ops.convert_to_tensor(images, dtype="float32")
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] is None or shape[1] != shape[2] or shape[3] != 3:
        raise ValueError(f"aligned faces are (n, N, N, 3), not {shape}")
    left, top, side = CROP
    rows, columns = _resampling(shape[1], top, side), _resampling(shape[1], left, side)
    half = ops.einsum("pi,nijc->npjc", rows, images)
    return ops.einsum("qj,npjc->npqc", columns, half)


@cache
def _resampling(size: int, start: float, length: float) -> np.ndarray:
    """(150, size) weights of the source pixels in each of the crop's pixels; rows sum to one."""
    step = length * size / CHIP
    centres = start * size + (np.arange(CHIP) + 0.5) * step - 0.5
    # Outside the picture its border goes on.
    centres = np.clip(centres, 0, size - 1)
    distance = np.abs(np.arange(size)[None] - centres[:, None]) / max(1.0, step)
    weights = np.maximum(0.0, 1.0 - distance)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
