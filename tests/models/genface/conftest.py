"""What the tests of GenFace share."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def shaken() -> Callable:
    """A network with random weights, biases too, that keep the values' size from layer to layer."""

    def shake(network):
        random = np.random.default_rng(1)
        for layer in network.layers:
            if layer.weights:
                kernel, bias = (np.shape(array) for array in layer.get_weights())
                scale = (2 / np.prod(kernel[:-1])) ** 0.5
                arrays = random.normal(0, scale, kernel), random.normal(0, 0.1, bias)
                layer.set_weights([array.astype(np.float32) for array in arrays])
        return network

    return shake
