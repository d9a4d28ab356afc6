import cv2
import numpy as np
import pytest

from facehal.data.augmentation import NUMBERS, augmented, changed
from facehal.errors import ConfigError

N, S = 40, 128
# The columns of the random numbers.
GAMMA, BRIGHTNESS, CONTRAST, SATURATION = range(4)
DEGREES, SCALE, ACROSS, DOWN, MOVES, BLURS, PACKS, SIGMA, QUALITY = range(7, 16)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures, and ellipses for faces."""
    small = rng().integers(20, 236, (N, 8, 8, 3), dtype=np.uint8)
    faces = np.stack([cv2.resize(one, (S, S), interpolation=cv2.INTER_LINEAR) for one in small])
    masks = np.zeros((N, S, S), np.uint8)
    for index, mask in enumerate(masks):
        cv2.ellipse(mask, (60 + index % 9, 70), (28, 36), 3 * index, 0, 360, 1, -1)
    return faces, masks


@pytest.fixture
def still() -> np.ndarray:
    """Random numbers that change nothing."""
    numbers = np.full((N, NUMBERS), 0.5)
    numbers[:, [MOVES, BLURS, PACKS]] = 1
    return numbers


def test_what_it_keeps(arrays):
    before = arrays[0].copy(), arrays[1].copy()
    faces, masks = augmented(*arrays, rng(), 1.0)
    assert faces.dtype == masks.dtype == np.uint8
    assert faces.shape == (N, S, S, 3) and masks.shape == (N, S, S)
    assert set(np.unique(masks)) == {0, 1} and masks.any((1, 2)).all()
    assert np.array_equal(before[0], arrays[0]) and np.array_equal(before[1], arrays[1])
    assert not np.shares_memory(faces, arrays[0]) and not np.shares_memory(masks, arrays[1])


def test_a_function_of_the_generator(arrays):
    one, again, other = (augmented(*arrays, rng(seed), 0.7) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_each_face_by_its_own_numbers(arrays):
    faces, masks = arrays
    numbers = rng(1).random((N, NUMBERS))
    whole = changed(faces, masks, numbers)
    part = changed(faces[7:19], masks[7:19], numbers[7:19])
    assert np.array_equal(whole[0][7:19], part[0]) and np.array_equal(whole[1][7:19], part[1])
    assert np.array_equal(augmented(faces, masks, rng(1))[0], whole[0])
    empty = changed(faces[:0], masks[:0], numbers[:0])
    assert empty[0].shape == (0, S, S, 3) and empty[1].shape == (0, S, S)


def test_strength_0_is_the_same(arrays, still):
    faces, masks = augmented(*arrays, rng(), 0)
    assert np.array_equal(faces, arrays[0]) and np.array_equal(masks, arrays[1])
    faces, masks = changed(*arrays, still)
    assert np.array_equal(faces, arrays[0]) and np.array_equal(masks, arrays[1])


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_impossible_strengths(arrays, strength):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        augmented(*arrays, rng(), strength)


def test_masks_follow_the_picture(arrays, still):
    """The mask's pixels are painted green (achieved: the least overlap is 0.993)."""
    _, masks = arrays
    faces = masks[..., None] * np.array([0, 255, 0], np.uint8)
    still[:, DEGREES : DOWN + 1] = rng(2).choice([0.0, 0.25, 0.75, 1.0], (N, 4))
    still[:, MOVES] = 0
    faces, moved = changed(faces, masks, still)
    green = faces[..., 1] > 127
    overlap = (green & (moved == 1)).sum((1, 2)) / (green | (moved == 1)).sum((1, 2))
    print(f"least overlap {overlap.min():.3f}")
    assert overlap.min() > 0.95
    unmoved = (moved & masks).sum((1, 2)) / (moved | masks).sum((1, 2))
    assert unmoved.max() < 0.97


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask)[:, ::-1].mean(axis=0)


