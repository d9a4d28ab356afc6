import math

import cv2
import keras
import numpy as np
import pytest
from facehal.training.callbacks import Bar, Preview

from facehal.errors import TrainingError
from facehal.images import read_image
from facehal.models.cascade.cascade import Cascade


def bar(folder, step=0, show=False) -> Bar:
    return Bar("8/pixel", folder, step=step, span=(0, 100), steps_per_epoch=25, epochs=4, show=show)


@pytest.mark.parametrize("show", [True, False])
def test_alarm_in_time(tmp_path, show):
    """At the first step of a stretch and at every tenth, shown or not."""
    watcher = bar(tmp_path, show=show)
    good, bad = {"8/pixel": 0.1, "8/adversarial": 0.2}, {"8/pixel": 0.1, "8/adversarial": math.nan}
    watcher.on_train_batch_end(0, good)
    for batch in range(1, 9):
        watcher.on_train_batch_end(batch, bad)  # reading a loss costs time: not looked at
    with pytest.raises(TrainingError, match="step 10: 8/adversarial is not finite"):
        watcher.on_train_batch_end(9, bad)
    watcher.close()


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


def test_bar_after_a_resume_inside_a_stage(tmp_path, monkeypatch):
    """Its own stage, the run's epochs; the time to the end from the steps done here alone, without
    the first, which builds the graph."""
    now = [1000.0]
    watcher = Bar(
        *("16/pixel", tmp_path),
        **{"step": 130, "span": (100, 200), "steps_per_epoch": 50, "epochs": 6},
        stage="block 16 (2/3)",
    )
    shown = watcher.bar
    shown.start_t = shown.last_print_t = now[0]
    shown._time = lambda: now[0]
    assert (shown.n, shown.total) == (30, 100) and "block 16 (2/3), epoch 3/6" in str(shown)
    for batch in range(21):
        now[0] += 2.0 if batch else 60.0  # the first builds
        watcher.on_train_batch_end(batch, {"16/pixel": 0.25})
    watcher.bar.mininterval = 0
    # 51 of 100 steps stand, 20 of them were timed at two seconds: 49 are left.
    state = shown.format_dict
    assert (state["n"], state["initial"], state["elapsed"]) == (51, 31, 40.0)
    assert "01:38" in str(shown) and "epoch 4/6" in str(shown) and "16/pixel 0.25" in str(shown)
    for batch in range(49):
        watcher.on_train_batch_end(batch, {"16/pixel": 0.25})
    assert "block 16 (2/3), epoch 4/6: 100%" in str(shown)
    watcher.close()


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
