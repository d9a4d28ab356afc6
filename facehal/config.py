"""The numbers of an experiment: the paper's as defaults, and YAML files that say what differs.

A file is a mapping of the sections below; ``extends: other.yaml`` names the file it starts from,
``size: compact`` one of the named sizes, ``model: progan`` the growing network in place of the
cascade. Unknown names are errors.
"""

import contextlib
import dataclasses
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from facehal.errors import ConfigError


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the networks (section 3.1; sizes in docs/fidelity.md)."""

    base: int = 64  # generator channels at 128×128
    cap: int = 512  # most generator channels
    discriminator_width: float = 1.0  # factor on CASIA-Net's channels
    normalization: str = "batch"  # of the generator: batch | none
    strides: str = "pooled"  # of the discriminator: pooled | none
    resolutions: tuple[int, ...] = (8, 16, 32, 64, 128)
    end_to_end: bool = False  # let gradients cross from a block into the previous one


SIZES: dict[str, dict[str, Any]] = {
    "paper": {"base": 64, "cap": 512, "discriminator_width": 1.0},
    "standard": {"base": 12, "cap": 96, "discriminator_width": 0.375},
    "compact": {"base": 8, "cap": 64, "discriminator_width": 0.25},
    "tiny": {"base": 2, "cap": 16, "discriminator_width": 0.125, "resolutions": (8, 16, 32)},
}


@dataclass(frozen=True)
class LossConfig:
    """Equation 6: L = Lpixel + λ1 Lpc + λ2 Ladv + λ3 Lid + λ4 Ltv (values of section 4)."""

    pixel: str = "l1"  # l1 | l2
    perceptual: float = 1.0  # λ1
    adversarial: float = 0.1  # λ2
    identity: float = 10.0  # λ3
    total_variation: float = 1e-6  # λ4
    identity_network: str = "vgg_face"  # vgg_face (the paper's) | dlib_resnet
    lpips_version: str = "0.0"  # 0.0 (the paper's) | 0.1
    perceptual_from: int = 32  # smallest resolution with the perceptual term
    identity_from: int = 8  # smallest resolution with the identity term
    adversarial_from: int = 8  # smallest resolution with the adversarial term
    translation: int = (
        0  # pixels by which LPIPS and the discriminators see pictures moved; 0 is off
    )
    label_smoothing: float = 0.9  # target of real pictures for the discriminator

    def perceptual_at(self, resolution: int) -> bool:
        """Whether blocks of this resolution have the perceptual term."""
        return bool(self.perceptual) and resolution >= self.perceptual_from

    def identity_at(self, resolution: int) -> bool:
        """Whether blocks of this resolution have the identity term."""
        return bool(self.identity) and resolution >= self.identity_from

    def adversarial_at(self, resolution: int) -> bool:
        """Whether blocks of this resolution need a discriminator."""
        return bool(self.adversarial) and resolution >= self.adversarial_from


@dataclass(frozen=True)
class TrainingConfig:
    """Schedule and optimisation (section 4, "Training Details")."""

    epochs: int = 50
    epochs_per_stage: int = 50  # of ProGAN, in place of epochs (section 4.3)
    batch_size: int = 10
    generator_rate: float = 1e-4
    discriminator_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    decay: float = 0.0  # last share of the schedule over which the rates fall to zero; 0 is off
    mirror: bool = True
    seed: int = 0
    precision: str = "float32"  # float32 | bfloat16 (trained networks only)
    moving_average: float = 0.0  # momentum of the generators' moving average; 0 is off
    checkpoint_steps: int = 500  # a checkpoint at least this often, and at every epoch's end
    preview_faces: int = 8
    collapse_bound: float = 0.02  # warn when a discriminator's loss stays under this; 0 is off
    collapse_epochs: int = 3  # for so many epochs in a row
    collapse_steps: int = 500  # that make up at least so many steps


@dataclass(frozen=True)
class Config:
    """One experiment."""

    size: str = "paper"
    model: str = "cascaded"  # cascaded | progan (section 3.1)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, complete, in the form that :func:`from_dict` reads."""
        plain = asdict(self)
        plain["network"]["resolutions"] = list(plain["network"]["resolutions"])
        return plain


MODELS = ("cascaded", "progan")

