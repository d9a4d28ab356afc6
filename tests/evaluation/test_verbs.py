"""The verbs of this folder's modules, called as the command line calls them."""

import json

import pytest
from typer.testing import CliRunner

from facehal.cli import app
from facehal.errors import DataError, FacehalError
from facehal.evaluation.variants import evaluate_variants


def call(*words) -> str:
    """What a verb prints; its error is raised, as `facehal.cli.main` sees it."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).stdout


def test_masks(sample_data, tmp_path):
    out = tmp_path / "out"
    said = call("masks", sample_data, out, "--limit", 2, "--white", "face", "--size", 64)
    assert said.startswith("2 faces:")
    assert len(list(out.glob("masks/**/*.png"))) == 2
    with pytest.raises(DataError, match="'hole' or 'face', not 'black'"):
        call("masks", sample_data, out, "--white", "black")


def test_augment(sample_data, tmp_path):
    said = call("augment", sample_data, tmp_path / "out", "--limit", 2)
    assert "2 pictures of 1 subjects, 2 of them new" in said
    with pytest.raises(FacehalError, match="nobody: neither"):
        call("augment", sample_data, tmp_path / "other", "--model", "nobody")


def test_ablations_say_what_is_wrong_before_anything_is_trained(sample_data, tmp_path):
    words = ["ablations", "--data", sample_data, "--test", sample_data, "--out", tmp_path / "out"]
    with pytest.raises(FacehalError, match="no variant is called 'l3'"):
        call(*words, "l3")
    with pytest.raises(FacehalError, match="no metric is called 'sim'"):
        call(*words, "--metrics", "sim")
    with pytest.raises(FacehalError, match=r"ablation_base\.yaml"):
        call(*words, "--experiments", tmp_path)
    assert not (tmp_path / "out").exists()


def test_variants(sample_data, weights, tmp_path):
    """One variant cannot be compared; of two, the nearer is at least as near as their mean."""
    words = ["evaluate", "variants", "--data", sample_data, "--out", tmp_path, "--limit", 3]
    assert "LPIPS between two variants" in call(*words, "--variants", 2)
    found = json.loads((tmp_path / "variants.json").read_text())
    values = {name: one["value"] for name, one in found["measured"].items()}
    assert values["LPIPS between two variants"] > 0.01
    nearest = values["LPIPS to the original, nearest of 2"]
    assert nearest <= values["LPIPS to the original, mean of the variants"]
    assert (tmp_path / "variants.png").is_file()
    with pytest.raises(DataError, match="ask for 2 or more"):
        evaluate_variants(sample_data, tmp_path, count=1)
