"""Whole runs with a latent vector, and runs that add blocks to what one has trained.

Achieved on TensorFlow (CPU, one thread): after a stop and a resume, history.csv and the saved model
are equal to those of an uninterrupted run to the last bit (tolerance of the test: 1e-5 relative in
the history, 1e-4 in the weights).
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from facehal.errors import FacehalError
from facehal.models import from_dict
from facehal.models.cascade.cascade import Cascade
from facehal.training.run import Run

LIMIT = 18


def configuration(resolutions: list[int], widths: list[list[int]], start: str = ""):
    return from_dict(
        {
            "size": "tiny",
            "network": {
                "resolutions": resolutions,
                "widths": widths,
                "latent": 2,
                "start": start,
                "discriminator_width": 0.0625,
                "discriminator_normalization": "none",
            },
            "loss": {"perceptual": 0, "identity": 0, "gradient_penalty": 1.0},
            "training": {
                "epochs": 8,
                "batch_size": 6,
                "generator_rate": 1e-3,
                "moving_average": 0.9,
                "checkpoint_steps": 2,
                "preview_faces": 2,
                "seed": 5,
            },
        }
    )


def stopped_and_resumed(config, data: Path, folder: Path, run_process) -> tuple[Path, Path]:
    """Folders of a run that the clock stopped and that went on, and of one in one piece."""
    stopped, whole, file = folder / "stopped", folder / "whole", folder / "config.yaml"
    file.write_text(yaml.safe_dump(config.to_dict()))
    run_process(file, data, whole, stopped, "stop", stopped, "resume").finish()
    # 24 steps are all: 8 epochs of 18 faces in batches of 6.
    assert 0 < json.loads((stopped / "environment.json").read_text())["step"] < 24
    return stopped, whole


def test_stop_and_resume(sample_data, tmp_path, run_process, assert_equal_runs, rows_of):
    """First a cascade with a latent vector, then a block that is added to it."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    config = configuration([8], [[1, 8]])
    stopped, whole = stopped_and_resumed(config, sample_data, first, run_process)
    assert_equal_runs(stopped, whole, 8, "model.keras")
    row = rows_of(whole)[-1]
    assert list(row)[-2:] == ["8/gradient_penalty", "encoder/divergence"]
    assert all(np.isfinite(float(value)) for value in row.values())

    start = str(whole / "model.keras")
    config = configuration([8, 16], [[1, 8], [2, 8]], start)
    stopped, whole = stopped_and_resumed(config, sample_data, second, run_process)
    assert_equal_runs(stopped, whole, 8, "model.keras")
    row = rows_of(whole)[-1]
    assert {name.split("/")[0] for name in row if "/" in name} == {"16"}
    assert all(np.isfinite(float(value)) for value in row.values())

    old = keras.models.load_model(start)
    for folder in (stopped, whole):
        model = keras.models.load_model(folder / "model.keras")
        assert isinstance(model, Cascade) and model.widths == ((1, 8), (2, 8))
        pairs = zip(model.generators[0].variables, old.generators[0].variables, strict=True)
        assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)
        assert model.generators[0].trainable  # what is saved is a cascade like any other


def test_a_start_that_is_not_there_leaves_no_trace(sample_data, tmp_path):
    config = configuration([8, 16], [[1, 8], [2, 8]], str(tmp_path / "absent.keras"))
    with pytest.raises(FacehalError, match="neither a model's file nor a shipped") as caught:
        Run(config, sample_data, tmp_path / "run", limit=LIMIT, progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
