"""Settings of DeepFillv1: those of its authors (``inpaint.yml``, branch v1.0.0) as defaults."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from facehal.config import Experiment, TrainingConfig, setting
from facehal.errors import ConfigError


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the networks."""

    resolution: int = setting(256, low=16, high=1024)  # of the pictures, a multiple of 8
    width: int = setting(32, low=2)  # channels of the generators' first layers, even
    critic_width: int = setting(64, positive=True)  # of the critics'


@dataclass(frozen=True)
class LossConfig:
    """Of the generators: hole · L1 in the hole + known · L1 on the face + adversarial · WGAN."""

    hole: float = setting(1.2)  # L1_LOSS_ALPHA
    known: float = setting(1.2)  # AE_LOSS_ALPHA
    coarse: float = setting(1.2)  # COARSE_L1_ALPHA: the coarse picture's share in both
    discount: float = setting(0.9, positive=True, high=1.0)  # SPATIAL_DISCOUNTING_GAMMA, a pixel
    adversarial: float = setting(0.001, positive=True)  # GAN_LOSS_ALPHA
    gradient_penalty: float = setting(10.0)  # WGAN_GP_LAMBDA, of the critics


@dataclass(frozen=True)
class DeepFillTraining(TrainingConfig):
    """Schedule and optimisation."""

    # A million steps of the generators at most (MAX_ITERS), each behind five of the critics, are
    # 1,564 epochs of 51,142 faces; the authors do not say after how many they stopped.
    epochs: int = setting(1564, positive=True, free=True)
    batch_size: int = setting(16, positive=True)
    mirror: bool = setting(False)
    critic_steps: int = setting(5, positive=True)  # to one of the generators
    rate: float = setting(1e-4, positive=True)  # of all networks
    beta1: float = setting(0.5, high=0.9999999)
    beta2: float = setting(0.9, high=0.9999999)
    decay: float = setting(0.0, high=1.0)  # last share of the schedule over which rates fall to 0
    optimizer: str = setting("auto", choices=("auto", "joined", "adam"))  # of Adam: see
    # facehal.layers.optimizers


@dataclass(frozen=True)
class DeepFillConfig(Experiment):
    """One experiment with DeepFillv1."""

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {"resolution": 256, "width": 32, "critic_width": 64},
        "compact": {"resolution": 128, "width": 16, "critic_width": 16},
    }

    model: str = "deepfillv1"
    training: DeepFillTraining = field(default_factory=DeepFillTraining)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def check(self, source: str) -> None:
        """Sizes that the networks can halve."""
        network = self.network
        if network.resolution % 8:
            raise ConfigError(
                f"{source}: resolution is a multiple of 8, for maps are halved three times, not "
                f"{network.resolution}"
            )
        if network.width % 2:
            raise ConfigError(
                f"{source}: width is even, for the last layer but one has half of it, not "
                f"{network.width}"
            )