_CHOICES = {
    "normalization": ("batch", "none"),
    "strides": ("pooled", "none"),
    "pixel": ("l1", "l2"),
    "identity_network": ("vgg_face", "dlib_resnet"),
    "lpips_version": ("0.0", "0.1"),
    "precision": ("float32", "bfloat16"),
}
_POSITIVE = (
    *("base", "cap", "discriminator_width", "epochs", "epochs_per_stage", "batch_size"),
    *("checkpoint_steps", "generator_rate", "discriminator_rate", "collapse_epochs"),
)
# Inclusive limits beyond "not negative".
_LIMITS = {
    "perceptual_from": (32, math.inf),  # LPIPS needs 31 pixels
    "translation": (0, 8),
    "label_smoothing": (0.0, 1.0),
    "beta1": (0.0, 0.9999999),
    "beta2": (0.0, 0.9999999),
    "decay": (0.0, 1.0),
    "moving_average": (0.0, 0.9999999),
}
_RESOLUTIONS = [8, 16, 32, 64, 128]


def _check(name: str, value: Any, default: Any, source: str) -> Any:
    """One value of the type of its default and within its limits, or a ConfigError."""
    where = f"{source}: {name}"
    if name in _CHOICES and isinstance(value, float):  # lpips_version: 0.0, without quotes
        value = str(value)
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ConfigError(f"{where} is one of {', '.join(_CHOICES[name])}, not {value!r}")
    if name == "resolutions":
        steps = list(value) if isinstance(value, list | tuple) else []
        if not steps or steps != _RESOLUTIONS[: len(steps)]:
            raise ConfigError(
                f"{where} is a list that starts at 8 and doubles, up to 128, not {value!r}"
            )
        return tuple(_RESOLUTIONS[: len(steps)])
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, float) and isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-6 as a string
            value = float(value)
    if type(value) is not type(default):
        raise ConfigError(f"{where} must be of type {type(default).__name__}, not {value!r}")
    if isinstance(value, int | float):
        low, high = _LIMITS.get(name, (0, math.inf))
        if not (math.isfinite(value) and low <= value <= high) or (name in _POSITIVE and not value):
            raise ConfigError(f"{where} cannot be {value!r}")
    return value


def _mapping(values: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    section = values.get(name)
    if section is None:  # a heading whose lines are all commented out
        return {}
    if not isinstance(section, dict):
        raise ConfigError(f"{source}: {name} must be a mapping of names to values, not {section!r}")
    return section


def _section(cls: type, values: dict[str, Any], source: str) -> Any:
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(defaults), key=str)
    if unknown:
        raise ConfigError(
            f"{source}: unknown name {unknown[0]!r}; known are {', '.join(sorted(defaults))}"
        )
    return cls(**{k: _check(k, v, defaults[k], source) for k, v in values.items()})


def from_dict(values: dict[str, Any], source: str = "configuration") -> Config:
    """A checked configuration.

    Args:
        values: ``size``, ``model`` and the sections ``network``, ``loss``, ``training``; all
            optional.
        source: the file named in messages.

    Raises:
        ConfigError: an unknown name or an impossible value.
    """
    unknown = sorted(set(values) - {"size", "model", "network", "loss", "training"}, key=str)
    if unknown:
        raise ConfigError(
            f"{source}: unknown section {unknown[0]!r}; known are size, model, network, loss, "
            "training"
        )
    size = values.get("size", "paper")
    if not isinstance(size, str) or size not in SIZES:
        raise ConfigError(f"{source}: size is one of {', '.join(SIZES)}, not {size!r}")
    model = values.get("model", "cascaded")
    if model not in MODELS:
        raise ConfigError(f"{source}: model is one of {', '.join(MODELS)}, not {model!r}")
    network = {**SIZES[size], **_mapping(values, "network", source)}
    if model == "progan" and network.get("end_to_end"):
        raise ConfigError(
            f"{source}: end_to_end joins the blocks of a cascade; progan has one at a time"
        )
    return Config(
        size=size,
        model=model,
        network=_section(NetworkConfig, network, source),
        loss=_section(LossConfig, _mapping(values, "loss", source), source),
        training=_section(TrainingConfig, _mapping(values, "training", source), source),
    )


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in seen:
        raise ConfigError(f"{path}: extends itself")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{path}: not a YAML file ({line})") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: not a mapping of sections (size, model, network, loss, training)"
        )
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends names one file, not {parent!r}")
    merged = _read((path.parent / parent).resolve(), (*seen, path))
    for name, value in values.items():
        if value is None:  # an empty heading takes nothing from the file it extends
            continue
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = {**merged[name], **value} if both else value
    return merged


def load_config(path: str | Path) -> Config:
    """Reads an experiment file.

    Raises:
        ConfigError: unreadable, not YAML, an unknown name or an impossible value.
    """
    path = Path(path).resolve()
    return from_dict(_read(path), source=str(path))


def replace_training(config: Config, **changes: Any) -> Config:
    """The configuration with other training values, checked like those of a file."""
    plain = config.to_dict()
    plain["training"].update(changes)
    return from_dict(plain, source="options")
