"""Table 2: arms and seeds that are trained for it, here for two steps each."""

import json

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from facehal.cli import app
from facehal.data.pairs import drawn_pairs
from facehal.errors import FacehalError, TrainingError
from facehal.evaluation import table2 as module
from facehal.evaluation.recognition import MEASURES, Row, measure, write_table2
from facehal.evaluation.trainings import train_here
from facehal.images import read_image
from facehal.models import load_config


def call(*words) -> str:
    """What a verb prints; its error is raised, as `facehal.cli.main` sees it."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).stdout


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "recognition_tiny.yaml"
    network = {"kind": "slim", "side": 16, "width": 2, "features": 4, "start": "random"}
    training = {"epochs": 1, "epoch_steps": 2, "batch_size": 4, "patience": 0, "rate": 0.01}
    values = {"model": "recognition", "network": network, "training": training}
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def hallucinator(tmp_path):
    """An untrained one, which knows variants."""
    from facehal.models.cascade.cascade import Cascade
    from facehal.models.saving import save_model

    blocks = (8, 16, 32, 64, 128)
    return save_model(Cascade(1, 2, resolutions=blocks, latent=2), tmp_path / "model.keras")


def here(out, name, source, *, max_work):
    """`train_apart` without the process, whose start takes longer than the training."""
    train_here(json.dumps({"out": str(out), "name": name, **source, "max_work": max_work}))


def test_makes_trains_and_measures_what_is_missing(
    experiment, hallucinator, sample_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "train_apart", here)
    out = tmp_path / "out"
    words = ["table2", "--data", sample_data, "--test", sample_data, "--out", out]
    words += ["--config", experiment, "--model", hallucinator, "--seeds", 1, "--variants", 2]
    said = call(*words)
    assert "| real photos | 22 | 0 | 2 | 1 | 2 |" in said
    assert "| real, and one hallucinated version of each | 22 | 22 | 2 | 1 | 2 |" in said
    assert "| real, and several variants of each | 22 | 66 | 2 | 1 | 2 |" in said
    assert "Difference to real photos" in said and "| 0.971 |" in said
    assert "**24 of the test photos are trained on" in said  # and no other bold: it is one seed
    assert said.count("**") == 2
    results = json.loads((out / "table2.json").read_text())
    assert results["test_photos_in_training"] == 24 and results["pairs"] is None
    assert list(results["differences"]) == ["one", "variants"]
    assert "accuracy" not in results["differences"]["one"]
    assert read_image(out / "roc.png").shape[2] == 3
    assert len(list((out / "hallucinated/1/pictures").glob("*/*.png"))) == 72

    def refuse(*args, **words):
        raise AssertionError("it was trained again")

    monkeypatch.setattr(module, "train_apart", refuse)
    monkeypatch.setattr(module, "augment", refuse)
    assert call(*words).splitlines()[-3:] == said.splitlines()[-3:]
    with pytest.raises(TrainingError, match="was trained with another configuration"):
        experiment.write_text(experiment.read_text().replace("0.01", "0.02"))
        call(*words)
    with pytest.raises(FacehalError, match="no arm is called 'two'; there are real, one, variants"):
        call(*words, "two")
    with pytest.raises(FacehalError, match="of cascaded, not of recognition"):
        call(*words, "--config", "compact")


def test_the_experiments():
    """The arms of the compact one take equally many steps, whatever the pictures."""
    compact, paper = load_config("recognition_compact"), load_config("recognition")
    assert compact.training.epoch_steps and not compact.training.patience
    assert paper == type(paper)() and paper.network.kind == "resnet50"


PEOPLE, EACH = 30, 6


def described(noise: float, seed: int) -> np.ndarray:
    """Descriptors of thirty people, six pictures each."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(PEOPLE, 16))
    return np.repeat(centres, EACH, 0) + noise * random.normal(size=(PEOPLE * EACH, 16))


def test_a_difference_that_is_there_is_found(tmp_path):
    """Three trainings of either arm, the second with less noise; and none against itself."""
    subjects = [f"p{n}" for n in np.repeat(np.arange(PEOPLE), EACH)]
    pairs = drawn_pairs(subjects)
    rows = {"real": Row("real photos"), "one": Row("both"), "variants": Row("the same")}
    for arm, noise in (("real", 1.2), ("one", 0.9), ("variants", 1.2)):
        for seed in range(3):
            found = measure(described(noise, seed), subjects, pairs, 200)
            rows[arm].trainings[seed] = found
            pictures = {"real": 5} if arm == "real" else {"real": 5, "hallucinated": 10}
            rows[arm].statuses[seed] = {
                **{"steps": 7, "total_steps": 7, "minutes": 1.0, "people": 30},
                "pictures": pictures,
            }
    write_table2(tmp_path, rows, "real", {"data": "invented"})
    results = json.loads((tmp_path / "table2.json").read_text())
    for key in MEASURES:
        better, low, high = results["differences"]["one"][key]
        assert 0 < low < better < high
        assert results["differences"]["variants"][key] == [0, 0, 0]
        mean, low, high = results["arms"]["real"]["means"][key]
        assert low < mean < high
    text = (tmp_path / "table2.md").read_text()
    assert "**+0." in text and "equally many steps" not in text
    rows["one"].statuses[2]["steps"] = 6
    write_table2(tmp_path, rows, "real", {})
    assert "did not take equally many steps" in (tmp_path / "table2.md").read_text()
