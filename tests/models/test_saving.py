"""The file that is shipped: one file, whole or not at all, float32 or float16."""

import resource
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from facehal.errors import FacehalError
from facehal.models.base import read_model
from facehal.models.cascade.cascade import Cascade
from facehal.models.saving import save_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cascade():
    keras.utils.set_random_seed(3)
    model = Cascade(4, 32, resolutions=(8, 16))
    random = np.random.default_rng(0)
    for variable in model.non_trainable_variables:  # statistics as training leaves them
        variable.assign(random.uniform(0.5, 2.0, variable.shape))
    return model


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(1)
    masks = (random.random((4, 16, 16, 1)) < 0.5).astype("float32")
    return {"masked_faces": random.random((4, 16, 16, 3), np.float32) * masks, "masks": masks}


def test_float32(cascade, inputs, tmp_path):
    path = save_model(cascade, tmp_path / "new" / "model.keras")
    assert [p.name for p in path.parent.iterdir()] == ["model.keras"]
    loaded = keras.models.load_model(path)
    expected = cascade.predict_on_batch(inputs)
    for size, output in loaded.predict_on_batch(inputs).items():
        np.testing.assert_array_equal(output, expected[size])


def test_float16(cascade, inputs, tmp_path, record_property):
    full = save_model(cascade, tmp_path / "full.keras").stat().st_size
    path = save_model(cascade, tmp_path / "half.keras", half=True)
    assert path.stat().st_size < 0.6 * full
    assert len(list(tmp_path.iterdir())) == 2
    loaded = keras.models.load_model(path)
    assert {str(v.dtype) for v in loaded.variables} == {"float32"}
    for a, b in zip(loaded.variables, cascade.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy().astype("float16").astype("float32"))
    expected = cascade.predict_on_batch(inputs)
    outputs = loaded.predict_on_batch(inputs)
    apart = max(float(np.abs(outputs[size] - expected[size]).max()) for size in expected)
    record_property("apart", apart)
    print(f"float16 file: outputs apart {apart:.1e}")
    assert 0 < apart < 2e-3


def test_loads_after_importing_the_models_alone(cascade, tmp_path):
    path = save_model(cascade, tmp_path / "model.keras", half=True)
    load = f"keras.models.load_model({str(path)!r})"
    code = f"import facehal.models, keras; print(type({load}).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "Cascade", done.stderr[-1000:]


@pytest.mark.parametrize("half", [False, True])
def test_full_disk_leaves_the_old_one(cascade, tmp_path, half):
    path = tmp_path / "model.keras"
    path.write_text("the old one")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(FacehalError) as caught:
            save_model(cascade, path, half=half)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_the_folder(cascade, tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(FacehalError, match="model not saved"):
        save_model(cascade, tmp_path / "models" / "model.keras")
    (tmp_path / "model.keras").mkdir()
    with pytest.raises(FacehalError, match="model not saved"):
        save_model(cascade, tmp_path / "model.keras")


def test_read_model(cascade, tmp_path):
    """A file, or a shipped model by its name."""
    model = read_model(save_model(cascade, tmp_path / "model.keras"))
    assert isinstance(model, Cascade) and model.get_config() == cascade.get_config()
    for a, b in zip(model.variables, cascade.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert read_model("compact").resolutions == (8, 16, 32, 64, 128)


def test_what_cannot_be_read_is_one_clear_line(tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    (tmp_path / "text.txt").write_text("no model")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    for name, message in (
        ("text.keras", "not a saved model .*name one that a run wrote"),
        ("text.txt", "not a saved model"),
        ("other.keras", "holds a Sequential, not a facehal model"),
        ("absent.keras", r"neither a model's file nor a shipped model \(compact"),
    ):
        with pytest.raises(FacehalError, match=message) as caught:
            read_model(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
