"""Labeled Faces in the Wild, the set on which the paper evaluates (section 4)."""

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from facehal.errors import DataError
from facehal.files import leaves_folder
from facehal.weights.store import download, file_sha256

# The funneled set (Huang et al. 2007), as scikit-learn distributes it, with its hash.
URL = "https://ndownloader.figshare.com/files/5976015"
ARCHIVE = "lfw-funneled.tgz"
SHA256 = "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a"
PHOTOS = 13_233


def fetch(
    out: str | os.PathLike[str],
    archive: str | os.PathLike[str] | None = None,
    *,
    url: str = URL,
    sha256: str = SHA256,
    progress: bool = True,
) -> int:
    """Downloads, checks and unpacks the photos, a folder per subject.

    Args:
        out: folder for the photos; it appears only when all of them are there.
        archive: the archive, if the user has it already; else it is downloaded beside ``out``
            (a broken download goes on) and deleted at the end.
        url: of the archive.
        sha256: of the archive.
        progress: show bars.

    Returns:
        How many photos lie in ``out``.

    Raises:
        DataError: ``out`` holds something already, or the archive is missing, damaged or another.
        WeightsError: the download failed.
    """
    out = Path(out)
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out}: is not empty; delete it, or preprocess what is in it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        path = Path(archive) if archive is not None else out.parent / f"{ARCHIVE}.part"
        if archive is None:
            download(url, path, progress)
        if not path.is_file():
            raise DataError(f"{path}: no such file; name {ARCHIVE}")
        if file_sha256(path) != sha256:
            if archive is None:
                path.unlink()
            raise DataError(f"{path}: not the published {ARCHIVE} (SHA-256 differs); fetch it anew")
        count = _unpack(path, out, progress)
        if archive is None:
            path.unlink()
        return count
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"{out}: not unpacked ({error}); free space or name another folder"
        ) from None


def _unpack(archive: Path, out: Path, progress: bool) -> int:
    """Only the photos, each as subject/name.jpg; nothing that the archive names is trusted."""
    unfinished = out.with_name(f".{out.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    count = 0
    with (
        tarfile.open(archive) as tar,
        tqdm(unit="photo", total=PHOTOS, disable=not progress) as bar,
    ):
        for member in tar:
            name = PurePosixPath(member.name)
            if not member.isfile() or len(name.parts) < 2 or name.suffix != ".jpg":
                continue
            if leaves_folder(member.name) or "\\" in member.name:
                raise tarfile.TarError(f"it names {member.name}")
            source = tar.extractfile(member)
            assert source is not None
            target = unfinished / name.parts[-2] / name.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                shutil.copyfileobj(source, stream)
            count += 1
            bar.update(1)
    if out.is_dir():
        out.rmdir()
    os.replace(unfinished, out)
    return count
