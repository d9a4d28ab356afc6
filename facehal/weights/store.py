"""Where the published weights lie, how they get there, and what is known of each file.

Converted files stand in the folder named by the environment variable `FACEHAL_WEIGHTS`, else in
`$XDG_CACHE_HOME/facehal/weights`, else in `~/.cache/facehal/weights`. dlib's two files come with
the pip package `face_recognition_models` and are used where pip put them.

Not every publisher gives a hash. Where none is known, the first file that passes all checks of
shape and value is written down in `recorded.json` beside the weights, and later ones must hold the
same numbers.
"""

import hashlib
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
from facehal.weights import convert, files


@dataclass(frozen=True)
class Entry:
    """What is known of one set of published weights.

    Attributes:
        name: how the package and its commands call it.
        what: one line for people.
        licence: of the weights, as published.
        publisher: where the file comes from: an address, or the pip package that ships it.
        file: the publisher's file name.
        sha256: of the publisher's file; a prefix where the publisher gives no more; None where
            the first one is recorded.
        size: of the publisher's file in bytes, about.
        stored: the name of the file in our folder.
        converter: publisher's file (or our own .npz) to arrays; None: used as it is.
        fingerprint: of the converted arrays (`files.fingerprint`), where known.
        url: where `get` downloads the file.
        package: the pip package whose folder `models` holds the file, where there is one.
    """

    name: str
    what: str
    licence: str
    publisher: str
    file: str
    size: int
    stored: str
    sha256: str | None = None
    converter: convert.Converter | None = None
    fingerprint: str | None = None
    url: str | None = None
    package: str | None = None


@dataclass(frozen=True)
class Status:
    """One row of `facehal weights list`: an entry, and the file that holds it (None: missing)."""

    entry: Entry
    path: Path | None

    @property
    def present(self) -> bool:
        """Whether the weights can be used now."""
        return self.path is not None


_DLIB_PACKAGE = "face_recognition_models"
_LPIPS_PACKAGE = "lpips==0.1.4"

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="alexnet",
            what="AlexNet trunk, ImageNet (torchvision): the features of LPIPS",
            licence="BSD-3-Clause",
            publisher="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            file="alexnet-owt-7be5be79.pth",
            size=244_408_911,
            sha256="7be5be79",
            stored="alexnet.npz",
            converter=convert.alexnet,
            fingerprint="bb3a9ed6d5c00c9746cdc278052d7006cd8ac49c09761b2412e2627804f33406",
        ),
        Entry(
            name="lpips",
            what="LPIPS linear heads for AlexNet, v0.0 and v0.1",
            licence="BSD-2-Clause",
            publisher=f"the pip package {_LPIPS_PACKAGE}",
            file="lpips-0.1.4-py3-none-any.whl",
            size=53_763,
            stored="lpips.npz",
            converter=convert.lpips,
            fingerprint="63a618cbed52aa346b92d6fc135017e45b871495a4cddeaeab4b2c13d5db7aa8",
        ),
        Entry(
            name="vgg_face",
            what="VGG-Face (VGG-16, 2622 people) to fc7, 4096-D: the paper's identity loss",
            licence="non-commercial research (Oxford VGG)",
            publisher="https://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/vgg_face_dag.pth",
            url="https://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/vgg_face_dag.pth",
            file="vgg_face_dag.pth (or keras-vggface's rcmalli_vggface_tf_vgg16.h5)",
            size=580_000_000,
            stored="vgg_face.npz",
            converter=convert.vgg_face,
        ),
        Entry(
            name="resnet50_256d",
            what="ResNet-50-256D (VGGFace2): the paper's descriptor for the match score",
            licence="CC BY-SA 4.0, as its data set VGGFace2 (see the publisher)",
            publisher="https://github.com/ox-vgg/vgg_face2",
            url="https://www.robots.ox.ac.uk/~vgg/data/vgg_face2/models/pytorch/"
            "resnet50_256_pytorch.tar.gz",
            file="resnet50_256_pytorch.tar.gz (or the resnet50_256.pth in it)",
            size=97_000_000,
            stored="resnet50_256d.npz",
            converter=convert.resnet50_256d,
        ),
        Entry(
            name="inception",
            what="Inception-v3 of 2015-12-05, 2048-D: the features of FID",
            licence="Apache-2.0",
            publisher="https://github.com/mseitzer/pytorch-fid",
            url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth",
            file="pt_inception-2015-12-05-6726825d.pth",
            size=95_628_359,
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            stored="inception.npz",
            converter=convert.inception,
        ),
        Entry(
            name="pieapp",
            what="PieAPP v0.1: perceptual error of a picture against its original",
            licence="non-commercial (see https://github.com/prashnani/PerceptualImageError)",
            publisher="https://web.ece.ucsb.edu/~ekta/projects/PieAPPv0.1/weights/PieAPPv0.1.pth",
            # piq's copy: the authors' own download script has to skip the certificate's check.
            url="https://github.com/photosynthesis-team/piq/releases/download/v0.5.4/"
            "PieAPPv0.1.pth",
            file="PieAPPv0.1.pth",
            size=273_500_000,
            stored="pieapp.npz",
            converter=convert.pieapp,
        ),
        Entry(
            name="dlib_resnet",
            what="dlib's face descriptor, 128-D: identity loss of every install",
            licence="CC0-1.0",
            publisher=f"the pip package {_DLIB_PACKAGE}",
            file="dlib_face_recognition_resnet_model_v1.dat",
            size=22_466_066,
            sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            stored="dlib_face_recognition_resnet_model_v1.dat",
            package=_DLIB_PACKAGE,
        ),
        Entry(
            name="dlib_landmarks",
            what="dlib's 68 face landmarks (iBUG 300-W)",
            licence="non-commercial (iBUG 300-W)",
            publisher=f"the pip package {_DLIB_PACKAGE}",
            file="shape_predictor_68_face_landmarks.dat",
            size=99_693_937,
            sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
            stored="shape_predictor_68_face_landmarks.dat",
            package=_DLIB_PACKAGE,
        ),
    )
}


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


