"""Settings of the cascade and of ProGAN: the paper's numbers as defaults."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from facehal.config import Experiment, TrainingConfig, setting
from facehal.errors import ConfigError

FIRST = 8  # the smallest block
LATTICE_FROM = 32  # the lattice term looks at regions of 32 pixels
LARGEST = 1024  # a block beyond it would be a slip of the pen
SHARED = 4  # the smallest batch that has a part for every kind of latent vector


def _resolutions(value: Any) -> tuple[int, ...]:
    """8, 16, 32 … as far as the list goes; the paper's ends at 128."""
    steps = list(value) if isinstance(value, list | tuple) else []
    wanted = [FIRST << index for index in range(len(steps))]
    if not steps or steps != wanted or wanted[-1] > LARGEST:
        raise ValueError(
            f"is a list that starts at {FIRST} and doubles, up to {LARGEST}, not {value!r}"
        )
    return tuple(wanted)


def _widths(value: Any) -> tuple[tuple[int, int], ...]:
    """Pairs of base and cap, one a block."""
    given = [] if value is None else value if isinstance(value, list | tuple) else [value]
    pairs = [tuple(pair) if isinstance(pair, list | tuple) else () for pair in given]
    if any(len(pair) != 2 or any(type(n) is not int or n < 1 for n in pair) for pair in pairs):
        raise ValueError(f"is a list of [base, cap], one for each block, not {value!r}")
    return tuple((pair[0], pair[1]) for pair in pairs)


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the networks (section 3.1; sizes in docs/fidelity.md)."""

    base: int = setting(64, positive=True)  # generator channels at 128×128
    cap: int = setting(512, positive=True)  # most generator channels
    discriminator_width: float = setting(1.0, positive=True)  # factor on CASIA-Net's channels
    # Base and cap of every block, where they are not the same for all.
    widths: tuple[tuple[int, int], ...] = setting((), check=_widths)
    normalization: str = setting("batch", choices=("batch", "none"))  # of the generator
    discriminator_normalization: str = setting("batch", choices=("batch", "none"))
    strides: str = setting("pooled", choices=("pooled", "none"))  # of the discriminator
    resolutions: tuple[int, ...] = setting((8, 16, 32, 64, 128), check=_resolutions)
    end_to_end: bool = setting(False)  # let gradients cross from a block into the previous one
    latent: int = setting(0)  # length of the random vector that gives variants; 0 is none
    start: str = setting("")  # a trained cascade (name or file) whose blocks stay as they are

    def width_of(self, index: int) -> tuple[int, int]:
        """Base and cap of the block of this index."""
        return self.widths[index] if self.widths else (self.base, self.cap)


@dataclass(frozen=True)
class LossConfig:
    """Equation 6: L = Lpixel + λ1 Lpc + λ2 Ladv + λ3 Lid + λ4 Ltv (values of section 4)."""

    pixel: str = setting("l1", choices=("l1", "l2"))
    perceptual: float = setting(1.0)  # λ1
    adversarial: float = setting(0.1)  # λ2
    identity: float = setting(10.0)  # λ3
    total_variation: float = setting(1e-6)  # λ4
    identity_network: str = setting("vgg_face", choices=("vgg_face", "dlib_resnet"))
    lpips_version: str = setting("0.0", choices=("0.0", "0.1"))  # 0.0 is the paper's
    perceptual_from: int = setting(32, low=32)  # smallest resolution with it; LPIPS needs 31 pixels
    identity_from: int = setting(8)  # smallest resolution with the identity term
    adversarial_from: int = setting(8)  # smallest resolution with the adversarial term
    translation: int = setting(0, high=8)  # pixels by which LPIPS and discriminators see it moved
    label_smoothing: float = setting(0.9, high=1.0)  # target of real pictures for the discriminator
    gradient_penalty: float = setting(0.0)  # R1 of the discriminators, γ of Mescheder et al. 2018
    lattice: float = setting(0.0)  # of what stands on the grid of pixels whatever the face; from 32
    divergence: float = setting(0.005)  # of the encoder's latent vectors from the normal one, a nat

    def perceptual_at(self, resolution: int) -> bool:
        """Whether blocks of this resolution have the perceptual term."""
        return bool(self.perceptual) and resolution >= self.perceptual_from

    def identity_at(self, resolution: int) -> bool:
        """Whether blocks of this resolution have the identity term."""
        return bool(self.identity) and resolution >= self.identity_from

    def lattice_at(self, resolution: int) -> bool:
        """Whether blocks of this resolution have the lattice term."""
        return bool(self.lattice) and resolution >= LATTICE_FROM

    def adversarial_at(self, resolution: int) -> bool:
        """Whether blocks of this resolution need a discriminator."""
        return bool(self.adversarial) and resolution >= self.adversarial_from


@dataclass(frozen=True)
class CascadeTraining(TrainingConfig):
    """Schedule and optimisation (section 4, "Training Details")."""

    # Of ProGAN, in place of epochs (section 4.3).
    epochs_per_stage: int = setting(50, positive=True, free=True)
    # Strength of colour, small shifts, blur; the paper mirrors only.
    augmentation: float = setting(0.0, high=1.0)
    generator_rate: float = setting(1e-4, positive=True)
    discriminator_rate: float = setting(2e-4, positive=True)
    beta1: float = setting(0.5, high=0.9999999)
    beta2: float = setting(0.999, high=0.9999999)
    decay: float = setting(0.0, high=1.0)  # last share of the schedule over which rates fall to 0
    optimizer: str = setting("auto", choices=("auto", "joined", "adam"))  # of Adam: see
    # facehal.layers.optimizers


@dataclass(frozen=True)
class CascadeConfig(Experiment):
    """One experiment with the cascade or with ProGAN."""

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"base": 64, "cap": 512, "discriminator_width": 1.0},
        "standard": {"base": 12, "cap": 96, "discriminator_width": 0.375},
        "compact": {"base": 8, "cap": 64, "discriminator_width": 0.25},
        "tiny": {"base": 2, "cap": 16, "discriminator_width": 0.125, "resolutions": [8, 16, 32]},
    }

    size: str = "paper"
    model: str = "cascaded"  # cascaded | progan (section 3.1)
    training: CascadeTraining = field(default_factory=CascadeTraining)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def check(self, source: str) -> None:
        """What ProGAN, with one block at a time, cannot have; settings that need one another."""
        network = self.network
        if self.model == "progan":
            for name in ("end_to_end", "widths", "latent", "start"):
                if getattr(network, name):
                    raise ConfigError(
                        f"{source}: {name} is for the blocks of a cascade; progan has one at a time"
                    )
        if network.widths and len(network.widths) != len(network.resolutions):
            raise ConfigError(
                f"{source}: widths has {len(network.widths)} pairs for "
                f"{len(network.resolutions)} blocks"
            )
        if self.loss.gradient_penalty and network.discriminator_normalization != "none":
            raise ConfigError(
                f"{source}: gradient_penalty needs discriminator_normalization: none: in a batch "
                "that is normalised together no picture has a gradient of its own"
            )
        if network.latent and self.training.batch_size < SHARED:
            raise ConfigError(
                f"{source}: latent needs a batch_size of {SHARED} or more, "
                f"not {self.training.batch_size}"
            )
        if network.start and network.end_to_end:
            raise ConfigError(f"{source}: end_to_end would train the blocks of start, which stay")
