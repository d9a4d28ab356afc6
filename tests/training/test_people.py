"""Families that tell people apart: who is trained on, what is held out, when there is no more to
learn."""

import numpy as np
import pytest

from facehal.data.faceset import FaceSet
from facehal.errors import DataError, TrainingError
from facehal.models import from_dict
from facehal.training.run import Run

NETWORK = {"kind": "slim", "side": 16, "width": 2, "features": 4, "start": "random"}
TRAINING = {"batch_size": 6, "mirror": False, "held_out": 0.2, "rate": 0.01}


def config(**training):
    values = {"model": "recognition", "network": NETWORK}
    return from_dict({**values, "training": {**TRAINING, **training}})


@pytest.fixture(scope="module")
def run(sample_data, augmented_data, tmp_path_factory) -> Run:
    """On real and hallucinated pictures; nothing has trained it."""
    folder = tmp_path_factory.mktemp("run") / "run"
    return Run(
        config(patience=2), sample_data, folder, hallucinated=[augmented_data], progress=False
    )


def test_half_of_a_batch_is_hallucinated(run, sample_data):
    """And no picture in it is of a photo that is held out."""
    people = FaceSet.open(sample_data)
    held = {
        int(row) for row in np.flatnonzero(~people.frame["file"].isin(run.sets[""].frame["file"]))
    }
    assert len(held) == 4 and len(run.sets["hallucinated"]) == 3 * (len(people) - 4)
    seen = set()
    for step in range(run.pipeline.steps_per_epoch):
        batch = run.pipeline.batch(step)
        assert len(batch["faces"]) == 6
        real, made = np.split(batch["faces"], 2)
        assert real.std(axis=(1, 2, 3)).min() > 20  # photos
        rows = made[:, 0, 0, 0].tolist()
        assert (made == made[:, :1, :1]).all()
        assert batch["labels"][3:].tolist() == people.labels[rows].tolist()
        seen |= set(rows)
    assert seen and not seen & held


def test_held_out_photos_are_judged(run):
    model = run.averaged
    measured = run.validation.measure(model)
    faces, labels = run.validation.faces, run.validation.labels
    logits = np.asarray(model.logits(model(faces / np.float32(255))))
    right = logits.argmax(1) == labels
    assert measured["validation_accuracy"] == pytest.approx(right.mean())
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = -np.log(shares[np.arange(len(labels)), labels]).mean()
    assert measured["validation_loss"] == pytest.approx(loss, rel=1e-4)


def test_it_ends_when_the_loss_of_the_held_out_photos_does_not_fall(run):
    head = "epoch,step,seconds,loss,accuracy,validation_loss,validation_accuracy\n"
    run.step = 1
    for losses, over in (
        ([3, 2, 1], False),
        ([3, 2, 2.5], False),
        ([3, 2, 2.5, 2], True),
        ([3, 2, 2.5, 1.9], False),
        ([3], False),
    ):
        rows = (f"{n},{n},1,0,0,{loss},0" for n, loss in enumerate(losses, 1))
        run.folder.history.write_text(head + "\n".join(rows) + "\n")
        assert run.finished == run.stage_over == over
    run.folder.history.unlink()
    run.step = 0


def test_a_run_has_its_columns_and_stops(sample_data, tmp_path):
    run = Run(config(epochs=2, patience=0), sample_data, tmp_path / "run", progress=False)
    run.fit()
    head, *rows = (tmp_path / "run/history.csv").read_text().splitlines()
    assert head == "epoch,step,seconds,loss,accuracy,validation_loss,validation_accuracy"
    assert len(rows) == 2 and run.finished
    page = (tmp_path / "run/report.html").read_text()
    assert "Recognition of 2 people" in page and "held-out photos" in page


def test_what_does_not_fit_is_refused(sample_data, augmented_data, tiny_config, tmp_path):
    words = {"progress": False}
    with pytest.raises(TrainingError, match="does not tell people apart"):
        Run(tiny_config, sample_data, tmp_path / "a", hallucinated=[augmented_data], **words)
    with pytest.raises(TrainingError, match="leave --validation out"):
        Run(config(), sample_data, tmp_path / "a", validation=sample_data, **words)
    with pytest.raises(DataError, match="two or more with 500 photos each"):
        Run(config(min_photos=500), sample_data, tmp_path / "a", **words)
    assert not (tmp_path / "a").exists()
