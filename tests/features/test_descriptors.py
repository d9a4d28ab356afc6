"""The registry of descriptors: what it says of a network is what the network gives."""

import keras
import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features import resnet50, vgg_face
from facehal.features.descriptors import DESCRIPTORS
from facehal.weights.converters import vgg_face as published
from facehal.weights.table import ENTRIES

FACES = np.random.default_rng(0).uniform(0, 1, (2, 40, 40, 3)).astype(np.float32)


def test_names_and_weights_are_known() -> None:
    assert list(DESCRIPTORS) == [row.name for row in DESCRIPTORS.values()]
    assert {row.weights for row in DESCRIPTORS.values()} <= set(ENTRIES)


@pytest.mark.core
def test_sizes_are_those_of_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    dlib = DESCRIPTORS["dlib_resnet"].load()
    assert (dlib.name, dlib.size) == ("dlib_resnet", 128)
    made = resnet50.ResNet50(weights=None)
    monkeypatch.setattr(resnet50, "ResNet50", lambda: made)
    for describer in (dlib, DESCRIPTORS["resnet50_256d"].load()):
        described = describer(FACES)
        assert tuple(described.shape) == (2, describer.size)
        assert keras.backend.standardize_dtype(described.dtype) == "float32"
    # VGG-Face holds half a gigabyte: its sizes stand in the shapes of its arrays.
    assert published.SHAPES["fc7.bias"] == (DESCRIPTORS["vgg_face"].size,)
    assert published.SHAPES["fc6.bias"] == (DESCRIPTORS["vgg_face_fc6"].size,)
    maps = [published.SHAPES[f"{layer}.bias"][0] for layer in vgg_face.HYPERCOLUMN]
    assert sum(maps) == DESCRIPTORS["vgg_face_hypercolumn"].size


@pytest.mark.parametrize("name", [n for n in DESCRIPTORS if n != "dlib_resnet"])  # comes with pip
def test_missing_weights_say_how_to_get_them(name, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=f"facehal weights get {DESCRIPTORS[name].weights}"):
        DESCRIPTORS[name].load()
