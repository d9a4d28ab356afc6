"""LFW's archive: checked, unpacked whole or not at all, over a real local server."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from facehal.data.lfw import fetch
from facehal.errors import DataError, WeightsError


@pytest.fixture
def archive(tmp_path):
    """A small archive of the same layout, with things in it that are no photos."""
    path = tmp_path / "small.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.jpg", "README.txt"):
            data = name.encode()
            info = tarfile.TarInfo(f"lfw_funneled/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_unpacks_the_photos_by_subject(archive, tmp_path):
    out = tmp_path / "raw/lfw"
    assert fetch(out, archive, sha256=digest(archive), progress=False) == 3
    found = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert found == ["Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.jpg"]
    assert archive.exists()
    with pytest.raises(DataError, match="not empty"):
        fetch(out, archive, sha256=digest(archive), progress=False)


def test_downloads_from_a_server(archive, tmp_path, monkeypatch):
    content = archive.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/lfw":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        out = tmp_path / "raw/lfw"
        with pytest.raises(WeightsError, match="404"):
            fetch(out, url=f"{base}/gone", progress=False)
        assert fetch(out, url=f"{base}/lfw", sha256=digest(archive), progress=False) == 3
        assert [p.name for p in out.parent.iterdir()] == ["lfw"]
    finally:
        server.shutdown()


def test_wrong_or_hostile_archives_leave_nothing(archive, tmp_path):
    out = tmp_path / "raw/lfw"
    with pytest.raises(DataError, match="SHA-256 differs"):
        fetch(out, archive, progress=False)
    with pytest.raises(DataError, match="no such file"):
        fetch(out, tmp_path / "gone.tgz", progress=False)
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match="not unpacked"):
        fetch(out, cut, sha256=digest(cut), progress=False)
    assert not out.exists()


@pytest.mark.parametrize(
    "name",
    ["x/../../y.jpg", "/y.jpg", "/x/y.jpg", r"x/..\..\y.jpg", "C:/y.jpg", r"x\y/z.jpg"],
)
def test_an_archive_that_leads_out_of_the_folder_is_refused(name, tmp_path):
    hostile, out = tmp_path / "hostile.tgz", tmp_path / "raw/lfw"
    with tarfile.open(hostile, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    with pytest.raises(DataError, match="it names") as caught:
        fetch(out, hostile, sha256=digest(hostile), progress=False)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_links_of_an_archive_are_left_out(tmp_path):
    """To files elsewhere, through which the next entry would be written, and hard ones."""
    hostile, out = tmp_path / "hostile.tgz", tmp_path / "raw/lfw"
    with tarfile.open(hostile, "w:gz") as tar:
        for kind, name, target in (
            (tarfile.SYMTYPE, "lfw/Ann", str(tmp_path / "else")),
            (tarfile.SYMTYPE, "lfw/Bob/Bob_0001.jpg", "/etc/passwd"),
            (tarfile.LNKTYPE, "lfw/Bob/Bob_0002.jpg", "/etc/passwd"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("lfw/Ann/Ann_0001.jpg"), io.BytesIO(b""))
    assert fetch(out, hostile, sha256=digest(hostile), progress=False) == 1
    assert [p.name for p in out.rglob("*") if not p.is_dir()] == ["Ann_0001.jpg"]
    assert not (tmp_path / "else").exists() and not (out / "Ann").is_symlink()
