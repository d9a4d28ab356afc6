"""NumPy's .npz: the form in which converted weights are kept."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from facehal.errors import WeightsError, first_line
from facehal.weights.arrays import Arrays, Shapes, check
from facehal.weights.formats.archives import BAD_ARCHIVE


def is_npz(file: Path) -> bool:
    """Whether the file is an archive of nothing but arrays."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_npz(file: Path, shapes: Shapes) -> Arrays:
    """Arrays of an .npz in our own form; members are sized before they are unpacked.

    Raises:
        WeightsError: not a complete .npz, or not of this network.
    """
    arrays: Arrays = {}
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name, shape in shapes.items():
                info = members.get(name)
                if info is None:
                    raise WeightsError(f"{file}: holds no {name}; it is not a file of this network")
                # float64 at most, and a header: more is a mistake or a bomb.
                if info.file_size > 8 * math.prod(shape) + 4096:
                    raise WeightsError(f"{file}: {name} is larger than this network's {shape}")
                data = io.BytesIO(archive.read(info))
                arrays[name] = np.lib.format.read_array(data, allow_pickle=False)
    except BAD_ARCHIVE as error:
        raise WeightsError(f"{file}: cannot be read as .npz ({first_line(error)})") from error
    return check(arrays, shapes, str(file))
