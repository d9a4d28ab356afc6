"""Smoothed landmarks, against what is known of the curves they were made from."""

import numpy as np
import pytest

from facehal.faces.smoothing import CUTOFF, GAP, HOLD, MARGIN, find_tracks, smooth

RATE = 30.0


def shape() -> np.ndarray:
    """Sixty-eight points whose eyes are 10 apart."""
    points = np.random.default_rng(0).uniform(-10, 10, (68, 2))
    points[36:42], points[42:48] = (-5, 0), (5, 0)
    return points


def face(places: np.ndarray) -> np.ndarray:
    """(n, 68, 2): that shape with its middle at (n, 2) places."""
    return (shape() + places[:, None]).astype(np.float32)


def smoothed(points: np.ndarray) -> np.ndarray:
    return smooth(points, find_tracks(points, RATE), RATE)


def sine(frequency: float, count: int = 300) -> np.ndarray:
    seconds = np.arange(count) / RATE
    return np.stack([4 * np.sin(2 * np.pi * frequency * seconds), 0 * seconds], 1)


def test_a_straight_way_stays():
    points = face(np.stack([np.arange(40), -2 * np.arange(40)], 1) / 3)
    np.testing.assert_allclose(smoothed(points), points, atol=1e-4)


@pytest.mark.parametrize(("frequency", "left"), [(0.5, 1.0), (CUTOFF, 0.5), (9.0, 0.0)])
def test_slow_movements_stay_and_fast_ones_go_without_lag(frequency, left):
    points = face(sine(frequency))
    middle = slice(60, -60)
    moved = smoothed(points)[middle].mean(1)[:, 0] - shape().mean(0)[0]
    wanted = sine(frequency)[middle, 0]
    # The part that is in step with the movement, and what else there is.
    share = (moved * wanted).sum() / (wanted**2).sum()
    assert share == pytest.approx(left, abs=0.03)
    assert np.abs(moved - share * wanted).max() < 0.02


def test_jitter_becomes_less():
    points = face(np.zeros((200, 2)))
    noise = np.random.default_rng(1).normal(0, 0.3, points.shape).astype(np.float32)
    left = smoothed(points + noise) - points
    assert left.std() < 0.5 * noise.std()
    assert np.diff(left, axis=0).std() < 0.2 * np.diff(noise, axis=0).std()


def test_a_short_gap_is_bridged_and_a_long_one_is_not():
    points = face(np.stack([np.arange(100), np.zeros(100)], 1) / 4)
    whole, short, hold = points.copy(), round(GAP * RATE), round(HOLD * RATE)
    points[20 : 20 + short] = np.nan
    points[60 : 60 + short + 1] = np.nan
    tracks = find_tracks(points, RATE)
    assert (tracks[: 60 + hold] == 0).all()
    assert (tracks[60 + hold : 60 + short + 1 - hold] == -1).all()
    assert (tracks[60 + short + 1 - hold :] == 1).all()
    result = smooth(points, tracks, RATE)
    assert np.isnan(result[tracks < 0]).all()
    np.testing.assert_allclose(result[tracks >= 0], whole[tracks >= 0], atol=1e-3)


def test_another_place_is_another_face():
    """Nothing of one side of a cut reaches the other."""
    places = np.repeat([[0.0, 0.0], [40.0, 5.0]], 30, axis=0)
    points = face(places)
    tracks = find_tracks(points, RATE)
    assert tracks.tolist() == [0] * 30 + [1] * 30
    np.testing.assert_allclose(smooth(points, tracks, RATE), points, atol=1e-4)


def test_no_face_and_a_single_one():
    points = np.full((20, 68, 2), np.nan, np.float32)
    assert (find_tracks(points, RATE) == -1).all() and np.isnan(smoothed(points)).all()
    points[10] = shape()
    tracks, hold = find_tracks(points, RATE), round(HOLD * RATE)
    assert np.flatnonzero(tracks == 0).tolist() == list(range(10 - hold, 11 + hold))
    np.testing.assert_allclose(smoothed(points)[tracks == 0], points[[10] * (2 * hold + 1)])
    assert find_tracks(points[:0], RATE).shape == (0,)


def test_frames_beyond_the_margin_play_no_part():
    random = np.random.default_rng(2)
    points = face(sine(0.7, 400)) + random.normal(0, 0.2, (400, 68, 2)).astype(np.float32)
    points[random.choice(400, 60, replace=False)] = np.nan
    whole, margin = smoothed(points), round(MARGIN * RATE)
    part = smoothed(points[150 - margin : 200 + margin])[margin:-margin]
    np.testing.assert_allclose(part, whole[150:200], atol=1e-5)
