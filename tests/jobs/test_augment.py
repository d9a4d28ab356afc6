"""Whole sets hallucinated for training: what is written, what is kept, what is refused."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest

from facehal.data.faceset import load_faces
from facehal.errors import DataError
from facehal.images import decode_image, read_image, to_float, to_uint8, write_png
from facehal.inference.hallucinator import Hallucinator, load
from facehal.jobs import augment as module
from facehal.jobs.augment import augment


@pytest.fixture(scope="module")
def data(sample_data, tmp_path_factory):
    """A copy of the prepared sample, so that it may be changed."""
    return shutil.copytree(sample_data, tmp_path_factory.mktemp("augment") / "faces")


@pytest.fixture(scope="module")
def model(sample_data, tmp_path_factory):
    """An untrained cascade of the blocks 8 to 32: the pictures are those of its last block."""
    from facehal.models.cascade.cascade import Cascade
    from facehal.models.saving import save_model

    path = tmp_path_factory.mktemp("model") / "model.keras"
    return save_model(Cascade(2, 16, resolutions=(8, 16, 32)), path)


@pytest.fixture(scope="module")
def done(data, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "augmented"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 5)  # several chunks, the last one smaller
        return augment(data, out, model, progress=False)


def test_pictures_are_what_the_model_hallucinates(done, data, model):
    faces, masks, frame = load_faces(data)
    assert (done.pictures, done.new, done.subjects) == (len(faces), len(faces), 2)
    small, shares = module.shrunk(faces, masks, 32)
    expected = load(model).from_masks(to_float(small) * shares[..., None], shares)
    folder = done.images.parent
    for index, row in frame.iterrows():
        name = os.path.basename(row["face"])
        picture = read_image(folder / "pictures" / row["subject"] / name)
        # Rounded to 8 bits; the batches are others than those of the model at one go.
        assert np.abs(picture.astype(int) - to_uint8(expected[index])).max() <= 1
    sheet = read_image(folder / "augmented.png")
    assert sheet.shape[0] >= 3 * 128 and sheet.shape[1] >= 12 * 128


def test_list_has_both_data_sets_with_one_split(done, data):
    table = pd.read_csv(done.images)
    real, made = table[table["synthetic"] == 0], table[table["synthetic"] == 1]
    assert len(real) == len(made) == done.pictures
    for column in ("subject", "label", "split"):
        assert list(real[column]) == list(made[column])
    assert set(real["split"]) == {"train", "val"}
    assert sorted(table["label"].unique()) == [0, 1]
    assert table.groupby("subject")["label"].nunique().eq(1).all()
    for name in table["file"]:
        assert (done.images.parent / name).is_file()


def test_goes_on_where_it_was(done, data, model, monkeypatch):
    pictures = sorted(done.images.parent.glob("pictures/*/*.png"))
    before = {path: path.read_bytes() for path in pictures}
    pictures[3].unlink()
    seen = []
    original = Hallucinator.from_masks

    def counted(self, masked_faces, *args, **options):
        seen.append(len(masked_faces))
        return original(self, masked_faces, *args, **options)

    monkeypatch.setattr(Hallucinator, "from_masks", counted)
    again = augment(data, done.images.parent, model, progress=False)
    assert (again.new, seen) == (1, [1])
    write_png(pictures[4], np.zeros((32, 32, 3), np.uint8))
    os.utime(pictures[4], (0, 0))  # older than its face, as if the face had been prepared anew
    assert augment(data, done.images.parent, model, progress=False).new == 1
    for index, path in enumerate(pictures):
        if index in (3, 4):  # made alone: not to the bit what they were in a batch
            old = decode_image(before[path]).astype(int)
            assert np.abs(read_image(path) - old).max() <= 1
        else:
            assert path.read_bytes() == before[path]
    assert sorted(done.images.parent.glob("pictures/*/*.png")) == pictures


def test_refusals(done, data, model, tmp_path):
    with pytest.raises(DataError, match="pictures of another model"):
        augment(data, done.images.parent, "compact", limit=2, progress=False)
    other = shutil.copytree(data, tmp_path / "other")
    with pytest.raises(DataError, match="pictures of other faces"):
        augment(other, done.images.parent, model, limit=2, progress=False)
    frame = pd.read_csv(other / "manifest.csv", dtype=str, keep_default_na=False)
    frame.assign(subject="../up").to_csv(other / "manifest.csv", index=False)
    with pytest.raises(DataError, match=r"'\.\./up' cannot be the name of a folder"):
        augment(other, tmp_path / "out", model, progress=False)
    frame.assign(subject="").to_csv(other / "manifest.csv", index=False)
    with pytest.raises(DataError, match="24 of 24 faces have no subject"):
        augment(other, tmp_path / "out", model, progress=False)
    assert not (tmp_path / "out").exists()


def test_same_name_in_two_folders_of_a_subject():
    rows = pd.DataFrame(
        {
            "face": ["faces/a/X/1.png", "faces/b/X/1.png", "faces/b/x/1.png", "faces/a/X/1_2.png"],
            "subject": ["X", "X", "x", "X"],
        }
    )
    names = module._picture_names(rows)
    assert names[:2] == ["pictures/X/1.png", "pictures/X/1_2.png"]
    assert len({name.lower() for name in names}) == 4
