import csv
import io
import zipfile
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from facehal.features import dlib_resnet
from facehal.features.dlib_resnet import CHIP, CROP, DlibResNet, aligned_chip
from facehal.weights import store

dlib = pytest.importorskip("dlib", reason="needs dlib")


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return DlibResNet()


@pytest.fixture(scope="module")
def reference():
    return dlib.face_recognition_model_v1(str(store.path("dlib_resnet")))


@pytest.fixture(scope="module")
def predictor():
    return dlib.shape_predictor(str(store.path("dlib_landmarks")))


@pytest.fixture(scope="module")
def portraits(astronaut) -> list[np.ndarray]:
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs matplotlib (extra: portraits)")
    hopper = cv2.imread(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    return [astronaut, np.ascontiguousarray(hopper[:, :, ::-1])]


@pytest.fixture(scope="module")
def press_photos(shared: Path) -> list[np.ndarray]:
    """One photo each of 40 people."""
    people: dict[str, str] = {}
    with zipfile.ZipFile(shared / "faces/lfw_dev.zip") as archive:
        table = io.TextIOWrapper(archive.open("manifest.csv"), "utf-8")
        for row in csv.DictReader(table):
            people.setdefault(row["subject"], row["file"])
        names = list(people.values())[::9][:40]
        coded = [np.frombuffer(archive.read(name), np.uint8) for name in names]
    return [np.ascontiguousarray(cv2.imdecode(c, cv2.IMREAD_COLOR)[:, :, ::-1]) for c in coded]


def _largest_difference(network, reference, predictor, photos: list[np.ndarray]) -> float:
    detector = dlib.get_frontal_face_detector()
    worst, compared = 0.0, 0
    for photo in photos:
        for box in detector(photo, 0)[:1]:
            chip = dlib.get_face_chip(photo, predictor(photo, box), CHIP, 0.25)
            theirs = np.array(reference.compute_face_descriptor(chip))
            ours = np.asarray(network(chip[None].astype(np.float32) / 255, training=False))[0]
            worst, compared = max(worst, float(np.abs(ours - theirs).max())), compared + 1
    assert compared >= 0.8 * len(photos)
    return worst


def test_equal_to_dlib_on_public_portraits(network, reference, predictor, portraits) -> None:
    # Measured: 3.6e-7 on TensorFlow, 3.0e-7 on JAX, of values up to 0.41.
    assert _largest_difference(network, reference, predictor, portraits) < 5e-6


def test_equal_to_dlib_on_press_photos(network, reference, predictor, press_photos) -> None:
    # Measured: 4.8e-7 on TensorFlow.
    assert _largest_difference(network, reference, predictor, press_photos[:20]) < 5e-6


def test_shapes_and_nothing_to_train(network) -> None:
    descriptors = network(np.zeros((3, CHIP, CHIP, 3), np.float32), training=False)
    assert tuple(descriptors.shape) == (3, dlib_resnet.SIZE)
    assert not network.trainable_variables


@pytest.mark.parametrize("size", [8, 64, 128, 300, 512])
def test_the_chip_is_the_stated_crop(size: int) -> None:
    # A picture whose red is its x and green its y, as fractions: bilinear resampling is exact on
    # it.
    centres = (np.arange(size) + 0.5) / size
    ramp = np.stack([*np.meshgrid(centres, centres), np.ones((size, size))], axis=-1)
    chip = np.asarray(aligned_chip(ramp[None].astype(np.float32)))[0]
    left, top, side = CROP
    inside = (np.arange(CHIP) + 0.5) / CHIP * side
    tolerance = 1e-6 if side * size < CHIP else 2e-3
    for seen, start in ((chip[75, :, 0], left), (chip[:, 75, 1], top)):
        # Beyond the centres of the outermost pixels the border goes on.
        expected = np.clip(start + inside, centres[0], centres[-1])
        np.testing.assert_allclose(seen, expected, atol=tolerance)
    np.testing.assert_allclose(chip[:, :, 2], 1, atol=1e-6)


def test_shrinking_averages() -> None:
    # A checkerboard of pixels, 4 of them to one of the chip's, must become grey.
    board = np.indices((838, 838)).sum(0) % 2
    chip = np.asarray(aligned_chip(np.repeat(board[None, :, :, None], 3, -1).astype(np.float32)))
    np.testing.assert_allclose(chip, 0.5, atol=0.02)


@pytest.mark.parametrize("shape", [(2, 64, 32, 3), (64, 64, 3), (2, 64, 64, 1)])
def test_faces_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="aligned faces are"):
        aligned_chip(np.zeros(shape, np.float32))


def test_our_aligned_face_is_the_same_person_to_dlib(
    network, reference, predictor, press_photos
) -> None:
    """dlib's descriptor of the photo against ours of our own aligned 128x128 face.

    Measured over 138 people (128 pixels): median 0.149, 95 % below 0.265, largest 0.355; other
    people: median 0.832, 5 % below 0.673. dlib's threshold is 0.6.
    """
    from facehal.faces.alignment import align
    from facehal.faces.landmarks import LandmarkDetector

    detector, box_finder = LandmarkDetector(), dlib.get_frontal_face_detector()
    theirs, faces = [], []
    for photo in press_photos:
        found, boxes = detector.detect(photo), box_finder(photo, 0)
        if len(found) == len(boxes) == 1:
            shape = predictor(photo, boxes[0])
            theirs.append(np.array(reference.compute_face_descriptor(photo, shape)))
            faces.append(align(photo, found[0].points)[0])
    assert len(faces) >= 30
    pictures = np.array(faces, np.float32) / 255
    ours = np.asarray(network(aligned_chip(pictures), training=False))
    distances = np.linalg.norm(np.array(theirs)[:, None] - ours[None], axis=-1)
    same = np.diag(distances)
    others = distances[~np.eye(len(faces), dtype=bool)]
    assert np.median(same) < 0.2
    assert same.max() < 0.6
    assert np.median(others) > 0.75
