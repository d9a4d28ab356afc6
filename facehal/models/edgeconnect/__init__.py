"""EdgeConnect (Nazeri et al. 2019): edges first, then colours by them."""

from facehal.models.base import Family, Published
from facehal.models.edgeconnect.config import EdgeConnectConfig
from facehal.models.edgeconnect.model import EdgeConnect
from facehal.models.edgeconnect.published import convert
from facehal.models.edgeconnect.task import EdgeConnectTask

FAMILIES = (
    Family(
        "edgeconnect",
        EdgeConnectConfig,
        EdgeConnectTask,
        Published(("EdgeModel_gen.pth", "InpaintingModel_gen.pth"), convert, any_size=True),
    ),
)

__all__ = ["FAMILIES", "EdgeConnect", "EdgeConnectConfig", "convert"]
