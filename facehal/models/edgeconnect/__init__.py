"""EdgeConnect (Nazeri et al. 2019): edges first, then colours by them."""

from facehal.models.base import Family
from facehal.models.edgeconnect.config import EdgeConnectConfig
from facehal.models.edgeconnect.model import EdgeConnect
from facehal.models.edgeconnect.task import EdgeConnectTask

FAMILIES = (Family("edgeconnect", EdgeConnectConfig, EdgeConnectTask),)

__all__ = ["FAMILIES", "EdgeConnect", "EdgeConnectConfig"]
