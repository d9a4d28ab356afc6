from pathlib import Path

import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features import vgg_face
from facehal.features.descriptors import DESCRIPTORS
from facehal.features.dlib_resnet import DlibResNet, aligned_chip
from facehal.features.resnet50 import ResNet50
from facehal.metrics import MetricError
from facehal.metrics import match_score as match_score_module
from facehal.metrics.match_score import describe, match_score, pearson
from facehal.weights import store
from facehal.weights.converters import resnet50 as published


def test_pearson_equal_to_numpy() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 20, 256)).astype(np.float32) + 3
    theirs = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]
    # Achieved: 2e-16.
    np.testing.assert_allclose(pearson(a, b), theirs, atol=1e-12)


def test_pearson_feels_neither_scale_nor_offset() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 20, 128))
    np.testing.assert_allclose(pearson(a, b), pearson(3 * a + 7, 0.1 * b - 2), atol=1e-12)
    np.testing.assert_allclose(pearson(a, -a), -1, rtol=1e-12)
    assert (np.abs(pearson(a, a)) <= 1).all()


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (np.ones((2, 4)), np.eye(2, 4), "descriptor 0 is constant"),
        (np.eye(2, 4), np.full((2, 4), 0.1), "descriptor 0 is constant"),
        (np.eye(2, 4), np.array([[1, 2, 3, 4], [1, np.nan, 3, 4]]), "descriptor 1 has values"),
        (np.eye(2, 4), np.eye(3, 4), "two of one shape"),
        (np.ones(4), np.ones(4), "two of one shape"),
    ],
)
def test_impossible_descriptors_are_one_line(a, b, reason: str) -> None:
    with pytest.raises(MetricError, match=reason) as caught:
        pearson(a, b)
    assert "\n" not in str(caught.value)


def test_dlib_descriptors_are_the_networks_own(faces: np.ndarray) -> None:
    described = describe(faces, "dlib_resnet")
    assert described.shape == (11, 128) and described.dtype == np.float32
    network = DlibResNet()
    direct = np.asarray(network(aligned_chip(faces), training=False))
    np.testing.assert_allclose(described, direct, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_batch_size_changes_nothing(batch_size: int, faces: np.ndarray) -> None:
    # Achieved: 0 on TensorFlow, 9e-8 on JAX.
    np.testing.assert_allclose(
        describe(faces, "dlib_resnet", batch_size), describe(faces, "dlib_resnet"), atol=1e-6
    )


def test_equal_faces_score_one_and_the_rest_symmetric(faces: np.ndarray) -> None:
    np.testing.assert_allclose(match_score(faces, faces, "dlib_resnet"), 1, atol=1e-12)
    other = faces[:, :, ::-1]
    there = match_score(faces, other, "dlib_resnet")
    back = match_score(other, faces, "dlib_resnet")
    assert there.shape == (11,) and there.dtype == np.float64
    np.testing.assert_allclose(there, back, atol=1e-12)
    assert ((there > 0) & (there < 1)).all()


def test_the_better_likeness_scores_higher(faces: np.ndarray) -> None:
    hidden = faces.copy()
    hidden[:, 20:44, 20:44] = 0.5
    slight = match_score(faces, np.clip(faces * 0.9, 0, 1), "dlib_resnet")
    assert (slight > match_score(faces, hidden, "dlib_resnet")).all()


def test_impossible_input_is_one_line(faces: np.ndarray) -> None:
    with pytest.raises(MetricError, match="pairs of one shape"):
        match_score(faces, faces[:3], "dlib_resnet")
    with pytest.raises(MetricError, match="descriptor must be one of resnet50_256d, dlib_resnet"):
        match_score(faces, faces, "dlib")
    with pytest.raises(MetricError, match="square, not 32x64"):
        describe(faces[:, :32], "dlib_resnet")
    with pytest.raises(MetricError, match="not uint8"):
        describe((faces * 255).astype(np.uint8), "dlib_resnet")


def test_missing_weights_are_never_replaced_by_another_descriptor(
    faces, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    for descriptor, row in DESCRIPTORS.items():
        if descriptor != "dlib_resnet":  # comes with pip
            with pytest.raises(WeightsError, match=f"facehal weights get {row.weights}"):
                describe(faces, descriptor)


def test_the_papers_descriptor(faces, install) -> None:
    install("resnet50_256d", published.network_shapes())
    a, b = faces[:3], faces[8:]
    network = ResNet50()
    theirs = [np.asarray(network(x, training=False)) for x in (a, b)]
    assert theirs[0].shape == (3, 256)
    np.testing.assert_allclose(describe(a), theirs[0], rtol=1e-4, atol=1e-5 * theirs[0].max())
    np.testing.assert_allclose(match_score(a, b), pearson(*theirs), atol=1e-5)
    np.testing.assert_allclose(match_score(a, b, batch_size=2), match_score(a, b), atol=1e-5)


def test_vgg_faces_descriptors(faces, monkeypatch) -> None:
    """Each is its layer's; the network is a slim one, for the real one holds half a gigabyte."""
    slim = vgg_face.VggFace(None, channels=(2, 3, 4, 5, 6), features=7)
    monkeypatch.setattr(vgg_face, "VggFace", lambda: slim)
    monkeypatch.setattr(store, "path", lambda name: Path(name))
    match_score_module._network.cache_clear()
    layers = {"vgg_face": ["fc7"], "vgg_face_fc6": ["fc6"]}
    for descriptor, names in layers.items():
        expected = np.asarray(vgg_face.taps(slim, names)(faces[:3], training=False))
        np.testing.assert_allclose(describe(faces[:3], descriptor), expected, atol=1e-6)
    hypercolumn = describe(faces[:3], "vgg_face_hypercolumn")
    assert hypercolumn.shape == (3, 2 + 3 + 4 + 5 + 6)
    maps = vgg_face.taps(slim, vgg_face.HYPERCOLUMN)(faces[:3], training=False)
    expected = np.concatenate([np.asarray(m).mean((1, 2)) for m in maps], axis=1)
    np.testing.assert_allclose(hypercolumn, expected, rtol=1e-5, atol=1e-6)
    match_score_module._network.cache_clear()
