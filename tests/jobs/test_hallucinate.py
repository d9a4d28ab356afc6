"""`hallucinate` in this process, with a stand-in for the model: what is kept, skipped, left out."""

import csv
import os
import time
from pathlib import Path

import numpy as np
import pytest

from facehal.errors import FacehalError, NoFaceError
from facehal.files import unique_names
from facehal.images import read_image, write_png
from facehal.inference.hallucinator import AlignedFace, Hallucinator
from facehal.jobs.hallucinate import find_photos
from facehal.jobs.hallucinate import hallucinate as job


def hallucinate(photos: list[Path], out: Path, **options) -> None:
    done = job(find_photos(photos, out), out, Quick(Quick.Engine()), **options)
    print(f"{done.pictures} of {done.photos} photos")


class Quick(Hallucinator):
    """Takes every photo for a face and gives it back; some names stand for what may happen."""

    class Engine:
        resolutions, latent = (16,), 2

        def run(self, masked_faces, masks, latents=None):
            tint = 0.0 if latents is None else np.abs(latents[:, :1, None, None]) % 0.3
            return {16: masked_faces + np.float32(tint)}

    def prepare(self, photo):
        if photo.stem == "nobody":
            raise NoFaceError(f"{photo}: no face found")
        if photo.stem == "stop":
            raise KeyboardInterrupt
        if photo.stem.startswith("vanishes"):
            photo.unlink()
        grey, points = np.full((16, 16, 3), 128, np.uint8), np.zeros((68, 2), np.float32)
        return AlignedFace(grey, np.ones((16, 16), np.uint8), points, 1, np.eye(2, 3))


@pytest.fixture
def quick(monkeypatch):
    """Writes photos of the given names; pasting gives the photo itself."""
    monkeypatch.setattr("facehal.jobs.hallucinate.paste_into", lambda photo, *_: photo)

    def write(folder: Path, *names: str) -> Path:
        for name in names:
            write_png(folder / f"{name}.png", np.full((8, 8, 3), 128, np.uint8))
        return folder

    return write


def skipped_names(out: Path) -> list[str]:
    with open(out / "skipped.csv", newline="", errors="surrogateescape") as file:
        return [Path(row["file"]).stem for row in csv.DictReader(file)]


def test_an_interrupted_hallucinate_leaves_sheet_and_list(quick, tmp_path):
    batch = [f"p{number:02}" for number in range(31)]  # with the first four chunks of eight
    folder = quick(tmp_path / "photos", "nobody", *batch, "stop")
    with pytest.raises(KeyboardInterrupt):
        hallucinate([folder], tmp_path / "out")
    assert len(list((tmp_path / "out/pictures").iterdir())) == 31
    assert read_image(tmp_path / "out/hallucinated.png").shape[1] > 3 * 16
    assert skipped_names(tmp_path / "out") == ["nobody"]


def test_a_photo_that_vanishes_is_skipped_alone(quick, tmp_path):
    odd = os.fsdecode(b"vanishes\xff")  # no UTF-8: the list holds the bytes of the name
    folder = quick(tmp_path / "photos", "a", odd, "z")
    hallucinate([folder], tmp_path / "out", paste=True)
    for made in ("pictures", "pasted"):
        assert {file.stem for file in (tmp_path / "out" / made).iterdir()} == {"a", "z"}
    assert skipped_names(tmp_path / "out") == [odd]


def test_the_list_of_an_earlier_hallucinate_goes(quick, tmp_path):
    folder, out = quick(tmp_path / "photos", "a", "nobody"), tmp_path / "out"
    hallucinate([folder], out)
    assert skipped_names(out) == ["nobody"]
    hallucinate([folder / "a.png"], out)
    assert not (out / "skipped.csv").exists()


def test_pictures_that_hallucinate_wrote_are_no_photos(quick, tmp_path, capsys):
    folder = quick(tmp_path / "photos", "a", "b")
    out = folder / "out"
    for _ in range(2):
        hallucinate([folder], out, paste=True)
        assert "2 of 2 photos" in capsys.readouterr().out
    # What the user put there, or names outright, is a photo all the same.
    hallucinate([quick(out / "own", "c"), out / "pictures/a.png"], out)
    assert "2 of 2 photos" in capsys.readouterr().out
    with pytest.raises(FacehalError, match="only what was written into"):
        hallucinate([out / "pictures"], out)


def test_variants_stand_beside_the_picture(quick, tmp_path):
    """As many as asked for, each another one, and no photos of the next call."""
    folder, out = quick(tmp_path / "photos", "a", "b"), tmp_path / "photos/out"
    for _ in range(2):
        hallucinate([folder], out, variants=3)
    names = sorted(file.name for file in (out / "variants").iterdir())
    assert names == [f"{photo}_{seed}.png" for photo in "ab" for seed in (1, 2, 3)]
    pictures = [read_image(out / "variants" / f"a_{seed}.png") for seed in (1, 2, 3)]
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert read_image(out / "hallucinated.png").shape[1] > 6 * 16


def test_output_names_never_collide():
    assert len(set(unique_names(["x", "x", "x_2"]))) == 3
    assert unique_names(["x", "X"]) == ["x", "X_2"]  # some file systems know no upper case
    names = unique_names(["x", "x_2", "y"] * 3)
    assert names == ["x", "x_2", "y", "x_3", "x_2_2", "y_2", "x_4", "x_2_3", "y_3"]


def test_output_names_of_many_photos_called_alike_are_quick():
    start = time.process_time()
    names = unique_names(["x"] * 2000)
    assert time.process_time() - start < 2
    assert len(set(names)) == 2000 and names[1999] == "x_2000"
