"""Caffe's .caffemodel: a NetParameter message in protocol buffers, read without Caffe.

Of Caffe's schema (caffe.proto) only what holds weights is read: the layers of a net, of the present
form and of the one before it, their names and their blobs.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facehal.errors import WeightsError, first_line

# Of NetParameter: the field of its layers, and in a layer those of the name and of the blobs.
_LAYER = {100: (1, 7), 2: (4, 6)}  # LayerParameter; V1LayerParameter, up to 2014
# Of BlobProto.
_OLD_SHAPE = (1, 2, 3, 4)  # num, channels, height, width, of files older than `shape`
_FLOATS, _SHAPE, _DOUBLES = 5, 7, 8

# How a field's value is written, by the last three bits of its key.
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5

Value = int | memoryview
Blobs = dict[str, list[np.ndarray]]


def read_caffemodel(file: Path) -> Blobs:
    """The blobs of every layer that has some, by the layer's name, float32, in Caffe's layout.

    A convolution has (out, in, height, width) and (out,), an inner product (out, in) and (out,);
    blobs of before 2014 have four dimensions always, the first ones 1.

    Raises:
        WeightsError: cut off, or not such a file.
    """
    found: Blobs = {}
    try:
        for number, value in _fields(memoryview(file.read_bytes())):
            if number in _LAYER and isinstance(value, memoryview):
                name, blobs = _layer(value, *_LAYER[number])
                if blobs:
                    found[name] = blobs
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({first_line(error)})") from error
    except ValueError as error:
        raise WeightsError(f"{file}: refused as a .caffemodel ({first_line(error)})") from error
    if not found:
        raise WeightsError(
            f"{file}: not a .caffemodel with weights: it holds no layer that has any"
        )
    return found


def _layer(message: memoryview, name_field: int, blob_field: int) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for number, value in _fields(message):
        if number == name_field and isinstance(value, memoryview):
            name = bytes(value).decode("utf-8")
        elif number == blob_field and isinstance(value, memoryview):
            blobs.append(_blob(value))
    return name, blobs


def _blob(message: memoryview) -> np.ndarray:
    shape: tuple[int, ...] | None = None
    old = dict.fromkeys(_OLD_SHAPE, 0)
    parts: dict[int, list[memoryview]] = {_FLOATS: [], _DOUBLES: []}
    for number, value in _fields(message):
        if number in parts and isinstance(value, memoryview):  # all in one field, or one a field
            parts[number].append(value)
        elif number == _SHAPE and isinstance(value, memoryview):
            shape = tuple(_dimensions(value))
        elif number in old and isinstance(value, int):
            old[number] = value
    kind, dtype = (_DOUBLES, "<f8") if parts[_DOUBLES] else (_FLOATS, "<f4")
    data = parts[kind][0] if len(parts[kind]) == 1 else memoryview(b"".join(parts[kind]))
    values = np.frombuffer(data, dtype)
    shape = tuple(old.values()) if shape is None else shape
    if math.prod(shape) != values.size:
        raise ValueError(f"a blob of shape {shape} with {values.size} numbers")
    return values.reshape(shape).astype(np.float32, copy=False)


def _dimensions(message: memoryview) -> Iterator[int]:
    for number, value in _fields(message):
        if number != 1:
            continue
        if isinstance(value, int):
            yield value
            continue
        position = 0
        while position < len(value):
            size, position = _varint(value, position)
            yield size


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of every field of a message, in order.

    Raises:
        ValueError: the bytes are no message.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            number, position = _varint(message, position)
            yield key >> 3, number
            continue
        if kind == _LENGTH:
            length, position = _varint(message, position)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if length > len(message) - position:
            raise ValueError("it is cut off")
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where the next thing begins."""
    number = 0
    for index, byte in enumerate(message[position : position + 10]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, position + index + 1
    raise ValueError("it is cut off, or no message of protocol buffers")
