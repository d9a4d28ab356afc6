"""The authors' trained generators made a model of this package."""

from pathlib import Path

from facehal.errors import FacehalError
from facehal.features import set_arrays
from facehal.models.deepfillv1.model import DeepFill
from facehal.weights.converters import deepfillv1 as published


def convert(file: str | Path, resolution: int = 256) -> DeepFill:
    """The model of a published checkpoint, or of any that the authors' program wrote.

    Args:
        file: the folder of a checkpoint, its prefix (``snap-0``) or one of its files.
        resolution: of the model; the networks are convolutional and fit any, 256 is what they were
            trained at.

    Raises:
        WeightsError: there is no checkpoint, it cannot be read, or it is not one of DeepFillv1.
        FacehalError: TensorFlow, which reads it, is not installed; maps of such a size cannot be
            halved.
    """
    if resolution < 16 or resolution % 8:
        raise FacehalError(f"deepfillv1: resolution is a multiple of 8 from 16, not {resolution}")
    arrays = published.convert(Path(file))
    model = DeepFill(resolution, arrays["conv1.bias"].size, name="deepfillv1")
    for network in (model.coarse, model.refinement):
        set_arrays(network, arrays)
    return model
