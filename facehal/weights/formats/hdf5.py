"""Weight files of Keras 2, in HDF5."""

from pathlib import Path
from typing import Any

from facehal.errors import WeightsError, first_line
from facehal.weights.arrays import Arrays, Shapes

_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_hdf5(file: Path) -> bool:
    """Whether the file begins as HDF5 does."""
    with file.open("rb") as stream:
        return stream.read(len(_HDF5)) == _HDF5


def _own(group: Any, name: str) -> bool:
    """Whether an HDF5 group holds `name` itself: a link could open any file of this machine."""
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def read_keras_h5(file: Path, shapes: Shapes) -> Arrays:
    """Kernels and biases of a Keras 2 weight or model file, found by layer.

    Raises:
        WeightsError: not such a file, or of another network.
    """
    import h5py

    arrays: Arrays = {}
    layers = dict.fromkeys(name.split(".")[0] for name in shapes)
    try:
        with h5py.File(file, "r") as root:
            groups = root["model_weights"] if _own(root, "model_weights") else root
            for layer in layers:
                if not _own(groups, layer):
                    raise WeightsError(
                        f"{file}: holds no layer {layer}; it is not a file of this network"
                    )
                found: list[h5py.Dataset] = []

                def collect(_: str, item: object, found: list[h5py.Dataset] = found) -> None:
                    # Neither data kept in another file.
                    if isinstance(item, h5py.Dataset) and not item.external:
                        found.append(item)

                # Follows hard links only: no link to another file is opened.
                groups[layer].visititems(collect)
                for dataset in found:
                    name = f"{layer}.{'kernel' if dataset.ndim > 1 else 'bias'}"
                    if name not in shapes or dataset.shape != shapes[name]:
                        raise WeightsError(
                            f"{file}: {name} has shape {dataset.shape} where this network has "
                            f"{shapes.get(name)}"
                        )
                    arrays[name] = dataset[()]
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise WeightsError(f"{file}: cannot be read as HDF5 ({first_line(error)})") from error
    return arrays
