import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facehal.data.samples import clip, clip_matrix, portraits, write_clips, write_samples
from facehal.errors import DataError
from facehal.images import list_images, read_image
from facehal.videos import VideoReader

pytest.importorskip("skimage", reason="needs scikit-image (extra: portraits)")
pytest.importorskip("matplotlib", reason="needs matplotlib (extra: portraits)")


def test_portraits():
    found = portraits()
    assert list(found) == ["Eileen_Collins", "Grace_Hopper"]
    for picture in found.values():
        assert picture.dtype == np.uint8 and picture.ndim == 3 and min(picture.shape[:2]) >= 512


def test_portraits_do_not_load_pyplot():
    code = (
        "import sys; from facehal.data.samples import portraits; portraits();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_samples_are_the_same_every_time(tmp_path):
    first = write_samples(tmp_path / "a", 5)
    again = write_samples(tmp_path / "b", 7)
    assert [p.relative_to(tmp_path / "a").as_posix() for p in sorted(first)] == [
        *[f"Eileen_Collins/Eileen_Collins_000{i}.jpg" for i in (1, 2, 3)],
        *[f"Grace_Hopper/Grace_Hopper_000{i}.jpg" for i in (1, 2)],
    ]
    assert list_images(tmp_path / "a") == sorted(first)
    for one, other in zip(first, again, strict=False):
        assert one.read_bytes() == other.read_bytes()
    assert len({p.read_bytes() for p in again}) == 7
    assert read_image(first[0]).shape == (250, 250, 3)


def test_clips_of_both_portraits_still_and_turning(tmp_path):
    paths = write_clips(tmp_path / "clips", 2)
    assert [path.name for path in paths] == [
        f"{name}{kind}.mp4"
        for name in ("Eileen_Collins", "Grace_Hopper")
        for kind in ("", "_turning")
    ]
    with VideoReader(paths[1]) as reader:
        assert reader.rate == 24 and [frame.shape for frame in reader] == [(240, 320, 3)] * 2
    first, again = (list(clip("Grace_Hopper", 2)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    # The matrix says where a frame shows the portrait, but for the grain.
    matrix = clip_matrix("Grace_Hopper", 1)
    place = np.rint(matrix @ (266, 240, 1)).astype(int)  # on the nose, which is evenly lit
    wanted = portraits()["Grace_Hopper"][237:244, 263:270].mean((0, 1))
    shown = first[1][place[1] - 1 : place[1] + 2, place[0] - 1 : place[0] + 2].mean((0, 1))
    assert np.abs(shown - wanted).max() < 10
    # A head that turns differs from one that does not, most at the nose.
    turning = list(clip("Grace_Hopper", 9, turning=True))[8].astype(int)
    still = list(clip("Grace_Hopper", 9))[8]
    moved = np.abs(turning - still).mean(-1)
    assert moved[90:150, 130:190].mean() > 4 * moved[:, :40].mean() + 1


def test_nearly_all_samples_have_a_detectable_face(tmp_path):
    pytest.importorskip("dlib", reason="needs dlib")
    from facehal.faces.landmarks import LandmarkDetector

    detector = LandmarkDetector()
    found = [detector.detect(read_image(path)) for path in write_samples(tmp_path, 100)]
    assert sum(len(faces) == 1 for faces in found) >= 95


def test_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(DataError, match=r"pip install facehal\[portraits\]"):
        portraits()
