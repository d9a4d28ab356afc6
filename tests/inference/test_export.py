"""Exported files give the Keras model's pictures, and are refused where they do not."""

import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest

from facehal.errors import FacehalError
from facehal.inference import export as exporting
from facehal.inference.export import export
from facehal.inference.onnx_engine import OnnxEngine
from facehal.models.cascade.cascade import Cascade
from facehal.models.cascade.progan import ProGAN
from facehal.models.saving import save_model

NEEDS = {
    "onnx": ("onnx", "onnxruntime"),
    "litert": ("ai_edge_litert",),
    "savedmodel": (),
}


def needs(form: str) -> None:
    absent = [name for name in NEEDS[form] if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"needs {absent[0]} (extra: export)")
    if form != "onnx" and keras.backend.backend() != "tensorflow":
        pytest.skip("written by TensorFlow only")


def shaken(model):
    """With factors, offsets and statistics that are not those of a new model."""
    random = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.weights:
                variable.assign(random.uniform(0.5, 1.5, variable.shape).astype("float32"))
    for upscaler in model.upscalers:
        upscaler.conv.bias.assign(random.normal(0, 0.1, 12).astype("float32"))
    for generator in model.generators:
        generator.get_layer("exit").bias.assign(random.normal(0, 0.3, 3).astype("float32"))
    return model


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    keras.utils.set_random_seed(0)
    return shaken(Cascade(base=2, cap=16, resolutions=(8, 16, 32)))


@pytest.fixture(scope="module")
def progan() -> ProGAN:
    keras.utils.set_random_seed(0)
    return shaken(ProGAN(16, base=2, cap=16))


