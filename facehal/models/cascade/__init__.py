"""The paper's model: the cascade of GAN blocks, and its progressively growing version."""

from facehal.models.base import Family
from facehal.models.cascade.cascade import Cascade
from facehal.models.cascade.config import CascadeConfig
from facehal.models.cascade.progan import ProGAN
from facehal.models.cascade.task import CascadeTask, ProGANTask

FAMILIES = (
    Family("cascaded", CascadeConfig, CascadeTask),
    Family("progan", CascadeConfig, ProGANTask),
)

__all__ = ["FAMILIES", "Cascade", "CascadeConfig", "ProGAN"]
