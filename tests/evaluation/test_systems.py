"""Systems of a table: reference rows by hand, folders of other programs' pictures."""

import numpy as np
import pytest

from facehal.errors import DataError
from facehal.evaluation import systems
from facehal.evaluation.systems import Faces
from facehal.images import to_uint8, write_png


def made(faces: np.ndarray, masks: np.ndarray) -> Faces:
    names = [f"someone/{index:04d}" for index in range(len(faces))]
    return Faces(faces, masks, names, np.array(["someone"] * len(faces)), 0)


@pytest.fixture
def data(sample_faces) -> Faces:
    faces, masks = sample_faces
    return made(faces[:4], masks[:4])


@pytest.fixture
def training(sample_faces) -> Faces:
    faces, masks = sample_faces
    return made(faces[4:12], masks[4:12])


def test_face_mask_row_is_the_face_on_black(data):
    row = systems.face_mask(data)
    assert np.all(row[data.masks == 0] == 0)
    np.testing.assert_array_equal(row[data.masks == 1], data.originals[data.masks == 1])


def test_mean_context_is_the_mean_of_context_pixels(data, training):
    row = systems.mean_context(data, training)
    face = data.masks == 1
    np.testing.assert_array_equal(row[face], data.originals[face])
    context = (training.masks == 0)[..., None]
    for y, x in ((0, 0), (5, 100), (120, 64)):  # corners and hem: context in every face
        assert context[:, y, x].all()
        expected = training.originals[:, y, x].mean(axis=0)
        np.testing.assert_allclose(row[0, y, x], expected, atol=1e-6)
    # Where some faces have context and some have not, only the former count.
    count = context[..., 0].sum(axis=0)
    y, x = np.argwhere((count > 0) & (count < len(context)) & (data.masks[0] == 0))[0]
    expected = training.originals[context[:, y, x, 0], y, x].mean(axis=0)
    np.testing.assert_allclose(row[0, y, x], expected, atol=1e-6)


def test_nearest_context_is_that_of_the_same_face_where_it_is_there(data):
    row = systems.nearest_context(data, data)
    np.testing.assert_allclose(row, data.originals, atol=1e-6)


def test_folder_of_pictures_by_name(data, tmp_path):
    for index, name in enumerate(data.names):
        write_png(tmp_path / f"{name}.png", data.faces[index])
    np.testing.assert_array_equal(systems.of_folder(tmp_path, data), data.originals)
    flat = tmp_path / "flat"
    for index, name in enumerate(data.names):
        write_png(flat / f"{name.split('/')[1]}.png", data.faces[index])
    np.testing.assert_array_equal(systems.of_folder(flat, data), data.originals)


def test_one_picture_does_not_stand_for_two_faces(sample_faces, tmp_path):
    faces, masks = (array[:3] for array in sample_faces)
    data = Faces(faces, masks, ["a/001", "b/001", "b/002"], np.array(["a", "b", "b"]), 0)
    for name in ("001", "002"):
        write_png(tmp_path / f"{name}.png", faces[0])
    with pytest.raises(DataError, match="no picture of a/001"):
        systems.of_folder(tmp_path, data)
    for name in ("a/001", "b/001"):
        write_png(tmp_path / f"{name}.png", faces[1])
    found = to_uint8(systems.of_folder(tmp_path, data))
    np.testing.assert_array_equal(found, faces[[1, 1, 0]])


def test_as_written_is_what_a_png_holds(data, training, monkeypatch):
    monkeypatch.setattr(systems, "BLOCK", 3)  # several blocks, the last one smaller
    row = systems.mean_context(data, training)
    assert row.dtype == np.float32
    written = systems.as_written(row)
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(written, to_uint8(row))


def test_missing_and_odd_pictures_are_named(data, tmp_path):
    write_png(tmp_path / "someone/0000.png", data.faces[0])
    with pytest.raises(DataError, match="no picture of someone/0001"):
        systems.of_folder(tmp_path, data)
    write_png(tmp_path / "someone/0000.png", data.faces[0][:64])
    with pytest.raises(DataError, match=r"0000\.png: is 128×64"):
        systems.of_folder(tmp_path, data)
