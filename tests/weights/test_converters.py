"""Converters of publishers' files: the right arrays from good ones, one clear line for bad ones."""

import importlib.util
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.weights import store
from facehal.weights.arrays import fingerprint
from facehal.weights.converters import alexnet, dlib_resnet, lpips


def _empty_wheel(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("lpips/__init__.py", b"")
    return path


def test_alexnet_from_pytorch_is_alexnet_from_npz(tmp_path: Path, shared: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    ours = alexnet.convert(shared / "weights/lpips/alexnet_owt_features_hwio.npz")
    state = {"classifier.6.bias": torch.zeros(1000)}
    for number, index in enumerate((0, 3, 6, 8, 10), start=1):
        kernel = ours[f"conv{number}.kernel_hwio"].transpose(3, 2, 0, 1)
        state[f"features.{index}.weight"] = torch.tensor(np.ascontiguousarray(kernel))
        state[f"features.{index}.bias"] = torch.tensor(ours[f"conv{number}.bias"])
    torch.save(state, tmp_path / "alexnet.pth")
    read = alexnet.convert(tmp_path / "alexnet.pth")
    assert fingerprint(read) == fingerprint(ours)
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"features\.0\.weight"):
        alexnet.convert(tmp_path / "other.pth")


def test_lpips_heads_of_the_pip_package_are_those_of_the_table(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("lpips")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the pip package lpips (extra: reference)")
    package = Path(spec.submodule_search_locations[0])
    wheel = tmp_path / "lpips-0.1.4-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for version in lpips.VERSIONS:
            name = f"weights/v{version}/alex.pth"
            archive.write(package / name, f"lpips/{name}")
    for source in (package, wheel):
        heads = lpips.convert(source)
        assert fingerprint(heads) == store.ENTRIES["lpips"].fingerprint
        assert min(head.min() for head in heads.values()) >= 0
    with pytest.raises(WeightsError, match="not the lpips wheel"):
        lpips.convert(_empty_wheel(tmp_path / "x.whl"))


def test_dlib_file_is_checked_tensor_by_tensor(tmp_path: Path) -> None:
    whole = store.path("dlib_resnet").read_bytes()
    file = tmp_path / "x.dat"
    for data in (whole[:-5000], whole[: len(whole) // 2], whole[5000:], b"", bytes(100_000)):
        file.write_bytes(data)
        with pytest.raises(WeightsError, match=r"not dlib's .*, or cut off \(no tensor of"):
            dlib_resnet.convert(file)
    start = whole.index(b"\x01\x02\x02\x80\x12") + 11
    file.write_bytes(whole[:start] + struct.pack("<f", float("nan")) + whole[start + 4 :])
    with pytest.raises(WeightsError, match="not finite"):
        dlib_resnet.convert(file)
