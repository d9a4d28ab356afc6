"""Everything that a run needs to go on, in one file that is written whole or not at all."""

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from facehal.errors import TrainingError
from facehal.files import replacing

KEEP = 2  # checkpoints of a run that stay on disk


class Stored(Protocol):
    """What has variables to keep: :class:`facehal.training.phases.Trainer`."""

    groups: dict[str, list[keras.Variable]]


def _variables(model: Stored) -> dict[str, keras.Variable]:
    """All variables by a name that says place and meaning."""
    found = [(kind, v) for kind, variables in model.groups.items() for v in variables]
    return {f"{index:05d}:{kind}:{v.path}": v for index, (kind, v) in enumerate(found)}


class NotFinite(Exception):
    """A value that is to be stored is no number; ``str()`` names its variable."""


def save(model: Stored, folder: Path, step: int, state: dict[str, Any], chief: bool = True) -> Path:
    """Writes ``folder/step_N.npz`` and removes all but the newest two.

    Args:
        model: every variable in its groups is stored: networks, optimizers, moving average.
        state: further JSON-able values: configuration, stage, partial sums.
        chief: write it; the other workers only read their variables, for some are sums over all.

    Raises:
        TrainingError: the file cannot be written (disk full, no permission).
        NotFinite: a value is not finite: the older checkpoints stay.
    """
    path = folder / f"step_{step:08d}.npz"
    arrays = {name: variable.numpy() for name, variable in _variables(model).items()}
    broken = [name for name, value in arrays.items() if not np.isfinite(value).all()]
    if broken:
        raise NotFinite(broken[0].split(":", 2)[2])
    if not chief:
        return path
    meta = np.frombuffer(json.dumps({**state, "step": step}).encode(), np.uint8)
    try:
        with replacing(path, sync=True) as part:
            np.savez(part, **arrays, meta=meta)
    except OSError as error:
        raise TrainingError(
            f"{path}: checkpoint not written ({error.strerror or error}); free space or give write "
            "permission, then go on with --resume"
        ) from None
    for old in sorted(folder.glob("step_*.npz"))[:-KEEP]:
        old.unlink()
    return path


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    return max(folder.glob("step_*.npz"), default=None)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The stored arrays by name; whatever is wrong with the file is a TrainingError."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"{path}: not a checkpoint ({error}); delete it to go on from the one before"
        ) from None


def read_state(path: Path) -> dict[str, Any]:
    """The state alone, to build the networks that the checkpoint belongs to.

    Raises:
        TrainingError: unreadable.
    """
    with _opened(path) as stored:
        state: dict[str, Any] = json.loads(stored["meta"].tobytes())
    return state


def restore(model: Stored, path: Path) -> dict[str, Any]:
    """Puts every variable back and returns the state that was stored with them.

    Raises:
        TrainingError: unreadable, or of other networks than ``model``.
    """
    with _opened(path) as stored:
        state: dict[str, Any] = json.loads(stored["meta"].tobytes())
        arrays = {name: stored[name] for name in stored.files if name != "meta"}
    variables = _variables(model)
    shapes = {name.split(":")[0]: tuple(value.shape) for name, value in arrays.items()}
    ours = {name.split(":")[0]: tuple(v.shape) for name, v in variables.items()}
    if shapes != ours:
        raise TrainingError(
            f"{path}: belongs to other networks ({len(shapes)} variables, not {len(ours)} of the "
            "same shapes); resume with the run's own config.yaml"
        )
    by_index = {name.split(":")[0]: value for name, value in arrays.items()}
    for name, variable in variables.items():
        variable.assign(by_index[name.split(":")[0]])
    return state
