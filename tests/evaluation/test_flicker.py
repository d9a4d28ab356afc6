"""The flicker of the shipped model on a clip, and what the figures mean."""

import json

import numpy as np
import pytest

from facehal.data.samples import clip
from facehal.errors import DataError, NoFaceError
from facehal.evaluation.flicker import BLENDED, FROZEN, PER_FRAME, evaluate_flicker, follows
from facehal.images import read_image
from facehal.videos import write_video

pytest.importorskip("dlib", reason="needs dlib")


def test_blended_surroundings_flicker_a_third_at_most_and_follow(weights, tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib (extra: portraits)")
    write_video(tmp_path / "turning.mp4", clip("Grace_Hopper", 26, turning=True), 24)
    path = evaluate_flicker([tmp_path / "turning.mp4"], tmp_path / "out", progress=False)
    assert "| turning | blended |" in path.read_text()
    found = json.loads((tmp_path / "out/flicker.json").read_text())["measured"]["turning"]
    flicker = {name: one["flicker"]["value"] for name, one in found.items()}
    assert flicker[FROZEN] == 0 < flicker[BLENDED] < flicker[PER_FRAME] / 3
    # A frozen picture is as far from the model's as can be, and does not follow.
    assert (
        found[BLENDED]["to the model's"]["value"] < 0.6 * found[FROZEN]["to the model's"]["value"]
    )
    assert found[FROZEN]["follows"] < 0.05 and found[BLENDED]["follows"] > 0.5
    assert read_image(tmp_path / "out/flicker.jpg").shape == (492, 786, 3)


def test_follows_is_the_share_of_the_changes():
    random = np.random.default_rng(0)
    others = random.uniform(0, 1, (6, 64, 64, 3)).astype(np.float32)
    masks = np.zeros((6, 64, 64), np.uint8)
    masks[:, 16:32, 16:32] = 1
    assert follows(others, others, masks, 2) == pytest.approx(1)
    assert follows(0.25 * others + 0.1, others, masks, 2) == pytest.approx(0.25, abs=1e-6)
    assert follows(others[:1].repeat(6, 0), others, masks, 2) == 0
    moved = others.copy()
    moved[:, 18:30, 18:30] = random.uniform(0, 1, (6, 12, 12, 3))  # the face does not count
    assert follows(moved, others, masks, 2) == pytest.approx(1)


def test_clips_without_enough_of_a_face(tmp_path):
    with pytest.raises(DataError, match="no clips"):
        evaluate_flicker([], tmp_path)
    blank = np.full((96, 96, 3), 90, np.uint8)
    write_video(tmp_path / "blank.mp4", [blank] * 3, 24)
    with pytest.raises(NoFaceError, match="in its first 3 frames"):
        evaluate_flicker([tmp_path / "blank.mp4"], tmp_path, progress=False)
    write_video(tmp_path / "short.mp4", clip("Eileen_Collins", 3), 24)
    with pytest.raises(DataError, match="a second at least is needed"):
        evaluate_flicker([tmp_path / "short.mp4"], tmp_path, progress=False)
