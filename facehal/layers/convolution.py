"""Convolutions, their initialisers and the pixel shuffle."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

Tensor = Any
Shape = tuple[int | None, ...]

SLOPE = 0.2  # of every leaky ReLU (section 3.1 gives it for the discriminator)


def activation(name: str) -> layers.Layer:
    """The leaky ReLU that every hidden layer uses."""
    return layers.LeakyReLU(negative_slope=SLOPE, name=name)


@keras.saving.register_keras_serializable("facehal")
class HeNormal(keras.initializers.HeNormal):
    """He's initialisation (section 3.1), drawn by NumPy.

    The same distribution as Keras's; JAX would compile the drawing anew for every shape, which
    takes longer than everything else that building a cascade needs.
    """

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """Values of ``shape`` (h, w, in, out): normal, cut at two standard deviations."""
        random = np.random.default_rng(self.seed)
        values = random.standard_normal(shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = random.standard_normal(outside.sum())
        # Cutting leaves 0.8796 of the standard deviation.
        values *= np.sqrt(2 / np.prod(shape[:-1])) / 0.87962566103423978
        return ops.convert_to_tensor(values.astype("float32"), dtype=dtype)


@keras.saving.register_keras_serializable("facehal")
class Normal(keras.initializers.RandomNormal):
    """The normal distribution, drawn by NumPy: JAX would compile the drawing for every shape."""

    def deviation(self, shape: tuple[int, ...]) -> float:
        """The standard deviation for an array of this shape."""
        return float(self.stddev)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """Values of ``shape``."""
        values = np.random.default_rng(self.seed).standard_normal(shape, np.float32)
        values *= np.float32(self.deviation(shape))
        return ops.convert_to_tensor(values, dtype=dtype)


@keras.saving.register_keras_serializable("facehal")
class ICNR(keras.initializers.Initializer):
    """Initialises a convolution before a pixel shuffle so that it starts as nearest-neighbour.

    The ``scale²`` sub-pixels of one output channel receive the same kernel, which removes the
    checkerboard that independent ones leave (Aitken et al. 2017). With the depth-to-space order of
    TensorFlow the output channel runs fastest, so the kernel is tiled, not interleaved.
    """

    def __init__(self, scale: int = 2, seed: int | None = None):
        self.scale = scale
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """Values of ``shape`` (h, w, in, scale²·out)."""
        groups = self.scale**2
        if shape[-1] % groups:
            raise ValueError(f"ICNR needs a multiple of {groups} output channels, got {shape[-1]}")
        kernel = HeNormal(seed=self.seed)((*shape[:-1], shape[-1] // groups))
        return ops.convert_to_tensor(np.tile(kernel, (1, 1, 1, groups)), dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Scale and seed."""
        return {"scale": self.scale, "seed": self.seed}


@keras.saving.register_keras_serializable("facehal")
class PixelShuffle(layers.Layer):
    """Depth to space (Shi et al. 2016): (n, h, w, scale²·c) → (n, scale·h, scale·w, c)."""

    def __init__(self, scale: int = 2, **options: Any):
        super().__init__(**options)
        self.scale = scale

    def call(self, inputs: Tensor) -> Tensor:
        """Shuffles; the backend's own operation is used where Keras offers it (3.13 and later)."""
        if hasattr(ops, "depth_to_space"):
            return ops.depth_to_space(inputs, self.scale)
        _, height, width, depth = inputs.shape
        scale, channels = self.scale, depth // self.scale**2
        outputs = ops.reshape(inputs, (-1, height, width, scale, scale, channels))
        outputs = ops.transpose(outputs, (0, 1, 3, 2, 4, 5))
        return ops.reshape(outputs, (-1, height * scale, width * scale, channels))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Twice (``scale`` times) as high and wide, ``scale²`` times fewer channels."""
        n, height, width, depth = input_shape
        scale = self.scale
        return (
            n,
            None if height is None else height * scale,
            None if width is None else width * scale,
            None if depth is None else depth // scale**2,
        )

    def get_config(self) -> dict[str, Any]:
        """The layer's options and its scale."""
        return {**super().get_config(), "scale": self.scale}


def convolution(
    filters: int,
    name: str,
    *,
    stride: int = 1,
    dilation: int = 1,
    initializer: keras.initializers.Initializer | None = None,
    use_bias: bool = True,
) -> layers.Layer:
    """A 3×3 convolution, He-initialised (section 3.1)."""
    return layers.Conv2D(
        filters,
        3,
        strides=stride,
        dilation_rate=dilation,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=initializer or HeNormal(),
        name=name,
    )