def test_how_far_it_moves(arrays, still):
    faces, masks = arrays
    still[:, MOVES], still[:, ACROSS], still[:, DOWN] = 0, 1, 0
    for strength in (0.5, 1.0):
        _, moved = changed(faces, masks, still, strength)
        for before, after in zip(masks, moved, strict=True):
            far = 0.03 * S * strength
            np.testing.assert_allclose(centre(after) - centre(before), (far, -far), atol=0.6)
    still[:, ACROSS : DOWN + 1], still[:, SCALE] = 0.5, 1
    _, moved = changed(faces, masks, still)
    grown = moved.sum((1, 2)) / masks.sum((1, 2))
    np.testing.assert_allclose(grown, 1.05**2, atol=0.02)
    share = [np.mean((augmented(*arrays, rng(i))[1] != masks).any((1, 2))) for i in range(10)]
    assert 0.4 < np.mean(share) < 0.6


def test_a_face_of_one_pixel_stays(arrays, still):
    masks = np.zeros((N, S, S), np.uint8)
    masks[:, 0, 0] = 1
    still[:, MOVES], still[:, ACROSS : DOWN + 1] = 0, 0
    faces, moved = changed(arrays[0], masks, still)
    assert np.array_equal(moved, masks) and np.array_equal(faces, arrays[0])


def test_light(arrays, still):
    faces, masks = arrays
    grey = np.array([0.299, 0.587, 0.114])

    def with_numbers(**values: float) -> np.ndarray:
        numbers = still.copy()
        for name, value in values.items():
            numbers[:, globals()[name]] = value
        found, same = changed(faces, masks, numbers)
        assert np.array_equal(same, masks)
        return found.astype(float)

    start = faces.astype(float)
    inside = np.abs(start - 127.5).max(-1) < 80  # where nothing is cut off
    np.testing.assert_allclose(with_numbers(BRIGHTNESS=1)[inside], 1.2 * start[inside], atol=0.51)
    np.testing.assert_allclose(with_numbers(BRIGHTNESS=0)[inside], 0.8 * start[inside], atol=0.51)
    flat, dull = with_numbers(CONTRAST=0), with_numbers(SATURATION=0)
    assert np.allclose((flat @ grey).mean((1, 2)), (start @ grey).mean((1, 2)), atol=0.6)
    assert np.allclose(flat.std((1, 2)), 0.8 * start.std((1, 2)), atol=0.6)
    assert np.allclose(dull @ grey, start @ grey, atol=1)
    assert np.allclose(np.ptp(dull, axis=-1), 0.8 * np.ptp(start, axis=-1), atol=1.3)
    gamma = with_numbers(GAMMA=1)
    np.testing.assert_allclose(gamma, 255 * (start / 255) ** 1.15, atol=0.51)


def test_values_are_plausible(arrays):
    """Lighter and darker faces keep the mean of the set; none is black or white."""
    faces = np.concatenate([augmented(*arrays, rng(seed))[0] for seed in range(8)])
    means = faces.mean((1, 2, 3))
    assert abs(means.mean() - arrays[0].mean()) < 6 and 8 < means.std() < 30
    assert np.mean((faces == 0) | (faces == 255)) < 0.05
    weak = augmented(*arrays, rng(), 0.1)[0]
    assert np.abs(weak.astype(int) - arrays[0]).mean() < 5


@pytest.mark.parametrize("column", [BLURS, PACKS])
def test_blur_and_compression(column, still):
    noise = rng().integers(0, 255, (N, 64, 64, 3), dtype=np.uint8)
    masks = np.ones((N, 64, 64), np.uint8)
    still[:, column], still[:, SIGMA], still[:, QUALITY] = 0, 0.999, 0
    faces, same = changed(noise, masks, still)
    assert np.array_equal(same, masks)
    apart = np.abs(faces.astype(int) - noise).mean((1, 2, 3))
    assert apart.min() > 2 and np.allclose(faces.mean(), noise.mean(), atol=2)
    shares = [np.mean(rng(i).random((N, NUMBERS))[:, column] < 0.1) for i in range(20)]
    assert 0.07 < np.mean(shares) < 0.13
    still[:, SIGMA] = 0  # no blur at all
    if column == BLURS:
        assert np.array_equal(changed(noise, masks, still)[0], noise)
