"""Square crops inside a hole, for local discriminators.

Local discriminators (Iizuka et al. 2017) look at the hole alone. A face mask's hole is no square:
ours look at a random square whose centre lies in it.
"""

from typing import Any

import numpy as np
from keras import ops

Tensor = Any


def hole_corners(masks: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """Where to crop: squares within the pictures, around random pixels that are to be hallucinated.

    Args:
        masks: (n, S, S), 1 = face, 0 = hole.
        side: of the squares, at most S.
        random: drawn from once a picture.

    Returns:
        (n, 2) int32: row and column of each square's first pixel. A centre nearer to the border
        than half a square is moved inwards; a picture without a hole has any square.
    """
    size = masks.shape[1]
    corners = np.empty((len(masks), 2), np.int32)
    for index, mask in enumerate(masks):
        hole = np.flatnonzero(mask == 0)
        draw = random.random()
        pixel = hole[int(draw * len(hole))] if len(hole) else int(draw * mask.size)
        corners[index] = divmod(int(pixel), size)
    return np.clip(corners - side // 2, 0, size - side).astype(np.int32)


def cropped(pictures: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cuts a square out of every picture.

    Args:
        pictures: (n, S, S, c).
        corners: (n, 2), as :func:`hole_corners` gives them.
        side: of the squares.

    Returns:
        (n, side, side, c), with gradient to the pictures.
    """
    reach = ops.arange(side, dtype="int32")
    rows, columns = (ops.cast(corners[:, i, None], "int32") + reach[None] for i in (0, 1))
    taken = ops.take_along_axis(pictures, rows[:, :, None, None], axis=1)
    return ops.take_along_axis(taken, columns[:, None, :, None], axis=2)
