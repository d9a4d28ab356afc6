import os
import stat

import pytest

from facehal.errors import FacehalError, TrainingError
from facehal.files import write_bytes, write_text


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "er" / "note.txt"
    write_text(path, "première\n")
    assert path.read_bytes() == "première\n".encode()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(TrainingError, match=r"note\.txt: cannot be written \(No space left"):
            write_text(path, "other", error=TrainingError)
    assert path.read_bytes() == "première\n".encode()
    assert [one.name for one in path.parent.iterdir()] == ["note.txt"]  # nothing left over


def test_a_name_that_is_no_utf8(tmp_path):
    write_text(tmp_path / "list.txt", b"Jos\xe9.jpg\n".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "list.txt").read_bytes() == b"Jos\xe9.jpg\n"


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FacehalError) as caught:
        write_text(tmp_path / "file" / "note.txt", "x")
    assert "note.txt: cannot be written" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(OSError):
        write_bytes(tmp_path / "file" / "note.txt", b"x")


def test_readable_like_any_file_of_the_user(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "one", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o640
