"""Bilinear sampling, proved against PyTorch.

Achieved against torch.nn.functional.grid_sample (align_corners=True, zeros), on TensorFlow and JAX:
values 1.2e-7, gradients by the picture 2.4e-7 and by the grid 3.8e-6 of a largest value of 45.
"""

import keras
import numpy as np
import pytest
from keras import ops

from facehal.backend import Stepper, value_and_gradients
from facehal.layers.sampling import grid_sampled, in_pixels, own_places, sampled

pytestmark = pytest.mark.core


def with_gradients(pictures: np.ndarray, grid: np.ndarray, weights: np.ndarray):
    """Samples, and the gradients of their weighted sum by the pictures and the grid."""
    inputs = [keras.Variable(array) for array in (pictures, grid)]
    outputs = [keras.Variable(np.zeros(a.shape, "float32")) for a in (weights, pictures, grid)]

    def loss():
        found = grid_sampled(inputs[0].value, inputs[1].value)
        return ops.sum(found * weights), found

    def step(key, batch):
        _, found, gradients = value_and_gradients(loss, inputs, [*inputs, *outputs])
        for variable, value in zip(outputs, (found, *gradients), strict=True):
            variable.assign(value)

    stepper = Stepper(step, [*inputs, *outputs], jit=False)
    with stepper.running():
        stepper(None, {})
    return [variable.numpy() for variable in outputs]


def test_grid_sample_of_2018(record_property):
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    random = np.random.default_rng(0)
    pictures = random.standard_normal((3, 9, 7, 4)).astype(np.float32)
    grid = random.uniform(-1.4, 1.4, (3, 11, 6, 2)).astype(np.float32)  # a third lies outside
    weights = random.standard_normal((3, 11, 6, 4)).astype(np.float32)
    ours = with_gradients(pictures, grid, weights)

    x = torch.tensor(pictures.transpose(0, 3, 1, 2), requires_grad=True)
    g = torch.tensor(grid, requires_grad=True)
    found = torch.nn.functional.grid_sample(
        x, g, mode="bilinear", padding_mode="zeros", align_corners=True
    ).permute(0, 2, 3, 1)
    (found * torch.tensor(weights)).sum().backward()
    theirs = [found.detach().numpy(), x.grad.numpy().transpose(0, 2, 3, 1), g.grad.numpy()]

    apart = [float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)]
    record_property("samples_and_gradients_apart", apart)
    print("apart", apart, "largest", [float(np.abs(b).max()) for b in theirs])
    assert apart[0] < 2e-6 and apart[1] < 2e-6 and apart[2] < 4e-5


def test_pixels_are_read_exactly():
    """At the centres of pixels, the outermost too: -1 and 1."""
    pictures = np.random.default_rng(1).random((2, 5, 5, 3)).astype(np.float32)
    grid = np.tile(own_places(5), (2, 1, 1, 1))
    found = ops.convert_to_numpy(grid_sampled(pictures, grid))
    np.testing.assert_allclose(found, pictures, atol=1e-6)
    mirrored = ops.convert_to_numpy(grid_sampled(pictures, grid * [-1.0, 1.0]))
    np.testing.assert_allclose(mirrored, pictures[:, :, ::-1], atol=1e-6)


def test_outside_is_zero_and_the_edge_fades():
    pictures = np.ones((1, 4, 4, 1), np.float32)
    x = np.array([[-1.0, -0.25, 3.0, 3.5, 4.0, 1e6]], np.float32)
    found = ops.convert_to_numpy(sampled(pictures, x, np.full_like(x, 1.5)))[0, :, 0]
    np.testing.assert_allclose(found, [0, 0.75, 1, 0.5, 0, 0], atol=1e-6)


def test_single_places():
    """(n, k) places give (n, k, c)."""
    pictures = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    x, y = in_pixels(np.array([[[-1.0, 1.0], [0.0, 0.0]]] * 2, np.float32), 3, 4)
    found = ops.convert_to_numpy(sampled(pictures, x, y))
    assert found.shape == (2, 2, 1)
    np.testing.assert_allclose(found[..., 0], [[8, 5.5], [20, 17.5]], atol=1e-5)
