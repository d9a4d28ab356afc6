import os
import shutil
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from facehal.training.provenance import data_hash, environment, git_state


def test_data_hash():
    faces, masks = np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 4, 4), np.uint8)
    expected = data_hash(faces, masks)
    assert expected == data_hash(faces.copy(), masks.copy())
    changed = masks.copy()
    changed[1, 2, 2] = 1
    assert data_hash(faces, changed) != expected
    assert data_hash(faces[:1], masks) != expected


def test_environment():
    about = environment()
    assert about["backend"] == keras.backend.backend() and about["keras"] == keras.__version__
    assert about["device"] and {"python", "system", "numpy"} <= set(about)
    assert all(isinstance(value, str) for value in about.values())


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A git checkout with a package in it, all committed."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("one = 1\n")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "-m", "first")
    return package


def git(folder: Path, *words: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True, env=clean
    ).stdout.strip()


def test_git_state(checkout, monkeypatch):
    """The commit; a file that differs or is new; not those beside the package."""
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a hook
    assert git_state(checkout) == commit
    (checkout.parent / "notes.txt").write_text("x")
    assert git_state(checkout) == commit
    (checkout / "new.py").write_text("two = 2\n")
    assert git_state(checkout) == f"{commit}, changed since"
    (checkout / "new.py").unlink()
    (checkout / "__init__.py").write_text("one = 2\n")
    assert git_state(checkout) == f"{commit}, changed since"


def test_no_git_state(checkout, tmp_path, monkeypatch):
    """Installed into a folder of somebody's checkout; in none; without git."""
    installed = checkout.parent / "venv" / "package"
    shutil.copytree(checkout, installed)
    assert git_state(installed) is None
    (tmp_path / "plain").mkdir()
    assert git_state(tmp_path / "plain") is None
    assert git_state(checkout)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(checkout) is None
