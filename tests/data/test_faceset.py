import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facehal.data.faceset import load_faces, read_manifest
from facehal.data.schema import COLUMNS, FACE_POINTS, PHOTO_POINTS
from facehal.errors import DataError
from facehal.faces.mask import hull_mask
from facehal.images import read_image, write_png
from facehal.jobs.preprocess import preprocess


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Six photos with known points and two that fail; dlib is not needed. Not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    base = random.uniform(40, 160, (68, 2))
    base[36:42], base[42:48] = (75.0, 90.0), (125.0, 90.0)
    rows = []
    for subject in ("None", "NA"):  # names of people, not missing values
        for index in range(3):
            file = f"{subject}/{index}.png"
            write_png(folder / "raw" / file, random.integers(0, 255, (200, 200, 3), np.uint8))
            rows.append([file, *(base + index).ravel()])
    (folder / "raw" / "broken.jpg").write_text("no picture")
    (folder / "raw" / "empty.jpg").write_text("")
    table = pd.DataFrame(rows, columns=["file", *PHOTO_POINTS])
    table.to_csv(folder / "points.csv", index=False)
    preprocess(
        folder / "raw",
        folder / "out",
        workers=1,
        landmarks=folder / "points.csv",
        progress=False,
    )
    return folder / "out"


@pytest.fixture
def copy(prepared, tmp_path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


def test_manifest(prepared):
    frame = read_manifest(prepared)
    assert list(frame.columns) == COLUMNS and len(frame) == 8
    assert frame["subject"].tolist() == ["NA"] * 3 + ["None"] * 3 + [""] * 2
    assert frame["status"].tolist() == ["ok"] * 6 + ["failed"] * 2
    assert frame["reason"].tolist()[6:] == ["not a picture that can be read", "the file is empty"]
    assert frame["face"][0] == "faces/NA/0.png" and frame["face"][7] == ""
    assert frame["width"][0] == 200 and np.isnan(frame["width"][7])


def test_faces_and_masks(prepared):
    faces, masks, frame = load_faces(prepared, progress=True)
    assert faces.shape == (6, 128, 128, 3) and faces.dtype == np.uint8
    assert masks.shape == (6, 128, 128) and masks.dtype == np.uint8
    assert frame.index.tolist() == list(range(6)) and (frame["status"] == "ok").all()
    for index, row in frame.iterrows():
        np.testing.assert_array_equal(faces[index], read_image(prepared / row["face"]))
        points = row[FACE_POINTS].to_numpy(np.float32).reshape(68, 2)
        np.testing.assert_array_equal(masks[index], hull_mask(points))


def test_limit(prepared):
    faces, masks, frame = load_faces(prepared, limit=2)
    assert len(faces) == len(masks) == len(frame) == 2
    np.testing.assert_array_equal(faces, load_faces(prepared)[0][:2])
    assert len(load_faces(prepared, limit=100)[0]) == 6


def fails(folder: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load_faces(folder)
    assert "\n" not in str(caught.value)


def test_missing_manifest(tmp_path, copy):
    fails(tmp_path, "no manifest: run")
    (copy / "manifest.csv").rename(copy / "manifest.partial.csv")
    fails(copy, "interrupted")


def test_missing_column_and_other_files(copy):
    path = copy / "manifest.csv"
    frame = pd.read_csv(path)
    frame.drop(columns="ay3").to_csv(path, index=False)
    fails(copy, "column ay3 is missing")
    path.write_text("")
    fails(copy, "not a manifest")
    path.write_bytes(bytes(range(256)))
    fails(copy, "not a manifest|is missing")


def test_no_usable_face(copy):
    path = copy / "manifest.csv"
    frame = pd.read_csv(path)
    frame.assign(status="failed").to_csv(path, index=False)
    fails(copy, "none of its 8 photos")


@pytest.mark.parametrize("value", ["", "x"])
def test_missing_landmarks(copy, value):
    path = copy / "manifest.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[2, "ax9"] = value
    frame.to_csv(path, index=False)
    fails(copy, "no landmarks")


def test_missing_damaged_or_wrong_face(copy):
    path = copy / "faces" / "NA" / "1.png"
    data = path.read_bytes()
    path.write_bytes(data[:100])
    fails(copy, r"1\.png.*cut short")
    path.unlink()
    fails(copy, r"1\.png.*No such file")
    write_png(path, np.zeros((64, 64, 3), np.uint8))
    fails(copy, r"1\.png.*128x128")
