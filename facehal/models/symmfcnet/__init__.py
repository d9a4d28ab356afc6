"""SymmFCNet: the mirror image of a face warped and relit, and a reconstruction network."""

from facehal.models.base import Family, Published
from facehal.models.symmfcnet.config import SymmFCNetConfig
from facehal.models.symmfcnet.model import SymmFCNet
from facehal.models.symmfcnet.published import FILES, convert
from facehal.models.symmfcnet.task import SymmFCNetTask

FAMILIES = (Family("symmfcnet", SymmFCNetConfig, SymmFCNetTask, Published(FILES, convert)),)

__all__ = ["FAMILIES", "SymmFCNet", "SymmFCNetConfig", "convert"]
