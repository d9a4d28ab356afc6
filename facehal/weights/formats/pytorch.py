"""PyTorch's state dicts (.pth), of the zip form and the one before it, without PyTorch."""

import collections
import io
import math
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from facehal.errors import WeightsError, first_line
from facehal.weights.arrays import Arrays

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
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.size, steps)
        return np.array(view, order="C")


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


def read_torch(file: Path, inside: str = "state_dict") -> Arrays:
    """A PyTorch state dict (.pth of either form) as arrays, without PyTorch and without trust.

    Args:
        file: of a state dict, or of a dictionary that holds one among other things.
        inside: its key there.

    Raises:
        WeightsError: cut off, not a state dict, or it asks for anything but tensors.
    """
    try:
        reader = _read_torch_zip if zipfile.is_zipfile(file) else _read_torch_legacy
        state = reader(file)
        if isinstance(state, dict) and isinstance(state.get(inside), dict):
            state = state[inside]
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("it is not a state dict")
        return {str(k): v.array() for k, v in state.items() if isinstance(v, _Tensor)}
    # Unpickling foreign bytes can end in nearly any built-in error; all mean the same here.
    except Exception as error:
        raise WeightsError(
            f"{file}: refused as a PyTorch weight file ({first_line(error)})"
        ) from error
