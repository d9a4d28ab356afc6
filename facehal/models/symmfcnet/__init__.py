"""SymmFCNet: the mirror image of a face warped and relit, and a reconstruction network."""

from facehal.models.base import Family
from facehal.models.symmfcnet.config import SymmFCNetConfig
from facehal.models.symmfcnet.model import SymmFCNet
from facehal.models.symmfcnet.task import SymmFCNetTask

FAMILIES = (Family("symmfcnet", SymmFCNetConfig, SymmFCNetTask),)

__all__ = ["FAMILIES", "SymmFCNet", "SymmFCNetConfig"]
