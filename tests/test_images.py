import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from facehal.errors import ImageError
from facehal.images import (
    contact_sheet,
    list_images,
    read_image,
    resize,
    to_float,
    to_uint8,
    write_png,
)


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth, and without any symmetry: every turn and mirroring differs."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


def encode(path: Path, rgb: np.ndarray, *flags: int) -> Path:
    bgr = rgb[..., [2, 1, 0, *range(3, rgb.shape[2])]] if rgb.ndim == 3 else rgb
    path.write_bytes(cv2.imencode(path.suffix, bgr, list(flags))[1].tobytes())
    return path


def exif(orientation: int) -> bytes:
    """A TIFF header with nothing but the orientation."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def with_exif(path: Path, orientation: int) -> Path:
    data = path.read_bytes()
    if data[:2] == b"\xff\xd8":
        body = b"Exif\0\0" + exif(orientation)
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    else:
        body = b"eXIf" + exif(orientation)
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        data = data[:33] + chunk + data[33:]  # behind the signature and IHDR
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg"])
def test_reads_rgb(tmp_path, picture, suffix):
    flags = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    image = read_image(encode(tmp_path / f"a{suffix}", picture, *flags))
    assert image.shape == picture.shape and image.dtype == np.uint8
    difference = np.abs(image.astype(int) - picture)
    assert difference.mean() < 2 if suffix == ".jpg" else difference.max() == 0


def test_png_round_trip(tmp_path, picture):
    write_png(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), picture)
    write_png(tmp_path / "b.png", to_float(picture))
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), picture)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.png", "new"]  # no temporary files


def test_grey_becomes_three_channels(tmp_path, picture):
    image = read_image(encode(tmp_path / "a.png", picture[..., 0]))
    np.testing.assert_array_equal(image, picture[..., :1].repeat(3, axis=2))


def test_16_bits_become_8(tmp_path, picture):
    image = read_image(encode(tmp_path / "a.png", picture.astype(np.uint16) * 257))
    np.testing.assert_array_equal(image, picture)
    grey = read_image(encode(tmp_path / "b.png", picture[..., 1].astype(np.uint16) * 257))
    np.testing.assert_array_equal(grey, picture[..., 1:2].repeat(3, axis=2))


@pytest.mark.parametrize("factor, dtype", [(1, np.uint8), (257, np.uint16)])
def test_transparency_is_laid_over_white(tmp_path, picture, factor, dtype):
    alpha = np.full((40, 60, 1), 255)
    alpha[:10] = 0
    alpha[10:20] = 51
    rgba = np.concatenate([picture, alpha], axis=2).astype(dtype) * factor
    image = read_image(encode(tmp_path / "a.png", rgba)).astype(int)
    assert (image[:10] == 255).all()
    np.testing.assert_allclose(image[10:20], 0.2 * picture[10:20] + 0.8 * 255, atol=0.51)
    np.testing.assert_array_equal(image[20:], picture[20:])


def test_other_kinds_of_transparency(tmp_path, picture):
    rgba = np.dstack([picture, np.where(picture[..., 0] < 80, 0, 255).astype(np.uint8)])
    expected = np.where(rgba[..., 3:] == 0, np.uint8(255), picture)
    webp = encode(tmp_path / "a.webp", rgba, cv2.IMWRITE_WEBP_QUALITY, 101)
    np.testing.assert_array_equal(read_image(webp), expected)
    tiff = encode(tmp_path / "a.tif", rgba)
    np.testing.assert_array_equal(read_image(tiff), expected)
    # A colour that stands for "transparent" (tRNS), as old tools write it.
    plain = encode(tmp_path / "b.png", picture).read_bytes()
    red, green, blue = picture[3, 5].tolist()
    body = b"tRNS" + struct.pack(">HHH", red, green, blue)
    chunk = struct.pack(">I", 6) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "b.png").write_bytes(plain[:33] + chunk + plain[33:])
    image = read_image(tmp_path / "b.png")
    assert image[3, 5].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(image[4:], picture[4:])


# What a viewer does for each EXIF orientation.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied(tmp_path, picture, orientation):
    upright = UPRIGHT[orientation](picture).astype(int)
    jpeg = encode(tmp_path / "a.jpg", picture, cv2.IMWRITE_JPEG_QUALITY, 100)
    assert np.abs(read_image(with_exif(jpeg, orientation)) - upright).mean() < 3
    png = encode(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_image(with_exif(png, orientation)), upright)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_turns_transparency_too(tmp_path, picture, orientation):
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:8, :5] = 0
    path = encode(tmp_path / "a.png", np.concatenate([picture, alpha], axis=2))
    expected = np.where(alpha == 0, np.uint8(255), picture)
    np.testing.assert_array_equal(
        read_image(with_exif(path, orientation)), UPRIGHT[orientation](expected)
    )


def test_unreadable_files_are_one_line(tmp_path, picture):
    whole = encode(tmp_path / "a.jpg", picture).read_bytes()
    files = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"this is not a picture\n" * 20, "not a picture"),
        "cut.jpg": (whole[: len(whole) // 2], "cut short"),
        "header.jpg": (whole[:100], "cut short"),
        "cut.png": (encode(tmp_path / "a.png", picture).read_bytes()[:-30], "cut short"),
        "cut.webp": (encode(tmp_path / "a.webp", picture).read_bytes()[:-30], "cut short"),
        "cut.tif": (encode(tmp_path / "a.tif", picture).read_bytes()[:200], "not a picture"),
        "float.tiff": (cv2.imencode(".tiff", np.zeros((8, 8, 3), np.float32))[1].tobytes(), "8 or"),
    }
    for name, (data, reason) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value) and name in str(caught.value)
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


def test_jpeg_with_thumbnail_that_is_cut_short(tmp_path, picture):
    """The thumbnail's end marker must not pass for the picture's."""
    whole = encode(tmp_path / "a.jpg", picture).read_bytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(whole) + 2) + whole
    path = tmp_path / "b.jpg"
    path.write_bytes(whole[:2] + segment + whole[2:])
    assert read_image(path).shape == picture.shape
    path.write_bytes((whole[:2] + segment + whole[2:])[:-40])
    with pytest.raises(ImageError, match="cut short"):
        read_image(path)


def test_sixty_megapixels(tmp_path):
    grey = np.zeros((7000, 9000), np.uint8)
    grey[3000:, 4000:] = 200
    path = encode(tmp_path / "a.jpg", grey)
    image = read_image(path)
    assert image.shape == (7000, 9000, 3)
    assert image[100, 100, 0] == 0 and image[6000, 8000, 2] == 200
    assert resize(image, (90, 70)).shape == (70, 90, 3)


def test_write_refuses_what_is_no_picture(tmp_path):
    for wrong in (
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), np.nan),
        np.zeros((0, 4, 3), np.uint8),
    ):
        with pytest.raises(ImageError):
            write_png(tmp_path / "a.png", wrong)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="cannot be written"):
        write_png(tmp_path / "file" / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_conversions():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(values)), values)
    np.testing.assert_array_equal(to_uint8(np.array([-1.0, 0.4999, 2.0])), [0, 127, 255])


def test_resize_averages_when_shrinking():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(resize(board, 16).astype(int) - 127.5).max() <= 0.5
    assert resize(board, (20, 10)).shape == (10, 20)


def test_list_images(tmp_path):
    for name in ["b.png", "a/c.JPG", "a/.hidden.png", ".git/d.png", "notes.txt", "a.tiff"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    found = list_images(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in found] == ["a/c.JPG", "a.tiff", "b.png"]
    assert list_images([tmp_path / "notes.txt", tmp_path / "b.png"])[1].name == "notes.txt"
    with pytest.raises(ImageError, match="no such file"):
        list_images(tmp_path / "missing")


def test_contact_sheet(picture):
    small = np.zeros((8, 8, 3), np.uint8)
    large = np.full((64, 64, 3), 0.5)
    sheet = contact_sheet([[small, large], [large]], gap=2)
    assert sheet.shape == (2 + 2 * 66, 2 + 2 * 66, 3) and sheet.dtype == np.uint8
    assert (sheet[2:66, 2:66] == 0).all()  # 8 px enlarged eightfold
    assert (sheet[2:66, 68:132] == 128).all()
    assert (sheet[68:, 68:] == 255).all()  # nothing there
    assert contact_sheet([[picture]], cell=30).shape == (34, 34, 3)


def test_contact_sheet_headings():
    faces = [[np.full((64, 64, 3), 255, np.uint8)] * 3] * 2
    plain = contact_sheet(faces)
    labelled = contact_sheet(faces, labels=["8", "a very long heading that must be made smaller"])
    head = labelled.shape[0] - plain.shape[0]
    assert head >= 14
    np.testing.assert_array_equal(labelled[head:], plain)
    assert (labelled[:head, :66] < 128).any() and (labelled[:head, 68:132] < 128).any()
    assert (labelled[:head, 134:] == 255).all()
    with pytest.raises(ImageError):
        contact_sheet([[]])


def test_importing_faces_does_not_import_dlib():
    code = (
        "import sys, facehal.jobs.preprocess, facehal.data.samples, facehal.data.faceset;"
        "assert not {'dlib', 'matplotlib', 'skimage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
