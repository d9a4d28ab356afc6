"""The tracker on clips of the portraits, whose movements are known."""

import cv2
import numpy as np
import pytest

from facehal.data.samples import clip, clip_matrix
from facehal.faces.alignment import eye_centres, eye_distance, transform
from facehal.faces.landmarks import LandmarkDetector
from facehal.faces.tracking import EVERYWHERE, FaceTracker, box_of
from facehal.images import resize

pytest.importorskip("skimage", reason="needs scikit-image (extra: portraits)")
pytest.importorskip("matplotlib", reason="needs matplotlib (extra: portraits)")


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("dlib", reason="needs dlib")
    return LandmarkDetector()


def test_landmarks_move_with_the_portrait(detector):
    """Back in the portrait's pixels they stand still, and more so than every frame's own search."""
    name, frames = "Grace_Hopper", list(clip("Grace_Hopper", 12))
    tracker = FaceTracker(detector)

    def spread(found: list[np.ndarray]) -> float:
        back = [
            transform(points, cv2.invertAffineTransform(clip_matrix(name, index)))
            for index, points in enumerate(found)
        ]
        return float(np.std(back, axis=0).mean() / eye_distance(back[0]))

    followed = spread([tracker.next(frame) for frame in frames])
    assert followed < 0.03
    assert followed < spread([detector.detect(frame)[0].points for frame in frames])


def test_the_box_of_landmarks_is_nearly_the_detectors(detector, astronaut):
    (face,) = detector.detect(astronaut)
    side = face.box[2] - face.box[0]
    np.testing.assert_allclose(box_of(face.points), face.box, atol=0.12 * side)


def test_a_larger_face_beside_it_does_not_take_its_place(detector, astronaut):
    small = astronaut[:300, 60:460]

    def frame(left: float, right: float) -> np.ndarray:
        photo = np.full((400, 900, 3), 120, np.uint8)
        for scale, at in ((left, 0), (right, 450)):
            shown = resize(small, (round(400 * scale), round(300 * scale)))
            photo[: shown.shape[0], at : at + shown.shape[1]] = shown
        return photo

    tracker = FaceTracker(detector)
    for left, right in ((1.0, 0.8), (0.98, 1.0), (0.96, 1.1)):
        points = tracker.next(frame(left, right))
        assert points is not None and eye_centres(points)[:, 0].max() < 400
    larger = detector.detect(frame(0.96, 1.1))[0]
    assert eye_centres(larger.points)[:, 0].min() > 450


def test_a_lost_face_is_found_again(detector):
    frames, nothing = list(clip("Eileen_Collins", 2)), np.full((240, 320, 3), 90, np.uint8)
    tracker = FaceTracker(detector)
    first = tracker.next(frames[0])
    assert first is not None
    assert [tracker.next(nothing) for _ in range(3)] == [None] * 3 and tracker.lost == 3
    assert tracker.next(frames[1]) is not None and tracker.lost == 0
    # Elsewhere, where only a search of the whole frame finds it; with the state of another process.
    apart = np.full((240, 900, 3), 90, np.uint8)
    apart[:, 580:] = frames[0]
    again = FaceTracker(detector, first, lost=EVERYWHERE - 1)
    assert again.next(apart) is None
    points = again.next(apart)
    assert points is not None
    np.testing.assert_allclose(points - (580, 0), first, atol=1)
