"""The models that come with the package, by name. Needs neither Keras nor NumPy."""

import os
from importlib import resources
from pathlib import Path

from facehal.errors import FacehalError


def shipped_models() -> dict[str, Path]:
    """The models in the package by name."""
    folder = resources.files("facehal") / "pretrained"
    return {path.stem: path for path in sorted(Path(str(folder)).glob("*.keras"))}


def find_model(model: str | os.PathLike[str]) -> Path:
    """The file of a shipped model's name, or the file itself.

    Raises:
        FacehalError: there is none.
    """
    shipped = shipped_models()
    path = Path(shipped.get(str(model), Path(model)))
    if not path.is_file():
        raise FacehalError(
            f"{model}: neither a model's file nor a shipped model ({', '.join(shipped) or 'none'})"
        )
    return path
