"""The terms that are SymmFCNet's own, against what they must be and against PyTorch."""

import keras
import numpy as np
import pytest
from keras import ops

from facehal.backend import Stepper, value_and_gradients
from facehal.layers.landmarks import mirrored
from facehal.layers.sampling import own_places
from facehal.models.symmfcnet import losses

pytestmark = pytest.mark.core

SIDE = 16


def value(tensor) -> float:
    return float(ops.convert_to_numpy(tensor))


def shifted(x: float, y: float, count: int = 2) -> np.ndarray:
    """Reads so many pixels further right and down than its own place."""
    grid = own_places(SIDE) + np.array([x, y], np.float32) * 2 / (SIDE - 1)
    return np.tile(grid, (count, 1, 1, 1)).astype(np.float32)


def points() -> np.ndarray:
    return np.random.default_rng(0).uniform(3, 12, (2, 68, 2)).astype(np.float32)


def test_landmarks_of_a_true_flow():
    """A picture whose mirror image has every counterpart two pixels right and one up of a point."""
    places = points() + np.array([2, -1], np.float32)
    assert value(losses.landmark(shifted(2, -1), points(), places)) == pytest.approx(0, abs=1e-10)
    # One pixel off in x is 2/15 of the grid's unit; the mean is over both coordinates.
    found = value(losses.landmark(shifted(1, -1), points(), places))
    assert found == pytest.approx((2 / 15) ** 2 / 2, rel=1e-4)


def test_landmarks_of_a_symmetric_face():
    """Its mirror image is itself: every pixel's counterpart lies at its own place."""
    half = points()
    face = (half + mirrored(half, SIDE)) / 2
    counterparts = mirrored(face, SIDE)
    assert value(losses.landmark(shifted(0, 0), face, counterparts)) == pytest.approx(0, abs=1e-10)
    assert value(losses.landmark(shifted(0, 0), half, mirrored(half, SIDE))) > 1e-3


def test_landmarks_outside_are_left_out():
    given, places = points(), points()
    given[0, 3], places[1, 7] = (-0.5, 4), (4, 15.5)  # one outside, one whose counterpart is
    assert value(losses.landmark(shifted(0, 0), given, places)) == pytest.approx(0, abs=1e-10)
    beyond = np.full_like(given, 99)
    assert value(losses.landmark(shifted(0, 0), beyond, beyond)) == 0


def test_smoothness_is_the_mean_of_the_authors_at_every_resolution():
    """GFRNet's terms: means over the map, of which the landmarks' has 4 · 68 pixels."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    grid = np.random.default_rng(1).standard_normal((3, SIDE, SIDE, 2)).astype(np.float32)
    x, zero = torch.tensor(grid), torch.nn.functional.mse_loss
    theirs = zero(x[:, :, 1:], x[:, :, :-1]) + zero(x[:, 1:], x[:, :-1])
    ours = value(losses.smoothness(grid, "absolute"))
    assert ours == pytest.approx(float(theirs) * SIDE**2 / 272, rel=1e-5)


def test_a_shift_is_smooth_and_one_point_is():
    """The first as a displacement, the second as a grid."""
    point = np.zeros((2, SIDE, SIDE, 2), np.float32)
    assert value(losses.smoothness(shifted(3, 1), "displacement")) == pytest.approx(0, abs=1e-8)
    assert value(losses.smoothness(point, "absolute")) == 0
    assert value(losses.smoothness(shifted(3, 1), "absolute")) > 1e-3
    assert value(losses.smoothness(point, "displacement")) > 1e-3


def test_illumination_where_the_counterpart_is_known():
    random = np.random.default_rng(2)
    original, relit = random.random((2, 2, SIDE, SIDE, 3), np.float32)
    known = np.zeros((2, SIDE, SIDE, 1), np.float32)
    known[0, 2:5, 3:9], known[1, 8, 8] = 1, 0.5
    error = np.abs(original - relit).mean(-1, keepdims=True)
    wanted = (error * known).sum() / known.sum()
    found = losses.illumination(original, relit, known)
    assert value(found) == pytest.approx(float(wanted), rel=1e-5)
    assert value(losses.illumination(original, relit, np.zeros_like(known))) == 0


def features(random: np.random.Generator) -> np.ndarray:
    """Of two pictures, and of their mirror images what a network gives that treats both alike."""
    ours = random.standard_normal((2, 4, 4, 5)).astype(np.float32)
    return np.concatenate([ours, ours[:, :, ::-1]])


def test_symmetry_of_features():
    """The counterpart of a pixel, at its own place in the mirror image, is its mirror image."""
    random = np.random.default_rng(3)
    given = features(random)
    both = np.zeros((2, SIDE, SIDE, 1), np.float32)
    both[0, :, :8] = 1
    found = value(losses.symmetry(given, shifted(0, 0), both))
    wanted = np.square(given[0] - given[0, :, ::-1])[:, :2].mean()
    assert found == pytest.approx(float(wanted), rel=1e-4)
    even = given + given[:, :, ::-1]
    assert value(losses.symmetry(even, shifted(0, 0), both)) == pytest.approx(0, abs=1e-8)
    assert value(losses.symmetry(given, shifted(0, 0), np.zeros_like(both))) == 0


def test_symmetry_follows_the_flow():
    """Four pixels of the grid are one of the features."""
    random = np.random.default_rng(4)
    ours = random.standard_normal((2, 4, 4, 5)).astype(np.float32)
    theirs = random.standard_normal((2, 4, 4, 5)).astype(np.float32)
    theirs[:, :, 1:] = ours[:, :, :-1]
    both = np.zeros((2, SIDE, SIDE, 1), np.float32)
    both[:, :, :12] = 1
    given = np.concatenate([ours, theirs])
    assert value(losses.symmetry(given, shifted(4, 0), both)) == pytest.approx(0, abs=1e-8)
    assert value(losses.symmetry(given, shifted(0, 0), both)) > 0.1


def test_symmetry_moves_both_pictures_and_the_flow():
    random = np.random.default_rng(5)
    given = keras.Variable(features(random))
    grid = keras.Variable(shifted(0.7, -0.4))
    both = np.ones((2, SIDE, SIDE, 1), np.float32)
    found = [keras.Variable(np.zeros(v.shape, "float32")) for v in (given, grid)]

    def step(key, batch):
        _, _, gradients = value_and_gradients(
            lambda: (losses.symmetry(given.value, grid.value, both), None),
            [given, grid],
            [given, grid, *found],
        )
        for variable, gradient in zip(found, gradients, strict=True):
            variable.assign(gradient)

    stepper = Stepper(step, [given, grid, *found], jit=False)
    with stepper.running():
        stepper(None, {})
    by_features, by_grid = (variable.numpy() for variable in found)
    assert (np.abs(by_features).max((1, 2, 3)) > 0).all() and np.abs(by_grid).max() > 0
