"""DeepFillv1 (Yu et al., "Generative Image Inpainting with Contextual Attention", CVPR 2018)."""

from facehal.models.base import Family, Published
from facehal.models.deepfillv1.config import DeepFillConfig
from facehal.models.deepfillv1.model import DeepFill
from facehal.models.deepfillv1.published import convert
from facehal.models.deepfillv1.task import DeepFillTask

FAMILIES = (
    Family(
        "deepfillv1",
        DeepFillConfig,
        DeepFillTask,
        Published(("CHECKPOINT",), convert, any_size=True),
    ),
)

__all__ = ["FAMILIES", "DeepFill", "DeepFillConfig", "convert"]
