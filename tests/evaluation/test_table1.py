"""Tables and figures from real files: what stands in them equals the metrics themselves."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from facehal.data.faceset import load_faces
from facehal.errors import DataError, FacehalError, WeightsError
from facehal.evaluation import report
from facehal.evaluation.subjects import nearest_subjects
from facehal.evaluation.systems import Faces, face_mask
from facehal.evaluation.table1 import PAPER, REFERENCES, pairs, table1
from facehal.evaluation.verification import verify
from facehal.images import read_image, write_png
from facehal.metrics.match_score import describe
from facehal.metrics.ssim import ssim


@pytest.fixture(scope="module")
def blurred(sample_data, tmp_path_factory):
    """Another program's pictures: the faces with noise on them."""
    folder = tmp_path_factory.mktemp("blurred")
    data = Faces.load(sample_data, 6)
    rng = np.random.default_rng(0)
    for face, name in zip(data.faces, data.names, strict=True):
        noisy = np.clip(face + rng.normal(0, 20, face.shape), 0, 255).astype(np.uint8)
        write_png(folder / f"{name}.png", noisy)
    return folder


@pytest.fixture(scope="module")
def done(sample_data, blurred, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    table1(
        sample_data,
        {"edgeconnect": str(blurred)},
        out,
        training=sample_data,
        metrics=["ssim", "l1", "match_dlib", "frechet_dlib"],
        limit=6,
    )
    return out


def test_numbers_are_those_of_the_metrics(sample_data, blurred, done):
    data = Faces.load(sample_data, 6)
    noisy = np.stack([read_image(blurred / f"{n}.png") for n in data.names]) / np.float32(255)
    expected = {
        "face mask": ssim(data.originals, face_mask(data)),
        "edgeconnect": ssim(data.originals, noisy),
    }
    table = pd.read_csv(done / "table1.csv", index_col="system")
    per_image = pd.read_csv(done / "per_image.csv")
    for name, values in expected.items():
        assert table.loc[name, "ssim"] == pytest.approx(values.mean(), abs=1e-6)
        assert table.loc[name, "ssim_low"] <= values.mean() <= table.loc[name, "ssim_high"]
        ours = per_image[per_image["system"] == name]["ssim"]
        np.testing.assert_allclose(ours, values, atol=1e-5)
    results = json.loads((done / "results.json").read_text())
    measured = results["systems_measured"]
    assert measured["edgeconnect"]["ssim"]["value"] == pytest.approx(expected["edgeconnect"].mean())
    assert results["faces"] == 6 and results["data_sha256"] and results["versions"]["keras"]


def test_reference_rows_come_first_and_the_paper_stands_beside(done):
    table = pd.read_csv(done / "table1.csv", index_col="system")
    assert list(table.index) == [*REFERENCES, "edgeconnect"]
    assert table.loc["edgeconnect", "paper_ssim"] == PAPER["edgeconnect"]["ssim"]
    assert np.isnan(table.loc["face mask", "paper_ssim"])
    # The training set holds the very faces: its nearest context is their own.
    assert table.loc["nearest face's context", "ssim"] == pytest.approx(1)
    assert table.loc["nearest face's context", "frechet_dlib"] == pytest.approx(0, abs=1e-6)
    assert table.loc["face mask", "ssim"] < table.loc["mean context", "ssim"] < 1


def test_pictures_are_there(done):
    assert read_image(done / "figure5.png").shape[1] >= 7 * 128
    assert read_image(done / "best_and_worst.png").shape[0] >= 4 * 128


def test_people_who_were_trained_on_are_counted(sample_data, tmp_path, capsys):
    out = tmp_path / "out"
    people = len(set(Faces.load(sample_data, 6).subjects))
    table1(sample_data, {}, out, training=sample_data, metrics=["l1"], limit=6)
    assert f"warning: {people} of the {people} people" in capsys.readouterr().err
    assert json.loads((out / "results.json").read_text())["people_in_training"] == people
    table1(sample_data, {}, out, metrics=["l1"], limit=6)
    assert "warning" not in capsys.readouterr().err
    assert json.loads((out / "results.json").read_text())["people_in_training"] is None


def test_without_names_nobody_is_counted(sample_data, tmp_path, capsys):
    flat = shutil.copytree(sample_data, tmp_path / "flat")
    frame = pd.read_csv(flat / "manifest.csv", dtype=str, keep_default_na=False)
    frame.assign(subject="").to_csv(flat / "manifest.csv", index=False)
    for data, training in ((flat, flat), (flat, sample_data), (sample_data, flat)):
        table1(data, {}, tmp_path / "out", training=training, metrics=["l1"], limit=2)
        assert "warning" not in capsys.readouterr().err
        results = json.loads((tmp_path / "out/results.json").read_text())
        assert results["people_in_training"] is None


def test_differences_are_of_the_same_pictures(sample_data, blurred, tmp_path):
    """As NumPy has them from per_image.csv; an interval without 0 is bold."""
    systems = {"a": str(blurred), "b": str(sample_data / "faces")}
    words = {"metrics": ["l1", "frechet_dlib"], "limit": 6, "notes": {"a": {"mode": "noisy"}}}
    table1(sample_data, systems, tmp_path, against="b", **words)
    results = json.loads((tmp_path / "results.json").read_text())
    values = pd.read_csv(tmp_path / "per_image.csv").pivot(
        index="name", columns="system", values="l1"
    )
    assert results["differences_to"] == "b"
    assert set(results["differences"]) == {"face mask", "a"}
    value, low, high = results["differences"]["a"]["l1"]
    assert value == pytest.approx((values["a"] - values["b"]).mean(), abs=1e-6)
    assert 0 < low <= value <= high
    text = (tmp_path / "table1.md").read_text()
    assert f"| a | **{value:+.3f} [{low:+.3f}, {high:+.3f}]** |" in text
    assert "| noisy |" in text
    with pytest.raises(FacehalError, match=r"c is none of the systems \(a, b\)"):
        table1(sample_data, systems, tmp_path, against="c", **words)


def test_pictures_are_kept_in_8_bits(sample_data, blurred, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(report, "write_figure5", lambda path, faces, rows: kept.append(rows))
    words = {"training": sample_data, "metrics": ["l1"], "limit": 6}
    table1(sample_data, {"a": str(blurred)}, tmp_path, **words)
    (pictures,) = kept
    assert [values.dtype for values in pictures.values()] == [np.uint8] * 4


def test_missing_weights_are_said_in_the_cell_and_an_error_when_named(
    sample_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path / "none"))
    table1(sample_data, {}, tmp_path / "out", limit=2)
    text = (tmp_path / "out/table1.md").read_text()
    for name in ("resnet50_256d", "inception", "pieapp", "alexnet"):
        assert f"needs: `facehal weights get {name}`" in text
    assert "needs: `--train DIR`" in text
    with pytest.raises(WeightsError, match="inception"):
        table1(sample_data, {}, tmp_path / "out", metrics=["fid"], limit=2)
    with pytest.raises(FacehalError, match="no metric is called 'sim'"):
        table1(sample_data, {}, tmp_path / "out", metrics=["sim"], limit=2)


def test_pairs_of_any_two_folders(sample_data, blurred, tmp_path):
    faces, _, frame = load_faces(sample_data, limit=6)
    for face, name in zip(faces, frame["face"], strict=True):
        write_png(tmp_path / "real" / name.removeprefix("faces/"), face)
    path = pairs(tmp_path / "real", blurred, tmp_path / "out", metrics=["ssim", "l1"])
    assert "SSIM" in path.read_text()
    row = pd.read_csv(tmp_path / "out/pairs.csv").iloc[0]
    assert 0 < row["ssim"] < 1 and 0 < row["l1"] < 0.2
    write_png(tmp_path / "real/more.png", faces[0])
    with pytest.raises(DataError, match="no picture of more"):
        pairs(tmp_path / "real", blurred, tmp_path / "out", metrics=["l1"])


def test_verification_of_two_people(sample_data, tmp_path):
    path = verify(sample_data, tmp_path, descriptor="dlib_resnet")
    found = json.loads(path.with_suffix(".json").read_text())
    n = found["faces"]
    assert found["subjects"] == 2
    assert found["genuine_pairs"] + found["impostor_pairs"] == n * (n - 1) // 2
    # Two portraits in variations: dlib tells the two people apart.
    assert {p["wanted_fpr"]: p["tpr"] for p in found["points"]}[0.1] > 0.9


def test_nearest_subjects(sample_data, tmp_path):
    """Of two people the person is nearest to itself, the other follows; means by hand."""
    faces = Faces.load(sample_data)
    one, other = np.unique(faces.subjects)
    path = nearest_subjects(sample_data, str(other), tmp_path, descriptor="dlib_resnet")
    found = json.loads(path.with_suffix(".json").read_text())["nearest"]
    assert [row["subject"] for row in found] == [other, one]
    assert sum(row["photos"] for row in found) == len(faces.names)
    descriptors = describe(faces.originals, "dlib_resnet")
    means = [descriptors[faces.subjects == name].mean(0) for name in (one, other)]
    assert found[0]["distance"] == 0
    np.testing.assert_allclose(found[1]["distance"], np.linalg.norm(means[0] - means[1]), rtol=1e-4)
    assert read_image(tmp_path / "nearest.png").shape[0] > 2 * 128
    with pytest.raises(DataError, match="no face of 'Nobody'"):
        nearest_subjects(sample_data, "Nobody", tmp_path, descriptor="dlib_resnet")
