"""Where weights are found, how they get there, and what is refused on the way."""

import hashlib
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.weights import store
from facehal.weights.arrays import fingerprint
from facehal.weights.converters import alexnet, lpips


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def _message(call, *arguments) -> str:
    with pytest.raises(WeightsError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_folder_is_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", "~/w")
    assert store.folder() == Path.home() / "w"
    monkeypatch.delenv("FACEHAL_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.folder() == tmp_path / "facehal" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.folder() == Path.home() / ".cache" / "facehal" / "weights"


def test_missing_weights_say_how_to_get_them() -> None:
    for name in ("alexnet", "lpips", "vgg_face", "resnet50_256d", "inception", "pieapp"):
        text = _message(store.path, name)
        assert f"facehal weights get {name}" in text
        assert f"facehal weights import {name} FILE" in text
        assert store.ENTRIES[name].file in text


def test_missing_dlib_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install face_recognition_models" in _message(store.path, "dlib_resnet")
    assert "pip install face_recognition_models" in _message(store.get, "dlib_landmarks")


def test_unknown_names_are_listed() -> None:
    assert "alexnet" in _message(store.path, "alexnett")


def test_dlib_files_are_found_without_importing_their_package() -> None:
    for name in ("dlib_resnet", "dlib_landmarks"):
        entry, file = store.ENTRIES[name], store.path(name)
        assert file.stat().st_size == entry.size
        assert store.file_sha256(file) == entry.sha256
        assert store.get(name) == file
    assert "face_recognition_models" not in sys.modules


def test_status_lists_every_entry(folder: Path) -> None:
    rows = {row.entry.name: row for row in store.status()}
    assert list(rows) == list(store.ENTRIES)
    assert rows["dlib_resnet"].present
    assert not rows["alexnet"].present
    assert all(
        row.entry.licence and row.entry.what and row.entry.publisher for row in rows.values()
    )


def test_import_of_our_own_npz(shared: Path, folder: Path) -> None:
    given = shared / "weights/lpips/alexnet_owt_features_hwio.npz"
    file = store.import_file("alexnet", given)
    assert file == store.path("alexnet") == folder / "alexnet.npz"
    loaded = store.load("alexnet", alexnet.SHAPES)
    with np.load(given) as original:
        for name, array in loaded.items():
            np.testing.assert_array_equal(array, original[name])
    assert [f.name for f in folder.iterdir()] == ["alexnet.npz"]


def test_weights_that_are_not_the_published_ones_are_refused(
    shared: Path, folder: Path, tmp_path: Path
) -> None:
    with np.load(shared / "weights/lpips/lpips_lin_alex.npz") as original:
        heads = dict(original)
    heads["v0.0.lin2"] = heads["v0.0.lin2"] * 1.001
    np.savez(tmp_path / "heads.npz", **heads)
    assert "not the published weights" in _message(
        store.import_file, "lpips", tmp_path / "heads.npz"
    )
    (tmp_path / "dlib.dat").write_bytes(store.path("dlib_resnet").read_bytes()[:-1])
    assert "SHA-256" in _message(store.import_file, "dlib_resnet", tmp_path / "dlib.dat")
    assert "no such file" in _message(store.import_file, "lpips", tmp_path / "none.npz")
    assert "is a folder" in _message(store.import_file, "alexnet", tmp_path)
    assert not folder.exists() or not list(folder.iterdir())


def test_a_failed_import_keeps_what_was_there(shared: Path, folder: Path, tmp_path: Path) -> None:
    file = store.import_file("lpips", shared / "weights/lpips/lpips_lin_alex.npz")
    before = file.read_bytes()
    (tmp_path / "cut.npz").write_bytes(before[:3000])
    _message(store.import_file, "lpips", tmp_path / "cut.npz")
    assert file.read_bytes() == before
    assert [f.name for f in folder.iterdir()] == ["lpips.npz"]


def test_a_folder_that_cannot_be_made_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path / "file" / "below"))
    assert "cannot be made" in _message(store.import_file, "dlib_resnet", store.path("dlib_resnet"))


