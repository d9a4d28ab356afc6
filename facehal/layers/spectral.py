"""Convolutions with spectral normalisation (Miyato et al. 2018), the same on every backend.

Keras's own ``SpectralNormalization`` overwrites the kernel in every training call, without a
gradient through the norm, and under JAX's stateless calls the overwritten kernel is lost. Here the
variable is the raw kernel, and every call divides it by its norm.
"""

from typing import Any

import keras
from keras import layers, ops

from facehal.layers.convolution import Normal

Tensor = Any
Shape = tuple[int | None, ...]

TINY = 1e-12  # no vector is divided by less


@keras.saving.register_keras_serializable("facehal")
class SpectralConvolution(layers.Layer):
    """A convolution whose kernel is divided by its largest singular value σ.

    The kernel counts as a matrix of an output channel a row. Its first pair of singular vectors
    u (filters) and v (all other axes) is kept beside it; a call in training brings it one power
    iteration nearer, and σ = uᵀWv, with gradient to the kernel alone. In inference the pair stays
    as it is. Numbers and state are those of PyTorch's ``torch.nn.utils.spectral_norm``, but that a
    new layer starts from the v that belongs to its u, so that σ means something before training.

    Args:
        filters: output channels.
        size: of the square kernel.
        stride: of both axes.
        dilation: of both axes.
        padding: ``valid`` or ``same``.
        transposed: convolve transposed, which enlarges by ``stride``.
        use_bias: add a bias; it is not normalised.
        kernel_initializer: of the raw kernel.

    Input: (n, h, w, channels). Output: (n, h', w', filters).
    """

    def __init__(
        self,
        filters: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: str = "valid",
        transposed: bool = False,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **options: Any,
    ):
        super().__init__(**options)
        self.filters, self.size = filters, size
        self.stride, self.dilation, self.padding = stride, dilation, padding
        self.transposed, self.use_bias = transposed, use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Shape) -> None:
        """Kernel, bias and the singular vectors."""
        ends = (input_shape[-1], self.filters)
        # The norm is taken in float32, whatever the convolution is computed in.
        self.kernel = self.add_weight(
            shape=(self.size, self.size, *(ends[::-1] if self.transposed else ends)),
            initializer=self.kernel_initializer,
            autocast=False,
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

        def vector(name: str, length: int, start: Any) -> keras.Variable:
            return self.add_weight(
                shape=(length,),
                initializer=start,
                trainable=False,
                autocast=False,
                aggregation="only_first_replica",  # every device finds the same one
                name=name,
            )

        draw = Normal(stddev=1.0)
        self.u = vector("u", self.filters, lambda shape, dtype: _unit(draw(shape, dtype=dtype)))
        rest = self.size**2 * input_shape[-1]  # type: ignore[operator]
        self.v = vector(
            "v", rest, lambda shape, dtype: _unit(ops.matmul(self._matrix(), self.u.value))
        )
        self.built = True

    def _matrix(self) -> Tensor:
        """The kernel, (all other axes, filters)."""
        kernel = self.kernel.value
        if self.transposed:
            kernel = ops.transpose(kernel, (0, 1, 3, 2))
        return ops.reshape(kernel, (-1, self.filters))

    def norm(self, training: bool = False) -> Tensor:
        """σ, a scalar; in training after a power iteration."""
        matrix, u, v = self._matrix(), self.u.value, self.v.value
        if training:
            frozen = ops.stop_gradient(matrix)
            v = _unit(ops.matmul(frozen, u))
            u = _unit(ops.matmul(v, frozen))
            self.u.assign(u)
            self.v.assign(v)
        return ops.sum(v * ops.matmul(matrix, u))

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """The convolution with the normalised kernel."""
        kernel = ops.cast(self.kernel.value / self.norm(training), self.compute_dtype)
        convolve = ops.conv_transpose if self.transposed else ops.conv
        outputs = convolve(
            inputs,
            kernel,
            strides=self.stride,
            padding=self.padding,
            dilation_rate=self.dilation,
        )
        return outputs if self.bias is None else outputs + self.bias

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "size": self.size,
            "stride": self.stride,
            "dilation": self.dilation,
            "padding": self.padding,
            "transposed": self.transposed,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _unit(vector: Tensor) -> Tensor:
    return vector / ops.maximum(ops.norm(vector), TINY)
