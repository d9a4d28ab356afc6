"""Crops warped at random, and the crops that they are to become again.

faceswap moves the padded crop (rotation, zoom, shift, mirroring), lays a grid of 5×5 points over
the square in its middle and moves each of them; the input shows the picture along the warped grid,
the target along the similarity that fits the warped grid best. Both are computed here as positions
in the aligned face and read from it at once; the padding is so wide that the border, which faceswap
repeats there, lies beyond what is read.

A plane point is one complex number, x + iy, in sides of the square: a similarity without reflection
is then a · z + b.
"""

import cv2
import numpy as np

from facehal.models.deepfake.config import DeepfakeTraining
from facehal.models.deepfake.geometry import LEFT, SIDE, TOP, sampling

GRID = 5  # points a side
PADDED = 256 / 160  # side of the padded crop
MIDDLE = 0.5 + 0.5j


def similarities(points: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn, scale and shift that bring points nearest to others (least squares, Umeyama 1991).

    Args:
        points: (n, k) complex.
        wanted: (k,) or (n, k) complex: where they should come.

    Returns:
        (n,) complex each: a and b of ``a · points + b``.
    """
    wanted = np.broadcast_to(wanted, points.shape)
    middles = points.mean(axis=1), wanted.mean(axis=1)
    ours, theirs = points - middles[0][:, None], wanted - middles[1][:, None]
    factor = (ours.conj() * theirs).sum(axis=1) / (np.abs(ours) ** 2).sum(axis=1)
    return factor, middles[1] - factor * middles[0]


def warped(
    faces: np.ndarray, crop: int, config: DeepfakeTraining, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of an autoencoder that learns to undo a warp.

    Args:
        faces: (n, S, S, 3) uint8, aligned.
        crop: side of the crops.
        config: how far everything is moved.
        random: all that is drawn comes from it.

    Returns:
        (n, crop, crop, 3) uint8 each.
    """
    count, side = len(faces), faces.shape[1]
    angles, zooms, across, down = random.uniform(-1, 1, (4, count))
    turn = (1 + config.zoom * zooms) * np.exp(1j * np.deg2rad(config.rotation) * angles)
    shift = config.shift * PADDED * (across + 1j * down)
    flipped = random.random(count) < config.flip
    noise = random.normal(0, config.warp / 256 * PADDED, (2, count, GRID, GRID))

    nodes = _plane(np.linspace(0, 1, GRID))
    grids = nodes + noise[0] + 1j * noise[1]
    between = sampling((np.arange(crop) + 0.5) * (GRID - 1) / crop, GRID)
    inputs = between @ grids @ between.T
    factor, offset = similarities(grids.reshape(count, -1), nodes.ravel())
    regular = _plane((np.arange(crop) + 0.5) / crop)
    targets = (regular - offset[:, None, None]) / factor[:, None, None]

    made = []
    for points in (inputs, targets):
        # From the moved and mirrored picture back to the face itself.
        points = np.where(flipped[:, None, None], 1 - points.conj(), points)
        points = MIDDLE + (points - MIDDLE - shift[:, None, None]) / turn[:, None, None]
        x = ((LEFT + SIDE * points.real) * side - 0.5).astype(np.float32)
        y = ((TOP + SIDE * points.imag) * side - 0.5).astype(np.float32)
        read = [
            cv2.remap(face, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for face, columns, rows in zip(faces, x, y, strict=True)
        ]
        made.append(np.stack(read))
    return made[0], made[1]


def _plane(line: np.ndarray) -> np.ndarray:
    """The points of a square grid, (k, k) complex: rows go down."""
    points: np.ndarray = line[None, :] + 1j * line[:, None]
    return points
