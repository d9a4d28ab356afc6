"""GenFace (Li et al., "Generative Face Completion", CVPR 2017): a row of the paper's Table 1."""

from facehal.models.base import Family, Published
from facehal.models.genface.config import GenFaceConfig
from facehal.models.genface.model import BLENDINGS, GenFace
from facehal.models.genface.published import convert
from facehal.models.genface.task import GenFaceTask

FAMILIES = (
    Family(
        "genface",
        GenFaceConfig,
        GenFaceTask,
        Published(("Model_G.caffemodel",), convert, choices={"blending": BLENDINGS}),
    ),
)

__all__ = ["FAMILIES", "GenFace", "GenFaceConfig", "convert"]
