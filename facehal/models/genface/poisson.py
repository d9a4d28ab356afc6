"""Poisson blending (Pérez et al. 2003) as GenFace's authors do it after their network.

Inside the hole the gradients of the network's picture are kept and its level is moved to meet the
face: f with Δf = Δg in the hole and f = face outside it, found by Jacobi sweeps.

The authors' program differs in one thing, which nobody can have who does not know the photo: it
thins the hole by one pixel and takes the values of the rim, and the gradients that end in it, from
the whole photo. Here the rim is the face's own, and the gradients there are the network's.
"""

from typing import Any

from keras import ops

Tensor = Any

SWEEPS = 200
"""At most; the authors' ``PoissonJacobi.m``."""

TOLERANCE = 1e-3
"""The sweeps end when the largest change of a pixel shrinks by less than this share of itself."""


def blended(
    faces: Tensor,
    masks: Tensor,
    painted: Tensor,
    sweeps: int = SWEEPS,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """What was painted, moved to the face's level without a seam.

    The borders of the picture let the level go where it will, as the replicated borders and the
    zero differences of the authors' programs do. The face is left to the caller to put back.

    Args:
        faces: (n, h, w, 3) in [0, 1], black outside the face.
        masks: (n, h, w, 1); 1 = face. Every other pixel belongs to the hole.
        painted: (n, h, w, 3), the network's whole picture, on the same scale but not clipped.
        sweeps: at most so many.
        tolerance: see :data:`TOLERANCE`. Pictures of a batch stop one by one.

    Returns:
        (n, h, w, 3), in the hole; not clipped.
    """
    # With e = f - g the authors' sweep f ← (Σ f + 4 g - Σ g) / 4 reads e ← Σ e / 4: the difference
    # at the face is spread over the hole as a membrane. At first f is the pasted picture.
    hole = masks < 1.0
    zero = ops.zeros_like(painted)
    start = ops.where(hole, zero, faces - painted)
    going = ops.ones_like(start[:, :1, :1, :1])

    def more(sweep: Tensor, membrane: Tensor, change: Tensor, going: Tensor) -> Tensor:
        return ops.logical_and(sweep < sweeps, ops.any(going > 0.0))

    def swept(sweep: Tensor, membrane: Tensor, change: Tensor, going: Tensor) -> tuple[Tensor, ...]:
        moved = ops.where(hole, _neighbours(membrane) / 4.0, membrane)
        moved = ops.where(going > 0.0, moved, membrane)
        now = ops.max(ops.abs(moved - membrane), axis=(1, 2, 3), keepdims=True)
        shrinks = ops.logical_not(change - now < tolerance * change)
        return sweep + 1, moved, now, going * ops.cast(shrinks, going.dtype)

    # The first sweep's change counts as a gain, whatever it is.
    begin = (ops.zeros((), "int32"), start, going * 1e32, going)
    _, membrane, _, _ = ops.while_loop(more, swept, begin)
    return painted + membrane


def _neighbours(x: Tensor) -> Tensor:
    """The sum of the four neighbours; beyond the border stands what is on it."""
    up = ops.concatenate([x[:, :1], x[:, :-1]], axis=1)
    down = ops.concatenate([x[:, 1:], x[:, -1:]], axis=1)
    left = ops.concatenate([x[:, :, :1], x[:, :, :-1]], axis=2)
    right = ops.concatenate([x[:, :, 1:], x[:, :, -1:]], axis=2)
    return up + down + left + right
