"""Where the published weights lie, and how they get there.

Converted files stand in the folder named by the environment variable `FACEHAL_WEIGHTS`, else in
`$XDG_CACHE_HOME/facehal/weights`, else in `~/.cache/facehal/weights`. dlib's two files come with
the pip package `face_recognition_models` and are used where pip put them.

Not every publisher gives a hash. Where none is known, the first file that passes all checks of
shape and value is written down in `recorded.json` beside the weights, and later ones must hold the
same numbers.
"""

import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facehal.errors import WeightsError
from facehal.files import replacing, sha256, write_text
from facehal.weights.arrays import Arrays, Shapes, fingerprint
from facehal.weights.formats.npz import read_npz
from facehal.weights.table import ENTRIES, LPIPS_PACKAGE, Entry


@dataclass(frozen=True)
class Status:
    """One row of `facehal weights list`: an entry, and the file that holds it (None: missing)."""

    entry: Entry
    path: Path | None

    @property
    def present(self) -> bool:
        """Whether the weights can be used now."""
        return self.path is not None


def folder() -> Path:
    """The folder of converted weights; it need not exist yet."""
    named = os.environ.get("FACEHAL_WEIGHTS")
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "facehal" / "weights"


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise WeightsError(f"no weights are called {name!r}; there are: {', '.join(ENTRIES)}")
    return ENTRIES[name]


