"""Reading, writing and laying out picture files. Pictures are (H, W, 3) RGB, uint8 or [0, 1]."""

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from facehal.errors import ImageError
from facehal.files import write_bytes
from facehal.places import Address, is_address, path_of
from facehal.quiet import decoding

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

_PNG = b"\x89PNG\r\n\x1a\n"
_PLAIN = frozenset({b"IHDR", b"IDAT", b"IEND"})  # all that a PNG of ours is made of


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture file as it is meant to be seen: (H, W, 3) uint8 RGB.

    EXIF rotation is applied, transparency is laid over white, 16 bits become 8, grey becomes
    three equal channels. Of several pages or frames the first is read.

    Raises:
        ImageError: "path: reason": the file is missing, unreadable, empty, cut short, not a
            picture, or of floating-point numbers.
    """
    path = path_of(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or 'cannot be read'}") from error
    try:
        return decode_image(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def decode_image(data: bytes) -> np.ndarray:
    """Decode the bytes of a picture file; otherwise as `read_image`, without path in the error."""
    if not data:
        raise ImageError("the file is empty")
    if _cut_short(data):
        raise ImageError("the picture is cut short")
    buffer = np.frombuffer(data, np.uint8)
    try:
        # Intact, ours leave a decoder nothing to say: many threads may read them at once.
        with contextlib.nullcontext() if _is_plain(data) else decoding():
            seen = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
            # Only "unchanged" keeps transparency, and only the other way applies the rotation.
            raw = None if _is_opaque(data) else cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError("the picture cannot be decoded (damaged or too large)") from error
    if seen is None:
        raise ImageError("not a picture that can be read")
    if seen.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"pictures of {seen.dtype} numbers are not supported: use 8 or 16 bits")
    if raw is not None and raw.ndim == 3 and raw.shape[2] == 4:
        seen = _over_white(_turned_like(raw, seen))
    if seen.dtype == np.uint16:
        seen = cv2.convertScaleAbs(seen, alpha=1 / 257)
    return cv2.cvtColor(seen, cv2.COLOR_BGR2RGB)


def _is_jpeg(data: bytes) -> bool:
    return data[:2] == b"\xff\xd8"


def _is_opaque(data: bytes) -> bool:
    """Whether the header alone says that there is no transparency: spares a second decoding."""
    if data[:8] == _PNG:
        has_channel = data[25:26] in (b"\4", b"\6")
        return not has_channel and b"tRNS" not in data[: data.find(b"IDAT")]
    return _is_jpeg(data) or data[8:16] == b"WEBPVP8 "


def _is_plain(data: bytes) -> bool:
    """Whether this is a PNG of pixels alone.

    Raises:
        ImageError: it is a PNG, and its pixels or what describes them have changed on the way.
    """
    return data[:8] == _PNG and set(_intact_chunks(data)) <= _PLAIN


def _intact_chunks(data: bytes) -> Iterator[bytes]:
    """A PNG's chunks by their names; ImageError where one that matters is damaged or missing."""
    position, view = len(_PNG), memoryview(data)
    kind = b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        check = data[end : end + 4]
        if len(check) < 4:
            raise ImageError("the picture is cut short")
        # A capital letter: it cannot be left out.
        if kind[:1].isupper() and zlib.crc32(view[position + 4 : end]).to_bytes(4, "big") != check:
            raise ImageError("the picture is damaged")
        yield kind
        position = end + 4


def _cut_short(data: bytes) -> bool:
    """Whether a JPEG or WebP ends too early; decoders fill the rest with grey, silently."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if not _is_jpeg(data):
        return False
    # A thumbnail in the header has an end marker of its own: walk over the header's segments and
    # search behind the start of the scan.
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == 0xDA:
            return data.find(b"\xff\xd9", position) < 0
        if data[position + 1] == 0xFF:  # a fill byte
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return True


def _turned_like(raw: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Turn or mirror a BGRA picture so that its colours are those of the upright BGR one."""
    for mirror in (raw, raw[:, ::-1]):
        for turns in range(4):
            turned = np.rot90(mirror, turns)
            if turned.shape[:2] == seen.shape[:2] and np.array_equal(turned[..., :3], seen):
                return turned
    return raw


