import importlib.util

import cv2
import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.faces import landmarks
from facehal.faces.alignment import eye_centres, eye_distance
from facehal.faces.landmarks import LandmarkDetector
from facehal.images import resize
from facehal.weights import store


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("dlib", reason="needs dlib")
    return LandmarkDetector()


@pytest.fixture(scope="module")
def face(detector, astronaut):
    (found,) = detector.detect(astronaut)
    return found


def test_finds_the_astronaut(face):
    left, top, right, bottom = face.box
    assert (left, top, right, bottom) == pytest.approx((179, 83, 266, 170), abs=3)
    assert all(isinstance(value, int) for value in face.box)
    assert face.points.shape == (68, 2) and face.points.dtype == np.float32
    assert face.score > 1
    # As seen by eye in the picture.
    np.testing.assert_allclose(eye_centres(face.points), [[203, 102], [247, 104]], atol=2)


def test_points_are_finer_than_dlibs_whole_pixels(face, astronaut):
    """dlib alone rounds to pixels; ours agree with it within its rounding and some."""
    import dlib

    predict = dlib.shape_predictor(str(store.path("dlib_landmarks")))
    parts = predict(astronaut, dlib.rectangle(*face.box)).parts()
    plain = np.array([(part.x, part.y) for part in parts])
    assert np.abs(face.points - plain).mean() < 1
    assert np.abs(face.points - np.rint(face.points)).max() > 0.2


@pytest.mark.parametrize("scale", [0.5, 1.5, 5.0])
def test_points_follow_the_pictures_scale(detector, face, astronaut, scale):
    """Half size needs the second search; 2560 pixels are shrunk for the first."""
    size = round(512 * scale)
    (other,) = detector.detect(resize(astronaut, size))
    back = (other.points + 0.5) / scale - 0.5
    assert np.abs(back - face.points).mean() < 0.03 * eye_distance(face.points)


def test_largest_first(detector, astronaut):
    photo = np.full((512, 800, 3), 120, np.uint8)
    photo[:360, :360] = resize(astronaut, 360)
    photo[:300, 400:] = astronaut[:300, 60:460]
    faces = detector.detect(photo)
    assert len(faces) == 2
    large = 43.4
    small = large * 360 / 512
    assert [eye_distance(f.points) for f in faces] == pytest.approx([large, small], rel=0.1)


def test_a_face_cut_by_the_border_counts_as_smaller(detector, astronaut):
    photo = np.full((300, 500, 3), 120, np.uint8)
    photo[:300, :150] = astronaut[:300, 195:345]
    photo[:300, 200:] = astronaut[:300, 60:360]
    faces = detector.detect(photo)
    assert len(faces) == 2
    assert faces[0].box[0] > 200 and faces[1].box[0] < 0


@pytest.mark.parametrize("value", [0, 128, 255])
def test_no_face(detector, value):
    assert detector.detect(np.full((200, 300, 3), value, np.uint8)) == []
    assert detector.detect(np.full((1, 3, 3), value, np.uint8)) == []


def test_face_at_the_photos_border(detector, astronaut):
    (found,) = detector.detect(np.ascontiguousarray(astronaut[75:200, 165:280]))
    assert found.points.shape == (68, 2) and np.isfinite(found.points).all()


def test_grey_photo(detector, face, astronaut):
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, axis=2)
    (found,) = detector.detect(grey)
    assert np.abs(found.points - face.points).mean() < 1.5


@pytest.mark.parametrize(
    "wrong", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9, 4), np.uint8)]
)
def test_refuses_other_arrays(detector, wrong):
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(wrong)


def test_missing_model_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install face_recognition_models"):
        landmarks.LandmarkDetector()
