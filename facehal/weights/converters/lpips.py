"""LPIPS's linear heads for AlexNet, of both published versions."""

import tempfile
import zipfile
from pathlib import Path

from facehal.errors import WeightsError, first_line
from facehal.weights.arrays import Arrays, Shapes, check, pick
from facehal.weights.formats.archives import BAD_ARCHIVE
from facehal.weights.formats.npz import read_npz
from facehal.weights.formats.pytorch import read_torch

VERSIONS = ("0.0", "0.1")
"""The published versions; the paper trains with the first."""

SHAPES: Shapes = {
    f"v{version}.lin{tap}": (channels,)
    for version in VERSIONS
    for tap, channels in enumerate((64, 192, 384, 256, 256))
}


def convert(file: Path) -> Arrays:
    """LPIPS heads of both versions from the publisher's wheel, an unpacked package or our .npz.

    Args:
        file: a .whl, a folder that holds `weights/v0.0/alex.pth` and `weights/v0.1/alex.pth`, or
            an .npz with keys `v0.0.lin0` ... `v0.1.lin4`.

    Raises:
        WeightsError: not such a file.
    """
    if file.is_dir():
        return check(_heads(file), SHAPES, str(file))
    if file.suffix == ".whl":
        with tempfile.TemporaryDirectory() as scratch:
            try:
                with zipfile.ZipFile(file) as wheel:
                    for version in VERSIONS:
                        wheel.extract(f"lpips/weights/v{version}/alex.pth", scratch)
            except (KeyError, *BAD_ARCHIVE) as error:
                raise WeightsError(f"{file}: not the lpips wheel ({first_line(error)})") from error
            return check(_heads(Path(scratch) / "lpips"), SHAPES, str(file))
    return read_npz(file, SHAPES)


def _heads(package: Path) -> Arrays:
    arrays: Arrays = {}
    for version in VERSIONS:
        file = package / "weights" / f"v{version}" / "alex.pth"
        state = read_torch(file)
        for tap in range(5):
            arrays[f"v{version}.lin{tap}"] = pick(state, f"lin{tap}.model.1.weight", file).ravel()
    return arrays