def _find(entry: Entry) -> Path | None:
    own = folder() / entry.stored
    if own.is_file():
        return own
    if entry.package:
        # Not imported: its __init__ needs pkg_resources, which newer Pythons lack.
        spec = importlib.util.find_spec(entry.package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            file = Path(place) / "models" / entry.file
            if file.is_file():
                return file
    return None


def path(name: str) -> Path:
    """The file that holds these weights.

    Raises:
        WeightsError: unknown name, or the file is not on this machine (says how to get it).
    """
    entry = _entry(name)
    file = _find(entry)
    if file is None:
        raise WeightsError(_how_to_get(entry))
    return file


def _how_to_get(entry: Entry) -> str:
    start = f"the weights {entry.name!r} are not here: "
    by_hand = f"`facehal weights import {entry.name} FILE`"
    if entry.package:
        return f"{start}run `pip install {entry.package}`, or {by_hand} with {entry.file}"
    return f"{start}run `facehal weights get {entry.name}`, or {by_hand} with {entry.file}"


def load(name: str, shapes: Shapes) -> Arrays:
    """The arrays of an installed .npz, checked against the shapes that the network needs.

    Raises:
        WeightsError: missing, damaged, or of another network.
    """
    return read_npz(path(name), shapes)


def status() -> list[Status]:
    """All known weights and whether they are here, in the order of the table."""
    return [Status(entry, _find(entry)) for entry in ENTRIES.values()]


def get(name: str, progress: bool = True) -> Path:
    """Fetch weights from their publisher, check them, convert them and put them in our folder.

    A download that broke off goes on where it stopped. Nothing is done where the file is already.

    Args:
        name: of the weights.
        progress: draw a bar on standard error.

    Returns:
        The installed file.

    Raises:
        WeightsError: unknown name, no network, wrong hash, a file of another network, or weights
            that cannot be fetched (says where they are published and how to import them).
    """
    entry = _entry(name)
    present = _find(entry)
    if present is not None:
        return present
    if name == "lpips":
        return _get_lpips()
    if entry.url is None:
        raise WeightsError(_how_to_get(entry))
    part = folder() / f"{entry.url.rsplit('/', 1)[-1]}.part"
    _make(part.parent)
    download(entry.url, part, progress)
    if entry.sha256 is not None and not file_sha256(part).startswith(entry.sha256):
        part.unlink()
        raise WeightsError(
            f"{entry.url}: what arrived is not the published file (SHA-256 differs); try again"
        )
    try:
        installed = import_file(name, part)
    except WeightsError as error:
        if entry.sha256 is None:
            # Whole, but perhaps a page of excuses: a later attempt must not go on with it.
            part.unlink()
        raise WeightsError(f"{entry.url}: what arrived cannot be installed: {error}") from error
    part.unlink()
    return installed


def _get_lpips() -> Path:
    spec = importlib.util.find_spec("lpips")
    for place in (spec.submodule_search_locations or []) if spec else []:
        return import_file("lpips", place)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", scratch, LPIPS_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise WeightsError(f"pip could not download {LPIPS_PACKAGE}: {reason}")
        return import_file("lpips", wheels[0])


def download(url: str, part: Path, progress: bool = True) -> None:
    """Fetch `url` into `part`, going on after the bytes that are there; checking is the caller's.

    Raises:
        WeightsError: no network, the server refuses, or the download broke off.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            if answer.status != 206:
                have = 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            with (
                part.open("ab" if have else "wb") as stream,
                tqdm(
                    total=total,
                    initial=have,
                    unit="B",
                    unit_scale=True,
                    desc=part.stem,
                    disable=not progress,
                ) as bar,
            ):
                while block := answer.read(1 << 18):
                    stream.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        error.close()
        # Nothing beyond the bytes that are there: they are the whole file, or the hash will tell.
        if error.code != 416:
            raise WeightsError(f"{url}: the server answers {error.code} {error.reason}") from error
        return
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(f"{url}: download failed ({reason}); run it again to go on") from error
    size = part.stat().st_size
    if total is not None and size < total:
        raise WeightsError(f"{url}: broke off after {size} of {total} bytes; run it again to go on")


def import_file(name: str, file: str | Path) -> Path:
    """Install weights from a file that the user has.

    Args:
        name: of the weights.
        file: the publisher's file, or an .npz in our own form.

    Returns:
        The installed file.

    Raises:
        WeightsError: the file is missing, damaged, hostile, of another network, or not the one
            that was published (or, of those without a published hash, imported first).
    """
    entry, source = _entry(name), Path(file)
    if not source.exists():
        raise WeightsError(f"{source}: no such file")
    if source.is_dir() and name != "lpips":
        raise WeightsError(f"{source}: is a folder, not {entry.file}")
    # Also of files whose hash is not known: one that cannot be read is told here.
    digest = "" if source.is_dir() else file_sha256(source)
    if entry.converter is None:
        if digest != entry.sha256:
            raise WeightsError(f"{source}: not the published {entry.file} (its SHA-256 differs)")
        with _installing(entry.stored) as part:
            shutil.copyfile(source, part)
    else:
        published = entry.sha256 is not None and digest.startswith(entry.sha256)
        arrays = entry.converter(source)
        seen = fingerprint(arrays)
        if not published and entry.fingerprint not in (None, seen):
            raise WeightsError(f"{source}: right shapes, but not the published weights of {name!r}")
        recorded = _recorded()
        known = recorded.get(name)
        if not published and known is not None and known["fingerprint"] != seen:
            raise WeightsError(
                f"{source}: not the weights of {name!r} that were imported first "
                f"({known['file']}); to take it all the same, remove {folder() / _RECORD}"
            )
        with _installing(entry.stored) as part, part.open("wb") as stream:
            # The stubs take the names of arrays for savez's own options.
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        if entry.fingerprint is None and (known is None or known["fingerprint"] != seen):
            name_there = source.name.removesuffix(".part")
            new = {"file": name_there, "sha256": digest, "fingerprint": seen}
            text = json.dumps(recorded | {name: new}, indent=2) + "\n"
            write_text(folder() / _RECORD, text, WeightsError)
    return folder() / entry.stored


_RECORD = "recorded.json"


def _recorded() -> dict[str, dict[str, str]]:
    """By name: file, SHA-256 and fingerprint of the weights that were imported first."""
    file = folder() / _RECORD
    if not file.exists():
        return {}
    try:
        recorded: dict[str, dict[str, str]] = json.loads(file.read_text("utf-8"))
        if all(isinstance(row["file"] + row["fingerprint"], str) for row in recorded.values()):
            return recorded
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        pass
    raise WeightsError(f"{file}: cannot be read; remove it to have weights recorded anew")


def _make(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"{place}: cannot be made ({error.strerror})") from error


@contextmanager
def _installing(stored: str) -> Iterator[Path]:
    """Where to write a file of our folder, which `stored` then names."""
    target = folder() / stored
    _make(target.parent)
    try:
        with replacing(target) as part:
            yield part
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written ({error.strerror})") from error


def file_sha256(file: Path) -> str:
    """SHA-256 of a file in hexadecimal; WeightsError where it cannot be read."""
    try:
        return sha256(file)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror})") from error
