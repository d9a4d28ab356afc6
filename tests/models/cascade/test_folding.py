"""Folding batch normalisation changes the layers, not the pictures."""

import keras
import numpy as np
import pytest

from facehal.models.cascade.cascade import Cascade
from facehal.models.cascade.folding import fold

SIDE = 32


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    masks = (random.random((4, SIDE, SIDE, 1)) < 0.5).astype("float32")
    faces = random.random((4, SIDE, SIDE, 3), dtype="float32")
    return {"masked_faces": faces * masks, "masks": masks}


@pytest.fixture(scope="module")
def trained(inputs) -> Cascade:
    """A small cascade whose factors, offsets and statistics are what training makes of them."""
    keras.utils.set_random_seed(0)
    cascade = Cascade(base=2, cap=16, resolutions=(8, 16, SIDE))
    random = np.random.default_rng(0)
    for layer in cascade._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape).astype("float32"))
            layer.beta.assign(random.normal(0, 0.3, layer.beta.shape).astype("float32"))
            layer.momentum = 0.0  # the next pass leaves its own statistics
    cascade(inputs, training=True)
    statistics = [v.numpy() for v in cascade.non_trainable_variables]
    assert any((value != 0).any() and (value != 1).any() for value in statistics)
    return cascade


def test_same_pictures(trained, inputs):
    before, after = trained(inputs, training=False), fold(trained)(inputs, training=False)
    assert list(before) == list(after)
    for size in before:
        np.testing.assert_allclose(after[size], before[size], rtol=1e-4, atol=1e-6)


def test_every_channel_of_the_pixel_shuffle_is_scaled_by_its_own_factor(trained):
    """Factors that are interleaved in place of tiled would only show in the decoder."""
    generator, folded = trained.generators[0], fold(trained).generators[0]
    x = [np.random.default_rng(2).random((1, 8, 8, 3), dtype="float32")]
    ours = keras.Model(generator.inputs, generator.get_layer("up_8_norm").output)
    theirs = keras.Model(folded.inputs, folded.get_layer("shuffle_8").output)
    np.testing.assert_allclose(theirs(x), ours(x, training=False), rtol=1e-4, atol=1e-5)


def test_no_normalisation_left_and_original_untouched(trained, inputs):
    before = trained(inputs, training=False)
    folded = fold(trained)
    assert folded.normalization == "none" and trained.normalization == "batch"
    assert not any("moving" in variable.path for variable in folded.variables)
    for size, picture in trained(inputs, training=False).items():
        np.testing.assert_array_equal(picture, before[size])


def test_folded_cascade_saves_and_loads(trained, inputs, tmp_path):
    folded = fold(trained)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    for size, picture in folded(inputs, training=False).items():
        np.testing.assert_allclose(loaded(inputs, training=False)[size], picture, atol=1e-6)


def test_without_normalisation_nothing_happens(trained):
    folded = fold(trained)
    assert fold(folded) is folded
