"""Settings of EdgeConnect: the authors' numbers as defaults (``config.yml.example``)."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from facehal.config import Experiment, TrainingConfig, setting
from facehal.errors import ConfigError
from facehal.features.alexnet import SMALLEST

MULTIPLE = 8  # of the sides: the discriminators halve three times


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the networks."""

    resolution: int = setting(256, low=16, high=1024)
    width: int = setting(64, positive=True)  # generator channels at full size
    blocks: int = setting(8)  # residual blocks of each generator
    discriminator_width: int = setting(64, positive=True)  # channels of their first layer
    sigma: float = setting(2.0, low=0.3, high=8.0)  # of Canny's blur, in pixels
    # Test as it was trained: Canny's edges where the face is. The authors' test program gives the
    # picture generator the edge generator's there, too.
    merged: bool = setting(False)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms; of G1 the adversarial one is 1.

    ``content`` and ``style`` are for VGG-19; other features have another scale.
    """

    matching: float = setting(10.0)  # G1: layers of D1, real against generated
    pixel: float = setting(1.0)  # G2: L1 over the whole picture, by the hole's share of it
    content: float = setting(0.1)  # G2: features of the picture
    style: float = setting(250.0)  # G2: Gram matrices of the features of the hole
    adversarial: float = setting(0.1)  # G2
    features: str = setting("vgg19", choices=("vgg19", "alexnet"))  # alexnet: LPIPS's trunk
    translation: int = setting(0, high=8)  # pixels by which the features see pictures moved


@dataclass(frozen=True)
class EdgeConnectTraining(TrainingConfig):
    """Schedule and optimisation.

    Three stages one after the other: the edge generator, the picture generator on true edges, the
    picture generator on generated ones. The authors give 2 million iterations at most and some 40
    epochs for CelebA.
    """

    edge_epochs: int = setting(40, positive=True, free=True)
    picture_epochs: int = setting(40, free=True)  # on true edges; 0 leaves this stage out
    epochs: int = setting(40, positive=True, free=True)  # of the last stage
    epoch_steps: int = setting(0)  # that count as an epoch; 0: a pass over the faces
    batch_size: int = setting(8, positive=True)
    generator_rate: float = setting(1e-4, positive=True)
    discriminator_rate: float = setting(1e-5, positive=True)
    beta1: float = setting(0.0, high=0.9999999)
    beta2: float = setting(0.9, high=0.9999999)
    decay: float = setting(0.0, high=1.0)  # last share of each stage over which rates fall to 0
    optimizer: str = setting("auto", choices=("auto", "joined", "adam"))  # of Adam: see
    # facehal.layers.optimizers


@dataclass(frozen=True)
class EdgeConnectConfig(Experiment):
    """One experiment with EdgeConnect."""

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        # A blur of 1 pixel at 128 is one of 2 at 256.
        "compact": {"resolution": 128, "width": 24, "discriminator_width": 16, "sigma": 1.0},
    }

    model: str = "edgeconnect"
    training: EdgeConnectTraining = field(default_factory=EdgeConnectTraining)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def check(self, source: str) -> None:
        """Sides that the networks can halve."""
        side = self.network.resolution
        if side % MULTIPLE:
            raise ConfigError(f"{source}: resolution is a multiple of {MULTIPLE}, not {side}")
        compared = self.loss.content or self.loss.style
        if self.loss.features == "alexnet" and compared and side < SMALLEST:
            raise ConfigError(f"{source}: features alexnet need {SMALLEST} pixels or more")
