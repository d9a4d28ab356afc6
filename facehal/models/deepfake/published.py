"""A model that was trained with faceswap made a model of this package.

The program comes without trained networks: everybody trains on two people of their own. Its folder
of the kind "original" holds ``encoder.h5``, ``decoder_A.h5`` and ``decoder_B.h5``.
"""

from pathlib import Path

import numpy as np

from facehal.features import set_arrays
from facehal.models.deepfake.model import Deepfake
from facehal.weights.converters import deepfake as published


def convert(
    folder: str | Path,
    pictures: np.ndarray | None = None,
    crop: int = 64,
    width: int = 128,
    dense: int = 1024,
) -> Deepfake:
    """A faceswap model; A becomes the target, B the source.

    Args:
        folder: of the three files.
        pictures: (n, S, S, 3) of the target, aligned, uint8 or in [0, 1], to lay faces on. Without
            them the model can swap faces of photos; its own pictures are black around the face.
        crop, width, dense: of the networks (smaller ones in tests).

    Raises:
        WeightsError: a file is missing, damaged or of another network.
    """
    arrays = published.convert(Path(folder), published.network_shapes(crop, width, dense))
    count = 1 if pictures is None else len(pictures)
    model = Deepfake(crop, width, dense, targets=count, name="deepfake")
    set_arrays(model.encoder, arrays["encoder"])
    for role in ("source", "target"):
        set_arrays(model.decoder(role), arrays[role])
    if pictures is not None:
        model.set_targets(pictures)
    return model
