"""Settings of SymmFCNet. Of the authors' own numbers none is public: see each section."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from facehal.config import Experiment, TrainingConfig, setting

SMALLEST, LARGEST = 16, 1024


def _power_of_two(value: Any) -> int:
    """A side that the networks can halve down to one pixel."""
    if type(value) is not int or value & (value - 1) or not SMALLEST <= value <= LARGEST:
        raise ValueError(f"is a power of two from {SMALLEST} to {LARGEST}, not {value!r}")
    return value


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the networks. Base: channels after the first halving; cap: most channels anywhere.

    FlowNet's are those of the WarpNet in the same author's GFRNet; LightNet's and RecNet's are
    pix2pix's U-Net; the discriminator's DeepFillv1's global one. SymmFCNet's own are unknown.
    """

    resolution: int = setting(256, check=_power_of_two)  # side of the pictures in pixels
    flow_base: int = setting(64, positive=True)
    flow_cap: int = setting(1024, positive=True)
    # What FlowNet says of a pixel, and what is to be smooth: where to read in the mirror image, as
    # in GFRNet, or how far from the pixel's own place. Outside of the face, where no landmark says
    # more, the first becomes one point of the face, and the second the pixel's own mirror image.
    flow: str = setting("absolute", choices=("absolute", "displacement"))
    light_base: int = setting(64, positive=True)
    light_cap: int = setting(512, positive=True)
    reconstruction_base: int = setting(64, positive=True)
    reconstruction_cap: int = setting(512, positive=True)
    # Of LightNet and RecNet; FlowNet always has batch normalisation.
    normalization: str = setting("batch", choices=("batch", "none"))
    discriminator_base: int = setting(64, positive=True)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms. Landmark and smoothness are the GFRNet's; all others are ours.

    A term of weight zero is left out, and so are the networks that it needs. Two cannot be: what
    trains LightNet in stage I, and RecNet's picture in stage II.
    """

    landmark: float = setting(10.0)  # squared error of the flow at the 68 landmarks
    smoothness: float = setting(1.0)  # total variation of the flow
    illumination: float = setting(1.0, positive=True)  # L1 of the relit mirror image
    reconstruction: float = setting(10.0, positive=True)  # L1 of RecNet's whole picture
    perceptual: float = setting(1.0)  # LPIPS; the paper is said to have VGG-Face in its place
    lpips_version: str = setting("0.0", choices=("0.0", "0.1"))
    symmetry: float = setting(1.0)  # squared difference of RecNet's features at mirrored places
    adversarial: float = setting(0.1)  # LSGAN


@dataclass(frozen=True)
class SymmFCNetTraining(TrainingConfig):
    """Schedule and optimisation: three stages, one after the other.

    ``epochs`` is the second one's. Rate, betas, decay and batch size of the first are GFRNet's;
    the lengths of the stages and the other rates are ours.
    """

    batch_size: int = setting(16, positive=True)
    warping_epochs: int = setting(20, positive=True, free=True)  # stage I
    joint_epochs: int = setting(20, positive=True, free=True)  # end to end
    warping_rate: float = setting(2e-3, positive=True)  # FlowNet and LightNet in stage I
    generator_rate: float = setting(2e-4, positive=True)  # RecNet; in the last stage all three
    discriminator_rate: float = setting(2e-4, positive=True)
    beta1: float = setting(0.5, high=0.9999999)
    beta2: float = setting(0.999, high=0.9999999)
    decay: float = setting(0.5, high=1.0)  # last share of each stage over which rates fall to 0
    optimizer: str = setting("auto", choices=("auto", "joined", "adam"))  # of Adam: see
    # facehal.layers.optimizers


@dataclass(frozen=True)
class SymmFCNetConfig(Experiment):
    """One experiment with SymmFCNet."""

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "compact": {
            "resolution": 128,
            "flow_base": 16,
            "flow_cap": 128,
            "light_base": 8,
            "light_cap": 64,
            "reconstruction_base": 16,
            "reconstruction_cap": 128,
            "discriminator_base": 16,
        },
    }

    model: str = "symmfcnet"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: SymmFCNetTraining = field(default_factory=SymmFCNetTraining)
