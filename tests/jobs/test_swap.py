"""`swap` over many photos, with a stand-in for the model: what is kept and what is skipped."""

import csv

import numpy as np
import pytest

from facehal.errors import FacehalError, NoFaceError
from facehal.images import read_image, write_png
from facehal.inference.swap import Swapped
from facehal.jobs.hallucinate import find_photos
from facehal.jobs.swap import OUTPUTS, swap


class Quick:
    """Turns every photo into its negative; some names stand for what may happen."""

    identity = "source"

    def swap(self, photo):
        if photo.stem == "nobody":
            raise NoFaceError(f"{photo}: no face found")
        if photo.stem == "stop":
            raise KeyboardInterrupt
        image = read_image(photo)
        crop = np.zeros((8, 8, 3), np.float32)
        return Swapped(255 - image, crop, crop, image, 255 - image)


@pytest.fixture
def photos(tmp_path):
    def write(*names: str):
        for number, name in enumerate(names):
            write_png(tmp_path / "photos" / name, np.full((16, 16, 3), number, np.uint8))
        return tmp_path / "photos"

    return write


def run(folder, out):
    return swap(find_photos([folder], out, OUTPUTS), out, Quick(), progress=False)


def test_pictures_have_the_photos_names(photos, tmp_path, capsys):
    folder, out = photos("a.png", "b/a.png", "nobody.png"), tmp_path / "out"
    done = run(folder, out)
    assert (done.photos, done.pictures) == (3, 2)
    names = sorted(path.name for path in (out / "swapped").iterdir())
    assert names == ["a.png", "a_2.png"]
    assert (read_image(out / "swapped/a_2.png") == 254).all()
    assert read_image(done.sheet).shape[1] >= 4 * 16
    with open(out / "skipped.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1][0].endswith("nobody.png") and "no face found" in capsys.readouterr().err


def test_a_second_call_does_not_swap_its_own_pictures(photos, tmp_path):
    folder = photos("a.png")
    for _ in range(2):
        assert run(folder, folder).photos == 1
    assert not (folder / "skipped.csv").exists()


def test_what_was_finished_is_kept(photos, tmp_path):
    folder, out = photos("a.png", "stop.png", "x.png"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(folder, out)
    assert (out / "swapped.png").is_file()
    assert [path.name for path in (out / "swapped").iterdir()] == ["a.png"]


def test_none_could_be_used(photos, tmp_path):
    with pytest.raises(FacehalError, match=r"none of 1 photos could be used; see .*skipped\.csv"):
        run(photos("nobody.png"), tmp_path / "out")
    assert not (tmp_path / "out/swapped.png").exists()
