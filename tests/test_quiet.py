"""Damaged pictures make C libraries speak; what shows is our one line, and all that others say."""

import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from facehal import quiet
from facehal.errors import ImageError
from facehal.images import decode_image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, PICTURE)[1].tobytes()


def flipped(data: bytes, at: float) -> bytes:
    place = int(len(data) * at)
    return (
        data[:place] + bytes(255 - value for value in data[place : place + 9]) + data[place + 9 :]
    )


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    at = png.index(b"IDAT") - 4
    check = struct.pack(">I", zlib.crc32(kind + content))
    return png[:at] + struct.pack(">I", len(content)) + kind + content + check + png[at:]


PNG, JPEG, TIFF = map(encoded, (".png", ".jpg", ".tif"))
DAMAGED = {
    "cut.png": PNG[:2000] + PNG[-12:],
    "flipped.png": flipped(PNG, 0.5),
    "header.png": flipped(PNG, 18 / len(PNG)),
    "cut.jpg": JPEG[: len(JPEG) // 2] + JPEG[-2:],
    "flipped.jpg": flipped(JPEG, 0.7),
    "cut.tif": TIFF[: len(TIFF) // 2],
    "flipped.tif": flipped(TIFF, 0.3),
    "cut.bmp": encoded(".bmp")[:5000],
    "no_profile.png": with_chunk(PNG, b"iCCP", b"bad\0\0" + zlib.compress(b"profile")),
}


def test_they_do_speak(capfd):
    """Otherwise there were nothing to keep back, and the tests below proved nothing."""
    said = {}
    for name, data in DAMAGED.items():
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        said[name] = capfd.readouterr().err
    assert "libpng error: " in said["header.png"]
    assert "libpng warning: iCCP: " in said["no_profile.png"]
    assert "Corrupt JPEG data: " in said["cut.jpg"]
    assert "readBlock" in said["cut.bmp"]


@pytest.mark.parametrize("name", DAMAGED)
def test_nothing_of_theirs_shows(name, capfd):
    try:
        decode_image(DAMAGED[name])
    except ImageError as error:
        assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cut.png", "cut short"),
        ("flipped.png", "damaged"),
        ("header.png", "damaged"),
        ("cut.tif", "not a picture that can be read"),
        ("cut.bmp", "not a picture that can be read"),
    ],
)
def test_and_ours_says_why(name, reason):
    with pytest.raises(ImageError, match=reason):
        decode_image(DAMAGED[name])


def test_a_png_whose_last_chunk_is_missing_is_cut_short():
    long = with_chunk(PNG, b"tEXt", b"Comment\0IEND")
    for data in (PNG[:-12], long[: long.index(b"IDAT") - 4], PNG[:60]):
        with pytest.raises(ImageError, match="the picture is cut short"):
            decode_image(data)
    np.testing.assert_array_equal(decode_image(long), PICTURE[..., ::-1])


def test_what_others_say_comes_through(capfd, monkeypatch):
    """Python's messages, another thread's, and what is written below Python."""
    other = threading.Thread(target=lambda: os.write(2, b"from a thread\n"))
    with open(2, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with quiet.decoding():
            print("from Python", file=sys.stderr, flush=True)
            other.start()
            other.join()
            os.write(2, b"\r 5%|bar libpng error: bad adaptive filter value\n\r 6%|bar")
            os.write(2, b"libpng warning: iCCP: too short\nCorrupt JPEG data: premature end\nend\n")
            print("in the buffer", file=sys.stderr, end="")
    expected = "from Python\nfrom a thread\n\r 5%|bar \r 6%|barend\nin the buffer"
    assert capfd.readouterr().err == expected


def test_all_is_as_before_after_an_error(capfd):
    levels = getattr(cv2.utils, "logging", cv2)
    before = levels.getLogLevel()
    with pytest.raises(KeyboardInterrupt), quiet.decoding():
        os.write(2, b"shown\n")
        raise KeyboardInterrupt
    os.write(2, b"and after\n")
    assert capfd.readouterr().err == "shown\nand after\n"
    assert levels.getLogLevel() == before != 0


def test_threads_wait_for_each_other(capfd):
    def read():
        for _ in range(20):
            decode_image(DAMAGED["cut.jpg"])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"


def test_without_standard_error():
    """As in a program without a console."""
    code = (
        "import os, sys; from facehal.images import read_image; os.close(2)\n"
        "sys.stderr = None\nprint(read_image(sys.argv[1]).shape)"
    )
    photo = ROOT / "docs/demo-web.png"
    done = subprocess.run(
        [sys.executable, "-c", code, str(photo)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.startswith("("), done


def test_preprocess_shows_its_bar_alone(tmp_path):
    """As a user runs it, in processes: every photo that fails is one reason in the summary."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, data in {**DAMAGED, "portrait.png": PNG}.items():
        (raw / name).write_bytes(data)
    eyes = [[16, 30]] * 6 + [[48, 30]] * 6
    points = np.concatenate([np.full((36, 2), 8), eyes, np.full((20, 2), 56)]).ravel()
    columns = ",".join(["file", *(f"p{axis}{i}" for i in range(68) for axis in "xy")])
    (tmp_path / "points.csv").write_text(f"{columns}\nportrait.png,{','.join(map(str, points))}\n")
    code = "from facehal.cli import main; main()"
    words = ["preprocess", raw, tmp_path / "out", "--workers", 2]
    words += ["--landmarks", tmp_path / "points.csv"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 10 photos gave a face" in done.stdout
    assert "2 failed: the picture is damaged" in done.stdout
    assert "1 failed: the picture is cut short" in done.stdout
    lines = done.stderr.replace("\r", "\n").splitlines()
    assert [line for line in lines if line.strip() and "photo" not in line] == []
