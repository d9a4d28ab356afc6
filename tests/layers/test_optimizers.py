"""The joined Adam against Keras's own, and the rate that falls at the end."""

import keras
import numpy as np
import pytest

from facehal.layers import optimizers
from facehal.layers.optimizers import JoinedAdam, LinearEnd, adam

pytestmark = pytest.mark.core


def stepped(optimizer: keras.optimizers.Optimizer, steps: int) -> list[np.ndarray]:
    """Two variables after so many steps with gradients of very different sizes."""
    random = np.random.default_rng(0)
    variables = [keras.Variable(np.ones(shape, "float32")) for shape in ((3, 2), (4,))]
    optimizer.build(variables)
    for _ in range(steps):
        grads = [10.0 ** random.integers(-4, 3) * random.normal(size=v.shape) for v in variables]
        tensors = [keras.ops.convert_to_tensor(g.astype("float32")) for g in grads]
        optimizer.apply(tensors, variables)
    return [v.numpy() for v in variables]


@pytest.mark.parametrize("rate", [1e-2, LinearEnd(1e-2, 8, 0.5)], ids=["constant", "falling"])
def test_equal_to_kerass(rate):
    """Achieved: 6e-8 after ten steps, of weights of size 1."""
    options = {"beta_1": 0.5, "beta_2": 0.99}
    ours = stepped(JoinedAdam(rate, **options), 10)
    theirs = stepped(keras.optimizers.Adam(rate, **options), 10)
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - 1).max() > 1e-3
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("weight_decay", 0.1),
        ("clipnorm", 1.0),
        ("clipvalue", 1.0),
        ("global_clipnorm", 1.0),
        ("gradient_accumulation_steps", 2),
        ("use_ema", True),
        ("loss_scale_factor", 8.0),
        ("amsgrad", True),
    ],
)
def test_what_it_has_not(option, value):
    with pytest.raises(ValueError, match=f"JoinedAdam has no {option}: take keras.optimizers.Adam"):
        JoinedAdam(1e-3, **{option: value})


def test_saved_and_loaded():
    schedule = LinearEnd(0.25, 8, 0.5)
    for optimizer in (JoinedAdam(0.1, beta_1=0.5), JoinedAdam(schedule, beta_2=0.9, name="mine")):
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert isinstance(again, JoinedAdam) and again.get_config() == optimizer.get_config()


def test_a_variable_without_gradient():
    variables = [keras.Variable(np.zeros(2)), keras.Variable(np.zeros(3))]
    optimizer = JoinedAdam(0.1)
    optimizer.build(variables)
    gradient = keras.ops.zeros((2,))
    for grads in ([gradient], [gradient, None]):
        with pytest.raises(ValueError, match="a variable has no gradient"):
            optimizer.apply(grads, variables)


def test_rates_fall_to_zero_over_the_last_share():
    schedule = LinearEnd(0.1, 8, 0.5)
    rates = [float(schedule(step)) for step in range(10)]
    wanted = 0.1 * np.array([1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0])
    np.testing.assert_allclose(rates, wanted, atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "made"),
    [("joined", JoinedAdam), ("adam", keras.optimizers.Adam), ("auto", JoinedAdam)],
)
def test_adam(kind, made):
    """Adam's first step is the rate times the gradient's sign, whatever its size."""
    variables = [keras.Variable(np.zeros(2))]
    options = {"beta1": 0.5, "beta2": 0.999, "name": "x"}
    optimizer = adam(kind, variables, 1e-3, decay=0.0, total_steps=0, **options)
    assert type(optimizer) is made and (optimizer.beta_1, optimizer.beta_2) == (0.5, 0.999)
    optimizer.build(variables)
    optimizer.apply([keras.ops.convert_to_tensor(np.array([5.0, -0.1], "float32"))], variables)
    np.testing.assert_allclose(variables[0].numpy(), [-1e-3, 1e-3], rtol=1e-4)
    falling = adam(kind, variables, 1e-3, decay=0.5, total_steps=10, **options)
    falling.build(variables)
    assert float(falling.learning_rate) == pytest.approx(1e-3)


def test_large_networks_take_kerass(monkeypatch):
    monkeypatch.setattr(optimizers, "JOINED_UP_TO", 5)
    options = {"beta1": 0.5, "beta2": 0.999, "decay": 0.0, "total_steps": 0, "name": "x"}
    for length, made in ((5, JoinedAdam), (6, keras.optimizers.Adam)):
        assert type(adam("auto", [keras.Variable(np.zeros(length))], 1e-3, **options)) is made
