"""Growth: what comes along from the smaller block, what is new; the stage trains all of it."""

import logging
from dataclasses import replace

import keras
import numpy as np
import pytest

from facehal.layers.pyramid import pyramid
from facehal.models.cascade.discriminator import Discriminator
from facehal.models.cascade.folding import fold
from facehal.models.cascade.progan import OUTER, ProGAN, grow
from facehal.models.cascade.task import ProGANTask
from facehal.training.phases import Trainer

pytestmark = pytest.mark.core


def shaken(model: ProGAN) -> ProGAN:
    """Every weight and every statistic as training leaves it: nothing is 0 or 1."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.uniform(0.2, 1.0, variable.shape).astype("float32"))
    return model


def by_layer(model: ProGAN) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.generators[0].layers}


@pytest.fixture(scope="module")
def small() -> ProGAN:
    return shaken(ProGAN(8, base=2, cap=16, name="progan"))


@pytest.fixture(scope="module")
def inputs(eight) -> dict[str, np.ndarray]:
    batch = eight.batch(0)
    masks = batch["masks"].astype("float32")[..., None]
    return {"masked_faces": batch["faces"] / np.float32(255) * masks, "masks": masks}


@pytest.mark.parametrize("normalization", ["batch", "none"])
def test_growth(normalization):
    """Block by block up to 128: inner layers bit-equal with their statistics, the others new."""
    model = shaken(ProGAN(8, base=1, cap=8, normalization=normalization))
    for size in (16, 32, 64, 128):
        before = by_layer(model)
        grown = grow(model)
        after = by_layer(grown)
        assert grown.resolutions == (size,)
        half = size // 2
        new = {"entry", "exit", f"down_{half}", f"residual_{half}", f"up_{size}"}
        if normalization == "batch":
            new |= {"entry_norm", f"down_{half}_norm", f"up_{size}_norm"}
        inner = {name for name, values in after.items() if values} - new
        assert inner == {name for name, values in before.items() if values} - set(OUTER)
        for name in inner:
            for a, b in zip(after[name], before[name], strict=True):
                np.testing.assert_array_equal(a, b)
        # Shaken weights lie in [0.2, 1]; what is drawn anew has negative weights or offsets of 0.
        assert all(min(a.min() for a in after[name]) <= 0 for name in new)
        for a, b in zip(by_layer(model).values(), before.values(), strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        model = shaken(grown)


def test_there_is_a_largest_block(monkeypatch):
    monkeypatch.setattr("facehal.models.cascade.progan.LARGEST", 16)
    with pytest.raises(ValueError, match="block 16 is the largest"):
        grow(ProGAN(16, base=1, cap=4))


def test_outputs(small, inputs):
    """The picture of its size alone, face pixels kept, from inputs as large or larger."""
    outputs = small(inputs, training=False)
    assert list(outputs) == ["8"]
    picture = np.asarray(outputs["8"])
    assert picture.shape == (8, 8, 8, 3) and picture.dtype == np.float32
    faces = np.asarray(pyramid(inputs["masked_faces"], (8,))[8])
    masks = np.asarray(pyramid(inputs["masks"], (8,))[8])
    inside = masks[..., 0] == 1
    assert inside.any() and not inside.all()
    np.testing.assert_array_equal(picture[inside], faces[inside])
    np.testing.assert_array_equal(
        picture, np.asarray(small({"masked_faces": faces, "masks": masks}, training=False)["8"])
    )


def test_saved_and_loaded(small, inputs, tmp_path):
    model = grow(small)
    model.save(tmp_path / "p.keras")
    loaded = keras.models.load_model(tmp_path / "p.keras")
    assert isinstance(loaded, ProGAN) and loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(
        loaded.predict_on_batch(inputs)["16"], model.predict_on_batch(inputs)["16"]
    )


def test_folded(inputs):
    model = grow(ProGAN(8, base=2, cap=16))
    random = np.random.default_rng(0)
    for variable in model.variables:  # factors, offsets and statistics as training leaves them
        if "norm" in variable.path:
            variable.assign(random.uniform(0.5, 1.5, variable.shape).astype("float32"))
    folded = fold(model)
    assert isinstance(folded, ProGAN) and folded.normalization == "none"
    assert not any("moving" in variable.path for variable in folded.variables)
    before, after = model(inputs, training=False), folded(inputs, training=False)
    assert list(before) == list(after) == ["16"]
    np.testing.assert_allclose(after["16"], before["16"], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def previous() -> ProGAN:
    keras.utils.set_random_seed(1)
    return ProGAN(8, base=2, cap=16, name="progan")


@pytest.fixture(scope="module")
def stage(tiny_config, previous) -> Trainer:
    keras.utils.set_random_seed(0)
    return Trainer(ProGANTask(tiny_config).build(1, previous, 0))


def test_the_next_stage_trains_every_weight(stage, previous, eight):
    """One step of the new stage: its optimizer knows every variable, inner and outer, and moves
    each by its rate (Adam's first step; 2e-3 and 4e-3). The smaller block is not touched."""
    inner = by_layer(previous)
    for name, values in by_layer(stage.system.model).items():
        if values and name not in OUTER and name in inner:
            assert all(np.array_equal(a, b) for a, b in zip(values, inner[name], strict=True))
    (discriminator,) = stage.system.discriminators
    assert isinstance(discriminator, Discriminator) and discriminator.resolution == 16
    (phase,) = stage.system.phases
    for update, network in zip(phase.updates, stage.system.networks, strict=True):
        assert len(update.variables) == len(network.trainable_variables)
        assert int(update.optimizer.iterations.numpy()) == 0

    networks = [(stage.system.model, 2e-3), (discriminator, 4e-3)]
    before = [[v.numpy() for v in network.trainable_variables] for network, _ in networks]
    found = stage.fit([eight.batch(0)])
    assert sorted(found) == sorted(
        f"16/{name}"
        for name in (
            *("pixel", "adversarial", "total_variation", "generator"),
            *("discriminator", "real_probability", "fake_probability"),
        )
    )
    for values, (network, rate) in zip(before, networks, strict=True):
        for value, variable in zip(values, network.trainable_variables, strict=True):
            moved = float(np.abs(variable.numpy() - value).max())
            assert moved == pytest.approx(rate, rel=0.03), variable.path
    for name, values in by_layer(previous).items():
        assert all(np.array_equal(a, b) for a, b in zip(values, inner[name], strict=True))


def test_it_learns(stage, eight):
    """Ten more steps on eight real faces lower the pixel loss."""
    losses = [stage.fit([eight.batch(n)])["16/pixel"] for n in range(1, 11)]
    assert losses[-1] < 0.97 * losses[0]


def test_a_stage_of_another_size(tiny_config, small):
    with pytest.raises(ValueError, match="stage 0 is block 8"):
        ProGANTask(tiny_config).build(0, small, 0)


def test_tensorflow_does_not_take_the_stages_for_retracing(tiny_config, eight):
    """Each block's function is traced once, which is as it should be and needs no warning."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a warning of TensorFlow's")
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    small = replace(tiny_config, network=replace(tiny_config.network, resolutions=(8,)))
    try:
        logger.warning("something else")
        for _ in range(7):
            Trainer(ProGANTask(small).build(0, None, 0)).fit([eight.batch(0)])
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in records] == ["something else"]
    assert not logger.filters
