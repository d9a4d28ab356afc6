"""The authors' files are recognised and refused, other files called what they are."""

import struct
from pathlib import Path

import pytest

from facehal.errors import FacehalError
from facehal.models.base import from_published
from facehal.models.symmfcnet.published import FILES, convert, torch_class


def torch7(path: Path, name: str, version: str | None = "V 1") -> Path:
    """The beginning of what ``torch.save`` of Torch 7 writes: an object, number 1, its class."""
    data = struct.pack("<2i", 4, 1)
    for text in (version, name):
        if text is not None:
            data += struct.pack("<i", len(text)) + text.encode()
    path.write_bytes(data + struct.pack("<2i", 3, 2) + bytes(600))
    return path


@pytest.mark.parametrize("version", ["V 1", None])
def test_the_files_of_the_authors(tmp_path, version):
    paths = [torch7(tmp_path / name, "nn.gModule", version) for name in FILES]
    assert [torch_class(path) for path in paths] == ["nn.gModule"] * 4
    with pytest.raises(FacehalError) as caught:
        from_published("symmfcnet", paths)
    message = str(caught.value)
    assert "\n" not in message
    for words in (
        "MaskNet.t7 (nn.gModule), FlowNet.t7 (nn.gModule)",
        "only the test program is public",
        "missing are the layers",
    ):
        assert words in message


def test_too_few_files(tmp_path):
    with pytest.raises(FacehalError, match=r"made of 4 files: MaskNet\.t7 FlowNet\.t7"):
        from_published("symmfcnet", [tmp_path / "FlowNet.t7"])


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
