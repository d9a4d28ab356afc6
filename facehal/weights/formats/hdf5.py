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


def _inside(group: Any, path: str) -> Any:
    """What a path of several names leads to; WeightsError is left to the caller, who knows why."""
    for name in path.split("/"):
        if not (hasattr(group, "keys") and _own(group, name)):
            return None
        group = group[name]
    return group


def read_keras_h5_in_order(file: Path, shapes: Shapes) -> Arrays:
    """Arrays of a Keras 2 weight or model file of a plain chain of layers, found by their place.

    For networks whose layers Keras named itself: the numbers in such names depend on what else the
    program had built.

    Args:
        file: holds the network's arrays in the order of its layers, kernels before biases.
        shapes: of our arrays, in the same order.

    Raises:
        WeightsError: not such a file, or of another network.
    """
    import h5py

    try:
        with h5py.File(file, "r") as root:
            groups = root["model_weights"] if _own(root, "model_weights") else root
            found: list[Any] = []
            for layer in map(_text, groups.attrs["layer_names"]):
                group = _inside(groups, layer)
                names = [] if group is None else group.attrs["weight_names"]
                found += [_inside(group, _text(name)) for name in names]
            if len(found) != len(shapes):
                raise WeightsError(
                    f"{file}: holds {len(found)} arrays where this network has {len(shapes)}"
                )
            arrays: Arrays = {}
            for (name, shape), dataset in zip(shapes.items(), found, strict=True):
                if not isinstance(dataset, h5py.Dataset) or dataset.external:
                    raise WeightsError(f"{file}: holds no data for {name}; file damaged")
                if dataset.shape != shape:
                    raise WeightsError(
                        f"{file}: {name} has shape {dataset.shape} where this network has {shape}"
                    )
                arrays[name] = dataset[()]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{file}: cannot be read as HDF5 ({first_line(error)})") from error
    return arrays


def _text(name: Any) -> str:
    """Names are bytes or texts, by the version that wrote them."""
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


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
