"""What a run measures on faces that it does not train on.

Beside it stand scikit-image's SSIM and NumPy, on pictures of the model that the run has saved
(achieved: 1e-7).
"""

import csv
from pathlib import Path

import keras
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from facehal.data.faceset import load_faces, shrunk
from facehal.errors import TrainingError
from facehal.images import to_float
from facehal.layers.pyramid import pyramid
from facehal.metrics.lpips import lpips
from facehal.models import from_dict, task_of
from facehal.models.cascade.cascade import Cascade
from facehal.training import validation as module
from facehal.training.report import write_report
from facehal.training.run import Run
from facehal.training.validation import Validation

LIMIT = 12


@pytest.fixture(scope="module")
def config():
    return from_dict(
        {
            "size": "tiny",
            "network": {"resolutions": [8, 16]},
            "loss": {"perceptual": 0, "identity": 0, "adversarial": 0},
            "training": {
                "epochs": 2,
                "batch_size": 6,
                "generator_rate": 1e-3,
                "moving_average": 0.9,
                "preview_faces": 0,
            },
        }
    )


@pytest.fixture(scope="module")
def held_out(sample_data, tmp_path_factory) -> Path:
    """Prepared faces without those of the training."""
    folder = tmp_path_factory.mktemp("held_out") / "data"
    folder.mkdir()
    (folder / "faces").symlink_to(sample_data / "faces")
    with open(sample_data / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"][LIMIT:]
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_columns_are_measures_of_the_saved_model(
    config, sample_data, held_out, tmp_path, rows_of, monkeypatch
):
    monkeypatch.setattr(module, "BATCH", 5)
    run = Run(
        config, sample_data, tmp_path / "run", limit=LIMIT, validation=held_out, progress=False
    )
    model = keras.models.load_model(run.fit())
    first, last = rows_of(tmp_path / "run")
    names = [name for name in last if "validation" in name]
    assert names == ["8/validation_pixel", "16/validation_pixel", "16/validation_ssim"]
    assert all(first[name] != last[name] for name in names)

    faces, masks, _ = load_faces(held_out)
    assert len(faces) > 5 and len(faces) % 5, "more than a batch, and a last one to fill up"
    faces, masks = shrunk(faces, masks, 16)
    targets, masks = to_float(faces), masks.astype("float32")[..., None]
    outputs = model({"masked_faces": targets * masks, "masks": masks}, training=False)
    originals = pyramid(targets, (8, 16))
    for size in (8, 16):
        expected = np.abs(np.asarray(originals[size]) - np.asarray(outputs[str(size)])).mean()
        assert float(last[f"{size}/validation_pixel"]) == pytest.approx(expected, abs=1e-6)
    similarity = [
        structural_similarity(
            np.asarray(a, np.float64),
            np.asarray(b, np.float64),
            channel_axis=2,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(targets, np.asarray(outputs["16"]), strict=True)
    ]
    # scikit-image's mean leaves out the border where the window does not fit, as ours does.
    assert float(last["16/validation_ssim"]) == pytest.approx(np.mean(similarity), abs=1e-6)

    page = write_report(tmp_path / "run").page.read_text()
    assert page.count("figcaption>Held-out faces: SSIM<") == 1
    assert page.count("figcaption>Held-out faces<") == 2


def test_a_resumed_run_may_begin_to_validate(config, sample_data, held_out, tmp_path, rows_of):
    folder = tmp_path / "run"
    Run(config, sample_data, folder, limit=LIMIT, progress=False, max_minutes=0).fit()
    Run(
        config, sample_data, folder, limit=LIMIT, validation=held_out, resume=True, progress=False
    ).fit()
    first, last = rows_of(folder)
    assert first["16/validation_ssim"] == "" and 0 < float(last["16/validation_ssim"]) < 1
    write_report(folder)


def test_perceptual_term_is_lpips(sample_data, held_out, weights):
    config = from_dict({"size": "tiny", "loss": {"identity": 0}})
    validation = Validation(held_out, task_of(config).measures, [])
    assert [validation.names(size)[-2:] for size in (16, 32)] == [
        ("validation_pixel", "validation_ssim"),
        ("validation_perceptual", "validation_ssim"),
    ]
    network = Cascade(base=2, cap=16, resolutions=(8, 16, 32))
    inputs = {
        "masked_faces": validation.targets * validation.masks[..., None],
        "masks": validation.masks[..., None],
    }
    pictures = np.asarray(network(inputs, training=False)["32"])
    expected = lpips(validation.targets, pictures).mean()
    assert expected > 0.1
    found = validation.measure(network)["32/validation_perceptual"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_photos_that_are_trained_on(config, sample_data, held_out, tmp_path):
    with pytest.raises(TrainingError, match=r"photos are trained on .*of other people"):
        Run(config, sample_data, tmp_path / "run", validation=held_out)
    assert not (tmp_path / "run").exists()