def test_dlib_file_can_be_imported_where_the_package_is_absent(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    file = store.import_file("dlib_resnet", store.path("dlib_resnet"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert store.path("dlib_resnet") == file == folder / store.ENTRIES["dlib_resnet"].stored


# ------------------------------------------------------------------------------------- downloads

CONTENT = bytes(range(256)) * 4000


class _Publisher(BaseHTTPRequestHandler):
    """Serves CONTENT; the server's attributes say how well."""

    def do_GET(self) -> None:
        start = 0
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        body = CONTENT[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.sends])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Publisher)
    server.asked, server.status, server.ranges, server.sends = [], 200, True, None
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    entry = replace(
        store.ENTRIES["alexnet"],
        url=f"http://127.0.0.1:{server.server_port}/alexnet-owt-7be5be79.pth",
        sha256=hashlib.sha256(CONTENT).hexdigest()[:8],
        converter=lambda file: {"bytes": np.frombuffer(file.read_bytes(), np.uint8)},
    )
    monkeypatch.setitem(store.ENTRIES, "alexnet", entry)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_get_downloads_checks_and_converts(publisher, folder: Path) -> None:
    file = store.get("alexnet", progress=False)
    with np.load(file) as stored:
        assert stored["bytes"].tobytes() == CONTENT
    assert [f.name for f in folder.iterdir()] == ["alexnet.npz"]
    assert store.get("alexnet", progress=False) == file
    assert publisher.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(publisher, folder: Path, ranges: bool) -> None:
    publisher.ranges, publisher.sends = ranges, 300_000
    assert "run it again to go on" in _message(store.get, "alexnet", False)
    assert (folder / "alexnet-owt-7be5be79.pth.part").stat().st_size == 300_000
    publisher.sends = None
    with np.load(store.get("alexnet", progress=False)) as stored:
        assert stored["bytes"].tobytes() == CONTENT
    assert publisher.asked == [None, "bytes=300000-"]


def test_a_download_that_was_already_whole_is_only_checked(publisher, folder: Path) -> None:
    folder.mkdir()
    (folder / "alexnet-owt-7be5be79.pth.part").write_bytes(CONTENT)
    assert store.get("alexnet", progress=False).exists()


def test_a_wrong_download_is_refused_and_forgotten(publisher, folder: Path) -> None:
    folder.mkdir()
    (folder / "alexnet-owt-7be5be79.pth.part").write_bytes(b"of another file")
    assert "SHA-256 differs" in _message(store.get, "alexnet", False)
    assert not list(folder.iterdir())
    assert store.get("alexnet", progress=False).exists()


def test_a_server_that_refuses_or_is_not_there_is_one_line(publisher) -> None:
    publisher.status = 404
    assert "404" in _message(store.get, "alexnet", False)
    entry = replace(store.ENTRIES["alexnet"], url="http://127.0.0.1:9/alexnet-owt-7be5be79.pth")
    store.ENTRIES["alexnet"] = entry
    assert "download failed" in _message(store.get, "alexnet", False)


def test_get_takes_the_lpips_heads_from_an_installed_package() -> None:
    if importlib.util.find_spec("lpips") is None:
        pytest.skip("needs the pip package lpips (extra: reference)")
    store.get("lpips", progress=False)
    heads = store.load("lpips", lpips.SHAPES)
    assert fingerprint(heads) == store.ENTRIES["lpips"].fingerprint


def test_pip_that_cannot_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(store, "LPIPS_PACKAGE", "not a package name==?")
    assert "pip could not download" in _message(store.get, "lpips", False)


# ------------------------------------------------------------------- weights without a known hash


@pytest.fixture
def unhashed(publisher, monkeypatch: pytest.MonkeyPatch) -> ThreadingHTTPServer:
    """The publisher of weights whose hash nobody knows; its files must begin with a zero byte."""

    def converter(file: Path) -> dict[str, np.ndarray]:
        data = np.frombuffer(file.read_bytes(), np.uint8)
        if not len(data) or data[0]:
            raise WeightsError(f"{file}: not a file of this network")
        return {"bytes": data}

    url = f"http://127.0.0.1:{publisher.server_port}/pieapp.pth"
    entry = replace(store.ENTRIES["pieapp"], url=url, converter=converter)
    monkeypatch.setitem(store.ENTRIES, "pieapp", entry)
    return publisher


def test_the_first_file_is_recorded_and_later_ones_are_held_to_it(
    unhashed, folder: Path, tmp_path: Path
) -> None:
    unhashed.sends = 300_000
    assert "run it again to go on" in _message(store.get, "pieapp", False)
    unhashed.sends = None
    installed = store.get("pieapp", progress=False)
    record = json.loads((folder / "recorded.json").read_text())["pieapp"]
    assert record["file"] == "pieapp.pth"
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert sorted(f.name for f in folder.iterdir()) == ["pieapp.npz", "recorded.json"]

    (tmp_path / "other.pth").write_bytes(CONTENT[:-1])
    text = _message(store.import_file, "pieapp", tmp_path / "other.pth")
    assert "imported first (pieapp.pth)" in text
    assert str(folder / "recorded.json") in text
    # The same weights are welcome from anywhere, and nothing was lost meanwhile.
    (tmp_path / "same.pth").write_bytes(CONTENT)
    assert store.import_file("pieapp", tmp_path / "same.pth") == installed
    (folder / "recorded.json").unlink()
    store.import_file("pieapp", tmp_path / "other.pth")
    assert json.loads((folder / "recorded.json").read_text())["pieapp"]["file"] == "other.pth"


def test_a_page_in_place_of_the_file_is_refused_and_forgotten(
    unhashed, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "CONTENT", b"<!DOCTYPE html> We have moved.")
    text = _message(store.get, "pieapp", False)
    assert "what arrived cannot be installed" in text
    assert store.ENTRIES["pieapp"].url in text
    assert not list(folder.iterdir())


@pytest.mark.parametrize("content", ["{", "[]", '{"pieapp": 3}', '{"pieapp": {"file": "x"}}'])
def test_a_damaged_record_is_one_line(unhashed, folder: Path, tmp_path: Path, content: str) -> None:
    folder.mkdir()
    (folder / "recorded.json").write_text(content)
    (tmp_path / "x.pth").write_bytes(CONTENT)
    text = _message(store.import_file, "pieapp", tmp_path / "x.pth")
    assert f"{folder / 'recorded.json'}: cannot be read" in text


@pytest.mark.parametrize("name", ["vgg_face", "resnet50_256d", "inception", "pieapp"])
def test_hostile_and_foreign_files_of_the_other_networks_are_refused(
    name: str, folder: Path, tmp_path: Path
) -> None:
    for content in (b"", b"<!DOCTYPE html>", b"\x80\x02cos\nsystem\n.", bytes(5000)):
        (tmp_path / "x.pth").write_bytes(content)
        _message(store.import_file, name, tmp_path / "x.pth")
    assert not folder.exists() or not list(folder.iterdir())


def test_every_download_is_encrypted_and_the_published_hash_stands() -> None:
    for entry in store.ENTRIES.values():
        assert entry.url is None or entry.url.startswith("https://")
        assert entry.url is None or entry.url.rsplit("/", 1)[-1] in entry.file
    # pytorch-fid gives it in the file's name.
    assert "-6726825d.pth" in store.ENTRIES["inception"].url
    assert store.ENTRIES["inception"].sha256.startswith("6726825d")
