"""Pictures moved by a few pixels, another way at every step."""

from typing import Any

from keras import ops

Tensor = Any


def translated(pictures: Tensor, pixels: int, step: Tensor) -> Tensor:
    """Pictures moved right and down by 0 to ``pixels``, another way at every step.

    A network whose first convolution has a stride (AlexNet's is 4, the discriminators' 2) sends
    back more gradient to some rows and columns than to others, always the same ones, and the
    generator answers with a grid. Moving the pictures below the network's grid evens that out
    (differentiable augmentation, Zhao et al. 2020). What comes in at the border is mirrored.

    Args:
        pictures: (n, N, N, c).
        pixels: largest shift in each direction; ``(pixels + 1)²`` steps go through all of them.
        step: scalar integer.
    """
    side = pixels + 1
    step = ops.cast(step, "int32")
    down, right = (step // side) % side, step % side
    edge = (pixels, 0)
    padded = ops.pad(pictures, ((0, 0), edge, edge, (0, 0)), mode="symmetric")
    return ops.slice(padded, (0, pixels - down, pixels - right, 0), ops.shape(pictures))
