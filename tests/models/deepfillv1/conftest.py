"""PyTorch's form of the networks, and weights to give both."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def published():
    """The module ``published_torch`` beside this file."""
    pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    path = Path(__file__).with_name("published_torch.py")
    spec = importlib.util.spec_from_file_location("published_torch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _layers(*networks):
    return [layer for network in networks for layer in network.layers if layer.get_weights()]


@pytest.fixture
def shuffled():
    """A function that gives networks weights and biases that let every layer count."""

    def give(*networks, seed=0):
        random = np.random.default_rng(seed)
        for layer in _layers(*networks):
            kernel, bias = layer.get_weights()
            spread = np.sqrt(1.5 / np.prod(kernel.shape[:-1]))
            layer.set_weights(
                [
                    random.normal(0, spread, kernel.shape).astype("f"),
                    random.normal(0, 0.1, bias.shape).astype("f"),
                ]
            )

    return give


@pytest.fixture
def torch_weights(published):
    """A function: networks → their weights as ``published_torch`` takes them, float64."""
    import torch

    def give(*networks):
        return {
            layer.name: tuple(
                torch.tensor(w, dtype=torch.float64, requires_grad=True)
                for w in layer.get_weights()
            )
            for layer in _layers(*networks)
        }

    return give


def hulls(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Ellipses of known pixels, another one in each picture: (count, side, side) uint8."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    masks = []
    for _ in range(count):
        y, x = random.uniform(0.45, 0.55, 2)
        a, b = random.uniform(0.35, 0.45, 2)
        masks.append(((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1)
    return np.stack(masks).astype(np.uint8)


@pytest.fixture
def masks():
    """A function: how many, side → (n, side, side) uint8, ellipses of known pixels."""
    return hulls
