"""The moving average of GanAdam against the same average computed by hand."""

import keras
import numpy as np
import pytest

from facehal.models.base import GanAdam


@pytest.mark.core
def test_momentum_grows_to_its_full_value():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    optimizer = GanAdam(0.1, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    x, y = np.ones((4, 1), "float32"), np.full((4, 1), 3.0, "float32")
    average = model.get_weights()[0]
    for step in range(20):
        model.train_on_batch(x, y)
        # The first value is taken as it is.
        momentum = min(0.5, (1 + step) / (10 + step)) if step else 0.0
        average = momentum * average + (1 - momentum) * model.get_weights()[0]
        ours = optimizer.averages()[0]
        np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), average, rtol=1e-5)
    assert optimizer.ema_momentum == 0.5


@pytest.mark.core
def test_rates_fall_to_zero_over_the_last_share():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    optimizer = GanAdam(0.1, decay=0.5, total_steps=8)
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    x, y = np.ones((4, 1), "float32"), np.full((4, 1), 30.0, "float32")
    rates = []
    for _ in range(9):
        rates.append(float(optimizer.learning_rate))
        before = model.get_weights()[0]
        model.train_on_batch(x, y)
    np.testing.assert_allclose(rates[:8], 0.1 * np.array([1, 1, 1, 1, 1, 0.75, 0.5, 0.25]))
    np.testing.assert_array_equal(before, model.get_weights()[0])  # step 9: the rate is zero
