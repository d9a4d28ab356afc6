import cv2
import keras
import numpy as np
import pytest

from facehal.errors import TrainingError
from facehal.images import contact_sheet, read_image, sheet_cells, write_png
from facehal.models.cascade.cascade import Cascade
from facehal.training.history import Row
from facehal.training.previews import (
    Preview,
    by_epoch,
    evenly_spaced,
    newest,
    preview_path,
    thin_previews,
    write_epoch_study,
)

SIDE = 8
FACES = 3


def grid(path, grey: int) -> None:
    """As a run draws it: mask 10, outputs at 8 (grey - 1) and (grey), original 250; a row each."""
    cells = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (10, grey - 1, grey, 250)]
    rows = [[np.clip(cell + row, 0, 255).astype(np.uint8) for cell in cells] for row in range(3)]
    write_png(path, contact_sheet(rows, labels=["face mask", "4", "8", "original"]))


def rows(count, **more):
    numbered = range(1, count + 1)
    return [Row({"epoch": n, "step": 10 * n, "seconds": 1.0, **more}) for n in numbered]


def test_names(tmp_path):
    assert preview_path(tmp_path, 30, 10).name == "epoch_0003.png"
    assert preview_path(tmp_path, 35, 10).name == "step_00000035.png"


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (range(1, 51), [10, 20, 30, 40, 50]),
        (range(1, 251), [50, 100, 150, 200, 250]),
        (range(2, 101, 2), [20, 40, 60, 80, 100]),
        (range(1, 8), [1, 3, 4, 6, 7]),
        (range(1, 4), [1, 2, 3]),
        ([], []),
    ],
)
def test_evenly_spaced(epochs, expected):
    assert evenly_spaced(list(epochs)) == expected


@pytest.mark.parametrize(("epochs", "kept"), [(50, 50), (1000, 50)])
def test_a_long_run_keeps_a_bounded_number(tmp_path, epochs, kept):
    """Step by step, as a run does; every epoch of the paper's schedule stays."""
    most = 0
    for step in range(1, 4 * epochs + 1):
        preview_path(tmp_path, step, 4).touch()
        thin_previews(tmp_path, epochs)
        most = max(most, len(list(tmp_path.iterdir())))
    names = sorted(path.name for path in tmp_path.glob("epoch_*"))
    assert len(names) == kept and names[-1] == f"epoch_{epochs:04d}.png"
    assert most <= 50 + 1 + 2
    found = by_epoch(tmp_path, [{"epoch": n, "step": 4 * n} for n in range(1, epochs + 1)])
    assert evenly_spaced(list(found)) == [epochs * n // 5 for n in range(1, 6)]


def test_study(tmp_path):
    """Mask, the largest output of every epoch in order, original; a row per face."""
    for epoch in range(1, 11):
        grid(tmp_path / "previews" / f"epoch_{epoch:04d}.png", 100 + epoch)
    path = tmp_path / "epochs.png"
    assert write_epoch_study(path, tmp_path / "previews", rows(10), SIDE) == [2, 4, 6, 8, 10]
    cells = sheet_cells(read_image(path), 64)
    assert [[int(cell.mean()) for cell in row] for row in cells] == [
        [value + face for value in (10, 102, 104, 106, 108, 110, 250)] for face in range(FACES)
    ]
    assert all(cell.std() == 0 for row in cells for cell in row)  # cut exactly at the edges


def test_study_of_a_run_of_the_first_version(tmp_path):
    """All its grids are named by the step; those between epochs and behind the history are left."""
    for step in (5, 10, 15, 20, 25, 30):
        grid(tmp_path / "previews" / f"step_{step:08d}.png", 100 + step)
    path = tmp_path / "epochs.png"
    assert write_epoch_study(path, tmp_path / "previews", rows(2), SIDE) == [1, 2]
    (first, *_) = sheet_cells(read_image(path), 64)
    assert [int(cell.mean()) for cell in first] == [10, 110, 120, 250]


def test_newest(tmp_path):
    assert newest(tmp_path, []) is None
    for name in ("epoch_0002.png", "step_00000015.png"):
        (tmp_path / name).touch()
    assert newest(tmp_path, rows(2)) == ("epoch 2", tmp_path / "epoch_0002.png")
    (tmp_path / "step_00000025.png").touch()
    assert newest(tmp_path, rows(2)) == ("step 25", tmp_path / "step_00000025.png")


def test_nothing_to_study(tmp_path):
    assert write_epoch_study(tmp_path / "epochs.png", tmp_path / "previews", rows(3), SIDE) == []
    assert not (tmp_path / "epochs.png").exists()


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_grid(tmp_path, damage):
    path = tmp_path / "previews" / "epoch_0001.png"
    grid(path, 100)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        write_png(path, np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(TrainingError) as caught:
        write_epoch_study(tmp_path / "epochs.png", tmp_path / "previews", rows(1), SIDE)
    text = str(caught.value)
    assert "epoch_0001.png: not a preview of this run" in text and text.count("epoch_0001") == 1


@pytest.mark.parametrize("latent", [0, 2])
def test_preview(tmp_path, latent):
    """Face mask, every resolution, original; a row per face; variants before the largest."""
    keras.utils.set_random_seed(0)
    cascade = Cascade(2, 8, resolutions=(8, 16), latent=latent)
    for variable in cascade.trainable_variables:  # the vector's part of a new one is zeros
        variable.assign(keras.random.normal(variable.shape, stddev=0.3, seed=1))
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (3, 16, 16, 3), np.uint8)
    masks = np.zeros((3, 16, 16), np.uint8)
    masks[:, 4:12, 4:12] = 1
    path = tmp_path / "previews" / "p.png"
    Preview(faces, masks).write(cascade, path)
    picture = read_image(path)
    head, side, gap = 14, 16, 2
    variants = 2 if latent else 0
    width = gap + (4 + variants) * (side + gap)
    assert picture.shape == (head + gap + 3 * (side + gap), width, 3)

    def cell(row, column):
        top, left = head + gap + row * (side + gap), gap + column * (side + gap)
        return picture[top : top + side, left : left + side]

    inputs = {
        "masked_faces": faces * masks[..., None] / np.float32(255),
        "masks": masks[..., None].astype("float32"),
    }
    outputs = cascade.predict_on_batch(inputs)
    for row in range(3):
        assert np.array_equal(cell(row, 0), faces[row] * masks[row, ..., None])
        small = cv2.resize(outputs["8"][row], (16, 16), interpolation=cv2.INTER_NEAREST)
        assert np.abs(cell(row, 1) - small * 255.0).max() < 0.51
        assert np.abs(cell(row, 2 + variants) - outputs["16"][row] * 255.0).max() < 0.51
        assert np.array_equal(cell(row, 3 + variants), faces[row])
        if latent:
            assert not np.array_equal(cell(row, 2), cell(row, 3))
            assert not np.array_equal(cell(row, 2), cell(row, 4))
            for column in (2, 3):  # the face stays
                assert np.array_equal(cell(row, column)[5:11, 5:11], faces[row, 5:11, 5:11])
