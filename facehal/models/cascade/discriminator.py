"""The discriminator of one GAN block: CASIA-Net without pooling and fully connected layers."""

from typing import Any

import keras
from keras import layers

from facehal.layers.convolution import activation, convolution
from facehal.layers.normalization import normalizer

# Yi et al. 2014, table 2: ten 3×3 convolutions; a pooling layer stood behind every second one.
CASIA_NET = (32, 64, 64, 128, 96, 192, 128, 256, 160, 320)


@keras.saving.register_keras_serializable("facehal")
class Discriminator(keras.Model):
    """Probability that a picture of one resolution is real (section 3.1).

    CASIA-Net's ten 3×3 convolutions, batch normalisation on all but the first, leaky ReLU 0.2, and
    a convolution to one channel with a sigmoid, averaged over its map. With ``strides="pooled"``
    a layer behind which CASIA-Net pools has stride 2, as DCGAN advises; the last pooling, an
    average over the whole map, is the mean at the end. ``strides="none"`` is the literal reading:
    every layer works at full size.

    Args:
        resolution: N.
        width: factor on CASIA-Net's channels; 1 is the paper's.
        strides: ``pooled`` or ``none``.
        normalization: ``batch``, or ``none``: real and hallucinated pictures come in batches of
            their own, so that the statistics of a batch, too, can give a picture away.

    Input: (n, N, N, 3) in [0, 1]. Output: (n,) float32 in (0, 1); 0 fake, 1 real.
    """

    def __init__(
        self,
        resolution: int,
        width: float = 1.0,
        strides: str = "pooled",
        normalization: str = "batch",
        **options: Any,
    ):
        if strides not in ("pooled", "none"):
            raise ValueError(f"strides is 'pooled' or 'none', not {strides!r}")
        inputs = keras.Input((resolution, resolution, 3), name="picture")
        x = inputs
        for index, filters in enumerate(CASIA_NET):
            name = f"conv{index // 2 + 1}{index % 2 + 1}"
            # On a map of one pixel a stride has nothing to skip, and the output is the same without
            # it. With it oneDNN leaves parts of the kernel's gradient unwritten in bfloat16.
            pooled_here = index % 2 == 1 and index < len(CASIA_NET) - 1 and x.shape[1] > 1
            x = convolution(
                max(1, round(filters * width)),
                name,
                stride=2 if pooled_here and strides == "pooled" else 1,
                use_bias=index == 0 or normalization == "none",
            )(x)
            if norm := normalizer(normalization if index else "none", f"{name}_norm"):
                x = norm(x)
            x = activation(f"{name}_act")(x)
        x = convolution(1, "probability")(x)
        x = layers.Activation("sigmoid", dtype="float32", name="sigmoid")(x)
        x = layers.GlobalAveragePooling2D(dtype="float32", name="mean")(x)
        outputs = layers.Flatten(dtype="float32", name="flat")(x)[:, 0]

        super().__init__(inputs=inputs, outputs=outputs, **options)
        self.resolution = resolution
        self.width = width
        self.strides = strides
        self.normalization = normalization

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "resolution": self.resolution,
            "width": self.width,
            "strides": self.strides,
            "normalization": self.normalization,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Discriminator":
        """Builds the network anew; without this Keras would read a functional graph."""
        return cls(**config)
