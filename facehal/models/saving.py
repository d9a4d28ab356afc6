"""Trained models as ``.keras`` files: written whole or not at all, in float32 or float16."""

import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from facehal.errors import FacehalError
from facehal.files import replacing

WEIGHTS = "model.weights.h5"


def save_model(model: keras.Model, path: str | Path, *, half: bool = False) -> Path:
    """Writes ``path``; ``keras.models.load_model`` reads it after ``import facehal.models``.

    Args:
        model: a cascade or a ProGAN.
        path: ends in ``.keras``.
        half: store the weights in float16, half the size; they are float32 again when loaded.

    Raises:
        FacehalError: the file cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as part:
            model.save(part)
            if half:
                os.replace(_halved(part), part)
    except OSError as error:
        raise FacehalError(
            f"{path}: model not saved ({error.strerror or error}); free space or name a folder "
            "that you may write to"
        ) from None
    return path


def _halved(path: Path) -> Path:
    """The same archive with every weight array in float16, which Keras casts when it loads."""
    out = path.with_name(f"half-{path.name}")
    weights = path.with_name("weights.h5")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            if name != WEIGHTS:
                new.writestr(name, old.read(name))
        weights.write_bytes(old.read(WEIGHTS))
        small = path.with_name("half.h5")
        with h5py.File(weights) as source, h5py.File(small, "w") as target:
            source.visititems(lambda name, item: _copy(name, item, target))
            for key, value in source.attrs.items():
                target.attrs[key] = value
        new.write(small, WEIGHTS, compress_type=zipfile.ZIP_DEFLATED)
    return out


def _copy(name: str, item: Any, target: h5py.File) -> None:
    if isinstance(item, h5py.Group):
        group = target.require_group(name)
        for key, value in item.attrs.items():
            group.attrs[key] = value
        return
    values = item[()]
    floating = np.issubdtype(values.dtype, np.floating)
    stored = target.create_dataset(name, data=values.astype(np.float16) if floating else values)
    for key, value in item.attrs.items():
        stored.attrs[key] = value
