"""The authors' files are recognised and refused, other files called what they are."""

import struct
from pathlib import Path

import pytest

from facehal.errors import FacehalError
from facehal.models.symmfcnet.published import convert, torch_class


def torch7(path: Path, name: str, version: str | None = "V 1") -> Path:
    """The beginning of what ``torch.save`` of Torch 7 writes: an object, number 1, its class."""
    data = struct.pack("<2i", 4, 1)
    for text in (version, name):
        if text is not None:
            data += struct.pack("<i", len(text)) + text.encode()
    path.write_bytes(data + struct.pack("<2i", 3, 2) + bytes(600))
    return path


@pytest.mark.parametrize("version", ["V 1", None])
def test_a_file_of_the_authors(tmp_path, version):
    path = torch7(tmp_path / "FlowNet.t7", "nn.gModule", version)
    assert torch_class(path) == "nn.gModule"
    with pytest.raises(FacehalError) as caught:
        convert(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    for words in ("nn.gModule", "only the test program is public", "missing are the layers"):
        assert words in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip as PyTorch writes it",
        struct.pack("<2i", 3, 1) + bytes(100),  # a table
        struct.pack("<3i", 4, 1, 10**9) + bytes(100),
        struct.pack("<3i", 4, 1, 3) + b"V 1" + struct.pack("<i", 0),
        struct.pack("<3i", 4, 1, 3) + b"\xff\xfe\xfd" + bytes(100),
    ],
)
def test_other_files(tmp_path, content):
    path = tmp_path / "x.t7"
    path.write_bytes(content)
    with pytest.raises(FacehalError, match="not a binary file of Torch 7"):
        convert(path)


def test_no_file(tmp_path):
    with pytest.raises(FacehalError, match="cannot be read"):
        convert(tmp_path / "none.t7")
