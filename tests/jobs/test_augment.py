"""Whole sets hallucinated for training: what is written, what is kept, what is refused."""

import os
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from facehal.data.faceset import load_faces
from facehal.errors import ConfigError, DataError
from facehal.files import locked
from facehal.images import decode_image, read_image, to_float, to_uint8, write_png
from facehal.inference.hallucinator import Hallucinator, load
from facehal.jobs import augment as module
from facehal.jobs.augment import augment


@pytest.fixture(scope="module")
def data(sample_data, tmp_path_factory):
    """A copy of the prepared sample, so that it may be changed."""
    return shutil.copytree(sample_data, tmp_path_factory.mktemp("augment") / "faces")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained cascade of the blocks 8 to 32: the pictures are those of its last block."""
    from facehal.models.cascade.cascade import Cascade
    from facehal.models.saving import save_model

    cascade, random = Cascade(2, 16, resolutions=(8, 16, 32), latent=3), np.random.default_rng(0)
    for weight in cascade.weights:  # a new model's latent changes nothing
        if not weight.numpy().any():
            weight.assign(random.normal(0, 0.3, weight.shape))
    return save_model(cascade, tmp_path_factory.mktemp("model") / "model.keras")


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The same for ONNX Runtime, whose pictures do not depend on the batch they are made in."""
    pytest.importorskip("onnxruntime", reason="needs onnxruntime (extra: export)")
    pytest.importorskip("onnx", reason="needs onnx (extra: export)")
    from facehal.inference.export import export
    from facehal.inference.hallucinator import load_keras

    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export(load_keras(model), "onnx", path, "model")
    return path


@pytest.fixture(scope="module")
def done(data, model, tmp_path_factory):
    """In several batches, the last one smaller."""
    out = tmp_path_factory.mktemp("out") / "augmented"
    return augment(data, out, model, batch_size=5, progress=False)


