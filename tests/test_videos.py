"""Video files, written and read again; what ffmpeg makes is checked with OpenCV."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from facehal.errors import FacehalError, ImageError
from facehal.images import write_png
from facehal.videos import (
    H264,
    MPEG4,
    Tools,
    VideoReader,
    join,
    piece_writer,
    tools,
    write_video,
)

RATE = Fraction(24000, 1001)


@pytest.fixture(scope="module")
def ffmpeg() -> str:
    found = pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg (extra: video)")
    return str(found.get_ffmpeg_exe())


@pytest.fixture(params=[H264, MPEG4])
def using(request) -> Tools:
    if request.param == MPEG4:
        return Tools(None, MPEG4)
    return Tools(request.getfixturevalue("ffmpeg"), H264)


def frames(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """A coloured field whose brightness says which frame it is."""
    field = np.zeros((size[1], size[0], 3), np.uint8)
    return [field + np.array([40 + 14 * (n % 15), 160, 60], np.uint8) for n in range(count)]


def read(path: Path, skip: int = 0) -> list[np.ndarray]:
    with VideoReader(path, skip) as reader:
        return list(reader)


def assert_alike(found, wanted) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).max() <= 6


def test_what_is_written_is_read(using, tmp_path):
    write_video(tmp_path / "a.mp4", frames(7), RATE, using)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert (reader.size, reader.expected) == ((64, 48), 7)
        # OpenCV rounds: a hundredth of a second in an hour. Achieved: 0 with ffmpeg.
        assert float(reader.rate / RATE) == pytest.approx(1, abs=3e-6)
        seconds = []
        for index, frame in enumerate(reader):
            assert_alike([frame], [frames(7)[index]])
            seconds.append(reader.seconds)
    np.testing.assert_allclose(np.diff(seconds), float(1 / RATE), atol=1e-3)
    assert_alike(read(tmp_path / "a.mp4", skip=5), frames(7)[5:])


def test_a_side_of_odd_length_gets_one_more_pixel(using, tmp_path):
    write_video(tmp_path / "a.mp4", frames(2, (63, 47)), 25, using)
    assert_alike(read(tmp_path / "a.mp4"), frames(2))


def test_pieces_become_one_video(using, tmp_path):
    pieces = []
    for number, part in enumerate((slice(0, 4), slice(4, 5), slice(5, 9))):
        pieces.append(tmp_path / f"it's {number}{using.piece_suffix}")
        with piece_writer(pieces[-1], RATE, using) as writer:
            for frame in frames(9)[part]:
                writer.write(frame)
    assert join(pieces, tmp_path / "all.mp4", RATE, using) == "none"
    assert_alike(read(tmp_path / "all.mp4"), frames(9))
    with VideoReader(tmp_path / "all.mp4") as reader:
        assert float(reader.rate / RATE) == pytest.approx(1, abs=3e-6)
    if using.codec == H264:  # nothing was encoded again
        alone = [frame for piece in pieces for frame in read(piece)]
        np.testing.assert_array_equal(alone, read(tmp_path / "all.mp4"))


@pytest.mark.parametrize(("codec", "container"), [("aac", "mp4"), ("pcm_s16le", "mov")])
def test_sound_goes_along(ffmpeg, tmp_path, codec, container):
    """Browsers do not play the second codec in an .mp4: it is encoded anew."""
    silent, heard = tmp_path / "silent.mp4", tmp_path / f"heard.{container}"
    using = Tools(ffmpeg, H264)
    write_video(silent, frames(25), 25, using)
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1"]
    words = ["-v", "error", "-i", str(silent), *tone, "-c:v", "copy", "-c:a", codec, str(heard)]
    subprocess.run([ffmpeg, *words], check=True)
    assert join([silent], tmp_path / "a.mp4", Fraction(25), using, heard) == "kept"
    assert join([silent], tmp_path / "b.mp4", Fraction(25), using, silent) == "none"
    for name, sounds in (("a.mp4", True), ("b.mp4", False)):
        said = subprocess.run([ffmpeg, "-i", tmp_path / name], capture_output=True, text=True)
        assert ("Audio: aac" in said.stderr) is sounds
        assert_alike(read(tmp_path / name), frames(25))


def test_sound_without_ffmpeg_is_left_out_and_said(tmp_path):
    using = Tools(None, MPEG4)
    with piece_writer(tmp_path / "0.avi", Fraction(25), using) as writer:
        writer.write(frames(1)[0])
    said = join([tmp_path / "0.avi"], tmp_path / "a.mp4", Fraction(25), using, tmp_path / "0.avi")
    assert said.startswith("left out") and "facehal[video]" in said
    assert_alike(read(tmp_path / "a.mp4"), frames(1))


def test_a_turned_video_is_read_upright(ffmpeg, tmp_path):
    """As telephones write them: a note that says how to hold the frames."""
    write_video(tmp_path / "a.mp4", frames(2), 25, Tools(ffmpeg, H264))
    words = ["-v", "error", "-display_rotation", "90", "-i", tmp_path / "a.mp4", "-c", "copy"]
    subprocess.run([ffmpeg, *words, tmp_path / "turned.mp4"], check=True)
    with VideoReader(tmp_path / "turned.mp4") as reader:
        assert reader.size == (48, 64)
        assert [frame.shape for frame in reader] == [(64, 48, 3)] * 2


def test_what_is_no_video_is_one_line(using, tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    write_png(tmp_path / "picture.png", frames(1)[0])
    write_video(tmp_path / "a.mp4", frames(9), 25, using)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:600])
    for name, why in (
        ("gone.mp4", "no such file"),
        (".", "no such file"),
        ("picture.png", "a picture, not a video"),
        ("text.mp4", "not a video that can be read"),
        ("cut.mp4", "not a video that can be read"),
    ):
        with pytest.raises(ImageError, match=why):
            VideoReader(tmp_path / name)


def test_a_video_that_cannot_be_written_is_one_line(using, tmp_path):
    with pytest.raises(FacehalError, match=r"gone.*cannot be written"):
        write_video(tmp_path / "gone" / "a.mp4", frames(200), 25, using)


def test_the_tools_that_are_here(ffmpeg, monkeypatch):
    tools.cache_clear()
    assert tools() == Tools(ffmpeg, H264)
    tools.cache_clear()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", "")
    assert tools() == Tools(None, MPEG4)
    tools.cache_clear()
