"""Settings of a recognition network: the paper's ResNet-50-256D and its recipe as defaults
(section 4.4)."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from facehal.config import Experiment, TrainingConfig, setting
from facehal.errors import ConfigError


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network and of the head that tells people apart in training."""

    kind: str = setting("resnet50", choices=("resnet50", "slim"))
    side: int = setting(128, low=16)  # of the faces; `resnet50` enlarges them to 224 itself
    width: int = setting(64, low=2)  # channels behind the first convolution
    blocks: int = setting(1, low=1)  # of `slim`: residual blocks in each of its three stages
    features: int = setting(256, low=2)  # length of the descriptor
    head: str = setting("softmax", choices=("softmax", "arcface"))
    scale: float = setting(64.0, positive=True)  # of `arcface`
    # The weights of VGGFace2's ResNet-50-256D, or random ones.
    start: str = setting("published", choices=("published", "random"))


@dataclass(frozen=True)
class RecognitionTraining(TrainingConfig):
    """Schedule, optimisation, and who is trained on."""

    epochs: int = setting(50, positive=True, free=True)  # at most, where there is patience
    epoch_steps: int = setting(0)  # that count as an epoch; 0: a pass over the photos
    # Ends after so many epochs without a lower loss of the held-out photos; 0: at the last epoch.
    patience: int = setting(1)
    batch_size: int = setting(16, low=2)  # of real and hallucinated pictures together
    augmentation: float = setting(0.0, high=1.0)
    preview_faces: int = setting(0, high=0)  # it makes no pictures
    rate: float = setting(1.0e-3, positive=True)
    # Of the rate: gamma at every so many steps; or over the whole schedule, to 0.
    decay: str = setting("steps", choices=("none", "steps", "polynomial", "cosine"))
    gamma: float = setting(0.96, high=1.0)
    decay_steps: int = setting(32_000, positive=True)
    power: float = setting(1.0, positive=True)  # of `polynomial`
    warmup: int = setting(0)  # steps over which the rate of `cosine` grows
    momentum: float = setting(0.009, high=0.9999999)
    weight_decay: float = setting(0.0)  # L2, of the kernels
    margin: float = setting(0.5, high=1.5)  # of `arcface`, in radians
    margin_steps: int = setting(0)  # over which it grows from 0
    min_photos: int = setting(1, low=1)  # people with fewer are left out
    held_out: float = setting(0.1, high=0.9)  # share of the photos to validate on


@dataclass(frozen=True)
class RecognitionConfig(Experiment):
    """One experiment with a recognition network."""

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "compact": {
            "kind": "slim",
            "side": 64,
            "width": 32,
            "head": "arcface",
            "scale": 32.0,
            "start": "random",
        },
    }

    model: str = "recognition"
    training: RecognitionTraining = field(default_factory=RecognitionTraining)
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def check(self, source: str) -> None:
        """ConfigError for what no single value can tell."""
        network, training = self.network, self.training
        if network.start == "published" and (network.kind, network.width) != ("resnet50", 64):
            raise ConfigError(
                f"{source}: published weights fit kind resnet50 of width 64; set start: random"
            )
        if network.kind == "slim" and network.side % 16:
            raise ConfigError(f"{source}: side of the slim network is a multiple of 16")
        if training.patience and not training.held_out:
            raise ConfigError(
                f"{source}: patience watches the held-out photos, and held_out is 0; set one of "
                "them otherwise"
            )
        if training.warmup and training.decay != "cosine":
            raise ConfigError(f"{source}: warmup belongs to decay: cosine")
