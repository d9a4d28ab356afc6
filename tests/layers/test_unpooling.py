"""Pooling and unpooling against PyTorch's, ties and gradients too."""

import keras
import numpy as np
import pytest

from facehal.layers.unpooling import MaxPoolWithPlaces, MaxUnpool

pytestmark = pytest.mark.core


def test_places_by_hand():
    """Of equal values the first in reading order."""
    windows = [[[1, 2], [3, 4]], [[0, 0], [0, 0]], [[5, 7], [7, 6]], [[1, 8], [2, 8]]]
    picture = np.concatenate(windows, axis=1)[None, ..., None].astype(np.float32)
    largest, places = map(np.asarray, MaxPoolWithPlaces()(picture))
    assert largest[0, 0, :, 0].tolist() == [4, 0, 7, 8]
    assert places[0, 0, :, 0].tolist() == [3, 0, 1, 1]
    back = np.asarray(MaxUnpool()([np.array([[[[1], [2], [3], [4]]]], np.float32), places]))
    assert back[0, :, :, 0].tolist() == [[0, 0, 2, 0, 0, 3, 0, 4], [0, 1, 0, 0, 0, 0, 0, 0]]


def test_equal_to_pytorch():
    """Values, places and both gradients are equal to the bit, on few values with many ties."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    random = np.random.default_rng(0)
    x = random.integers(0, 3, (2, 8, 12, 5)).astype(np.float32)
    weights = random.standard_normal((2, 8, 12, 5)).astype(np.float32)
    factors = random.standard_normal((2, 4, 6, 5)).astype(np.float32)

    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    pooled, indices = torch.nn.functional.max_pool2d(theirs, 2, return_indices=True)
    scaled = pooled * torch.tensor(factors.transpose(0, 3, 1, 2))
    wanted = torch.nn.functional.max_unpool2d(scaled, indices, 2)
    (wanted * torch.tensor(weights.transpose(0, 3, 1, 2))).sum().backward()

    pool, unpool = MaxPoolWithPlaces(), MaxUnpool()

    def restored(pictures):
        largest, places = pool(pictures)
        return unpool([largest * factors, places])

    ours = np.asarray(restored(x))
    np.testing.assert_array_equal(ours, wanted.detach().numpy().transpose(0, 2, 3, 1))
    slope = gradient(lambda pictures: keras.ops.sum(restored(pictures) * weights), x)
    np.testing.assert_array_equal(slope, theirs.grad.numpy().transpose(0, 2, 3, 1))


def gradient(function, x: np.ndarray) -> np.ndarray:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x).numpy()
    import jax

    return np.asarray(jax.grad(function)(x))
