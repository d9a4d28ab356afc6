import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facehal.data.faceset import FaceSet, load_faces, read_manifest, shrunk
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
    fails(copy, "the column file is missing")


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


def test_face_set(prepared):
    data = FaceSet.open(prepared)
    faces, masks, frame = load_faces(prepared)
    assert len(data) == 6 and data.side == 128
    assert list(data.frame.columns) == ["file", "face", "subject", "source_sha256"]
    for name in data.frame:
        assert data.frame[name].tolist() == frame[name].tolist()
    assert data.landmarks.shape == (6, 68, 2) and data.landmarks.dtype == np.float32
    expected = frame[FACE_POINTS].to_numpy(np.float32).reshape(-1, 68, 2)
    np.testing.assert_array_equal(data.landmarks, expected)
    assert data.subjects == ["NA", "None"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1] and data.labels.dtype == np.int32
    for ours, theirs in zip(data.load(progress=True), (faces, masks), strict=True):
        assert ours.dtype == np.uint8
        np.testing.assert_array_equal(ours, theirs)
    rows = [4, 0, 4]
    for ours, theirs in zip(data.read(rows), (faces[rows], masks[rows]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(data.load(32), shrunk(faces, masks, 32), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(DataError, match="cannot be shrunk"):
        data.load(100)
    assert data.read([])[0].shape == (0, 128, 128, 3)


def test_limit_of_a_face_set(copy):
    data = FaceSet.open(copy, 4)
    assert len(data) == 4 and len(FaceSet.open(copy, 100)) == 6
    assert data.labels.tolist() == [0, 0, 0, 1]
    with pytest.raises(DataError, match="at least one face"):
        FaceSet.open(copy, 0)


def test_faces_without_a_subject(copy):
    path = copy / "manifest.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[[1, 4], "subject"] = ""
    frame.to_csv(path, index=False)
    data = FaceSet.open(copy)
    assert data.subjects == ["NA", "None"] and data.labels.tolist() == [0, -1, 0, 1, -1, 1]
    frame.assign(subject="").to_csv(path, index=False)
    assert FaceSet.open(copy).subjects == [] and set(FaceSet.open(copy).labels) == {-1}


def test_hash_of_a_face_set(prepared, copy):
    """The same for the same pixels and their order, wherever they lie; no picture is read."""
    expected = FaceSet.open(prepared).sha256
    assert len(expected) == 64 and expected != FaceSet.open(prepared, 5).sha256
    shutil.rmtree(copy / "faces")
    assert FaceSet.open(copy).sha256 == expected
    path = copy / "manifest.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.assign(subject="x", status=frame["status"]).to_csv(path, index=False)
    assert FaceSet.open(copy).sha256 == expected
    for column, value in (("ax5", "1.25"), ("face", "faces/x.png"), ("source_sha256", "ab")):
        changed = frame.copy()
        changed.loc[2, column] = value
        changed.to_csv(path, index=False)
        assert FaceSet.open(copy).sha256 != expected
    frame.iloc[::-1].to_csv(path, index=False)
    assert FaceSet.open(copy).sha256 != expected


def test_size_of_the_faces(copy):
    """`preprocess` notes it; without its note the first face says it; all must have it."""
    settings = copy / "settings.json"
    for text in ("", "{}", "[1]", '{"size": "big"}'):
        settings.write_text(text)
        assert FaceSet.open(copy).side == 128
    settings.unlink()
    for path in (copy / "faces").rglob("*.png"):
        write_png(path, read_image(path)[::2, ::2])
    data = FaceSet.open(copy)
    faces, masks = data.load()
    assert data.side == 64 and faces.shape == (6, 64, 64, 3) and masks.shape == (6, 64, 64)
    assert load_faces(copy)[0].shape == (6, 64, 64, 3)
    write_png(copy / "faces/None/1.png", np.zeros((128, 128, 3), np.uint8))
    for read in (data.load, lambda: load_faces(copy)):
        with pytest.raises(DataError, match=r"None/1\.png: must be 64x64"):
            read()
    (copy / "faces/NA/0.png").unlink()
    with pytest.raises(DataError, match=r"NA/0\.png: No such file"):
        FaceSet.open(copy)
    settings.write_text(json.dumps({"size": 64}))
    assert len(FaceSet.open(copy)) == 6


def other(prepared: Path, folder: Path, kept: int = 0, side: int = 128) -> Path:
    """A set whose files have the same names: inverted faces of other photos, but for the first."""
    shutil.copytree(prepared, folder)
    for path in (folder / "faces").rglob("*.png"):
        write_png(path, 255 - read_image(path)[:: 128 // side, :: 128 // side])
    (folder / "settings.json").write_text(json.dumps({"size": side}))
    frame = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    frame.loc[kept:, "source_sha256"] = [f"{i:064x}" for i in range(kept, len(frame))]
    frame.to_csv(folder / "manifest.csv", index=False)
    return folder


def test_several_folders(prepared, tmp_path):
    """One after another; a photo that both have once; each face from its own folder."""
    second, third = other(prepared, tmp_path / "b", kept=2), other(prepared, tmp_path / "c")
    (third / "manifest.csv").write_bytes((second / "manifest.csv").read_bytes())  # all known
    data, first = FaceSet.open([prepared, second, third]), FaceSet.open(str(prepared))
    assert len(data) == 10 and data.folders == (prepared, second, third) and data.side == 128
    assert data.places.tolist() == [0] * 6 + [1] * 4
    assert data.frame.index.tolist() == list(range(10))
    faces, masks = first.load()
    both, both_masks = data.load()
    assert np.array_equal(both, np.concatenate([faces, 255 - faces[2:]]))
    assert np.array_equal(both_masks, np.concatenate([masks, masks[2:]]))
    assert np.array_equal(data.read([8, 1])[0], both[[8, 1]])
    assert data.frame["face"].tolist()[:6] == first.frame["face"].tolist()
    one = FaceSet.open([prepared])
    assert one.sha256 == first.sha256 and one.frame.equals(first.frame)
    assert len(FaceSet.open([prepared, prepared])) == 6
    with pytest.raises(DataError, match="no folder of prepared faces is named"):
        FaceSet.open([])


def test_the_same_name_in_two_folders(prepared, tmp_path):
    """Nothing says that it is one person; and a moved folder does not number people anew."""
    second = other(prepared, tmp_path / "b", kept=2)
    frame = pd.read_csv(second / "manifest.csv", dtype=str, keep_default_na=False)
    frame.loc[4, "subject"] = ""
    frame.to_csv(second / "manifest.csv", index=False)
    data = FaceSet.open([prepared, second])
    assert data.subjects == ["1/NA", "1/None", "2/NA", "2/None"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, -1, 3]
    moved = FaceSet.open([prepared, second.rename(tmp_path / "a")])
    assert np.array_equal(moved.labels, data.labels) and moved.sha256 == data.sha256


def test_limit_of_several_folders(prepared, tmp_path):
    second = other(prepared, tmp_path / "b", kept=2)
    whole = FaceSet.open([prepared, second])
    for limit, places in ((4, [0] * 4), (7, [0] * 6 + [1]), (99, [0] * 6 + [1] * 4)):
        data = FaceSet.open([prepared, second], limit)
        assert data.places.tolist() == places and len(data.landmarks) == len(data) == len(places)
        assert data.frame.equals(whole.frame[: len(places)])
    with pytest.raises(DataError, match="at least one face"):
        FaceSet.open([prepared, second], 0)


def test_the_hash_is_that_of_all_faces(prepared, tmp_path):
    second = other(prepared, tmp_path / "b")
    hashes = {
        FaceSet.open(one).sha256
        for one in (prepared, second, [prepared, second], [second, prepared])
    }
    assert len(hashes) == 4
    assert FaceSet.open([prepared, second], 6).sha256 == FaceSet.open(prepared).sha256


def test_folders_of_two_sizes(prepared, tmp_path):
    second = other(prepared, tmp_path / "b", side=64)
    with pytest.raises(DataError) as caught:
        FaceSet.open([prepared, second])
    text = f"{prepared} has faces of 128x128, {second} of 64x64: preprocess"
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"gone.*no manifest"):
        FaceSet.open([prepared, tmp_path / "gone"], 2)


@pytest.mark.parametrize(
    "name",
    [
        *("../x.png", "/etc/x.png", "faces/../../x.png", "", "a\0b", "faces/.."),
        *(r"..\x.png", r"faces\..\..\x.png", r"\x.png", "C:x.png", r"c:\x.png", r"\\host\x.png"),
    ],
)
def test_faces_outside_of_the_folder_are_refused(copy, name):
    write_png(copy.parent / "x.png", np.zeros((128, 128, 3), np.uint8))
    path = copy / "manifest.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[3, "face"] = "faces/..odd..name.png"  # no way out
    frame.to_csv(path, index=False)
    FaceSet.open(copy)
    frame.loc[3, "face"] = name
    frame.to_csv(path, index=False)
    for read in (FaceSet.open, load_faces, read_manifest):
        with pytest.raises(DataError, match="lies outside of the folder") as caught:
            read(copy)
        assert "\n" not in str(caught.value)


def test_links_out_of_the_folder_are_not_followed(copy):
    """A face that is one, and a person's folder; links inside, and to all faces, are no trap."""
    other = copy.parent / "other"
    shutil.copytree(copy / "faces", other)
    try:
        (copy.parent / "whole").symlink_to(copy, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    (copy / "faces/NA/0.png").unlink()
    (copy / "faces/NA/0.png").symlink_to(copy / "faces/NA/1.png")
    assert FaceSet.open(copy.parent / "whole").read([0, 1])[0].shape == (2, 128, 128, 3)
    (copy / "faces").rename(copy.parent / "large_disk")
    (copy / "faces").symlink_to(copy.parent / "large_disk", target_is_directory=True)
    assert FaceSet.open(copy).read([0, 1])[0].shape == (2, 128, 128, 3)
    (copy / "faces/NA/0.png").unlink()
    (copy / "faces/NA/0.png").symlink_to(other / "NA/0.png")
    for read in (lambda: FaceSet.open(copy).read([0]), lambda: load_faces(copy)):
        with pytest.raises(DataError, match=r"0\.png: is a link out of .*: not read") as caught:
            read()
        assert "\n" not in str(caught.value)
    shutil.rmtree(copy / "faces/NA")
    (copy / "faces/NA").symlink_to(other / "NA", target_is_directory=True)
    for read in (FaceSet.open, load_faces, read_manifest):
        with pytest.raises(DataError, match="lies outside of the folder"):
            read(copy)


def test_a_face_set_says_what_is_wrong_like_load_faces(tmp_path, copy):
    def fails(folder: Path, match: str) -> None:
        with pytest.raises(DataError, match=match) as caught:
            FaceSet.open(folder)
        assert "\n" not in str(caught.value)

    fails(tmp_path, "no manifest: run")
    path = copy / "manifest.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for value in ("", "x", "inf"):
        changed = frame.copy()
        changed.loc[2, "ax9"] = value
        changed.to_csv(path, index=False)
        fails(copy, "no landmarks")
    frame.assign(status="failed").to_csv(path, index=False)
    fails(copy, "none of its 8 photos")
    frame.drop(columns="ay3").to_csv(path, index=False)
    fails(copy, "column ay3 is missing")
    frame.to_csv(path, index=False)
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*text[:3], ",".join("a" * len(frame.columns)) + "\n", *text[3:]]))
    fails(copy, "no landmarks")
    path.write_text("".join([*text[:3], '"a quotation that does not end\n', *text[3:]]))
    fails(copy, "not a manifest")


def test_names_that_are_no_utf8(copy):
    path = copy / "manifest.csv"
    (copy / "faces/NA/0.png").rename(copy / os.fsdecode(b"faces/NA/\xff.png"))
    path.write_bytes(path.read_bytes().replace(b"faces/NA/0.png", b"faces/NA/\xff.png"))
    data = FaceSet.open(copy)
    assert data.read([0])[0].shape == (1, 128, 128, 3) and len(data.sha256) == 64


OPEN = """
import sys
from facehal.data.faceset import FaceSet

def peak():
    # Not getrusage: there a child's peak counts from its parent's size.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

FaceSet.open(sys.argv[1], 100)
before = peak()
data = FaceSet.open(sys.argv[1])
data.sha256, data.labels
faces, masks = data.read([0, len(data) - 1])
print(len(data), len(data.subjects), bool(faces.any() and masks.any()), peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_large_manifest_takes_little_memory(sample_data, tmp_path):
    """60,000 rows: 33 MB of landmarks, 30 MB of texts; as a whole frame they would be 150 MB."""
    (tmp_path / "faces").symlink_to(sample_data / "faces")
    head, *lines = (sample_data / "manifest.csv").read_text().splitlines()
    rows = [line.split(",", 13) for line in lines if ",ok," in line]
    place = COLUMNS.index("source_sha256")
    with open(tmp_path / "manifest.csv", "w") as file:
        file.write(f"{head}\n")
        for index in range(60_000):
            row = list(rows[index % len(rows)])
            row[0], row[2], row[place] = f"{index}.jpg", f"s{index}", f"{index:064x}"
            file.write(",".join(row) + "\n")
    words = [sys.executable, "-c", OPEN, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run(words, capture_output=True, text=True, check=True, cwd=root).stdout
    count, subjects, drawn, megabytes = found.split()
    assert (count, subjects, drawn) == ("60000", "60000", "True")
    assert float(megabytes) < 110, megabytes


def test_one_persons_faces(prepared):
    faces = FaceSet.open(prepared)
    some = faces.of_subject("None")
    assert some.frame["subject"].tolist() == ["None"] * 3 and some.subjects == ["None"]
    assert some.frame.index.tolist() == [0, 1, 2] and some.labels.tolist() == [0, 0, 0]
    ours, theirs = some.read([0, 2]), faces.read([3, 5])
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert some.sha256 != faces.sha256
    with pytest.raises(DataError, match="no face of 'Nobody'; write the name as in the manifest"):
        faces.of_subject("Nobody")


def test_two_people_of_a_folder_joined(prepared):
    """Told apart by their place; a photo of both sets stays where it comes first."""
    faces = FaceSet.open(prepared)
    people = [faces.of_subject(name) for name in ("None", "NA")]
    both = FaceSet.joined(people)
    assert both.folders == (prepared, prepared) and both.places.tolist() == [0, 0, 0, 1, 1, 1]
    assert both.subjects == ["1/None", "2/NA"]
    assert len(FaceSet.joined([people[0], faces])) == 6
    apart = both.chosen(np.flatnonzero(both.places == 1))
    assert all(map(np.array_equal, apart.read([1]), faces.read([1])))
