import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from facehal.errors import FacehalError, TrainingError
from facehal.files import locked, replacing, unique_names, write_bytes, write_text


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


@pytest.mark.parametrize("sync", [False, True])
def test_what_others_write_replaces_the_old_file(tmp_path, sync):
    path = tmp_path / "deep" / "model.keras"
    for text in ("first", "second"):
        with replacing(path, sync=sync) as part:
            assert part.name == "model.keras" and part.parent.parent == path.parent
            (part.parent / "scratch").write_text("beside it")
            part.write_text(text)
            part.chmod(0o600)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
        assert [one.name for one in path.parent.iterdir()] == ["model.keras"]
    with pytest.raises(ValueError), replacing(path) as part:
        part.write_text("half")
        raise ValueError
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written
    assert path.read_text() == "second"
    assert [one.name for one in path.parent.iterdir()] == ["model.keras"]
    before = os.umask(0o027)
    os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~before


def test_a_folder_that_others_write(tmp_path):
    with replacing(tmp_path / "saved") as part:
        part.mkdir(0o700)
        (part / "inner").write_text("x")
    assert (tmp_path / "saved" / "inner").read_text() == "x"
    with pytest.raises(OSError), replacing(tmp_path / "saved") as part:
        part.mkdir()
        (part / "inner").write_text("y")
    assert (tmp_path / "saved" / "inner").read_text() == "x"
    (tmp_path / "file").touch()
    with pytest.raises(OSError), replacing(tmp_path / "file" / "below") as part:
        raise AssertionError("nothing can be written below a file")


def test_names_of_their_own():
    assert unique_names([]) == []
    assert unique_names(["b", "a", "b"]) == ["b", "a", "b_2"]  # in the order of the wanted ones
    assert unique_names(["x", "x", "x_2"]) == ["x", "x_2", "x_2_2"]
    assert unique_names(["x_2", "x", "x"]) == ["x_2", "x", "x_3"]  # what is wanted so is taken
    # As file systems see it that know no upper case; the spelling stays.
    assert unique_names(["Ä", "ä", "É/x", "é/X"]) == ["Ä", "ä_2", "É/x", "é/X_2"]
    odd = os.fsdecode(b"a\xff")
    assert unique_names([odd, odd]) == [odd, f"{odd}_2"]


def test_names_are_the_same_for_any_that_follow():
    """A set that grows at its end keeps the names of what it had."""
    wanted = ["x", "X", "x_2", "y", "x", "Y_2", "y", "x_2"]
    names = unique_names(wanted)
    assert len({name.lower() for name in names}) == len(wanted)
    for count in range(len(wanted)):
        assert unique_names(wanted[:count]) == names[:count]


def test_one_process_at_a_time(tmp_path):
    code = (
        "import sys; from facehal.files import locked\n"
        "with locked(sys.argv[1]): print('in', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "in\n"
    refused = pytest.raises(TrainingError, match="another process is writing to it")
    with refused, locked(tmp_path, TrainingError):
        raise AssertionError("nobody else may come in")
    process.kill()  # the lock goes with the process, whatever it leaves behind
    process.communicate(timeout=30)
    with locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
