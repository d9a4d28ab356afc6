"""Max pooling that remembers where each maximum stood, and the unpooling that puts values there.

The decoders of SegNet's kind (Badrinarayanan et al. 2015) know from it where in a 2×2 window an
edge ran. Of equal values the first in reading order counts, as in Caffe and in PyTorch.
"""

from typing import Any

import keras
from keras import layers, ops

from facehal.layers.convolution import PixelShuffle, Shape

Tensor = Any


@keras.saving.register_keras_serializable("facehal")
class MaxPoolWithPlaces(layers.Layer):
    """2×2 max pooling: (n, 2h, 2w, c) → the maxima and their places, (n, h, w, c) each.

    A place is 0 to 3, the index of the maximum in its window in reading order, as a float (a
    whole number that every precision holds). No ``argmax``: ONNX cannot have TensorFlow's.
    """

    def call(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient goes to the maxima alone; the places have none."""
        largest = ops.max_pool(inputs, (2, 2), (2, 2))
        last = 3.0 * ops.ones_like(largest)
        places = last
        for place in (2, 1, 0):  # backwards, so that of equal ones the first stays
            there = inputs[:, place // 2 :: 2, place % 2 :: 2] == largest
            places = ops.where(there, ops.cast(place, last.dtype), places)
        return largest, ops.stop_gradient(places)

    def compute_output_shape(self, input_shape: Shape) -> tuple[Shape, Shape]:
        """Half as high and wide, twice."""
        n, height, width, channels = input_shape
        assert height is not None and width is not None
        half = (n, height // 2, width // 2, channels)
        return half, half


@keras.saving.register_keras_serializable("facehal")
class MaxUnpool(layers.Layer):
    """[values, places], (n, h, w, c) each → (n, 2h, 2w, c): every value at its place, 0 elsewhere.

    ``places`` are those of :class:`MaxPoolWithPlaces`.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.shuffle = PixelShuffle(name="shuffle")

    def call(self, inputs: list[Tensor]) -> Tensor:
        """The four pixels of a window as channels, then depth to space."""
        values, places = inputs
        zero = ops.zeros_like(values)
        pixels = [ops.where(places == place, values, zero) for place in range(4)]
        return self.shuffle(ops.concatenate(pixels, axis=-1))

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        """Twice as high and wide."""
        n, height, width, channels = input_shape[0]
        assert height is not None and width is not None
        return (n, 2 * height, 2 * width, channels)
