"""Layers of the generators: pixel shuffle, its initialiser, residual block, upscaler."""

import keras
import numpy as np
from keras import layers, ops

SLOPE = 0.2  # of every leaky ReLU (section 3.1 gives it for the discriminator)


def activation(name: str) -> layers.Layer:
    """The leaky ReLU that every hidden layer uses."""
    return layers.LeakyReLU(negative_slope=SLOPE, name=name)


def replicas() -> int:
    """Over how many devices TensorFlow splits a batch; 1 on JAX, which sees whole batches."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def normalizer(kind: str, name: str) -> layers.Layer | None:
    """``batch`` gives batch normalisation, ``none`` nothing."""
    if kind == "none":
        return None
    return BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)


@keras.saving.register_keras_serializable("facehal")
class BatchNormalization(layers.BatchNormalization):
    """Keras's layer, trained with TensorFlow's fused kernel where that is the backend.

    Keras composes it of a dozen passes over the picture, forward and back; on a CPU that is a
    tenth of a training step. Outputs, statistics and the saved file are the same. Where a batch
    is split over several devices the statistics are those of the whole batch, by Keras's layer.
    """

    def call(self, inputs, training=None, mask=None):
        """As Keras's."""
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        if replicas() > 1:
            self.synchronized = True
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        x = ops.cast(inputs, "float32")
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            x, self.gamma.value, self.beta.value, epsilon=self.epsilon
        )
        # The kernel's variance is divided by count - 1, Keras's by count.
        count = ops.cast(ops.size(x), "float32") / x.shape[-1]
        variance *= (count - 1.0) / count
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable("facehal")
class HeNormal(keras.initializers.HeNormal):
    """He's initialisation (section 3.1), drawn by NumPy.

    The same distribution as Keras's; JAX would compile the drawing anew for every shape, which
    takes longer than everything else that building a cascade needs.
    """

    def __call__(self, shape, dtype=None):
        """Values of ``shape`` (h, w, in, out): normal, cut at two standard deviations."""
        random = np.random.default_rng(self.seed)
        values = random.standard_normal(shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = random.standard_normal(outside.sum())
        # Cutting leaves 0.8796 of the standard deviation.
        values *= np.sqrt(2 / np.prod(shape[:-1])) / 0.87962566103423978
        return ops.convert_to_tensor(values.astype("float32"), dtype=dtype)


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

    def __call__(self, shape, dtype=None):
        """Values of ``shape`` (h, w, in, scale²·out)."""
        groups = self.scale**2
        if shape[-1] % groups:
            raise ValueError(f"ICNR needs a multiple of {groups} output channels, got {shape[-1]}")
        kernel = HeNormal(seed=self.seed)((*shape[:-1], shape[-1] // groups))
        return ops.convert_to_tensor(np.tile(kernel, (1, 1, 1, groups)), dtype=dtype)

    def get_config(self):
        """Scale and seed."""
        return {"scale": self.scale, "seed": self.seed}


@keras.saving.register_keras_serializable("facehal")
class PixelShuffle(layers.Layer):
    """Depth to space (Shi et al. 2016): (n, h, w, scale²·c) → (n, scale·h, scale·w, c)."""

    def __init__(self, scale: int = 2, **options):
        super().__init__(**options)
        self.scale = scale

    def call(self, inputs):
        """Shuffles; the backend's own operation is used where Keras offers it (3.13 and later)."""
        if hasattr(ops, "depth_to_space"):
            return ops.depth_to_space(inputs, self.scale)
        _, height, width, depth = inputs.shape
        scale, channels = self.scale, depth // self.scale**2
        outputs = ops.reshape(inputs, (-1, height, width, scale, scale, channels))
        outputs = ops.transpose(outputs, (0, 1, 3, 2, 4, 5))
        return ops.reshape(outputs, (-1, height * scale, width * scale, channels))

    def compute_output_shape(self, input_shape):
        """Twice (``scale`` times) as high and wide, ``scale²`` times fewer channels."""
        n, height, width, depth = input_shape
        scale = self.scale
        return (
            n,
            None if height is None else height * scale,
            None if width is None else width * scale,
            depth // scale**2,
        )

    def get_config(self):
        """The layer's options and its scale."""
        return {**super().get_config(), "scale": self.scale}


def convolution(filters: int, name: str, *, stride=1, dilation=1, initializer=None, use_bias=True):
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


@keras.saving.register_keras_serializable("facehal")
class ResidualBlock(layers.Layer):
    """Two 3×3 convolutions added to their input (He et al. 2016); the shape stays.

    Args:
        filters: channels of input and output.
        normalization: ``batch`` or ``none``.
    """

    def __init__(self, filters: int, normalization: str = "batch", **options):
        super().__init__(**options)
        self.filters = filters
        self.normalization = normalization
        bias = normalization == "none"
        self.conv1 = convolution(filters, "conv1", use_bias=bias)
        self.norm1 = normalizer(normalization, "norm1")
        self.act1 = activation("act1")
        self.conv2 = convolution(filters, "conv2", use_bias=bias)
        self.norm2 = normalizer(normalization, "norm2")
        self.act2 = activation("act2")

    def build(self, input_shape):
        """Creates the variables of the inner layers."""
        for layer in (self.conv1, self.norm1, self.conv2, self.norm2):
            if layer is not None:
                layer.build((*input_shape[:-1], self.filters))

    def call(self, inputs, training=False):
        """(n, h, w, filters) → the same shape."""
        x = self.conv1(inputs)
        if self.norm1 is not None:
            x = self.norm1(x, training=training)
        x = self.conv2(self.act1(x))
        if self.norm2 is not None:
            x = self.norm2(x, training=training)
        return self.act2(x + inputs)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The layer's options."""
        config = {"filters": self.filters, "normalization": self.normalization}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("facehal")
class Upscaler(layers.Layer):
    """The learned 2× pixel-shuffle layer between two GAN blocks (section 3.1, figure 2).

    (n, h, w, 3) in [0, 1] → (n, 2h, 2w, 3), not clipped: it is an input, never an output.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.conv = convolution(12, "conv", initializer=ICNR())
        self.shuffle = PixelShuffle(name="shuffle")

    def build(self, input_shape):
        """Creates the convolution's variables."""
        self.conv.build(input_shape)

    def call(self, inputs):
        """Convolution to 12 channels, then depth to space."""
        return self.shuffle(self.conv(inputs))

    def compute_output_shape(self, input_shape):
        """Twice as high and wide, three channels."""
        return self.shuffle.compute_output_shape((*input_shape[:-1], 12))
