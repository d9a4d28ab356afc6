"""Landmarks of a video without their jitter, and across frames where the face was not found.

The smoother is Whittaker's (1923; Eilers, "A perfect smoother", Analytical Chemistry, 2003): the
curve nearest to the measured values whose second differences are small. It looks at the frames
behind as well as at those before, so that nothing lags as it does with a causal filter (Kalman's,
the 1 € filter), and frames without a measurement are the ones of weight 0.
"""

import math

import numpy as np

CUTOFF = 3.0
"""In Hz: movements of this frequency keep half of their extent, slower ones nearly all."""

GAP = 0.5
"""In seconds: the longest time without a face that is bridged."""

HOLD = 0.15
"""In seconds: how much longer than it is seen a face is kept, before and behind."""

MARGIN = 2.0
"""In seconds: frames that are farther away than this have no part in a frame's result."""

_JUMP = 1.0  # eye distances that the landmarks move on average from one frame to the next: a cut


def find_tracks(points: np.ndarray, rate: float) -> np.ndarray:
    """Which frames show one and the same face: an (n,) array of numbers from 0 up, -1 for no face.

    Short gaps belong to the track around them, and a few frames before and behind it.

    Args:
        points: (n, 68, 2) landmarks, NaN where no face was found.
        rate: frames per second.
    """
    found = np.flatnonzero(~np.isnan(points[:, 0, 0]))
    tracks = np.full(len(points), -1)
    if not len(found):
        return tracks
    before, behind = points[found[:-1]].astype(np.float64), points[found[1:]].astype(np.float64)
    eyes = np.linalg.norm(before[:, 36:42].mean(1) - before[:, 42:48].mean(1), axis=-1)
    moved = np.linalg.norm(behind - before, axis=-1).mean(-1)
    apart = np.diff(found)
    # A face that comes back may have gone on moving meanwhile.
    new = (apart - 1 > GAP * rate) | (moved > _JUMP * eyes * apart)
    for number, run in enumerate(np.split(found, np.flatnonzero(new) + 1)):
        tracks[run[0] : run[-1] + 1] = number
    hold = round(HOLD * rate)
    for frame in np.flatnonzero(new):  # where two tracks share a gap, the earlier one has its part
        _extend(tracks, found[frame], hold, 1)
    _extend(tracks, found[-1], hold, 1)
    for frame in np.flatnonzero(np.append(True, new)):
        _extend(tracks, found[frame], hold, -1)
    return tracks


def _extend(tracks: np.ndarray, frame: int, count: int, step: int) -> None:
    """Gives the free frames next to one to its track, in place."""
    for _ in range(count):
        nearby = frame + step
        if not 0 <= nearby < len(tracks) or tracks[nearby] >= 0:
            return
        tracks[nearby] = tracks[frame]
        frame = nearby


def smooth(
    points: np.ndarray, tracks: np.ndarray, rate: float, cutoff: float = CUTOFF
) -> np.ndarray:
    """The smoothed landmarks, (n, 68, 2) float32; NaN where there is no face.

    Args:
        points: (n, 68, 2) landmarks, NaN where no face was found.
        tracks: (n,) as :func:`find_tracks` gives them.
        rate: frames per second.
        cutoff: in Hz, see `CUTOFF`.
    """
    strength = (rate / (2 * math.pi * cutoff)) ** 4
    result = np.full(points.shape, np.nan, np.float32)
    for number in range(tracks.max(initial=-1) + 1):
        frames = tracks == number
        result[frames] = _whittaker(points[frames], strength)
    return result


def _whittaker(points: np.ndarray, strength: float) -> np.ndarray:
    there = ~np.isnan(points[:, 0, 0])
    if there.sum() < 2:  # no direction to go on in
        return np.broadcast_to(points[there], points.shape)
    weights = there.astype(np.float64)
    second = np.diff(np.eye(len(points)), 2, axis=0)
    measured = np.nan_to_num(points.reshape(len(points), -1).astype(np.float64))
    system = np.diag(weights) + strength * second.T @ second
    return np.linalg.solve(system, weights[:, None] * measured).reshape(points.shape)
