"""A trained face swap as small as it can be."""

import keras
import numpy as np
import pytest

from facehal.data.faceset import FaceSet
from facehal.models import from_dict
from facehal.models.deepfake import Deepfake

TINY = {"crop": 16, "width": 4, "dense": 12, "targets": 3}


@pytest.fixture(scope="session")
def people(sample_data) -> dict[str, FaceSet]:
    """Two people's faces by role."""
    faces = FaceSet.open(sample_data)
    names = {"source": "Eileen_Collins", "target": "Grace_Hopper"}
    return {role: faces.of_subject(name) for role, name in names.items()}


@pytest.fixture
def configuration():
    """Of the smallest networks; names of the training section."""

    def make(**training):
        return from_dict({"model": "deepfake", "network": TINY, "training": training})

    return make


@pytest.fixture
def model() -> Deepfake:
    """Random weights, large enough to draw something, and three different pictures of a target."""
    keras.utils.set_random_seed(1)
    made = Deepfake(**TINY)
    for weight in made.trainable_variables:
        weight.assign(2 * weight)
    made.set_targets(smooth(3, 32, seed=5))
    return made


def smooth(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Pictures of broad waves, (count, side, side, 3) float32 in [0, 1]."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    waves = random.uniform(-3, 3, (2, count, 1, 1, 3))
    phases = random.uniform(0, 6, (count, 1, 1, 3))
    angle = 2 * (waves[0] * rows[..., None] + waves[1] * columns[..., None])
    return (0.5 + 0.4 * np.sin(angle + phases)).astype(np.float32)


@pytest.fixture(name="smooth")
def smooth_pictures():
    return smooth
