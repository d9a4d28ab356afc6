"""DeepFake, the "original" model of the program faceswap: one encoder, a decoder for each of two
people (section 4.2)."""

from facehal.models.base import Family, Published
from facehal.models.deepfake.config import DeepfakeConfig
from facehal.models.deepfake.model import Deepfake
from facehal.models.deepfake.published import convert
from facehal.models.deepfake.task import DeepfakeTask

FAMILIES = (Family("deepfake", DeepfakeConfig, DeepfakeTask, Published(("FOLDER",), convert)),)

__all__ = ["FAMILIES", "Deepfake", "DeepfakeConfig", "convert"]
