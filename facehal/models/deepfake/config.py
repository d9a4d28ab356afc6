"""Settings of the face swap: faceswap's "original" model as defaults (docs/fidelity.md)."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from facehal.config import Experiment, TrainingConfig, setting


def _crop(value: Any) -> int:
    """A side that four halvings divide."""
    if type(value) is not int or value < 16 or value % 16:
        raise ValueError(f"is a multiple of 16, not {value!r}")
    return value


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the networks, and what a picture is made of."""

    crop: int = setting(64, check=_crop)  # side of the tight crops; faces have twice as many pixels
    width: int = setting(128, low=2)  # channels behind the first convolution
    dense: int = setting(1024, positive=True)  # values between encoder and decoders
    targets: int = setting(16, positive=True)  # of the target's pictures to lay faces on, kept
    identity: str = setting("source", choices=("source", "target"))  # whose face it makes
    paste: bool = setting(False)  # put the pixels of the masked face back over the made one


@dataclass(frozen=True)
class DeepfakeTraining(TrainingConfig):
    """Schedule, optimisation and what is done to the crops."""

    epochs: int = setting(20, positive=True, free=True)
    epoch_steps: int = setting(500, positive=True)  # 20 × 500 are the 10,000 of section 4.2
    batch_size: int = setting(64, positive=True)  # of each person
    mirror: bool = setting(False)  # of the pipeline's, for every second face; here it is:
    flip: float = setting(0.4, high=1.0)  # share of the crops that are mirrored
    rotation: float = setting(10.0, high=180.0)  # degrees, at most, either way
    zoom: float = setting(0.05, high=0.5)  # at most, either way
    shift: float = setting(0.05, high=0.5)  # likewise, of the padded crop's side
    warp: float = setting(5.0)  # standard deviation of the grid's points in 1/256 of that side
    rate: float = setting(5e-5, positive=True)
    beta1: float = setting(0.5, high=0.9999999)
    beta2: float = setting(0.999, high=0.9999999)
    optimizer: str = setting("auto", choices=("auto", "joined", "adam"))  # of Adam: see
    # facehal.layers.optimizers


@dataclass(frozen=True)
class DeepfakeConfig(Experiment):
    """One experiment with the face swap."""

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "compact": {"width": 32, "dense": 192},
    }

    model: str = "deepfake"
    training: DeepfakeTraining = field(default_factory=DeepfakeTraining)
    network: NetworkConfig = field(default_factory=NetworkConfig)
