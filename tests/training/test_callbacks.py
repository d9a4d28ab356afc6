import math

import cv2
import keras
import numpy as np
import pytest
from tqdm import tqdm

from facehal.errors import TrainingError
from facehal.images import read_image
from facehal.models.cascade import Cascade
from facehal.training.callbacks import Bar, Preview


def bar(folder, step=0, disable=True) -> Bar:
    return Bar(tqdm(total=100, disable=disable), "8/pixel", folder, step)


@pytest.mark.parametrize("disable", [True, False])
def test_alarm_in_time(tmp_path, disable):
    """At the first step of a stretch and at every tenth, shown or not."""
    watcher = bar(tmp_path, disable=disable)
    good, bad = {"8/pixel": 0.1, "8/adversarial": 0.2}, {"8/pixel": 0.1, "8/adversarial": math.nan}
    watcher.on_train_batch_end(0, good)
    for batch in range(1, 9):
        watcher.on_train_batch_end(batch, bad)  # reading a loss costs time: not looked at
    with pytest.raises(TrainingError, match="step 10: 8/adversarial is not finite"):
        watcher.on_train_batch_end(9, bad)


def test_alarm_before_fit_returns(tmp_path):
    watcher = bar(tmp_path, step=20)
    watcher.on_train_batch_end(0, {"8/pixel": 0.1})
    watcher.on_train_batch_end(1, {"8/pixel": math.inf})
    with pytest.raises(TrainingError, match="step 22: 8/pixel is not finite"):
        watcher.on_train_end({"8/pixel": math.inf})


def test_alarm_names_the_last_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match="last good checkpoint is none"):
        bar(tmp_path).on_train_batch_end(0, {"8/pixel": math.nan})
    for step in (1, 2):
        (tmp_path / f"step_0000000{step}.npz").touch()
    with pytest.raises(TrainingError, match=r"last good checkpoint is .*step_00000002\.npz"):
        bar(tmp_path).on_train_batch_end(0, {"8/pixel": math.nan})


def test_preview(tmp_path):
    """Face mask, every resolution, original; a row per face."""
    keras.utils.set_random_seed(0)
    cascade = Cascade(2, 8, resolutions=(8, 16))
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (3, 16, 16, 3), np.uint8)
    masks = np.zeros((3, 16, 16), np.uint8)
    masks[:, 4:12, 4:12] = 1
    path = tmp_path / "previews" / "p.png"
    Preview(faces, masks).write(cascade, path)
    picture = read_image(path)
    head, side, gap = 14, 16, 2
    assert picture.shape == (head + gap + 3 * (side + gap), gap + 4 * (side + gap), 3)

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
        assert np.abs(cell(row, 2) - outputs["16"][row] * 255.0).max() < 0.51
        assert np.array_equal(cell(row, 3), faces[row])
