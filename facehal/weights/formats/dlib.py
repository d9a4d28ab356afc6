"""dlib's .dat: its networks as `dlib::serialize` writes them.

Every tensor stands after the bytes 01 02 (its format's version) and four packed integers (one byte
of length, then little-endian bytes), and is little-endian float32.
"""

from pathlib import Path

import numpy as np

from facehal.errors import WeightsError


def tensor(
    data: bytes, position: int, shape: tuple[int, int], file: Path
) -> tuple[np.ndarray, int]:
    """The next tensor of exactly this shape, flat, and where it ends.

    Args:
        data: the file's bytes.
        position: where the last tensor ended.
        shape: the first two of the four dimensions.
        file: for messages.

    Raises:
        WeightsError: no such tensor follows.
    """
    header = b"\x01\x02" + b"".join(_integer(n) for n in (*shape, 1, 1))
    found = data.find(header, position)
    start = found + len(header)
    count = shape[0] * shape[1]
    # Between two tensors stand a few hundred bytes of settings, never another tensor.
    if found < 0 or found - position > 4096 or start + 4 * count > len(data):
        raise WeightsError(
            f"{file}: not dlib's dlib_face_recognition_resnet_model_v1.dat, or cut off "
            f"(no tensor of {shape} after byte {position})"
        )
    return np.frombuffer(data, "<f4", count, start), start + 4 * count


def _integer(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "little")
