"""Weight files of any kind (.npz, PyTorch, Keras's HDF5) read as plain float arrays.

Nothing here runs code that a file brings along: pickles may name tensors and ordered dictionaries
only. Every reader raises `WeightsError` in one line when a file is cut off, foreign or hostile.
"""

import collections
import hashlib
import io
import math
import pickle
import pickletools
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facehal.errors import WeightsError

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 200 characters."""
    text = " ".join(str(error).split()) or "no details"
    return f"{type(error).__name__}: {text}"[:200]


def check(arrays: Mapping[str, np.ndarray], shapes: Shapes, source: str) -> Arrays:
    """The arrays named in `shapes`, float32, in that order.

    Raises:
        WeightsError: an array is missing, has another shape, or holds NaN or infinity.
    """
    result: Arrays = {}
    for name, shape in shapes.items():
        if name not in arrays:
            raise WeightsError(f"{source}: holds no {name}; it is not a file of this network")
        if arrays[name].shape != shape:
            raise WeightsError(
                f"{source}: {name} has shape {arrays[name].shape} where this network has {shape}"
            )
        if arrays[name].dtype.kind not in "fiu":
            raise WeightsError(f"{source}: {name} holds {arrays[name].dtype}, not numbers")
        array = np.ascontiguousarray(arrays[name], dtype=np.float32)
        if not np.isfinite(array).all():
            raise WeightsError(f"{source}: {name} holds values that are not finite; file damaged")
        result[name] = array
    return result


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) of names, shapes and float32 values: equal for the same weights in any file."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], dtype="<f4")
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def pick(state: Arrays, key: str, file: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """One array of a publisher's file, of exactly this shape where one is given.

    Raises:
        WeightsError: it is missing or has another shape.
    """
    if key not in state:
        raise WeightsError(f"{file}: holds no {key}; it is not a file of this network")
    if shape is not None and state[key].shape != shape:
        raise WeightsError(
            f"{file}: {key} has shape {state[key].shape} where this network has {shape}"
        )
    return state[key]


# ------------------------------------------------------------------------------------- archives


BAD_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    EOFError,
    OSError,
    MemoryError,  # a header that promises more than there is
    RuntimeError,  # encrypted, or packed by an unknown method
)


def is_npz(file: Path) -> bool:
    """Whether the file is an archive of nothing but arrays."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def unpack_tar(archive: Path, name: str, target: Path) -> None:
    """Copy the one plain file called `name` in any folder of a .tar(.gz) to `target`.

    Raises:
        WeightsError: the archive is damaged, or holds no such file.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is not None and Path(member.name).name == name:
                    with target.open("wb") as copy:
                        shutil.copyfileobj(stream, copy)
                    return
    except (tarfile.TarError, *BAD_ARCHIVE) as error:
        raise WeightsError(f"{archive}: cannot be unpacked ({one_line(error)})") from error
    raise WeightsError(f"{archive}: holds no {name}; it is not the published archive")


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
                if info.file_size > 8 * int(np.prod(shape)) + 4096:
                    raise WeightsError(f"{file}: {name} is larger than this network's {shape}")
                data = io.BytesIO(archive.read(info))
                arrays[name] = np.lib.format.read_array(data, allow_pickle=False)
    except BAD_ARCHIVE as error:
        raise WeightsError(f"{file}: cannot be read as .npz ({one_line(error)})") from error
    return check(arrays, shapes, str(file))


# --------------------------------------------------------------------------------- PyTorch files

_MAX_PICKLE = 8 << 20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2"}
_DTYPES |= {"LongStorage": "<i8", "IntStorage": "<i4"}


class _StorageType:
    """Stands for `torch.FloatStorage` and its like: only the element type counts."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)


class _Storage:
    """One flat block of numbers; filled in later when the file is of the old form."""

    def __init__(self, kind: _StorageType, size: int) -> None:
        self.dtype = kind.dtype
        self.size = size
        self.data: np.ndarray | None = None


