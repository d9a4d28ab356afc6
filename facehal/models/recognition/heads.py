"""How a network learns to tell people apart: a softmax, plain or with ArcFace's margin."""

import math
from typing import Any

import keras
from keras import ops

from facehal.layers.convolution import Normal

Tensor = Any

TINY = 1e-12  # below any squared length or sine


@keras.saving.register_keras_serializable("facehal")
class Cosines(keras.layers.Layer):
    """Cosine of the angle between a descriptor and everybody's centre, which is learnt.

    Args:
        people: how many.

    Input (n, d), output (n, people) in [-1, 1], float32.
    """

    def __init__(self, people: int, **options: Any):
        super().__init__(dtype="float32", **options)
        self.people = people

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Centres in random directions."""
        shape = (input_shape[-1], self.people)
        self.kernel = self.add_weight(shape=shape, initializer=Normal(stddev=0.05), name="kernel")

    def call(self, inputs: Tensor) -> Tensor:
        """Neither's length counts."""
        return ops.matmul(unit(inputs, 1), unit(self.kernel, 0))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(n, people)."""
        return (input_shape[0], self.people)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"people": self.people, "name": self.name}


def unit(vectors: Tensor, axis: int) -> Tensor:
    """Vectors along an axis, of length 1."""
    squares = ops.sum(ops.square(vectors), axis=axis, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squares, TINY))


def with_margin(cosines: Tensor, labels: Tensor, margin: Tensor) -> Tensor:
    """ArcFace (Deng et al. 2019): a margin added to the angle to a face's own person.

    Past π - margin, where the cosine of the sum would rise again, the cosine less
    margin·sin(margin) takes its place, as in the authors' code.

    Args:
        cosines: (n, people).
        labels: (n,), whose column is each face's own.
        margin: in radians, in [0, π/2).

    Returns:
        (n, people): what is times the scale the logits.
    """
    own = ops.one_hot(labels, ops.shape(cosines)[1], dtype=cosines.dtype)
    cosine = ops.sum(cosines * own, axis=1, keepdims=True)
    # The root has no gradient at 0, where the two directions are one.
    sine = ops.sqrt(ops.maximum(1.0 - ops.square(cosine), TINY))
    margin = ops.cast(margin, cosines.dtype)
    moved = cosine * ops.cos(margin) - sine * ops.sin(margin)
    moved = ops.where(cosine > ops.cos(math.pi - margin), moved, cosine - margin * ops.sin(margin))
    return cosines + own * (moved - cosine)