def _over_white(bgra: np.ndarray) -> np.ndarray:
    top = float(np.iinfo(bgra.dtype).max)
    alpha = bgra[..., 3:].astype(np.float32) / top
    mixed: np.ndarray = np.rint(bgra[..., :3] * alpha + top * (1 - alpha))
    return mixed.astype(bgra.dtype)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return a picture as uint8; floats are taken as [0, 1], rounded, and clipped.

    Raises:
        ImageError: neither uint8 nor floating point, or not finite.
    """
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise ImageError(f"a picture must be uint8 or float in [0, 1], not {image.dtype}")
    if not np.isfinite(image).all():
        raise ImageError("a picture has pixels that are not finite numbers")
    levels: np.ndarray = np.rint(np.clip(image, 0, 1) * 255)
    return levels.astype(np.uint8)


def to_float(image: np.ndarray) -> np.ndarray:
    """Return a uint8 picture as float32 in [0, 1]; floats only become float32."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image.astype(np.float32) / 255
    if not np.issubdtype(image.dtype, np.floating):
        raise ImageError(f"a picture must be uint8 or float in [0, 1], not {image.dtype}")
    return image.astype(np.float32)


def resize(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize to (width, height), or to a square: area average when shrinking, else bilinear.

    A picture that shrinks on one axis and grows on the other is treated as shrinking.
    """
    width, height = (size, size) if isinstance(size, int) else size
    if image.shape[:2] == (height, width):
        return image
    shrinks = width < image.shape[1] or height < image.shape[0]
    return cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write an RGB picture (H, W, 3), or a grey one (H, W), as PNG, whole or not at all.

    Args:
        path: the file; its folder is made.
        image: uint8, or float in [0, 1].

    Raises:
        ImageError: wrong shape or number type, or the file cannot be written.
    """
    _write(path, image, ".png", [])


def write_webp(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write a picture as WebP, a sixth of a PNG's size, with a loss (quality 95).

    Args and errors as `write_png`.
    """
    _write(path, image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, 95])


WRITERS = {"png": write_png, "webp": write_webp}
"""What a job can write its pictures as, by the ending of their names."""


def _write(
    path: str | os.PathLike[str], image: np.ndarray, ending: str, options: list[int]
) -> None:
    image = to_uint8(image)
    if not image.size:
        raise ImageError(f"{path}: the picture has no pixels")
    if image.ndim == 3 and image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    elif image.ndim != 2:
        raise ImageError(f"{path}: a picture must be (H, W, 3) or (H, W), not {image.shape}")
    _, data = cv2.imencode(ending, image, options)
    try:
        write_bytes(path, data.tobytes())
    except OSError as error:
        raise ImageError(f"{path}: cannot be written: {error.strerror or error}") from error


def list_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the picture files among files and folders (searched in depth), sorted by name.

    A folder gives the files with one of `EXTENSIONS`; hidden files and folders are left out, and
    links to folders are not followed. A file named outright is taken whatever its name. Those in
    buckets, which `facehal.places.place` names, come last.

    Raises:
        ImageError: a path does not exist.
        DataError: a URL.
    """
    if isinstance(paths, str | os.PathLike | Address):
        paths = [paths]
    found: set[Path] = set()
    for path in map(path_of, paths):
        if is_address(path):
            found.update(_pictures_at(path))
        elif path.is_dir():
            for folder, subfolders, names in os.walk(path):
                subfolders[:] = [name for name in subfolders if not name.startswith(".")]
                found.update(
                    Path(folder, name)
                    for name in names
                    if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
                )
        elif path.exists():
            found.add(path)
        else:
            raise ImageError(f"{path}: no such file or folder")
    addresses = {path for path in found if is_address(path)}
    return [*sorted(found - addresses), *sorted(addresses)]


def _pictures_at(address: Path) -> Iterator[Path]:
    """The same of an address in a bucket."""
    if address.is_file():
        yield address
        return
    if not address.is_dir():
        raise ImageError(f"{address}: no such file or folder")
    for file in cast(Address, address).files():
        names = file.relative_to(address).parts
        if file.suffix.lower() in EXTENSIONS and not any(name.startswith(".") for name in names):
            yield file


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    labels: Sequence[str] | None = None,
    cell: int | None = None,
    gap: int = 2,
    background: int = 255,
) -> np.ndarray:
    """Lay pictures out in rows; returns (H, W, 3) uint8.

    Args:
        rows: pictures (h, w, 3) or (h, w), uint8 or float in [0, 1]; rows may differ in length.
        labels: headings of the columns, drawn above them and cut to fit.
        cell: side of the square cells; by default the longest side of any picture. Pictures are
            enlarged by the largest whole factor that fits (nearest neighbour, so that pixels stay
            visible) and shrunk only if they are larger than the cell; they stand in its middle.
        gap: pixels between the cells and around them.
        background: grey level of what is left free.

    Raises:
        ImageError: there is no picture, or one has another shape.
    """
    pictures = [[_as_rgb(picture) for picture in row] for row in rows]
    if not any(pictures):
        raise ImageError("a contact sheet needs at least one picture")
    side = cell or max(max(picture.shape[:2]) for row in pictures for picture in row)
    columns = max(map(len, pictures))
    head = _heading_height(side) if labels else 0
    step = side + gap
    shape = (head + gap + len(pictures) * step, gap + columns * step, 3)
    sheet = np.full(shape, background, np.uint8)
    for r, row in enumerate(pictures):
        for c, picture in enumerate(row):
            picture = _fit(picture, side)
            height, width = picture.shape[:2]
            top = head + gap + r * step + (side - height) // 2
            left = gap + c * step + (side - width) // 2
            sheet[top : top + height, left : left + width] = picture
    ink = (0, 0, 0) if background > 127 else (255, 255, 255)
    for c, label in enumerate((labels or [])[:columns]):
        _draw_heading(sheet[:head, gap + c * step : (c + 1) * step], label, ink)
    return sheet


def sheet_cells(sheet: np.ndarray, cell: int, *, gap: int = 2) -> list[list[np.ndarray]]:
    """The cells of a contact sheet with headings, row by row: (cell, cell, 3) each.

    Args:
        sheet: what `contact_sheet` laid out with labels and this gap.
        cell: side of its cells.

    Raises:
        ImageError: the sheet's size does not fit such cells.
    """
    head, step = _heading_height(cell) + gap, cell + gap
    height, width = sheet.shape[0] - head, sheet.shape[1] - gap
    if height < step or width < step or height % step or width % step:
        raise ImageError(f"not a contact sheet with cells of {cell}×{cell} pixels")
    return [
        [sheet[top : top + cell, left : left + cell] for left in range(gap, sheet.shape[1], step)]
        for top in range(head, sheet.shape[0], step)
    ]


def _heading_height(side: int) -> int:
    return max(14, side // 8)


def _as_rgb(picture: np.ndarray) -> np.ndarray:
    picture = to_uint8(picture)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ImageError(f"a picture must be (H, W, 3) or (H, W), not {picture.shape}")
    return picture


def _fit(picture: np.ndarray, side: int) -> np.ndarray:
    height, width = picture.shape[:2]
    longest = max(height, width)
    if longest > side:
        scale = side / longest
        return resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))))
    factor = side // longest
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _draw_heading(strip: np.ndarray, label: str, ink: tuple[int, int, int]) -> None:
    """Write a heading into a strip of the sheet, as large as fits; the strip is changed."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _ = cv2.getTextSize(label, font, 1.0, 1)
    scale = min(0.6 * strip.shape[0] / max(height, 1), strip.shape[1] / max(width, 1))
    canvas = np.ascontiguousarray(strip)
    baseline = (0, round(strip.shape[0] * 0.75))
    cv2.putText(canvas, label, baseline, font, scale, ink, 1, cv2.LINE_AA)
    strip[:] = canvas