class _Tensor:
    """A view of a storage, made into an array once all storages are read."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor without a storage")
        self.storage, self.offset = storage, int(offset)
        self.size, self.stride = tuple(map(int, size)), tuple(map(int, stride))

    def array(self) -> np.ndarray:
        if len(self.size) != len(self.stride) or min((self.offset, *self.size, *self.stride)) < 0:
            raise pickle.UnpicklingError("a tensor with an impossible shape")
        last = self.offset + sum(
            (n - 1) * step for n, step in zip(self.size, self.stride, strict=True)
        )
        data = self.storage.data
        # No stride of a saved tensor repeats data: a larger one would only eat memory.
        if data is not None and math.prod(self.size) > data.size:
            raise pickle.UnpicklingError("a tensor larger than its data")
        if data is None or (0 not in self.size and last >= data.size):
            raise pickle.UnpicklingError("a tensor that reaches beyond its data")
        steps = [step * data.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.size, steps).copy()


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class _Unpickler(pickle.Unpickler):
    """Knows tensors, storages and OrderedDict; every other name is refused."""

    def __init__(self, data: io.BytesIO, storages: dict[str, _Storage]) -> None:
        super().__init__(data, encoding="utf-8")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _Tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _StorageType(_DTYPES[name])
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
            raise pickle.UnpicklingError("an unknown kind of external data")
        kind, key, size = pid[1], str(pid[2]), int(pid[4])
        if not isinstance(kind, _StorageType) or (len(pid) == 6 and pid[5] is not None):
            raise pickle.UnpicklingError("an unknown kind of storage")
        return self.storages.setdefault(key, _Storage(kind, size))


def _unpickle(stream: io.BytesIO, storages: dict[str, _Storage]) -> Any:
    """The next pickle of `stream`, after a look at its codes without running them."""
    start = stream.tell()
    for code, argument, _ in pickletools.genops(stream):
        # A huge memo index would make the unpickler claim gigabytes.
        if "PUT" in code.name and argument is not None and int(argument) > _MAX_PICKLE:
            raise pickle.UnpicklingError("an impossible memo index")
    stream.seek(start)
    return _Unpickler(stream, storages).load()


def _read_torch_zip(file: Path) -> Any:
    storages: dict[str, _Storage] = {}
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1 or members[pickles[0]].file_size > _MAX_PICKLE:
            raise pickle.UnpicklingError("no data.pkl as PyTorch writes it")
        prefix = pickles[0].removesuffix("data.pkl")
        order = members.get(f"{prefix}byteorder")
        if order is not None and archive.read(order) != b"little":
            raise pickle.UnpicklingError("numbers are not little-endian")
        state = _unpickle(io.BytesIO(archive.read(pickles[0])), storages)
        for key, storage in storages.items():
            info = members.get(f"{prefix}data/{key}")
            # PyTorch compresses nothing: so no member is larger than the file.
            if info is None or info.compress_type != zipfile.ZIP_STORED:
                raise pickle.UnpicklingError(f"storage {key} is missing or compressed")
            if info.file_size != storage.size * storage.dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} has another size")
            storage.data = np.frombuffer(archive.read(info), storage.dtype)
    return state


def _read_torch_legacy(file: Path) -> Any:
    storages: dict[str, _Storage] = {}
    stream = io.BytesIO(file.read_bytes())
    if _unpickle(stream, {}) != _LEGACY_MAGIC or _unpickle(stream, {}) != _LEGACY_PROTOCOL:
        raise pickle.UnpicklingError("not a file that torch.save wrote")
    if not (_unpickle(stream, {}) or {}).get("little_endian", True):
        raise pickle.UnpicklingError("numbers are not little-endian")
    state = _unpickle(stream, storages)
    for key in _unpickle(stream, {}):
        storage = storages.get(str(key))
        (size,) = struct.unpack("<q", stream.read(8))
        if storage is None or size != storage.size:
            raise pickle.UnpicklingError(f"storage {key} is unknown or has another size")
        data = stream.read(size * storage.dtype.itemsize)
        if len(data) != size * storage.dtype.itemsize:
            raise pickle.UnpicklingError("the file is cut off")
        storage.data = np.frombuffer(data, storage.dtype)
    return state


def read_torch(file: Path) -> Arrays:
    """A PyTorch state dict (.pth of either form) as arrays, without PyTorch and without trust.

    Raises:
        WeightsError: cut off, not a state dict, or it asks for anything but tensors.
    """
    try:
        reader = _read_torch_zip if zipfile.is_zipfile(file) else _read_torch_legacy
        state = reader(file)
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("it is not a state dict")
        return {str(k): v.array() for k, v in state.items() if isinstance(v, _Tensor)}
    # Unpickling foreign bytes can end in nearly any built-in error; all mean the same here.
    except Exception as error:
        raise WeightsError(
            f"{file}: refused as a PyTorch weight file ({one_line(error)})"
        ) from error


# ------------------------------------------------------------------------------------------ HDF5

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

                def collect(_: str, item: object, found: list = found) -> None:
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
        raise WeightsError(f"{file}: cannot be read as HDF5 ({one_line(error)})") from error
    return arrays
