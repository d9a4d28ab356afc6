"""The ablation study: what the experiment files say, and a small study that really runs."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from facehal.errors import ConfigError, DataError, FacehalError, TrainingError
from facehal.evaluation import ablations
from facehal.evaluation.ablations import ablate, variants
from facehal.evaluation.systems import Faces, as_written, of_model
from facehal.evaluation.trainings import difference, is_finished, train_apart, train_here
from facehal.images import read_image, to_float
from facehal.models import from_dict, load_config

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 18  # three steps an epoch
STUDIED = {
    "base": {},
    "end_to_end": {"network.end_to_end": True},
    "l2": {"loss.pixel": "l2"},
    "batch_norm": {"network.normalization": "batch"},
    "no_adversarial": {"loss.adversarial": 0.0},
    "no_identity": {"loss.identity": 0.0},
    "no_perceptual": {"loss.perceptual": 0.0},
    "progan": {"model": "progan"},
    "strides_none": {"network.strides": "none"},
}


def test_each_file_of_the_project_changes_one_thing():
    found = variants(ROOT / "experiments")
    assert {name: difference(found["base"], config) for name, config in found.items()} == STUDIED
    base = found["base"]
    # Every term is there to be left out, and each block sees the same number of steps.
    loss = base.loss
    assert all((loss.perceptual, loss.adversarial, loss.identity, loss.total_variation))
    assert base.training.epochs == base.training.epochs_per_stage


@pytest.mark.parametrize("name", ["cascaded", "tiny"])
def test_the_same_changes_to_another_base(name):
    path = ROOT / f"experiments/{name}.yaml"
    found = variants(ROOT / "experiments", path)
    assert found["base"].network == load_config(path).network
    plain = found["base"].to_dict()
    there = {f"{one}.{k}": v for one in ("network", "loss") for k, v in plain[one].items()}
    expected = {
        variant: {key: value for key, value in changes.items() if there.get(key) != value}
        for variant, changes in STUDIED.items()
    }
    assert {n: difference(found["base"], c) for n, c in found.items()} == expected
    training = found["progan"].training
    assert training.epochs_per_stage == training.epochs == load_config(path).training.epochs


PLAIN = {
    "size": "tiny",
    "network": {"resolutions": [8]},
    "loss": {"perceptual": 0, "identity": 0},
    "training": {"epochs": 1, "batch_size": 6, "generator_rate": 1e-3, "preview_faces": 2},
}


@pytest.fixture(scope="module")
def experiments(tmp_path_factory) -> Path:
    """A base, one variant that trains, one that needs a weight file, one that changes nothing."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "ablation_base.yaml").write_text(yaml.safe_dump(PLAIN))
    for name, loss in (
        ("l2", {"pixel": "l2"}),
        ("needs", {"identity": 1.0, "identity_network": "vgg_face"}),
        ("same", {"pixel": "l1"}),
    ):
        text = yaml.safe_dump({"extends": "ablation_base.yaml", "loss": loss})
        (folder / f"ablation_{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def study(sample_data, experiments, tmp_path_factory):
    """A whole study. Not to be changed."""
    out = tmp_path_factory.mktemp("study") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEHAL_WEIGHTS", str(out.parent / "none"))
        problems = ablate(
            sample_data,
            sample_data,
            out,
            experiments=experiments,
            limit=LIMIT,
            test_limit=5,
            metrics=["l1"],
        )
    return out, problems


def test_what_fails_is_recorded_and_the_rest_goes_on(study):
    out, problems = study
    assert list(problems) == ["needs"]
    assert "vgg_face" in problems["needs"]
    table = pd.read_csv(out / "ablations.csv", index_col="system")
    assert list(table.index) == ["face mask", "base", "l2", "needs", "same"]
    assert list(table["state"].iloc[1:3]) == ["finished", "finished"]
    assert table.loc["needs", "state"] == f"failed: {problems['needs']}"
    assert table.loc["same", "state"] == "same as base"
    assert list(table["steps"].iloc[1:3]) == ["3 of 3", "3 of 3"]
    assert table.loc["l2", "differs in"] == "loss.pixel = l2"
    assert float(table.loc["base", "minutes"]) >= 0
    assert "vgg_face" in (out / "ablations.md").read_text()
    assert json.loads((out / "results.json").read_text())["warning"].startswith("measured on the")


def test_numbers_and_picture_are_those_of_the_models(study, sample_data):
    out, _ = study
    data = Faces.load(sample_data, 5).at(8)
    table = pd.read_csv(out / "ablations.csv", index_col="system")
    sheet = read_image(out / "ablations.png")
    assert sheet.shape[1] >= 4 * 128 and sheet.shape[0] >= 5 * 128
    for name in ("base", "l2"):
        pictures = to_float(as_written(of_model(str(out / name / "model.keras"), data)))
        expected = np.abs(data.originals - pictures).mean()
        assert float(table.loc[name, "l1"]) == pytest.approx(expected, abs=1e-6)
    assert table.loc["base", "l1"] != table.loc["l2", "l1"]


def test_what_is_finished_is_not_trained_again(
    study, sample_data, experiments, tmp_path, monkeypatch
):
    out, _ = study

    def refuse(*args, **options):
        raise AssertionError("it was trained again")

    monkeypatch.setattr(ablations, "train_apart", refuse)
    words = {"experiments": experiments, "test_limit": 5, "metrics": ["l1"]}
    before = (out / "ablations.csv").read_text()
    problems = ablate(sample_data, sample_data, out, ["base", "l2", "same"], limit=LIMIT, **words)
    assert list(problems) == ["needs"]  # known from before, and the table keeps its row
    assert (out / "ablations.csv").read_text() == before
    with pytest.raises(TrainingError, match="base: was trained with limit 18, not 12"):
        ablate(sample_data, sample_data, out, limit=12, **words)
    folders = [sample_data, sample_data]
    with pytest.raises(TrainingError, match="base: was trained with data "):
        ablate(folders, sample_data, out, limit=LIMIT, **words)
    longer = yaml.safe_load((out / "l2/config.yaml").read_text())
    longer["training"]["epochs"] = 2
    (tmp_path / "l2").mkdir()
    (tmp_path / "l2/config.yaml").write_text(yaml.safe_dump(longer))
    with pytest.raises(TrainingError, match="l2: was begun with 2 epochs, more than 1"):
        ablate(sample_data, sample_data, tmp_path, limit=LIMIT, **words)
    with pytest.raises(TrainingError, match=r"another configuration \(training.batch_size\)"):
        other = out.parent / "other.yaml"
        other.write_text(yaml.safe_dump({**PLAIN, "training": {"batch_size": 3}}))
        ablate(sample_data, sample_data, out, base=other, limit=LIMIT, **words)


def test_a_model_that_cannot_be_read_is_recorded_and_made_anew(
    study, sample_data, experiments, tmp_path, monkeypatch
):
    out = shutil.copytree(study[0], tmp_path / "out")
    words = {"experiments": experiments, "limit": LIMIT, "test_limit": 5, "metrics": ["l1"]}
    before = pd.read_csv(out / "ablations.csv", index_col="system")
    (out / "l2/model.keras").write_bytes(b"damaged")
    problems = ablate(sample_data, sample_data, out, ["base", "l2"], **words)
    assert list(problems) == ["l2", "needs"] and "not a saved model" in problems["l2"]
    table = pd.read_csv(out / "ablations.csv", index_col="system")
    assert table.loc["l2", "state"] == f"failed: {problems['l2']}"
    assert table.loc["base", "l1"] == before.loc["base", "l1"]

    def train(out, name, source, **limits):
        job = {"out": str(out), "name": name, **source, **limits}
        train_here(json.dumps(job))

    monkeypatch.setattr(ablations, "train_apart", train)  # here: another process takes its time
    assert list(ablate(sample_data, sample_data, out, ["l2"], **words)) == ["needs"]
    table = pd.read_csv(out / "ablations.csv", index_col="system")
    assert table.loc["l2", "l1"] == before.loc["l2", "l1"]
    (out / "l2/model.keras").unlink()
    problems = ablate(sample_data, sample_data, out, ["base"], **words)
    assert "neither a model's file" in problems["l2"]


def test_refusals(sample_data, experiments, tmp_path):
    words = {"experiments": experiments}
    with pytest.raises(FacehalError, match="no variant is called 'l3'; there are base, l2"):
        ablate(sample_data, sample_data, tmp_path / "out", ["l3"], **words)
    for folders in (tmp_path, [sample_data, tmp_path]):
        with pytest.raises(DataError, match="no manifest"):
            ablate(folders, sample_data, tmp_path / "out", **words)
    with pytest.raises(DataError, match="no manifest"):
        ablate(sample_data, tmp_path, tmp_path / "out", **words)
    with pytest.raises(ConfigError, match=r"ablation_base\.yaml"):
        ablate(sample_data, sample_data, tmp_path / "out", experiments=tmp_path)
    assert not (tmp_path / "out").exists()


def test_unequal_steps_are_said():
    plan = variants(ROOT / "experiments")
    states = {"base": {"steps": 20}, "progan": {"steps": 100}, "l2": {"state": "failed"}}
    assert ablations._warnings(plan, states, same_faces=False) == []
    states["l2"] = {"steps": 21}
    (warning,) = ablations._warnings(plan, states, same_faces=False)
    assert "more steps" in warning


def test_a_killed_process_is_recorded(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    train_apart(tmp_path, "l2", {"data": "faces", "limit": None})
    status = json.loads((tmp_path / "l2.json").read_text())
    assert (
        status["state"] == "failed" and "signal 9; perhaps for want of memory" in status["reason"]
    )


@pytest.fixture
def literal():
    """What two of the studied variants set, together, on the blocks 8 and 16."""
    network = {"resolutions": [8, 16], "end_to_end": True, "strides": "none"}
    return from_dict(
        {
            **PLAIN,
            "network": network,
            "training": {**PLAIN["training"], "epochs": 4, "checkpoint_steps": 2},
        }
    )


def test_end_to_end_without_strides_trains_stops_and_goes_on(literal, sample_data, tmp_path):
    (tmp_path / "literal.yaml").write_text(yaml.safe_dump(literal.to_dict()))
    job = {"out": str(tmp_path), "name": "literal", "data": str(sample_data), "limit": LIMIT}
    train_here(json.dumps({**job, "max_minutes": 0.0}))
    status = json.loads((tmp_path / "literal.json").read_text())
    assert (status["state"], status["steps"], status["total_steps"]) == ("stopped", 2, 12)
    assert not is_finished(tmp_path, "literal", literal)
    minutes = status["minutes"]
    train_here(json.dumps({**job, "max_minutes": None}))
    status = json.loads((tmp_path / "literal.json").read_text())
    assert (status["state"], status["steps"], status["resolution"]) == ("finished", 12, 16)
    assert status["minutes"] > minutes > 0
    assert is_finished(tmp_path, "literal", literal)
    history = pd.read_csv(tmp_path / "literal/history.csv")
    assert len(history) == 4
    for name in ("8/pixel", "16/pixel", "16/discriminator"):
        assert history[name].iloc[-1] < history[name].iloc[0], name
