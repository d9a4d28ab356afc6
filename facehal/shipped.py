"""Models by name: those that come with the package, and those that others share.

Needs neither Keras nor NumPy.
"""

import os
from importlib import resources
from pathlib import Path

from facehal import hub
from facehal.errors import FacehalError


def shipped_models() -> dict[str, Path]:
    """The models in the package by name."""
    folder = resources.files("facehal") / "pretrained"
    return {path.stem: path for path in sorted(Path(str(folder)).glob("*.keras"))}


def exported(model: Path) -> Path | None:
    """The ONNX file that comes with a shipped model, the same weights; None of any other file.

    A file beside a user's own model is none: it could be that of an earlier training.
    """
    path = model.with_suffix(".onnx")
    return path if model in shipped_models().values() and path.is_file() else None


def find_model(model: str | os.PathLike[str]) -> Path:
    """The file of a model.

    Args:
        model: a shipped model's name; ``hf://user/name``, which is fetched once
            (:func:`facehal.hub.fetch`); a folder that ``facehal publish`` wrote; or a file.

    Raises:
        FacehalError: there is none, or it is not what was published.
    """
    if hub.is_address(model):
        return hub.fetch(str(model))
    if (Path(model) / hub.ABOUT).is_file():
        return hub.published_model(model)
    shipped = shipped_models()
    path = Path(shipped.get(str(model), Path(model)))
    if not path.is_file():
        raise FacehalError(
            f"{model}: neither a model's file nor a shipped model ({', '.join(shipped) or 'none'})"
        )
    return path
