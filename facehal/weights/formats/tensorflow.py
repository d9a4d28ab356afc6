"""Checkpoints of TensorFlow, of version 1, too: PREFIX.index beside PREFIX.data-00000-of-00001."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from facehal.errors import WeightsError, first_line
from facehal.optional import require
from facehal.weights.arrays import Arrays

_PARTS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def read_checkpoint(file: Path, names: Iterable[str]) -> Arrays:
    """Those of the named variables that a checkpoint holds, as it holds them.

    TensorFlow reads it, whatever Keras's backend is: the format has its own tables and checksums.
    It runs nothing that the files bring along; the graph (``.meta``) is left alone.

    Args:
        file: the prefix of a checkpoint, one of its files, or a folder: then its newest one.
        names: of variables.

    Raises:
        WeightsError: there is no checkpoint, or it cannot be read.
        FacehalError: TensorFlow is not installed.
    """
    train = require("tensorflow", "reading a checkpoint of TensorFlow").train
    found = train.latest_checkpoint(str(file)) if file.is_dir() else _PARTS.sub("", str(file))
    if found is None or not Path(f"{found}.index").is_file():
        raise WeightsError(f"{file}: no checkpoint of TensorFlow (a file that ends in .index)")
    try:
        reader = train.load_checkpoint(found)
        held = reader.get_variable_to_shape_map()
        return {name: np.asarray(reader.get_tensor(name)) for name in names if name in held}
    except Exception as error:  # TensorFlow raises many kinds for a damaged file
        raise WeightsError(
            f"{file}: cannot be read as a checkpoint of TensorFlow ({first_line(error)})"
        ) from error
