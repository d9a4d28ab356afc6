"""The video job: what it writes, what it says, and that it goes on where it was stopped."""

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from facehal.cli import app
from facehal.data.samples import clip
from facehal.errors import FacehalError, ImageError, NoFaceError
from facehal.inference.hallucinator import Hallucinator
from facehal.jobs import video as job
from facehal.jobs.video import video
from facehal.videos import MPEG4, VideoReader, tools, write_video

pytest.importorskip("dlib", reason="needs dlib")
pytest.importorskip("skimage", reason="needs scikit-image (extra: portraits)")
pytest.importorskip("matplotlib", reason="needs matplotlib (extra: portraits)")

BLANK = np.full((240, 320, 3), 90, np.uint8)


class Bright:
    """A white context; may be stopped after some batches, as Ctrl-C does."""

    resolutions, latent = (64,), 2

    def __init__(self, stop: int | None = None):
        self.left = stop

    def run(self, masked_faces, masks, latents=None):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left = None if self.left is None else self.left - 1
        # Differs from frame to frame, as a model's answer does.
        context = 0.9 + 0.1 * masked_faces.mean((1, 2, 3), keepdims=True)
        return {64: np.where(masks == 1, masked_faces, context).astype(np.float32)}


@pytest.fixture
def engine(monkeypatch):
    """Puts an engine in place of the shipped model's."""

    def use(engine=None):
        monkeypatch.setattr(job, "load", lambda *_, **__: Hallucinator(engine or Bright()))

    use()
    return use


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(job, "PIECE", 8)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Twenty-four frames of a second: a face, two frames without, fourteen without, a face."""
    frames = list(clip("Eileen_Collins", 8))
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_video(path, [*frames[:3], BLANK, BLANK, frames[5], *[BLANK] * 14, *frames[4:]], 24)
    return path


def read(path) -> np.ndarray:
    with VideoReader(path) as reader:
        assert reader.rate == 24
        return np.stack(list(reader)).astype(int)


def test_an_aligned_clip(engine, source, tmp_path):
    done = video(source, tmp_path / "out.mp4", progress=False)
    assert (done.frames, done.found, done.faces) == (24, 8, 2)
    # Two in the gap, four (0.15 s) behind the first and before the second face.
    assert (done.bridged, done.lost) == (10, 6)
    assert (done.codec, done.sound, done.remarks, done.new) == (tools().codec, "none", (), True)
    frames = read(tmp_path / "out.mp4")
    assert frames.shape == (24, 64, 64, 3)
    black = (frames.max((1, 2, 3)) < 20).nonzero()[0]
    assert black.tolist() == list(range(10, 16))
    assert frames[:10, 2:8, 2:8].min() > 200  # the engine's white context
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.mp4", "out.mp4.json"]


def test_pasted_and_enlarged(engine, source, tmp_path):
    video(source, tmp_path / "pasted.mp4", paste=True, progress=False)
    before, after = read(source), read(tmp_path / "pasted.mp4")
    assert after.shape == before.shape
    change = np.abs(after - before).mean((1, 2, 3))
    assert change[10:16].max() < 2 < change[:3].min()
    video(source, tmp_path / "large.mp4", size=96, progress=False)
    assert read(tmp_path / "large.mp4").shape == (24, 96, 96, 3)


@pytest.mark.parametrize("stopped_in", ["tracking", "the second piece"])
def test_stopped_it_goes_on_and_gives_the_same(engine, source, tmp_path, monkeypatch, stopped_in):
    video(source, tmp_path / "whole.mp4", progress=False)
    out, part = tmp_path / "out.mp4", tmp_path / "out.mp4.part"
    with monkeypatch.context() as patch:
        if stopped_in == "tracking":
            follow, seen = job.FaceTracker.next, []

            def next_or_stop(tracker, frame):
                seen.append(frame)
                if len(seen) == 12:
                    raise KeyboardInterrupt
                return follow(tracker, frame)

            patch.setattr(job.FaceTracker, "next", next_or_stop)
        else:
            engine(Bright(stop=2))
        with pytest.raises(KeyboardInterrupt):
            video(source, out, progress=False)
    assert not out.exists() and part.is_dir()
    engine()
    if stopped_in == "tracking":
        with open(part / "landmarks.f32", "ab") as file:
            file.write(b"torn")
    else:  # what was found is not searched again, what was written not made again
        monkeypatch.setattr(job, "LandmarkDetector", None)
        (first,) = (part / "pieces").glob("00000?.*")
        stamp, joined = first.stat().st_mtime_ns, job.join

        def join(pieces, *words):
            assert len(pieces) == 3 and first.stat().st_mtime_ns == stamp
            return joined(pieces, *words)

        monkeypatch.setattr(job, "join", join)
    done = video(source, out, progress=False)
    assert done.new and (done.found, done.bridged, done.lost) == (8, 10, 6)
    assert not part.exists()
    np.testing.assert_array_equal(read(out), read(tmp_path / "whole.mp4"))


def test_another_job_is_refused_and_the_same_is_finished(engine, source, tmp_path):
    out = tmp_path / "out.mp4"
    first = video(source, out, progress=False)
    stamp = out.stat().st_mtime_ns
    again = video(source, out, progress=False)
    assert not again.new and out.stat().st_mtime_ns == stamp
    assert again.bridged == first.bridged and again.video == out
    with pytest.raises(
        FacehalError, match=r"out\.mp4: is there already of another job.*seed: None"
    ):
        video(source, out, seed=1, progress=False)
    with pytest.raises(FacehalError, match="is there already; remove it"):
        video(out, source, progress=False)
    engine(Bright(stop=1))
    with pytest.raises(KeyboardInterrupt):
        video(source, tmp_path / "b.mp4", progress=False)
    with pytest.raises(FacehalError, match=r"b\.mp4\.part: holds another unfinished video"):
        video(source, tmp_path / "b.mp4", paste=True, progress=False)


def test_what_cannot_be_done_is_one_line_and_leaves_nothing(engine, source, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(clips / "blank.mp4", [BLANK] * 3, 24)
    (clips / "text.mp4").write_text("not a video")
    out = tmp_path / "out.mp4"
    for error, why, words, options in (
        (NoFaceError, "blank.mp4: no face found in its 3 frames", (clips / "blank.mp4", out), {}),
        (ImageError, "text.mp4: not a video", (clips / "text.mp4", out), {}),
        (ImageError, "gone.mp4: no such file", (clips / "gone.mp4", out), {}),
        (FacehalError, "written as .mp4", (source, tmp_path / "out.avi"), {}),
        (FacehalError, "an even number", (source, out), {"size": 95}),
        (FacehalError, "has the size of its source", (source, out), {"size": 96, "paste": True}),
        (FacehalError, "0 or more", (source, out), {"seed": -1}),
        (FacehalError, "nobody: neither", (source, out, "nobody"), {}),
    ):
        with pytest.raises(error, match=why):
            video(*words, **options, progress=False)
    Bright.latent, latent = 0, Bright.latent
    try:
        with pytest.raises(FacehalError, match="leave out the seed"):
            video(source, tmp_path / "seed.mp4", seed=3, progress=False)
    finally:
        Bright.latent = latent
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "seed.mp4.part"]


def test_an_uneven_or_short_video_is_said(engine, source, tmp_path):
    found = pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg (extra: video)")
    late = "setpts='PTS+if(gt(N,3),0.4/TB,0)'"  # the camera paused after the fourth frame
    words = ["-v", "error", "-i", source, "-vf", late, "-fps_mode", "vfr", tmp_path / "late.mp4"]
    subprocess.run([found.get_ffmpeg_exe(), *words], check=True)
    done = video(tmp_path / "late.mp4", tmp_path / "out.mp4", progress=False)
    assert done.frames == 24
    assert len(done.remarks) == 1 and "the frame rate varies" in done.remarks[0]
    # With the index in front, the second half of the file may be missing.
    words = ["-v", "error", "-i", source, "-c", "copy", "-movflags", "+faststart"]
    subprocess.run([found.get_ffmpeg_exe(), *words, tmp_path / "whole.mp4"], check=True)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    done = video(tmp_path / "cut.mp4", tmp_path / "short.mp4", progress=False)
    assert 0 < done.frames < 24
    assert f"{24 - done.frames} of 24 frames could not be read" in done.remarks[0]


def test_the_command_with_the_shipped_model(source, tmp_path, monkeypatch):
    """With Keras, without ffmpeg: said, and an .mp4 all the same."""
    words = ["video", str(source), str(tmp_path / "out.mp4"), "--seed", "1"]
    with monkeypatch.context() as patch:
        patch.setattr("facehal.videos.shutil.which", lambda _: None)
        patch.setitem(sys.modules, "imageio_ffmpeg", None)
        tools.cache_clear()
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        tools.cache_clear()
    assert "24 frames, 8 with a face, 10 bridged, 6 black" in done.stdout
    assert f"{MPEG4}; sound: left out" in done.stdout
    assert "browsers do not play" in done.stderr
    assert read(tmp_path / "out.mp4").shape == (24, 128, 128, 3)
    about = json.loads((tmp_path / "out.mp4.json").read_text())
    assert about["job"]["seed"] == 1 and about["done"]["found"] == 8
