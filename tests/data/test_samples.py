import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facehal.data.samples import portraits, write_samples
from facehal.errors import DataError
from facehal.images import list_images, read_image

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
