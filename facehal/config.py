"""Settings of an experiment: typed, checked, read from YAML files that say what differs.

A family of models (:mod:`facehal.models`) has a configuration of its own: a dataclass of sections,
each a dataclass whose fields are made by :func:`setting`, with their limits beside them. A file is
a mapping of these sections; ``extends: other.yaml`` names the file it starts from, ``model:`` the
family, ``size:`` one of the family's named sizes. Unknown names are errors.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

from facehal.errors import ConfigError

T = TypeVar("T")
E = TypeVar("E", bound="Experiment")


def setting(
    default: T,
    *,
    low: float = 0.0,
    high: float = math.inf,
    positive: bool = False,
    choices: Sequence[str] = (),
    check: Callable[[Any], Any] | None = None,
    free: bool = False,
) -> T:
    """A field of a section.

    Args:
        default: its value where a file says nothing; other values have its type.
        low, high: inclusive limits of a number; by default it must not be negative.
        positive: refuse 0, too.
        choices: the texts that are allowed.
        check: value → value, in place of all that; raises ValueError with what a message says
            behind the name ("is a list that …").
        free: a resumed run may change it: its length and its warnings.
    """
    limits = {"low": low, "high": high, "positive": positive}
    metadata = {**limits, "choices": tuple(choices), "check": check, "free": free}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainingConfig:
    """What every family's ``training`` section has; defaults are the paper's (section 4)."""

    epochs: int = setting(50, positive=True, free=True)
    batch_size: int = setting(10, positive=True)
    mirror: bool = setting(True)
    seed: int = setting(0)
    pretrained: str = setting("")  # a trained model (name or file) whose weights it begins with
    precision: str = setting("float32", choices=("float32", "bfloat16"))  # of trained networks
    moving_average: float = setting(0.0, high=0.9999999)  # momentum of the published model's; 0 off
    checkpoint_steps: int = setting(500, positive=True)  # at least this often, and every epoch
    preview_faces: int = setting(8)
    # Warn when a discriminator's loss stays under this; 0 is off.
    collapse_bound: float = setting(0.02, free=True)
    collapse_epochs: int = setting(3, positive=True, free=True)  # for so many epochs in a row
    collapse_steps: int = setting(500, free=True)  # that make up at least so many steps


@dataclass(frozen=True)
class Experiment:
    """The configuration of a family: a subclass adds its sections.

    Attributes:
        size: name of one of :attr:`SIZES`, whose values the ``network`` section starts from.
        model: the family's name.
        training: schedule and optimisation.
    """

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}

    size: str = "default"
    model: str = ""
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, complete, in the form that :meth:`from_dict` reads."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        names = sections(type(self))  # in the order that people expect: training last
        return {name: plain[name] for name in ("size", "model", *names)}

    def fixed(self) -> dict[str, Any]:
        """The same without what a resumed run may change."""
        plain = self.to_dict()
        for one in dataclasses.fields(self.training):
            if one.metadata["free"]:
                del plain["training"][one.name]
        return plain

    @classmethod
    def from_dict(cls: type[E], values: dict[str, Any], source: str = "configuration") -> E:
        """A checked configuration.

        Args:
            values: ``size``, ``model`` and the sections; all optional.
            source: the file named in messages.

        Raises:
            ConfigError: an unknown name or an impossible value.
        """
        known = sections(cls)
        unknown = sorted(set(values) - {"size", "model", *known}, key=str)
        if unknown:
            raise ConfigError(
                f"{source}: unknown section {unknown[0]!r}; known are size, model, "
                f"{', '.join(known)}"
            )
        default = cls()
        size = values.get("size", default.size)
        if not isinstance(size, str) or size not in cls.SIZES:
            raise ConfigError(f"{source}: size is one of {', '.join(cls.SIZES)}, not {size!r}")
        made: dict[str, Any] = {"size": size, "model": values.get("model", default.model)}
        for name, section in known.items():
            given = _mapping(values, name, source)
            if name == "network":
                given = {**cls.SIZES[size], **given}
            made[name] = _section(section, given, source)
        config = cls(**made)
        config.check(source)
        return config

    def check(self, source: str) -> None:
        """What no single value can tell; a subclass raises ConfigError here."""

    def replace_training(self: E, **changes: Any) -> E:
        """The configuration with other training values, checked like those of a file.

        Raises:
            ConfigError: an unknown name or an impossible value.
        """
        plain = self.to_dict()
        plain["training"].update(changes)
        return self.from_dict(plain, source="options")


def sections(cls: type[Experiment]) -> dict[str, type]:
    """The sections of a configuration by name, ``training`` last."""
    default = cls()
    found = {f.name: type(getattr(default, f.name)) for f in dataclasses.fields(cls)}
    found = {name: one for name, one in found.items() if dataclasses.is_dataclass(one)}
    return {
        **{n: one for n, one in found.items() if n != "training"},
        "training": found["training"],
    }


def flat(plain: dict[str, Any]) -> dict[str, Any]:
    """Every setting of :meth:`Experiment.to_dict` by a name of its own, ``loss.pixel``."""
    found: dict[str, Any] = {}
    for section, values in plain.items():
        if isinstance(values, dict):
            found |= {f"{section}.{name}": value for name, value in values.items()}
        else:
            found[section] = values
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _checked(one: "dataclasses.Field[Any]", value: Any, source: str) -> Any:
    """One value of the type of its default and within its limits, or a ConfigError."""
    name, default, limits = one.name, one.default, one.metadata
    where = f"{source}: {name}"
    if limits["check"] is not None:
        try:
            return limits["check"](value)
        except ValueError as error:
            raise ConfigError(f"{where} {error}") from None
    choices = limits["choices"]
    if choices and isinstance(value, float):  # lpips_version: 0.0, without quotes
        value = str(value)
    if choices and value not in choices:
        raise ConfigError(f"{where} is one of {', '.join(choices)}, not {value!r}")
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, float) and isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-6 as a string
            value = float(value)
    if type(value) is not type(default):
        raise ConfigError(f"{where} must be of type {type(default).__name__}, not {value!r}")
    if isinstance(value, int | float):
        inside = math.isfinite(value) and limits["low"] <= value <= limits["high"]
        if not inside or (limits["positive"] and not value):
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
    known = {one.name: one for one in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known), key=str)
    if unknown:
        raise ConfigError(
            f"{source}: unknown name {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    return cls(**{name: _checked(known[name], value, source) for name, value in values.items()})


def shipped(name: str) -> Path | None:
    """The experiment file of this name that comes with the package, or None.

    In an installed package they lie beside this file, in a checkout in its top folder.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "experiments", here.parent / "experiments"):
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path
    return None


def find(name: str | Path) -> Path:
    """An experiment file by its path, or a shipped one by its name (``compact``).

    Raises:
        ConfigError: neither is there.
    """
    path = Path(name)
    if path.exists() or path.suffix:
        return path
    found = shipped(str(name))
    if found is None:
        raise ConfigError(
            f"{name}: neither a file nor a shipped experiment ({', '.join(shipped_names())})"
        )
    return found


def shipped_names() -> list[str]:
    """The experiments that come with the package."""
    folder = shipped("compact")
    return sorted(path.stem for path in folder.parent.glob("*.yaml")) if folder else []


def read(path: str | Path) -> dict[str, Any]:
    """The plain values of an experiment file and of all that it extends.

    Raises:
        ConfigError: unreadable, or not a YAML file of sections.
    """
    return _read(find(path).resolve())


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
