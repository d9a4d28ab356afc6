"""Faces by who is on them, and what augment made of them."""

import shutil

import numpy as np
import pandas as pd
import pytest

from facehal.data.faceset import FaceSet
from facehal.data.people import hallucinated, split, with_photos
from facehal.errors import DataError
from facehal.images import read_image, write_png


def invented(photos: dict[str, int]) -> FaceSet:
    """A set of faces that are never read: so many of everybody."""
    rows = [(name, number) for name, count in photos.items() for number in range(count)]
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "file": [f"{name}/{number}.jpg" for name, number in rows],
            "face": [f"faces/{name}/{number}.png" for name, number in rows],
            "subject": [name for name, _ in rows],
            "source_sha256": [random.bytes(32).hex() for _ in rows],
        },
        dtype=object,
    )
    points, places = np.zeros((len(rows), 68, 2), np.float32), np.zeros(len(rows), np.intp)
    return FaceSet((), frame, points, 128, places)


PHOTOS = {"ann": 20, "bob": 14, "cid": 5, "dan": 2, "eve": 1}


def test_people_with_too_few_photos_are_left_out():
    faces = invented(PHOTOS)
    assert with_photos(faces, 1) is faces
    assert with_photos(faces, 5).subjects == ["ann", "bob", "cid"]


def test_a_share_of_everybodys_photos_is_held_out():
    faces = invented(PHOTOS)
    trained, held = split(faces, 0.1)
    assert held.frame["subject"].value_counts().to_dict() == {"ann": 2, "bob": 1, "cid": 1}
    assert trained.subjects == faces.subjects
    photos = [set(one.frame["source_sha256"]) for one in (trained, held)]
    assert not photos[0] & photos[1]
    assert photos[0] | photos[1] == set(faces.frame["source_sha256"])
    # Nobody loses their last photo, and nothing is held out where nothing shall be.
    assert split(invented({"ann": 1, "bob": 1}), 0.9)[1] is None
    assert split(faces, 0.0) == (faces, None)


def test_the_split_depends_on_the_photos_alone():
    faces = invented(PHOTOS)
    order = np.random.default_rng(1).permutation(len(faces))
    ours, theirs = (split(one, 0.3)[1] for one in (faces, faces.chosen(order)))
    assert set(ours.frame["file"]) == set(theirs.frame["file"])


def test_impossible_sets_are_one_line(sample_data):
    nameless = invented({"": 3, "ann": 2})
    for faces, least, reason in (
        (nameless, 1, "faces have no subject"),
        (invented({"ann": 9, "bob": 1}), 2, "two or more with 2 photos each"),
    ):
        faces = FaceSet(
            (sample_data,), *(getattr(faces, n) for n in ("frame", "landmarks", "side", "places"))
        )
        with pytest.raises(DataError, match=reason):
            with_photos(faces, least)


@pytest.fixture
def made(augmented_data, tmp_path):
    """A copy of it, so that it may be changed."""
    return shutil.copytree(augmented_data, tmp_path / "made")


def test_pictures_have_their_faces_people_and_photos(sample_data, made):
    faces = FaceSet.open(sample_data)
    chosen = faces.chosen([5, 2, 20])
    found = hallucinated(chosen, [made])
    assert len(found) == 9 and found.side == 128
    pictures, masks = found.read(range(9))
    seen = {(int(p[0, 0, 0]), int(p[0, 0, 1])) for p in pictures}
    assert seen == {(row, variant) for row in (5, 2, 20) for variant in (0, 1, 2)}
    originals = faces.read([int(p[0, 0, 0]) for p in pictures])[1]
    np.testing.assert_array_equal(masks, originals)
    for column in ("subject", "source_sha256"):
        rows = [int(p[0, 0, 0]) for p in pictures]
        assert found.frame[column].tolist() == faces.frame[column][rows].tolist()
    assert len(hallucinated(chosen, [made], 0)) == 3
    assert len(hallucinated(chosen, [made], 1)) == 6


def test_a_face_and_its_pictures_are_on_one_side(sample_data, made):
    trained, held = split(FaceSet.open(sample_data), 0.2)
    photos = set(hallucinated(trained, [made]).frame["source_sha256"])
    assert photos == set(trained.frame["source_sha256"])
    assert not photos & set(held.frame["source_sha256"])


def test_what_augment_itself_writes(sample_data, tmp_path):
    from facehal.jobs.augment import augment
    from facehal.models.cascade.cascade import Cascade
    from facehal.models.saving import save_model

    model = save_model(Cascade(2, 16, resolutions=(8, 16, 32)), tmp_path / "model.keras")
    augment(sample_data, tmp_path / "out", model, limit=4, progress=False)
    with pytest.raises(DataError, match="must be 128x128"):  # the model makes pictures of 32
        hallucinated(FaceSet.open(sample_data), [tmp_path / "out"])
    for path in (tmp_path / "out").glob("pictures/*/*.png"):
        write_png(path, np.repeat(np.repeat(read_image(path), 4, 0), 4, 1))
    assert len(hallucinated(FaceSet.open(sample_data), [tmp_path / "out"])) == 4


def test_other_folders_are_refused(sample_data, made, tmp_path):
    faces = FaceSet.open(sample_data)
    with pytest.raises(DataError, match="run `facehal augment` first"):
        hallucinated(faces, [tmp_path / "nothing"])
    text = (made / "images.csv").read_text()
    for changed, reason in (
        (text.replace("pictures/", "../pictures/"), "outside of the folder"),
        ("\n".join(text.splitlines()[:-1]), "not a list that augment wrote"),
        ("file,subject\n", "not a list"),
        (text.split("\n", 2)[0] + "\n" + text.split("\n", 2)[2], "not a list|is not of"),
    ):
        (made / "images.csv").write_text(changed)
        with pytest.raises(DataError, match=reason):
            hallucinated(faces, [made])
    other = shutil.copytree(sample_data, tmp_path / "other")
    with pytest.raises(DataError, match="which is not among the faces"):
        hallucinated(FaceSet.open(other), [made])
