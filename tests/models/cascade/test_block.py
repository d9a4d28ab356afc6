import keras
import numpy as np
import pytest

from facehal.config import NetworkConfig, TrainingConfig
from facehal.models.base import (
    LossReport,
    build_discriminator,
    build_generator,
    build_optimizer,
    detached,
    precision,
)

pytestmark = pytest.mark.core

TINY = NetworkConfig(base=2, cap=8, discriminator_width=0.0625)


def test_names():
    assert build_generator(8, TINY, 3).name == "generator_8"
    assert build_discriminator(16, TINY).name == "discriminator_16"


def test_precision():
    before = keras.config.dtype_policy().name
    with precision("bfloat16"):
        generator = build_generator(8, TINY, 3)
    assert keras.config.dtype_policy().name == before
    assert generator.get_layer("entry").compute_dtype == "bfloat16"
    assert {str(v.dtype) for v in generator.variables} == {"float32"}
    assert generator.output.dtype == "float32"
    with pytest.raises(KeyError), precision("bfloat16"):
        raise KeyError
    assert keras.config.dtype_policy().name == before


def test_detached_gives_the_same_and_updates_nothing():
    network = build_discriminator(8, TINY)
    x = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    before = [v.numpy() for v in network.variables]
    y = np.asarray(detached(network)(x))
    for value, variable in zip(before, network.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
    np.testing.assert_allclose(y, np.asarray(network(x, training=True)), rtol=1e-6)
    state = [v.numpy() for v in network.non_trainable_variables]  # which this call has moved
    assert any(
        not np.array_equal(a, b.numpy()) for a, b in zip(before, network.variables, strict=True)
    )
    detached(network)(x)
    for value, variable in zip(state, network.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


def test_optimizer():
    optimizer = build_optimizer(TrainingConfig())
    assert float(optimizer.learning_rate.numpy()) == pytest.approx(1e-4)
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.discriminator_ratio) == (0.5, 0.999, 2.0)
    assert not optimizer.use_ema
    averaged = build_optimizer(TrainingConfig(moving_average=0.998))
    assert averaged.use_ema and averaged.ema_momentum == 0.998
    same = type(optimizer).from_config(averaged.get_config())
    assert same.discriminator_ratio == 2.0 and same.ema_momentum == 0.998


def test_rates():
    """Adam's first step is the rate times the gradient's sign, whatever its size."""
    generator, discriminator = keras.Variable(np.zeros(2)), keras.Variable(np.zeros(2))
    optimizer = build_optimizer(TrainingConfig(generator_rate=1e-3, discriminator_rate=3e-3))
    optimizer.build_for([generator], [discriminator], [discriminator, generator])
    gradient = keras.ops.convert_to_tensor(np.array([5.0, -0.1], "float32"))
    optimizer.apply([gradient, gradient], [discriminator, generator])
    np.testing.assert_allclose(generator.numpy(), [-1e-3, 1e-3], rtol=1e-4)
    np.testing.assert_allclose(discriminator.numpy(), [-3e-3, 3e-3], rtol=1e-4)


def test_report():
    report = LossReport(("a", "b"))
    assert {k: float(v) for k, v in report.result().items()} == {"a": 0, "b": 0}
    report.update_state({"a": 1.0, "b": 4.0})
    report.update_state({"b": 2.0, "a": 2.0})
    assert {k: float(v) for k, v in report.result().items()} == {"a": 1.5, "b": 3}
    report.reset_state()
    assert float(report.result()["a"]) == 0
    with pytest.raises(KeyError):
        report.update_state({"a": 1.0})
