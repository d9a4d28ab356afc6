"""Faces and masks for other programs, and back into a table."""

import shutil

import numpy as np
import pandas as pd
import pytest

from facehal.data.faceset import load_faces
from facehal.errors import DataError
from facehal.images import read_image
from facehal.jobs.masks import write_masks


@pytest.mark.parametrize("white", ["hole", "face"])
def test_pictures(sample_data, tmp_path, white):
    faces, masks, frame = load_faces(sample_data, limit=3)
    assert write_masks(sample_data, tmp_path, white=white, limit=3, progress=False) == 3
    for face, mask, name in zip(faces, masks, frame["face"], strict=True):
        name = name.removeprefix("faces/")
        np.testing.assert_array_equal(read_image(tmp_path / "faces" / name), face)
        np.testing.assert_array_equal(
            read_image(tmp_path / "masked" / name), face * mask[..., None]
        )
        drawn = read_image(tmp_path / "masks" / name)[..., 0]
        np.testing.assert_array_equal(drawn == 255, mask == (white == "face"))
        assert set(np.unique(drawn)) == {0, 255}


def test_larger_and_flat(sample_data, tmp_path):
    write_masks(sample_data, tmp_path, size=256, flat=True, progress=False)
    files = sorted((tmp_path / "masks").glob("*.png"))
    assert len(files) == 24 and len(list((tmp_path / "faces").glob("*.png"))) == 24
    mask = read_image(files[0])
    assert mask.shape == (256, 256, 3) and set(np.unique(mask)) == {0, 255}


def test_refusals(sample_data, tmp_path):
    with pytest.raises(DataError, match="'hole' or 'face', not 'both'"):
        write_masks(sample_data, tmp_path / "out", white="both")
    with pytest.raises(DataError, match="would be written over; name another folder"):
        write_masks(sample_data, sample_data / ".." / sample_data.name)
    assert not (sample_data / "masks").exists()
    frame = pd.read_csv(sample_data / "manifest.csv", dtype=str, keep_default_na=False)
    frame["face"] = [f"faces/{index}/same.png" for index in range(len(frame))]
    frame.to_csv(tmp_path / "manifest.csv", index=False)
    shutil.copy(sample_data / "settings.json", tmp_path)
    with pytest.raises(DataError, match=r"two faces are called same\.png"):
        write_masks(tmp_path, tmp_path / "out", flat=True)
    assert not (tmp_path / "out").exists()
