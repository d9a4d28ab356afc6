"""Batch normalisation that trains as fast as TensorFlow can, and instance normalisation."""

from typing import Any

import keras
from keras import layers, ops

from facehal.backend import replicas

Tensor = Any


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

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        """As Keras's."""
        # Keras's layer knows what a frozen one does: it infers, and its statistics stay.
        if not training or not self.trainable or keras.backend.backend() != "tensorflow":
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
class InstanceNormalization(layers.Layer):
    """Every channel of every picture to mean 0 and variance 1 (Ulyanov et al. 2016).

    Without scale and offset, as PyTorch's ``InstanceNorm2d`` by default, whose epsilon it has; the
    numbers of ``GroupNormalization(-1, epsilon=1e-5, center=False, scale=False)`` of Keras, which
    takes a detour over five axes. But a channel that is the same all over, as where nothing is
    known of a picture, becomes 0: what rounding leaves of it would grow 300-fold in every layer.

    Args:
        epsilon: added to the variance.

    Input and output: (n, h, w, channels).
    """

    def __init__(self, epsilon: float = 1e-5, **options: Any):
        super().__init__(**options)
        self.epsilon = epsilon

    def call(self, inputs: Tensor) -> Tensor:
        """Statistics are taken in float32."""
        x = ops.cast(inputs, "float32")
        # Against the first pixel, where a constant is 0 before its mean is rounded. It has no
        # gradient: what is added to a channel changes nothing.
        x = x - ops.stop_gradient(x[:, :1, :1])
        x = x - ops.mean(x, axis=(1, 2), keepdims=True)
        variance = ops.mean(ops.square(x), axis=(1, 2), keepdims=True)
        return ops.cast(x * ops.rsqrt(variance + self.epsilon), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The layer's options and epsilon."""
        return {**super().get_config(), "epsilon": self.epsilon}
