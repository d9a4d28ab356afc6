"""Readers of weight files: right values from good files, one clear line for bad ones."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.weights.formats.npz import read_npz
from facehal.weights.formats.pytorch import read_torch


def _zip_pth(path: Path, data: bytes, members: dict[str, bytes] | None = None, **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in (members or {}).items():
            archive.writestr(f"archive/{name}", content)
    return path


def _legacy_pth(path: Path, state: bytes) -> Path:
    head = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
    path.write_bytes(head + state + pickle.dumps([], 2))
    return path


def _tensor_pickle(count: int, size: str, stride: str) -> bytes:
    """{'w': tensor over a storage of `count` floats}, written by hand."""
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI%d\ntQ" % count
    shape = b"(%bt(%bt" % tuple(
        b"".join(b"I%d\n" % int(n) for n in text.split()) for text in (size, stride)
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"I0\n" + shape + b"I00\n(dtR"
    return b"(S'w'\n" + tensor + b"d."


def _refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_torch(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_hand_written_state_dict_is_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype="<f4")
    data = _tensor_pickle(6, "2 3", "1 2")
    file = _zip_pth(tmp_path / "a.pth", data, {"data/0": values.tobytes()})
    np.testing.assert_array_equal(read_torch(file)["w"], values.reshape(3, 2).T)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_real_pytorch_files_are_read(tmp_path: Path, form: str) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    base = torch.randn(4, 6)
    state = {
        "plain": base,
        "view": base.t()[1:3],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "half": torch.randn(5).half(),
        "double": torch.randn(2, 2).double(),
        "counter": torch.tensor(7),
    }
    file = tmp_path / "state.pth"
    torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
    read = read_torch(file)
    assert list(read) == list(state)
    for name, value in state.items():
        np.testing.assert_array_equal(read[name], value.detach().numpy())


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_pickle_that_calls_something_is_refused(tmp_path: Path, form: str) -> None:
    marker = tmp_path / "ran"
    data = pickle.dumps({"w": _Evil(marker)}, 2)
    make = _zip_pth if form == "zip" else _legacy_pth
    text = _refused(make(tmp_path / "evil.pth", data))
    assert "system" in text
    assert not marker.exists()


def test_builtins_are_refused(tmp_path: Path) -> None:
    text = _refused(_zip_pth(tmp_path / "e.pth", b"c__builtin__\neval\n(S'1'\ntR."))
    assert "eval" in text


def test_a_tensor_beyond_its_data_is_refused(tmp_path: Path) -> None:
    content = {"data/0": np.zeros(4, "<f4").tobytes()}
    for size, stride, reason in (
        ("2 3", "3 1", "larger than its data"),
        ("4", "2", "reaches beyond"),
        ("1000000000 1000", "0 0", "larger than its data"),
        ("4", "-1", "impossible shape"),
    ):
        file = _zip_pth(tmp_path / "t.pth", _tensor_pickle(4, size, stride), content)
        assert reason in _refused(file)


def test_storages_that_lie_about_their_size_are_refused(tmp_path: Path) -> None:
    data = _tensor_pickle(4, "4", "1")
    assert "another size" in _refused(_zip_pth(tmp_path / "a.pth", data, {"data/0": b"1234"}))
    assert "missing" in _refused(_zip_pth(tmp_path / "b.pth", data))
    packed = _zip_pth(
        tmp_path / "c.pth", data, {"data/0": bytes(16)}, compression=zipfile.ZIP_DEFLATED
    )
    assert "compressed" in _refused(packed)


def test_a_huge_memo_index_is_refused_before_unpickling(tmp_path: Path) -> None:
    file = _zip_pth(tmp_path / "m.pth", b"\x80\x02K\x01r\xff\xff\xff\x7f.")
    assert "memo" in _refused(file)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_cut_off_files_are_refused(tmp_path: Path, form: str) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    whole = tmp_path / "whole.pth"
    torch.save({"w": torch.randn(500)}, whole, _use_new_zipfile_serialization=form == "zip")
    data = whole.read_bytes()
    for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.999):
        file = tmp_path / "cut.pth"
        file.write_bytes(data[: int(share * len(data))])
        _refused(file)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"\x80\x02.", bytes(5000)])
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "page.pth"
    file.write_bytes(content)
    _refused(file)


# ------------------------------------------------------------------------------------------- npz

SHAPES = {"a": (2, 3), "b": (4,)}


def _good() -> dict[str, np.ndarray]:
    return {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float64)}


def test_npz_gives_float32_in_the_order_of_the_shapes(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", extra=np.ones(3), **_good())
    read = read_npz(tmp_path / "w.npz", SHAPES)
    assert list(read) == ["a", "b"]
    assert {array.dtype for array in read.values()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"a": np.ones((3, 2), np.float32)}, "shape"),
        ({"a": np.full((2, 3), np.nan, np.float32)}, "not finite"),
        ({"a": np.array([[None, {}]], dtype=object)}, "cannot be read"),
        ({"a": np.zeros((1000, 1000))}, "larger than"),
        ({"a": np.full((2, 3), "x")}, "not numbers"),
    ],
)
def test_wrong_npz_is_refused(tmp_path: Path, change: dict, reason: str) -> None:
    file = tmp_path / "w.npz"
    np.savez_compressed(file, allow_pickle=True, **(_good() | change))
    with pytest.raises(WeightsError, match=reason) as caught:
        read_npz(file, SHAPES)
    assert str(file) in str(caught.value)


def test_incomplete_npz_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.npz"
    np.savez(file, a=_good()["a"])
    with pytest.raises(WeightsError, match="holds no b"):
        read_npz(file, SHAPES)
    np.savez(file, **_good())
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="cannot be read as"):
        read_npz(file, SHAPES)
    damaged = bytearray(data)
    damaged[data.index(b"\x93NUMPY") + 130] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(WeightsError, match="cannot be read as"):
        read_npz(file, SHAPES)
