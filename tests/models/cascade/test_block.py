import keras
import numpy as np
import pytest

from facehal.models.base import detached, precision
from facehal.models.cascade.blocks import build_discriminator, build_generator
from facehal.models.cascade.config import NetworkConfig

pytestmark = pytest.mark.core

TINY = NetworkConfig(base=2, cap=8, discriminator_width=0.0625)


def test_names():
    assert build_generator(0, TINY).name == "generator_8"
    assert build_generator(1, TINY).name == "generator_16"
    assert build_discriminator(16, TINY).name == "discriminator_16"


def test_precision():
    before = keras.config.dtype_policy().name
    with precision("bfloat16"):
        generator = build_generator(0, TINY)
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
