"""The authors' trained files, as far as they can be known: they are recognised, and refused.

``test.lua`` loads ``MaskNet.t7``, ``FlowNet.t7``, ``LightNet.t7`` and ``RecNet.t7`` from a cloud
drive. They are objects of Torch 7, graphs of ``nngraph``; neither a definition of them, nor a list
of their layers, nor their training program has been published. A mapping of their weights onto
networks that were guessed would be an invention, and no test could tell that it is wrong.
"""

import struct
from pathlib import Path
from typing import NoReturn

from facehal.errors import FacehalError

_OBJECT = 4  # Torch 7's type code of a Torch object
_LONGEST = 256  # of a class name that is believed


FILES = ("MaskNet.t7", "FlowNet.t7", "LightNet.t7", "RecNet.t7")


def convert(*files: str | Path) -> NoReturn:
    """Says what is missing to make a model of the authors' files.

    Args:
        files: those of :data:`FILES`.

    Raises:
        FacehalError: always: a file cannot be read, is none of Torch 7's, or holds a network whose
            layers nobody has published.
    """
    held = [f"{Path(file).name} ({torch_class(Path(file))})" for file in files]
    raise FacehalError(
        f"{', '.join(held)}: networks of Torch 7 that cannot become a model here: of SymmFCNet "
        "only the test program is public; missing are the layers of its networks and how they are "
        "joined. Train your own: facehal train symmfcnet"
    )


def torch_class(path: Path) -> str:
    """The class of the object that a binary file of Torch 7 holds, ``nn.gModule`` for a graph.

    The file begins with a type code and an index (int32), a version and the name, each with its
    length (int32) before it.

    Raises:
        FacehalError: it cannot be read, or is no such file.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(16 + 2 * _LONGEST)
    except OSError as error:
        raise FacehalError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        (code,) = struct.unpack_from("<i", start)
        version, rest = _text(start, 8)
        if version.startswith("V "):
            name, _ = _text(start, rest)
        else:  # files before Torch 7's first version have the name here
            name = version
    except (struct.error, ValueError):
        code, name = 0, ""
    if code != _OBJECT or not name:
        raise FacehalError(f"{path}: not a binary file of Torch 7 (.t7)")
    return name


def _text(data: bytes, at: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends."""
    (length,) = struct.unpack_from("<i", data, at)
    end = at + 4 + length
    if not 0 < length <= _LONGEST or end > len(data):
        raise ValueError("no length of a name")
    text = data[at + 4 : end].decode("ascii")
    if not text.isprintable():
        raise ValueError("no name")
    return text, end
