"""Figure 6 and the verbs of the face swap, on the two public-domain portraits."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from facehal.cli import app
from facehal.data.samples import portraits
from facehal.errors import DataError, FacehalError, NoFaceError, TrainingError
from facehal.evaluation.figure6 import figure6
from facehal.images import read_image, resize, sheet_cells, write_png

CONFIG = """\
model: deepfake
network: {crop: 64, width: 4, dense: 12, targets: 2}
training: {epochs: 2, epoch_steps: 4, batch_size: 4, rate: 1.0e-3, preview_faces: 2}
"""


def call(*words) -> str:
    """What a verb prints; its error is raised, as `facehal.cli.main` sees it."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).stdout


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of the two portraits."""
    pytest.importorskip("skimage.data", reason="needs scikit-image (extra: portraits)")
    folder = tmp_path_factory.mktemp("portraits")
    for name, picture in portraits().items():
        write_png(folder / f"{name}.png", picture)
    return folder


@pytest.fixture(scope="module")
def run(sample_data, tmp_path_factory):
    """Words of the command that trains on two people of one folder, and its run."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "swap.yaml").write_text(CONFIG)
    people = ("--source-subject", "Eileen_Collins", "--target-subject", "Grace_Hopper")
    words = ["train", "deepfake", "--source", sample_data, "--target", sample_data, *people]
    words += ["--config", folder / "swap.yaml", "--out", folder / "run"]
    assert "trained" in call(*words)
    return words


@pytest.fixture(scope="module")
def model(run):
    return run[-1] / "model.keras"


def test_training_writes_a_run(run, sample_data):
    folder = run[-1]
    about = json.loads((folder / "environment.json").read_text())
    assert about["data"] == [str(sample_data)] * 2 and about["faces_of_each"] == [12, 12]
    page = (folder / "report.html").read_text()
    assert "DeepFake, size default, crops of 64×64" in page and "Finished: 2 of 2 epochs" in page
    assert "Mean absolute error of crops" in page
    table = pd.read_csv(folder / "history.csv")
    assert table["step"].tolist() == [4, 8]
    assert np.isfinite(table[["source/pixel", "target/pixel"]].to_numpy()).all()
    previews = sorted(path.name for path in (folder / "previews").iterdir())
    assert previews == ["epoch_0001.png", "epoch_0002.png"]


def test_training_goes_on(run, model):
    """Of the experiment the number of epochs may change."""
    assert "trained" in call(*run, "--resume", "--epochs", 3)
    assert pd.read_csv(run[-1] / "history.csv")["step"].tolist() == [4, 8, 12]
    assert (run[-1] / "previews/epoch_0003.png").is_file()


def test_training_names_two_people(run, sample_data, tmp_path):
    words = ["train", "deepfake", "--config", run[-3], "--out", tmp_path / "run"]
    with pytest.raises(FacehalError, match="name the prepared faces: --data DIR"):
        call(*words)
    with pytest.raises(TrainingError, match="name --source and --target"):
        call(*words, "--data", sample_data)
    for given in (["--source", sample_data], ["--target-subject", "Grace_Hopper"]):
        with pytest.raises(FacehalError, match="by --source DIR and --target DIR"):
            call(*words, *given)
    both = ["--source", sample_data, "--target", sample_data]
    with pytest.raises(DataError, match="no face of 'Nobody'"):
        call(*words, *both, "--source-subject", "Nobody")
    with pytest.raises(DataError, match="photos of the target are in another set"):
        call(*words, *both)
    assert not (tmp_path / "run").exists()
    with pytest.raises(TrainingError, match="cascaded does not train on the sets source, target"):
        call("train", "cascaded", "--config", "tiny", "--out", tmp_path / "run", *both)


def test_swap(model, photos, tmp_path):
    said = call("swap", photos, "--model", model, "--out", tmp_path, "--mask", "hull")
    assert said.startswith("2 of 2 photos swapped")
    for name, photo in portraits().items():
        picture = read_image(tmp_path / f"swapped/{name}.png")
        assert picture.shape == photo.shape
        assert 0.01 < (picture != photo).any(-1).mean() < 0.2
    assert read_image(tmp_path / "swapped.png").shape[1] >= 4 * 128
    with pytest.raises(FacehalError, match="holds a Cascade; a face is swapped"):
        call("swap", photos, "--model", "compact", "--out", tmp_path)


def test_figure(model, photos, tmp_path):
    """Five pictures for every photo, and a column for another model's."""
    path = tmp_path / "figure6.png"
    call("evaluate", "figure6", photos, "--model", model, "--out", path)
    cells = sheet_cells(read_image(path), 128)
    assert [len(row) for row in cells] == [5, 5]
    for source, rectangle, hallucinated, target, blended in cells:
        outside = (rectangle == 0).all(-1)
        assert (
            0.7 < outside.mean() < 0.85 and ((hallucinated == 0).all(-1) == outside).mean() > 0.99
        )
        assert (blended[outside] == target[outside]).mean() > 0.99
        assert (blended[~outside] != target[~outside]).any(-1).mean() > 0.5
        # The rectangle is cut out of the source, but for what lies outside the mask.
        apart = np.abs(rectangle.astype(int) - source)[~outside].mean(-1)
        assert np.median(apart) < 4
    figure6(model, [photos], path, beside="compact")
    assert [len(row) for row in sheet_cells(read_image(path), 128)] == [6, 6]


def test_given_targets_take_the_place_of_the_models(model, photos, tmp_path):
    target = photos / "Grace_Hopper.png"
    words = ["evaluate", "figure6", photos, "--model", model, "--out", tmp_path / "a.png"]
    call(*words, "--target", target)
    cells = sheet_cells(read_image(tmp_path / "a.png"), 128)
    hopper = cells[1][0]
    assert all(np.abs(row[3].astype(int) - hopper).max() <= 1 for row in cells)
    grey = tmp_path / "grey.png"
    write_png(grey, resize(np.full((8, 8, 3), 99, np.uint8), 64))
    with pytest.raises(NoFaceError, match=r"grey\.png: no face found"):
        call("evaluate", "figure6", grey, "--model", model, "--out", tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_the_row_of_table_1(model, sample_data, tmp_path):
    """The model hallucinates like any other."""
    words = ["evaluate", "table1", "--data", sample_data, "--out", tmp_path, "--metrics", "ssim,l1"]
    said = call(*words, "--system", f"deepfake={model}", "--limit", 4)
    row = next(line for line in said.splitlines() if line.startswith("| deepfake"))
    assert "0.448" in row  # the paper's SSIM beside ours
