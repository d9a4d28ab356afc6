"""The terms that are SymmFCNet's own: landmarks, smoothness, illumination, symmetry.

All return a scalar. Their formulas are ours where no file of the authors has them; each says so.
"""

from typing import Any

from keras import ops

from facehal.layers.sampling import in_pixels, own_places, sampled

Tensor = Any

LANDMARK_PIXELS = 4 * 68


def landmark(grid: Tensor, points: Tensor, counterparts: Tensor) -> Tensor:
    """Mean squared error of the flow at the landmarks.

    GFRNet's (``models/facefh_model.py``, ``data/facefh_dataset.py``) is a mean over the whole map,
    where all but the four pixels around each landmark count as zero. Here it is the mean over the
    landmarks, and the grid is read between pixels; :func:`smoothness` is scaled likewise. As there,
    landmarks that lie outside of the picture, or whose counterparts do, are left out.

    Args:
        grid: (n, S, S, 2) in [-1, 1].
        points: (n, 68, 2), x and y in pixels.
        counterparts: (n, 68, 2), where they are in the mirror image: the mirrored places of their
            partners on the other half of the face.
    """
    last = grid.shape[1] - 1
    found = sampled(grid, points[..., 0], points[..., 1])
    wanted = counterparts * (2.0 / last) - 1.0
    both = ops.concatenate([points, counterparts], axis=-1)
    inside = ops.cast(ops.all((both >= 0) & (both <= last), axis=-1), "float32")
    return _mean(ops.mean(ops.square(found - wanted), axis=-1), inside)


def smoothness(grid: Tensor, of: str) -> Tensor:
    """Total variation of the flow: squared differences of neighbours, right and down.

    A mean in GFRNet's ``TVLoss`` and in SymmFCNet's ``lib/TVLossCriterion.lua``; here as many times
    that as a map has more pixels than the four around each landmark, so that its balance with
    :func:`landmark` is GFRNet's at every resolution.

    Args:
        grid: (n, S, S, 2) in [-1, 1].
        of: ``absolute``, the grid itself, as there, or ``displacement``: its difference from
            :func:`own_places`, which a comment in GFRNet's file has, too.
    """
    size = grid.shape[1]
    if of == "displacement":
        grid = grid - own_places(size)
    right = grid[:, :, 1:] - grid[:, :, :-1]
    down = grid[:, 1:] - grid[:, :-1]
    mean = ops.mean(ops.square(right)) + ops.mean(ops.square(down))
    return mean * (size * size / LANDMARK_PIXELS)


def illumination(original: Tensor, relit: Tensor, counterpart: Tensor) -> Tensor:
    """Mean absolute difference of the relit mirror image to the original, where it is known.

    The authors' formula is unknown. Originals are known in training, so that hole pixels count,
    too; under a face mask there are few of them whose counterpart is no hole.

    Args:
        original, relit: (n, S, S, 3) in [0, 1].
        counterpart: (n, S, S, 1), 1 where the mirror image is known.
    """
    apart = ops.mean(ops.abs(original - relit), axis=-1, keepdims=True)
    return _mean(apart, ops.stop_gradient(counterpart))


def symmetry(features: Tensor, grid: Tensor, both: Tensor) -> Tensor:
    """The perceptual symmetry loss: what neither half knows is to look the same in both.

    Mean squared difference of RecNet's features at a pixel of the picture and at its counterpart in
    the mirror image, which RecNet reconstructs, too. Which features, and which distance, the
    authors' files do not say; these are the decoder's at a quarter of the side.

    Args:
        features: (2n, s, s, c), of n pictures and of their mirror images.
        grid: (n, S, S, 2) in [-1, 1], S a multiple of s.
        both: (n, S, S, 1), 1 where neither half is known.
    """
    step = grid.shape[1] // features.shape[1]
    ours, theirs = ops.split(features, 2, axis=0)
    places = ops.stack(in_pixels(grid, *grid.shape[1:3]), axis=-1)
    # A pixel of the features is a square of pixels: its counterpart is the mean of theirs. Both
    # count from the centre of their first pixel.
    places = (ops.average_pool(places, step, step) + 0.5) / step - 0.5
    apart = ours - sampled(theirs, places[..., 0], places[..., 1])
    share = ops.average_pool(both, step, step)
    return _mean(ops.mean(ops.square(apart), axis=-1, keepdims=True), ops.stop_gradient(share))


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """A weighted mean; zero where all weights are zero."""
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1.0)
