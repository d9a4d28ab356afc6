"""Archives that publishers pack weight files in: .tar(.gz), and the .zip that a wheel is."""

import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from facehal.errors import WeightsError, first_line

BAD_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    EOFError,
    OSError,
    MemoryError,  # a header that promises more than there is
    RuntimeError,  # encrypted, or packed by an unknown method
)
"""What Python raises for archives that are cut off, foreign or hostile."""


def unpack_tar(archive: Path, name: str, target: Path) -> None:
    """Copy the one plain file called `name` in any folder of a .tar(.gz) to `target`.

    Raises:
        WeightsError: the archive is damaged, or holds no such file.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is not None and Path(member.name).name == name:
                    with target.open("wb") as copy:
                        shutil.copyfileobj(stream, copy)
                    return
    except (tarfile.TarError, *BAD_ARCHIVE) as error:
        raise WeightsError(f"{archive}: cannot be unpacked ({first_line(error)})") from error
    raise WeightsError(f"{archive}: holds no {name}; it is not the published archive")
