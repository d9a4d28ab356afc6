"""Contextual attention against the published loop of convolutions, in PyTorch.

Achieved on TensorFlow and JAX, float32 against float64: maps to 4e-7 of their largest value,
gradients to 5e-7 of theirs.
"""

import keras
import numpy as np
import pytest
from keras import ops

from facehal.backend import input_gradient
from facehal.models.deepfillv1.attention import (
    ContextualAttention,
    aligned_corners,
    nearest,
    pasted,
    patches,
)

pytestmark = pytest.mark.core


def test_rows_are_those_of_tensorflow_1():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is the reference")
    for size, out in ((256, 64), (128, 32), (64, 32), (32, 16), (30, 15), (16, 8), (6, 3), (2, 1)):
        rows = np.arange(size, dtype=np.float32).reshape(1, size, 1, 1).repeat(size, axis=2)
        theirs = tf.compat.v1.image.resize_nearest_neighbor(rows, (out, out), align_corners=True)
        np.testing.assert_array_equal(aligned_corners(size, out), theirs[0, :, 0, 0])
        ours = ops.convert_to_numpy(nearest(ops.convert_to_tensor(rows), out))
        np.testing.assert_array_equal(ours, theirs)
    assert aligned_corners(64, 32).tolist() == [*range(0, 31, 2), *range(33, 64, 2)]


@pytest.mark.parametrize("size, holes", [(16, "ellipses"), (20, "ellipses"), (8, "extremes")])
def test_it_is_the_published_loop(published, masks, size, holes, record_property):
    import torch

    random = np.random.default_rng(size)
    # Small enough for several patches to have a share in a place.
    maps = 0.1 * np.maximum(random.standard_normal((4, size, size, 6)), 0).astype(np.float32)
    maps[0, : size // 2] = 0  # patches of zeros
    full = 4 * size
    hole = 1.0 - masks(4, full)[..., None].astype(np.float32)
    if holes == "extremes":  # all, nothing, one pixel to be hallucinated; an ellipse beside them
        hole[0], hole[1], hole[2] = 1.0, 0.0, 0.0
        hole[2, full // 2, full // 2] = 1.0
    pull = random.standard_normal(maps.shape).astype(np.float32)  # of the gradient

    theirs_in = torch.tensor(maps.astype(np.float64).transpose(0, 3, 1, 2), requires_grad=True)
    hole_in = torch.tensor(hole.astype(np.float64).transpose(0, 3, 1, 2))
    theirs = published.attention(theirs_in, published.nearest(hole_in, size))
    if holes == "ellipses":  # in each of them something is known
        assert (theirs.abs().amax((1, 2, 3)) > 0.01).all()

    layer = ContextualAttention()
    ours = ops.convert_to_numpy(layer(ops.convert_to_tensor(maps), ops.convert_to_tensor(hole)))
    wanted = theirs.detach().numpy().transpose(0, 2, 3, 1)
    apart = np.abs(ours - wanted).max() / np.abs(wanted).max()
    record_property("maps_apart", apart)
    print(f"maps {apart:.1e} apart")
    assert apart < 1e-5

    slope = ops.convert_to_numpy(
        input_gradient(
            lambda x: layer(x, ops.convert_to_tensor(hole)) * pull, ops.convert_to_tensor(maps)
        )
    )
    assert np.isfinite(slope).all()
    (theirs * torch.tensor(pull.transpose(0, 3, 1, 2))).sum().backward()
    wanted = theirs_in.grad.numpy().transpose(0, 2, 3, 1)
    # A patch of zeros has no slope in the published form, whose root is taken before its bound.
    there = np.isfinite(wanted).all(axis=(1, 2, 3))
    assert there.sum() >= 3
    largest = np.abs(wanted[there]).max()
    apart = np.abs(slope[there] - wanted[there]).max() / largest
    record_property("gradients_apart", apart)
    print(f"gradients {apart:.1e} apart")
    assert apart < 1e-5


def test_patches_put_down_again_are_the_map():
    """Four 4×4 patches lie over every pixel, two at an edge, one in a corner."""
    maps = np.random.default_rng(0).standard_normal((2, 6, 6, 3)).astype(np.float32)
    values = patches(ops.convert_to_tensor(maps), 4, 2)
    assert tuple(values.shape) == (2, 9, 48)
    ours = ops.convert_to_numpy(pasted(values, 3, 3, 3))
    edge = np.array([1, 2, 2, 2, 2, 1])
    np.testing.assert_allclose(ours, maps * np.outer(edge, edge)[None, ..., None], atol=1e-6)


def test_a_mask_of_its_own_for_every_picture(masks):
    random = np.random.default_rng(0)
    maps = np.maximum(random.standard_normal((3, 8, 8, 4)), 0).astype(np.float32)
    hole = 1.0 - masks(3, 32)[..., None].astype(np.float32)
    layer = ContextualAttention()

    def rebuilt(rows):
        tensors = (ops.convert_to_tensor(x[rows]) for x in (maps, hole))
        return ops.convert_to_numpy(layer(*tensors))

    together = rebuilt([0, 1, 2])
    for row in range(3):
        np.testing.assert_allclose(rebuilt([row])[0], together[row], atol=1e-6)


def test_float32_whatever_the_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = ContextualAttention()
        output = layer(ops.ones((1, 8, 8, 2), "bfloat16"), ops.zeros((1, 16, 16, 1)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