def load(name: str, shapes: files.Shapes) -> files.Arrays:
    """The arrays of an installed .npz, checked against the shapes that the network needs.

    Raises:
        WeightsError: missing, damaged, or of another network.
    """
    return files.read_npz(path(name), shapes)


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
        command += ["--only-binary=:all:", "--dest", scratch, _LPIPS_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise WeightsError(f"pip could not download {_LPIPS_PACKAGE}: {reason}")
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
        with _replacing(entry.stored) as part:
            shutil.copyfile(source, part)
    else:
        published = entry.sha256 is not None and digest.startswith(entry.sha256)
        arrays = entry.converter(source)
        seen = files.fingerprint(arrays)
        if not published and entry.fingerprint not in (None, seen):
            raise WeightsError(f"{source}: right shapes, but not the published weights of {name!r}")
        recorded = _recorded()
        known = recorded.get(name)
        if not published and known is not None and known["fingerprint"] != seen:
            raise WeightsError(
                f"{source}: not the weights of {name!r} that were imported first "
                f"({known['file']}); to take it all the same, remove {folder() / _RECORD}"
            )
        with _replacing(entry.stored) as part, part.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        if entry.fingerprint is None and (known is None or known["fingerprint"] != seen):
            name_there = source.name.removesuffix(".part")
            new = {"file": name_there, "sha256": digest, "fingerprint": seen}
            with _replacing(_RECORD) as part:
                part.write_text(json.dumps(recorded | {name: new}, indent=2) + "\n", "utf-8")
    return folder() / entry.stored


_RECORD = "recorded.json"


def _recorded() -> dict[str, dict[str, str]]:
    """By name: file, SHA-256 and fingerprint of the weights that were imported first."""
    file = folder() / _RECORD
    if not file.exists():
        return {}
    try:
        recorded = json.loads(file.read_text("utf-8"))
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
def _replacing(stored: str) -> Iterator[Path]:
    """A temporary name in our folder; what is written there takes the place of `stored`."""
    target = folder() / stored
    _make(target.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{stored}.", dir=target.parent)
    except OSError as error:
        raise WeightsError(f"{target.parent}: cannot be written ({error.strerror})") from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        os.replace(part, target)
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)


def file_sha256(file: Path) -> str:
    """SHA-256 of a file in hexadecimal; WeightsError where it cannot be read."""
    try:
        with file.open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror})") from error
