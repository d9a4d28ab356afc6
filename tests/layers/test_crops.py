"""Crops against NumPy's slices."""

import keras
import numpy as np
import pytest

from facehal.layers.crops import cropped, hole_corners

pytestmark = pytest.mark.core


def test_crops_are_slices():
    random = np.random.default_rng(0)
    pictures = random.random((3, 16, 16, 2), np.float32)
    corners = np.array([[0, 0], [8, 3], [5, 8]], np.int32)
    found = keras.ops.convert_to_numpy(cropped(pictures, corners, 8))
    for one, picture, (row, column) in zip(found, pictures, corners, strict=True):
        np.testing.assert_array_equal(one, picture[row : row + 8, column : column + 8])


def test_squares_lie_around_pixels_of_the_hole():
    masks = np.ones((50, 32, 32), np.uint8)
    masks[:, 2:5, 20:31] = 0
    corners = hole_corners(masks, 8, np.random.default_rng(0))
    assert corners.dtype == np.int32 and corners.shape == (50, 2)
    assert corners[:, 0].tolist() == [0] * 50  # centres of rows 2 to 4 lie too near to the border
    assert corners[:, 1].min() == 16 and corners[:, 1].max() == 24
    assert len(np.unique(corners[:, 1])) > 5
    again = hole_corners(masks, 8, np.random.default_rng(0))
    np.testing.assert_array_equal(corners, again)


def test_a_picture_without_a_hole():
    corners = hole_corners(np.ones((20, 16, 16)), 8, np.random.default_rng(0))
    assert corners.min() >= 0 and corners.max() <= 8
