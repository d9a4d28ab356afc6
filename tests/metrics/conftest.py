"""Fixtures of the metrics."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from facehal.weights import store


@pytest.fixture(scope="module")
def faces(astronaut: np.ndarray) -> np.ndarray:
    """Eleven crops around one portrait, (11, 64, 64, 3) in [0, 1]."""
    crops = [astronaut[y : y + 160, 140 + 5 * y : 300 + 5 * y] for y in range(0, 22, 2)]
    small = [cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA) for crop in crops]
    return np.stack(small).astype(np.float32) / 255


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """Install random weights of a network's shapes in a folder of our own, as a user imports."""
    folder = tmp_path_factory.mktemp("weights")

    def installed(name: str, shapes: Mapping[str, tuple[int, ...]], dense: bool = False) -> Path:
        """`dense`: 2-D kernels are positive."""
        random = np.random.default_rng(0)
        arrays = {}
        for key, shape in shapes.items():
            array = random.standard_normal(shape, np.float32)
            array *= np.float32(np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.01)
            arrays[key] = np.abs(array, out=array) if dense and len(shape) < 3 else array
            if key.endswith((".gamma", ".variance")):  # of a normalisation
                arrays[key] = np.ones(shape, np.float32)
        np.savez(folder / "random.npz", **arrays)
        return store.import_file(name, folder / "random.npz")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEHAL_WEIGHTS", str(folder))
        yield installed