def inputs(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    masks = (random.random((count, side, side, 1)) < 0.5).astype("float32")
    return random.random((count, side, side, 3), dtype="float32") * masks, masks


def run_onnx(path, faces, masks):
    return OnnxEngine(path).run(faces, masks)


def run_litert(path, faces, masks):
    from ai_edge_litert.interpreter import Interpreter

    outputs = Interpreter(str(path)).get_signature_runner()(masked_faces=faces, masks=masks)
    return {int(name): value for name, value in outputs.items()}


def run_savedmodel(path, faces, masks):
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    outputs = serve(masked_faces=tf.constant(faces), masks=tf.constant(masks))
    return {int(name): value.numpy() for name, value in outputs.items()}


RUN = {"onnx": run_onnx, "litert": run_litert, "savedmodel": run_savedmodel}


@pytest.mark.core
@pytest.mark.parametrize("form", RUN)
@pytest.mark.parametrize("kind", ["cascade", "progan"])
def test_same_pictures_for_any_number_of_faces(form, kind, request, tmp_path):
    needs(form)
    model = request.getfixturevalue(kind)
    path = tmp_path / f"model{exporting.SUFFIXES[form]}"
    assert export(model, form, path) <= exporting.TOLERANCE
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    faces, masks = inputs(7, model.resolutions[-1])
    wanted = model.predict_on_batch({"masked_faces": faces, "masks": masks})
    for count in (7, 1):
        got = RUN[form](path, faces[:count], masks[:count])
        assert sorted(got) == list(model.resolutions)
        for size, pictures in got.items():
            # Achieved with the shipped model: ONNX 3e-6, LiteRT 4e-6, SavedModel 4e-6.
            expected = np.asarray(wanted[str(size)])[:count]
            np.testing.assert_allclose(pictures, expected, rtol=0, atol=1e-4)


@pytest.mark.core
@pytest.mark.parametrize("form", RUN)
def test_a_latent_vector_is_an_input(form, tmp_path):
    """Checked when it is written, with vectors; an ONNX file may be run without."""
    needs(form)
    keras.utils.set_random_seed(0)
    model = shaken(Cascade(base=2, cap=16, resolutions=(8, 16), latent=3))
    path = tmp_path / f"model{exporting.SUFFIXES[form]}"
    assert export(model, form, path) <= exporting.TOLERANCE
    if form != "onnx":
        return
    engine, (faces, masks) = OnnxEngine(path), inputs(5, 16)
    assert engine.latent == 3
    latents = np.random.default_rng(2).standard_normal((5, 3), np.float32)
    plain = model.predict_on_batch({"masked_faces": faces, "masks": masks})
    other = model.predict_on_batch({"masked_faces": faces, "masks": masks, "latent": latents})
    got = engine.run(faces, masks)[16], engine.run(faces, masks, latents)[16]
    for pictures, wanted in zip(got, (plain, other), strict=True):
        np.testing.assert_allclose(pictures, np.asarray(wanted["16"]), rtol=0, atol=1e-5)
    assert np.abs(got[0] - got[1]).max() > 1e-3


@pytest.mark.parametrize("latent", [0, 3])
def test_a_family_without_a_writer_of_its_own(latent, tmp_path, monkeypatch):
    """What TensorFlow computes, converted: the same pictures (achieved: 5e-7) and inputs."""
    needs("onnx")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("written by TensorFlow only")
    keras.utils.set_random_seed(0)
    model = shaken(Cascade(base=2, cap=16, resolutions=(8, 16), latent=latent))
    path = tmp_path / "model.onnx"
    monkeypatch.setattr(Cascade, "onnx_graph", lambda self, metadata: None)
    assert export(model, "onnx", path) <= 1e-5
    engine, (faces, masks) = OnnxEngine(path), inputs(5, 16)
    assert (engine.latent, engine.resolutions) == (latent, (8, 16))
    wanted = model.predict_on_batch({"masked_faces": faces, "masks": masks})
    got = engine.run(faces, masks)
    np.testing.assert_allclose(got[16], np.asarray(wanted["16"]), rtol=0, atol=1e-5)


def test_onnx_file_says_what_it_takes(cascade, tmp_path):
    needs("onnx")
    import onnx

    export(cascade, "onnx", tmp_path / "model.onnx", "mine.keras")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["made_from"] == "mine.keras"
    assert "1 = face" in about["masks"] and "[0, 1]" in about["masked_faces"]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param  # any number of faces
    # No layout is changed but at the inputs and outputs, and no normalisation is left.
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Transpose") == 1 + len(cascade.resolutions)
    assert "BatchNormalization" not in kinds


def test_weights_that_are_half_precision_take_half_the_room(cascade, tmp_path):
    """As `facehal.models.saving` may store them; nothing is rounded, so the pictures are the same.

    A weight that float16 does not hold keeps its whole array in float32.
    """
    needs("onnx")
    half = Cascade.from_config({**cascade.get_config(), "normalization": "none", "base": 8})
    half.set_weights([w.astype(np.float16).astype(np.float32) for w in half.get_weights()])
    assert export(half, "onnx", tmp_path / "half.onnx") < 1e-5
    kernel = half.generators[-1].get_layer("down_8").kernel
    other = kernel.numpy().copy()
    other[0, 0, 0, 0] = 0.1
    kernel.assign(other)
    assert export(half, "onnx", tmp_path / "part.onnx") < 1e-5
    small, large = ((tmp_path / f"{name}.onnx").stat().st_size for name in ("half", "part"))
    # Two bytes more for each of its numbers, a node to cast it less.
    assert other.size > 1024 and abs(large - small - 2 * other.size) < 200


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_engine_deals_faces_out_and_keeps_their_order(cascade, threads, tmp_path):
    needs("onnx")
    export(cascade, "onnx", tmp_path / "model.onnx")
    faces, masks = inputs(11, 32)
    engine = OnnxEngine(tmp_path / "model.onnx", threads=threads)
    together = engine.run(faces, masks)[32]
    alone = [engine.run(faces[i : i + 1], masks[i : i + 1])[32] for i in range(11)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("factor", "said"), [(1.01, "1e-04"), (np.nan, "by nan")])
def test_a_file_whose_pictures_differ_is_not_left_behind(
    factor, said, cascade, tmp_path, monkeypatch
):
    needs("onnx")
    right = Cascade.folded

    def wrong(model):
        folded = Cascade.from_config(right(model).get_config())
        folded.set_weights([values * factor for values in right(model).get_weights()])
        return folded

    monkeypatch.setattr(Cascade, "folded", wrong)
    with pytest.raises(FacehalError, match=f"not written: its pictures would differ.*{said}"):
        export(cascade, "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_errors_are_one_line(cascade, tmp_path, monkeypatch):
    with pytest.raises(FacehalError, match="format tflite: there are savedmodel, onnx, litert"):
        export(cascade, "tflite", tmp_path / "model.tflite")
    tensorflow = keras.backend.backend() == "tensorflow"
    for form, reason in (("litert", "is a folder; name a file"), ("savedmodel", "exists; name a")):
        said = reason if tensorflow else f"format {form} is written by TensorFlow: set KERAS_BACK"
        with pytest.raises(FacehalError, match=said):
            export(cascade, form, tmp_path)
    (tmp_path / "file").write_text("")
    needs("onnx")
    with pytest.raises(FacehalError, match="not written"):
        export(cascade, "onnx", tmp_path / "file" / "model.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(FacehalError, match="not a usable ONNX file"):
        OnnxEngine(tmp_path / "text.onnx")
    monkeypatch.setattr("importlib.import_module", _absent)
    with pytest.raises(FacehalError, match=r"onnx: pip install 'facehal\[export\]'"):
        export(cascade, "onnx", tmp_path / "model.onnx")


def _absent(name):
    raise ImportError(name)


def test_the_verb_writes_checks_and_says_so(cascade, tmp_path):
    """As a user runs it, in the current folder, with the default name."""
    needs("onnx")
    save_model(cascade, tmp_path / "mine.keras")
    code = "from facehal.cli import main; main()"

    def facehal(*words):
        command = [sys.executable, "-c", code, "export", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    done = facehal("mine.keras")
    assert done.returncode == 0, done.stderr
    assert "mine.onnx: largest difference to the Keras model's pictures" in done.stdout
    faces, masks = inputs(2, 32)
    wanted = cascade.predict_on_batch({"masked_faces": faces, "masks": masks})
    got = OnnxEngine(tmp_path / "mine.onnx").run(faces, masks)
    np.testing.assert_allclose(got[32], np.asarray(wanted["32"]), rtol=0, atol=1e-4)
    done = facehal("nobody.keras")
    assert done.returncode == 1 and done.stderr.startswith("facehal: nobody.keras: neither")
    assert len(done.stderr.strip().splitlines()) == 1
