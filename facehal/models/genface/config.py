"""Settings of GenFace: the numbers of its authors' programs as defaults."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from facehal.config import Experiment, TrainingConfig, setting

NO_PARSER = "none"


def _resolution(value: Any) -> int:
    """A power of two: the discriminators halve it down to four pixels, the local one from half."""
    if type(value) is not int or value < 16 or value & (value - 1):
        raise ValueError(f"is a power of two from 16, not {value!r}")
    return value


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the networks."""

    resolution: int = setting(128, check=_resolution)
    base: int = setting(32, positive=True)  # channels of the first level
    features: int = setting(4096, positive=True)  # of the code between encoder and decoder
    discriminator_base: int = setting(32, positive=True)  # the local one's is twice that
    # How a picture meets the face; the authors' test program shows both.
    blending: str = setting("paste", choices=("paste", "poisson"))


@dataclass(frozen=True)
class LossConfig:
    """Weights beside the sum of all absolute differences of a picture, in [-1, 1]."""

    local: float = setting(300.0)  # the discriminator of a square in the hole
    whole: float = setting(300.0)  # the discriminator of the pasted picture
    parsing: float = setting(0.05)  # the parser's cross-entropy, summed over the pixels
    # The authors' Model_parsing.caffemodel (on a cloud drive only), or none: without the term.
    parser: str = setting(NO_PARSER)


@dataclass(frozen=True)
class GenFaceTraining(TrainingConfig):
    """Schedule and optimisation.

    The authors' batch is a picture and its mirror image: ``batch_size: 1`` with ``pairs``.
    """

    # Their solvers stop at 15,000,000 iterations: 92 times CelebA's 162,770 training photos.
    epochs: int = setting(92, positive=True, free=True)  # with discriminators
    # They start from a model of the reconstruction alone; how long it was trained is not said.
    reconstruction_epochs: int = setting(20, positive=True, free=True)
    batch_size: int = setting(1, positive=True)  # faces, before their mirror images
    mirror: bool = setting(False)
    pairs: bool = setting(True)  # every face with its mirror image
    shift: float = setting(0.05, high=0.5)  # of the side, at most, in both directions
    rotation: float = setting(5.0, high=180.0)  # degrees, at most, in both directions
    stretch: bool = setting(True)  # each picture by its own darkest and brightest value
    generator_rate: float = setting(1e-4, positive=True)
    generator_beta1: float = setting(0.9, high=0.9999999)
    discriminator_rate: float = setting(2e-4, positive=True)
    discriminator_beta1: float = setting(0.5, high=0.9999999)
    beta2: float = setting(0.999, high=0.9999999)
    decay: float = setting(0.0, high=1.0)  # last share of a stage over which rates fall to 0


@dataclass(frozen=True)
class GenFaceConfig(Experiment):
    """One experiment with GenFace."""

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "compact": {"base": 16, "features": 192, "discriminator_base": 8},
    }

    model: str = "genface"
    training: GenFaceTraining = field(default_factory=GenFaceTraining)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
