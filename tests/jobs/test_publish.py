"""A run is published into a folder and on a hub, and loaded from both; nothing else is."""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import yaml

import facehal
from facehal import hub
from facehal.errors import DataError, FacehalError
from facehal.jobs.publish import publish
from facehal.shipped import find_model
from facehal.training.run import Run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tiny_config, sample_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    config = tiny_config.replace_training(epochs=1, preview_faces=0)
    Run(config, sample_data, folder, limit=8, progress=False).fit()
    return folder


def card(text: str) -> dict:
    _, front, body = text.split("---\n", 2)
    return {**yaml.safe_load(front), "body": body}


def test_a_folder(run, tmp_path, sample_faces):
    out = tmp_path / "shared"
    assert publish(run, out, licence="cc-by-nc-4.0", title="Tiny") == str(out)
    assert sorted(path.name for path in out.iterdir()) == [hub.CARD, hub.ABOUT, hub.MODEL]
    page = card((out / hub.CARD).read_text())
    assert page["license"] == "cc-by-nc-4.0" and page["pipeline_tag"] == "image-to-image"
    assert "# Tiny" in page["body"] and "On 8 faces" in page["body"]
    assert "| `network.resolutions` | 8, 16 |" in page["body"]
    assert str(tmp_path.parent) not in page["body"] + (out / hub.ABOUT).read_text()
    faces, masks = (array[:2, ::8, ::8] for array in sample_faces)
    masked = (faces * masks[..., None] / 255).astype(np.float32)
    here, there = (
        facehal.load(place).from_masks(masked, masks) for place in (run / hub.MODEL, out)
    )
    np.testing.assert_array_equal(here, there)
    publish(run, out, licence="other")  # again, in its own folder
    assert "license: other" in (out / hub.CARD).read_text()


def test_what_is_refused(run, tmp_path):
    out = tmp_path / "shared"
    publish(run / hub.MODEL, out, licence="other")
    (out / hub.MODEL).write_bytes(b"something else")
    with pytest.raises(FacehalError, match="not the file that was published"):
        facehal.load(out)
    (out / hub.ABOUT).write_text("{}")
    with pytest.raises(FacehalError, match="not a published model"):
        find_model(out)
    with pytest.raises(DataError, match=r"no model\.keras; name a run folder"):
        publish(tmp_path, out, licence="other")
    with pytest.raises(FacehalError, match="holds other things; name a new folder"):
        publish(run, run, licence="other")
    with pytest.raises(FacehalError, match="one word, as hubs write it"):
        publish(run, tmp_path / "new", licence="free for all")
    assert not (tmp_path / "new").exists()
    for address in ("hf://alone", "hf://a/b/c", "hf://a/b@"):
        with pytest.raises(FacehalError, match="write hf://user/name"):
            facehal.load(address)


class LocalHub(BaseHTTPRequestHandler):
    """As much of a hub's interface as an upload and a download ask for."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    commit = "0" * 39 + "1"

    def log_message(self, *_):
        pass

    def answer(self, content: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = self.path.strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            name = "someone/" + json.loads(body)["name"]
            self.repositories[name] = {}
            reply = {"url": f"http://{self.headers['Host']}/{name}", "name": name}
        elif parts == ["api", "validate-yaml"]:
            reply = {"errors": [], "warnings": []}
        elif parts[4] == "preupload":
            files = json.loads(body)["files"]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            reply = {"files": [{"path": one["path"], **plain} for one in files]}
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.repositories["/".join(parts[2:4])][line["value"]["path"]] = content
            url = f"http://{self.headers['Host']}/someone/tiny/commit/{self.commit}"
            reply = {"success": True, "commitOid": self.commit, "commitUrl": url}
        self.answer(json.dumps(reply).encode(), Content_Type="application/json")

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[0] == "api":
            files = self.repositories["/".join(parts[2:4])]
            siblings = [{"rfilename": name} for name in files]
            reply = {"id": "someone/tiny", "sha": self.commit, "siblings": siblings}
            if "tree" in parts:
                reply = [
                    {"type": "file", "path": name, "size": len(content), "oid": "0"}
                    for name, content in files.items()
                ]
            self.answer(json.dumps(reply).encode(), Content_Type="application/json")
        else:
            content = self.repositories["/".join(parts[:2])][parts[-1]]
            self.answer(content, ETag=f'"{parts[-1]}"', X_Repo_Commit=self.commit)

    do_HEAD = do_GET


@pytest.fixture
def endpoint():
    LocalHub.repositories.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), LocalHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_a_hub(run, endpoint, tmp_path):
    """Its own client sends to a hub on this machine and fetches from it, once."""
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub (extra: hub)")
    surroundings = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache")}
    surroundings |= {"HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}

    def said(*words: str, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={**surroundings, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    to = ("--to", "hf://someone/tiny", "--licence", "other")
    done = said("-m", "facehal", "publish", str(run), *to)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "hf://someone/tiny"
    files = LocalHub.repositories["someone/tiny"]
    assert sorted(files) == sorted([hub.CARD, hub.ABOUT, hub.MODEL])
    assert files[hub.MODEL] == (run / hub.MODEL).read_bytes()
    assert 'facehal.load("hf://someone/tiny")' in files[hub.CARD].decode()

    files["setup.py"] = b"raise SystemExit"  # is left where it is
    find = "from facehal.shipped import find_model; print(find_model('hf://someone/tiny'))"
    done = said("-c", find)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.read_bytes() == files[hub.MODEL]
    assert sorted(one.name for one in path.parent.iterdir()) == [hub.ABOUT, hub.MODEL]
    files.clear()
    again = said("-c", find, HF_HUB_OFFLINE="1")
    assert again.stdout == done.stdout

    done = said("-c", find.replace("tiny", "gone"), HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "hf://someone/gone: cannot be fetched" in done.stderr
