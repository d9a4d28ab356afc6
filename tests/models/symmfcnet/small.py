"""The smallest SymmFCNet and faces for it, shared by the tests."""

import keras
import numpy as np

from facehal.layers.landmarks import PARTNERS
from facehal.models import from_dict, task_of
from facehal.models.symmfcnet import SymmFCNet

SIDE = 16
NETWORK = {
    "resolution": SIDE,
    "flow_base": 4,
    "flow_cap": 8,
    "light_base": 3,
    "light_cap": 6,
    "reconstruction_base": 4,
    "reconstruction_cap": 8,
    "discriminator_base": 4,
}


def configuration(network=None, loss=None, **training):
    """Without LPIPS, which needs larger pictures."""
    values = {
        "model": "symmfcnet",
        "network": {**NETWORK, **(network or {})},
        "loss": {"perceptual": 0, **(loss or {})},
        "training": {"batch_size": 4, "decay": 0, **training},
    }
    return from_dict(values)


def model(**options) -> SymmFCNet:
    keras.utils.set_random_seed(0)
    sizes = {name: value for name, value in NETWORK.items() if "discriminator" not in name}
    return SymmFCNet(**{**sizes, **options}, name="symmfcnet")


def raw_batch(count: int = 4) -> dict[str, np.ndarray]:
    """As the pipeline gives it: faces that are smooth, of an oval known part, with landmarks."""
    random = np.random.default_rng(0)
    coarse = random.integers(40, 200, (count, 4, 4, 3))
    faces = coarse.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2).astype(np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    middles = random.uniform(6, 9, count)
    masks = np.stack([(rows - 8) ** 2 / 30 + (columns - x) ** 2 / 18 < 1 for x in middles])
    points = random.uniform(4, 11, (count, 68, 2))
    points[:, :, 0] = np.where(np.arange(68) <= PARTNERS, points[:, :, 0], points[:, PARTNERS, 0])
    return {
        "faces": faces,
        "masks": masks.astype(np.uint8),
        "landmarks": points.astype(np.float32),
    }


def batches(config, count: int) -> list[dict[str, np.ndarray]]:
    """The same faces in other noise at every step."""
    task = task_of(config)
    return [task.prepare(raw_batch(), step) for step in range(count)]
