"""The trained networks: generators (one per resolution), discriminators, and their layers."""

from facehal.networks.discriminator import Discriminator
from facehal.networks.generator import Generator, channels_at
from facehal.networks.layers import ICNR, PixelShuffle, ResidualBlock, Upscaler

__all__ = [
    "ICNR",
    "Discriminator",
    "Generator",
    "PixelShuffle",
    "ResidualBlock",
    "Upscaler",
    "channels_at",
]
