"""Where a result comes from: versions, machine, code and data."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

PACKAGE = Path(__file__).resolve().parents[1]


def data_hash(faces: np.ndarray, masks: np.ndarray) -> str:
    """SHA-256 over the pixels of faces and masks, to say which data a run has seen."""
    digest = hashlib.sha256()
    for array in (faces, masks):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def command() -> str:
    """The command that this process was started by, as one would type it."""
    program, *words = sys.argv
    # `python -m facehal` and the script of an installed package have paths of their machine.
    name = "facehal" if Path(program).stem in ("facehal", "__main__") else Path(program).name
    return shlex.join([name, *words])


def origin() -> dict[str, Any]:
    """What every file of results says of its making: ``command`` and ``versions``."""
    return {"command": command(), "versions": environment()}


def environment() -> dict[str, str]:
    """Versions, machine, device and, in a git checkout of facehal, the commit.

    Returns:
        ``python``, ``system``, ``backend``, ``device``, a version for every package that counts
        and is installed, and :func:`git_state` as ``git`` where there is one.
    """
    packages = {}
    for name in ("facehal", "keras", "tensorflow", "jax", "numpy"):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    git = git_state()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "backend": keras.backend.backend(),
        "device": device(),
        **packages,
        **({"git": git} if git else {}),
    }


def device() -> str:
    """The accelerators that the backend uses, by name, or ``CPU``."""
    names = []
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(gpu)
            names.append(details.get("device_name", gpu.name))
    elif keras.backend.backend() == "jax":
        import jax

        names = [one.device_kind for one in jax.devices() if one.platform != "cpu"]
    counted = {name: names.count(name) for name in names}
    return ", ".join(f"{n} × {name}" if n > 1 else name for name, n in counted.items()) or "CPU"


def git_state(package: Path = PACKAGE) -> str | None:
    """The commit of the checkout that ``package`` is imported from.

    Returns:
        The commit's hash, followed by ``, changed since`` where a file of the package differs from
        it or is not in it. None where the package is not part of a git checkout (installed with
        pip, even into a folder inside somebody's checkout) or git is not installed.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None:  # nothing committed yet
        return None
    changed = _git(package, "status", "--porcelain", "--", ".")
    return commit + (", changed since" if changed else "")


def _git(folder: Path, *words: str) -> str | None:
    """What git prints, or None where it cannot answer."""
    # Inside a git hook these variables would point at another repository.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=20,
            env=clean,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
