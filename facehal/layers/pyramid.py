"""Faces and masks at every resolution (section 4, "Training Data")."""

from typing import Any

from facehal.layers.resampling import pillow, resample

Tensor = Any


def resized(pictures: Tensor, size: int) -> Tensor:
    """Bilinear with antialias, (n, h, w, c) → (n, size, size, c).

    Without antialias 128 → 8 would read four pixels of 256 and alias badly. As matrix products,
    for XLA cannot compile what ``keras.ops.image.resize`` becomes under TensorFlow; equal to it
    within 3e-7.
    """
    if pictures.shape[1] == size:
        return pictures
    height, width = pictures.shape[1:3]
    return resample(pictures, pillow(height, size, "bilinear"), pillow(width, size, "bilinear"))


def pyramid(pictures: Tensor, sizes: tuple[int, ...]) -> dict[int, Tensor]:
    """{size: (n, size, size, c)}, each made from the full picture, not from its neighbour."""
    return {size: resized(pictures, size) for size in sizes}


def composite(masked_faces: Tensor, masks: Tensor, output: Tensor) -> Tensor:
    """The output with the original face pixels put back (section 3.1).

    ``masked_faces`` are already multiplied by the mask, at small sizes by a fraction at the hull's
    edge, so the output fills exactly the share that the face leaves.

    Args:
        masked_faces: (n, h, w, 3) in [0, 1], black outside the face.
        masks: (n, h, w, 1) in [0, 1]; 1 = face.
        output: (n, h, w, 3) in [0, 1].
    """
    return masked_faces + (1.0 - masks) * output
