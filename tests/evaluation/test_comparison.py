"""Table 1 whole: systems that are trained for it, here for a step or two."""

import json

import pandas as pd
import pytest
import yaml

from facehal.errors import FacehalError, TrainingError
from facehal.evaluation import comparison
from facehal.evaluation.comparison import PEOPLE, SYSTEMS, Entry, compare
from facehal.evaluation.table1 import PAPER
from facehal.images import read_image
from facehal.models import load_config

LIMIT = 12
TRAINING = {"epochs": 1, "epochs_per_stage": 1, "batch_size": 6, "preview_faces": 0}
PLAIN = {
    "size": "tiny",
    "network": {"resolutions": [8, 16, 32, 64, 128]},
    "loss": {"perceptual": 0, "identity": 0},
}


def test_rows_are_the_papers_and_experiments_are_there():
    assert [name.lower() for name in SYSTEMS] == list(PAPER)
    for entry in SYSTEMS.values():
        config = load_config(entry.experiment).replace_training(**entry.schedule)
        assert config.size == "compact"
    assert [name for name, entry in SYSTEMS.items() if entry.people] == ["DeepFake"]


@pytest.fixture
def systems(tmp_path, monkeypatch):
    """Two small ones, and a face swap between the people of the sample."""
    swap = {
        "model": "deepfake",
        "network": {"width": 4, "dense": 8, "targets": 3},
        "training": {"epochs": 1, "epoch_steps": 2, "batch_size": 6, "preview_faces": 0},
    }
    cascade = {**PLAIN, "training": TRAINING}
    needs = {**cascade, "loss": {"perceptual": 0, "identity_network": "vgg_face"}}
    found = {}
    for name, values in (
        ("DeepFake", swap),
        ("ProGAN", needs),
        ("cascaded", cascade),
    ):
        path = tmp_path / f"{name}_tiny.yaml"
        path.write_text(yaml.safe_dump(values))
        found[name] = Entry(str(path), people=name == "DeepFake")
    people = {"source": "Eileen_Collins", "target": "Grace_Hopper"}
    monkeypatch.setattr(comparison, "SYSTEMS", found)
    monkeypatch.setattr(comparison, "PEOPLE", people)
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path / "none"))
    return found


def test_trains_what_is_missing_and_measures_all(systems, sample_data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = {"limit": LIMIT, "test_limit": 4, "metrics": ["l1", "ssim"]}
    problems = compare(sample_data, sample_data, out, **words)
    assert list(problems) == ["ProGAN"] and "vgg_face" in problems["ProGAN"]
    table = pd.read_csv(out / "table1.csv", index_col="system")
    assert list(table.index[3:]) == ["DeepFake", "cascaded"]
    assert set(table.loc[["DeepFake", "cascaded"], "mode"]) == {"retrained"}
    assert table.loc["cascaded", "steps"] == "2 of 2"
    assert table.loc["cascaded", "paper_ssim"] == PAPER["cascaded"]["ssim"]
    results = json.loads((out / "results.json").read_text())
    assert "vgg_face" in results["without"]["ProGAN"]
    assert "- without: {'ProGAN': " in (out / "table1.md").read_text()
    assert results["differences_to"] == "cascaded" and "DeepFake" in results["differences"]
    assert read_image(out / "portraits.png").shape[0] >= 2 * 128

    def refuse(*args):
        raise AssertionError("it was trained again")

    monkeypatch.setattr(comparison, "train_apart", refuse)
    assert compare(sample_data, sample_data, out, ["DeepFake", "cascaded"], **words) == problems
    with pytest.raises(FacehalError, match="no system is called 'GAN'; there are DeepFake"):
        compare(sample_data, sample_data, out, ["GAN"], **words)
    with pytest.raises(TrainingError, match="was trained with limit 12, not 6"):
        compare(sample_data, sample_data, out, **{**words, "limit": 6})


def test_who_is_swapped_in_the_paper():
    assert PEOPLE == {"source": "George_W_Bush", "target": "Colin_Powell"}
