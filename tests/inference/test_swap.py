"""Another face in a photo: what changes, what does not, and what is refused."""

import cv2
import keras
import numpy as np
import pytest

from facehal.data.samples import portraits
from facehal.errors import FacehalError, NoFaceError
from facehal.faces.landmarks import LandmarkDetector
from facehal.images import write_png
from facehal.inference.swap import Swapper, load_deepfake
from facehal.models.cascade import Cascade
from facehal.models.deepfake import Deepfake
from facehal.models.saving import save_model

SIZES = {"crop": 64, "width": 4, "dense": 12, "targets": 1}


@pytest.fixture(scope="module")
def model() -> Deepfake:
    keras.utils.set_random_seed(0)
    made = Deepfake(**SIZES)
    for weight in made.trainable_variables:
        weight.assign(2 * weight)
    return made


@pytest.fixture(scope="module")
def photos() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The two portraits and their landmarks."""
    pytest.importorskip("skimage.data", reason="needs scikit-image (extra: portraits)")
    detector = LandmarkDetector()
    return {name: (one, detector.detect(one)[0].points) for name, one in portraits().items()}


def changed(photo: np.ndarray, picture: np.ndarray) -> np.ndarray:
    assert picture.shape == photo.shape and picture.dtype == np.uint8
    return (photo != picture).any(axis=-1)


def hull(photo: np.ndarray, points: np.ndarray) -> np.ndarray:
    mask = np.zeros(photo.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
    return mask.astype(bool)


def test_a_decoder_that_changes_nothing(model, photos, monkeypatch):
    """Crop, colours and the way back fit together: the photo stays, but for what 64 pixels lose.

    Achieved: 6 levels in the mean of the changed pixels; pupils and lashes lose most.
    """
    monkeypatch.setattr(model, "reconstruct", lambda crops, role: crops)
    for photo, points in photos.values():
        found = Swapper(model).swap_face(photo, points)
        different = changed(photo, found.picture)
        apart = np.abs(found.picture.astype(int) - photo)[different]
        print(apart.mean(), apart.max())
        assert 0.01 < different.mean() < 0.2 and apart.mean() < 9
        np.testing.assert_allclose(found.made, found.crop, atol=1e-6)


def test_the_rectangle_alone_changes(model, photos):
    photo, points = photos["Grace_Hopper"]
    found = Swapper(model).swap_face(photo, points)
    different = changed(photo, found.picture)
    core = hull(photo, points[17:])
    assert different[core].mean() > 0.95
    assert different.sum() < 2 * core.sum()
    rows, columns = np.nonzero(different)
    box = points.max(0) - points.min(0)
    assert np.ptp(columns) < 1.2 * box[0] and np.ptp(rows) < 1.2 * box[1]
    means = found.made.mean((0, 1)), found.crop.mean((0, 1))
    np.testing.assert_allclose(*means, atol=0.02)  # the crop's colours, but for clipping
    assert found.before.shape == found.after.shape == (128, 128, 3)
    assert (found.before != found.after).any()


def test_a_hull_lies_inside_the_landmarks(model, photos):
    photo, points = photos["Eileen_Collins"]
    different = changed(photo, Swapper(model, mask="hull").swap_face(photo, points).picture)
    grown = cv2.dilate(hull(photo, points).astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert different.any() and not different[~grown].any()
    whole = changed(photo, Swapper(model).swap_face(photo, points).picture)
    assert whole[~grown].any() and different.sum() < whole.sum()


def test_either_identity(model, photos):
    photo, points = photos["Eileen_Collins"]
    ways = [Swapper(model, role).swap_face(photo, points).made for role in ("source", "target")]
    np.testing.assert_array_equal(ways[0], Swapper(model).swap_face(photo, points).made)
    assert np.abs(ways[0] - ways[1]).mean() > 0.005
    for options, words in (
        ({"identity": "bush"}, "identity bush: there are source and target"),
        ({"mask": "oval"}, "mask oval: there are rectangle and hull"),
    ):
        with pytest.raises(FacehalError, match=words):
            Swapper(model, **options)


def test_a_face_at_the_photos_edge(model, photos):
    """A square that is cut by the border, and one that lies half outside."""
    photo, points = photos["Eileen_Collins"]
    middle = np.rint(points.mean(0)).astype(int)
    for cut in (photo[:, middle[0] :], photo[: middle[1]]):
        moved = points - ([middle[0], 0] if cut.shape[0] == 512 else [0, 0])
        picture = Swapper(model).swap_face(np.ascontiguousarray(cut), moved).picture
        assert changed(cut, picture).any()


def test_files(model, photos, tmp_path):
    write_png(tmp_path / "grey.png", np.full((80, 80, 3), 128, np.uint8))
    swapper = Swapper(model)
    with pytest.raises(NoFaceError, match=r"grey\.png: no face found"):
        swapper.swap(tmp_path / "grey.png")
    save_model(model, tmp_path / "swap.keras")
    again = load_deepfake(tmp_path / "swap.keras")
    photo, points = photos["Grace_Hopper"]
    np.testing.assert_array_equal(
        Swapper(again).swap_face(photo, points).picture, swapper.swap_face(photo, points).picture
    )
    save_model(Cascade(2, 4, resolutions=(8,)), tmp_path / "cascade.keras")
    with pytest.raises(FacehalError, match="holds a Cascade; a face is swapped by a model of"):
        load_deepfake(tmp_path / "cascade.keras")
    with pytest.raises(FacehalError, match="neither a model's file"):
        load_deepfake(tmp_path / "none.keras")