def contents(out) -> dict[str, bytes]:
    """Every file below a folder but those that name it, and the lock."""
    files = [p for p in out.rglob("*") if p.is_file() and p.name not in ("augment.json", ".lock")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_pictures_are_what_the_model_hallucinates(done, data, model):
    faces, masks, frame = load_faces(data)
    assert (done.pictures, done.new, done.subjects) == (len(faces), len(faces), 2)
    assert (done.faces, done.skipped) == (len(faces), 0)
    small, shares = module.shrunk(faces, masks, 32)
    expected = load(model).from_masks(to_float(small) * shares[..., None], shares)
    folder = done.images.parent
    for index, row in frame.iterrows():
        name = os.path.basename(row["face"])
        picture = read_image(folder / "pictures" / row["subject"] / name)
        # Rounded to 8 bits; the batches are others than those of the model at one go.
        assert np.abs(picture.astype(int) - to_uint8(expected[index])).max() <= 1
    sheet = read_image(folder / "augmented.png")
    assert sheet.shape[0] >= 3 * 128 and sheet.shape[1] >= 12 * 128


def test_list_has_both_data_sets_with_one_split(done, data):
    table = pd.read_csv(done.images)
    real, made = table[table["synthetic"] == 0], table[table["synthetic"] == 1]
    assert len(real) == len(made) == done.pictures
    for column in ("subject", "label", "split"):
        assert list(real[column]) == list(made[column])
    assert set(real["split"]) == {"train", "val"}
    assert sorted(table["label"].unique()) == [0, 1]
    assert table.groupby("subject")["label"].nunique().eq(1).all()
    for name in table["file"]:
        assert (done.images.parent / name).is_file()


def test_goes_on_where_it_was(done, data, model, monkeypatch):
    pictures = sorted(done.images.parent.glob("pictures/*/*.png"))
    before = {path: path.read_bytes() for path in pictures}
    pictures[3].unlink()
    seen = []
    original = Hallucinator.from_masks

    def counted(self, masked_faces, *args, **options):
        seen.append(len(masked_faces))
        return original(self, masked_faces, *args, **options)

    monkeypatch.setattr(Hallucinator, "from_masks", counted)
    again = augment(data, done.images.parent, model, progress=False)
    assert (again.new, seen) == (1, [1])
    write_png(pictures[4], np.zeros((32, 32, 3), np.uint8))
    os.utime(pictures[4], (0, 0))  # older than its face, as if the face had been prepared anew
    assert augment(data, done.images.parent, model, progress=False).new == 1
    for index, path in enumerate(pictures):
        if index in (3, 4):  # made alone: not to the bit what they were in a batch
            old = decode_image(before[path]).astype(int)
            assert np.abs(read_image(path) - old).max() <= 1
        else:
            assert path.read_bytes() == before[path]
    assert sorted(done.images.parent.glob("pictures/*/*.png")) == pictures


def test_refusals(done, data, model, tmp_path):
    with pytest.raises(DataError, match="pictures of another model"):
        augment(data, done.images.parent, "compact", limit=2, progress=False)
    other = shutil.copytree(data, tmp_path / "other")
    with pytest.raises(DataError, match="pictures of other faces"):
        augment(other, done.images.parent, model, limit=2, progress=False)
    frame = pd.read_csv(other / "manifest.csv", dtype=str, keep_default_na=False)
    frame.assign(subject="../up").to_csv(other / "manifest.csv", index=False)
    with pytest.raises(DataError, match=r"'\.\./up' cannot be the name of a folder"):
        augment(other, tmp_path / "out", model, progress=False)
    frame.assign(subject="").to_csv(other / "manifest.csv", index=False)
    with pytest.raises(DataError, match="24 of 24 faces have no subject"):
        augment(other, tmp_path / "out", model, progress=False)
    assert not (tmp_path / "out").exists()


def test_same_name_in_two_folders_of_a_subject():
    rows = pd.DataFrame(
        {
            "face": ["faces/a/X/1.png", "faces/b/X/1.png", "faces/b/x/1.png", "faces/a/X/1_2.png"],
            "subject": ["X", "X", "x", "X"],
        }
    )
    names = module._picture_names(rows)
    assert names[:2] == ["pictures/X/1", "pictures/X/1_2"]
    assert len({name.lower() for name in names}) == 4


def test_a_face_called_like_a_variant():
    """It neither becomes another face's variant nor is it taken for one."""
    faces = ["faces/X/a.png", "faces/X/a_v1.png", "faces/X/a_v1_.png", "faces/X/v1.png"]
    names = module._picture_names(pd.DataFrame({"face": faces, "subject": "X"}))
    assert names == ["pictures/X/a", "pictures/X/a_v1_", "pictures/X/a_v1__2", "pictures/X/v1"]
    files = {module._picture(name, seed, "png") for name in names for seed in range(4)}
    assert len(files) == 16


def test_variants(data, exported, tmp_path):
    """Those that a model gives by its seeds; more of them are added to those there."""
    out = tmp_path / "out"
    augment(data, out, exported, limit=6, progress=False)
    best = contents(out / "pictures")
    first = augment(data, out, exported, variants=2, limit=6, progress=False)
    assert (first.pictures, first.new) == (18, 12)
    more = augment(data, out, exported, variants=3, limit=6, progress=False)
    assert (more.pictures, more.new) == (24, 6)
    assert contents(out / "pictures").items() >= best.items()

    table = pd.read_csv(more.images)
    assert list(table["variant"]) == [0] * 12 + [1] * 6 + [2] * 6 + [3] * 6
    assert list(table["synthetic"]) == [0] * 6 + [1] * 24
    assert list(table["split"]) == 5 * list(table["split"][:6])
    faces, masks, _ = load_faces(data, limit=6)
    small, shares = module.shrunk(faces, masks, 32)
    expected = load(exported).from_masks(to_float(small) * shares[..., None], shares, seeds=[3] * 6)
    made = [read_image(out / name) for name in table["file"][24:]]
    np.testing.assert_array_equal(made, to_uint8(expected))
    assert all(name.endswith("_v3.png") for name in table["file"][24:])
    assert not np.array_equal(made[0], read_image(out / table["file"][6]))


def test_a_damaged_face_is_skipped(data, exported, tmp_path, capsys):
    """And nothing else: neither the other pictures nor their split and labels change."""
    broken = shutil.copytree(data, tmp_path / "broken")
    names = pd.read_csv(broken / "manifest.csv")["face"]
    (broken / names[2]).write_bytes((broken / names[2]).read_bytes()[:200])
    (broken / names[9]).unlink()
    write_png(broken / names[11], np.zeros((64, 64, 3), np.uint8))
    found = augment(broken, tmp_path / "out", exported, batch_size=4, progress=False)
    assert (found.faces, found.skipped, found.pictures) == (21, 3, 21)
    skipped = pd.read_csv(tmp_path / "out/skipped.csv")
    assert list(skipped["file"]) == sorted(str(broken / names[i]) for i in (2, 9, 11))
    reasons = dict(zip(skipped["file"], skipped["reason"], strict=True))
    assert "cut short" in reasons[str(broken / names[2])]
    assert "No such file" in reasons[str(broken / names[9])]
    assert "must be 128x128" in reasons[str(broken / names[11])]
    assert capsys.readouterr().err.count("skipped: ") == 3

    whole = augment(data, tmp_path / "whole", exported, progress=False)
    assert not (tmp_path / "whole/skipped.csv").exists()
    left, right = pd.read_csv(found.images), pd.read_csv(whole.images)
    kept = right.drop(index=[2, 9, 11, 26, 33, 35]).reset_index(drop=True)
    pd.testing.assert_frame_equal(left.drop(columns="file"), kept.drop(columns="file"))
    pictures = contents(tmp_path / "whole/pictures")
    assert len(contents(tmp_path / "out/pictures")) == 21
    assert contents(tmp_path / "out/pictures").items() <= pictures.items()

    for name in names:
        (broken / name).unlink(missing_ok=True)
    shutil.rmtree(tmp_path / "out/pictures")
    with pytest.raises(DataError, match=r"none of 24 faces could be used; see .*skipped\.csv"):
        augment(broken, tmp_path / "out", exported, progress=False)


def test_processes_write_what_one_writes(data, exported, tmp_path):
    """To the last byte, also where an earlier run was killed in the middle of a picture."""
    alone = augment(data, tmp_path / "alone", exported, variants=1, workers=1, progress=False)
    for number, picture in enumerate(sorted((tmp_path / "alone/pictures").rglob("*.png"))):
        there = tmp_path / "several" / picture.relative_to(tmp_path / "alone")
        there.parent.mkdir(parents=True, exist_ok=True)
        if number % 5 == 0:
            shutil.copy2(picture, there)
        elif number % 5 == 1:
            (there.parent / f".{number}.tmp").write_bytes(picture.read_bytes()[:99])
    several = augment(
        data,
        tmp_path / "several",
        exported,
        variants=1,
        workers=2,
        batch_size=3,
        progress=False,
    )
    assert (alone.new, several.new, several.pictures) == (48, 38, 48)
    assert contents(tmp_path / "alone") == contents(tmp_path / "several")


def test_webp(data, exported, tmp_path):
    png = augment(data, tmp_path / "png", exported, limit=3, progress=False)
    webp = augment(data, tmp_path / "webp", exported, limit=3, form="webp", progress=False)
    one, other = (pd.read_csv(found.images)["file"][3:] for found in (png, webp))
    for left, right in zip(one, other, strict=True):
        assert right == left.replace(".png", ".webp")
        picture = read_image(tmp_path / "png" / left)[..., ::-1]
        _, encoded = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 95])
        assert (tmp_path / "webp" / right).read_bytes() == encoded.tobytes()
    with pytest.raises(DataError, match="its pictures are not png"):
        augment(data, tmp_path / "webp", exported, limit=3, progress=False)
    with pytest.raises(ConfigError, match="format gif: there are png and webp"):
        augment(data, tmp_path / "gif", exported, form="gif", progress=False)


def test_one_process_at_a_time(data, exported, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        locked(tmp_path / "out"),
        pytest.raises(DataError, match="another process is writing to it"),
    ):
        augment(data, tmp_path / "out", exported, limit=1, progress=False)
