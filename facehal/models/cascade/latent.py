"""Many answers: a cascade's latent vector ("style based noise") and the encoder that teaches it.

Of every batch one part is hallucinated without a latent vector, one with the vector that an
encoder makes of the picture itself, one with a vector of normal random numbers. The first two are
compared with the original, so that the vector is worth using and the picture without it stays the
best single one; the third has only the terms that need no original. The encoder's vectors are held
near the normal distribution by their divergence, so that random ones mean something (a conditional
variational autoencoder; cVAE-GAN in Zhu et al. 2017, "Toward Multimodal Image-to-Image
Translation").
"""

from typing import Any

import keras
from keras import layers, ops

from facehal.errors import ConfigError
from facehal.layers.convolution import activation, convolution
from facehal.models.cascade.config import SHARED

Tensor = Any

SIDE = 32  # what the encoder sees: layout and colours, no detail
WIDTHS = (32, 64, 128)


def shares(batch_size: int, encoded: bool) -> tuple[int, int]:
    """How many of a batch go without a vector, and how many with the encoder's; the rest is random.

    One half and one quarter: the single best picture is what most people ask for. Blocks that are
    added to a trained cascade have no encoder, for the meaning of the vector is settled: the
    second half is random.

    Raises:
        ConfigError: the batch is too small to be shared.
    """
    if batch_size < SHARED:
        raise ConfigError(
            f"a latent vector is learnt from batches of {SHARED} faces or more, not {batch_size}"
        )
    return batch_size // 2, batch_size // 4 if encoded else 0


@keras.saving.register_keras_serializable("facehal")
class Encoder(keras.Model):
    """The latent vector of a picture's context, for training alone.

    Args:
        latent: its length.

    Input: (n, 32, 32, 4): the picture without its face, and the mask. Output: two of (n, latent),
    mean and logarithm of the variance.
    """

    def __init__(self, latent: int, **options: Any):
        inputs = keras.Input((SIDE, SIDE, 4), name="context")
        x = inputs
        for index, width in enumerate(WIDTHS):
            x = convolution(width, f"conv{index}", stride=2)(x)
            x = activation(f"act{index}")(x)
        x = layers.Flatten(name="flat")(x)
        mean = layers.Dense(latent, name="mean", dtype="float32")(x)
        spread = layers.Dense(latent, name="spread", kernel_initializer="zeros", dtype="float32")(x)
        super().__init__(inputs=inputs, outputs=[mean, spread], **options)
        self.latent = latent

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"latent": self.latent, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Encoder":
        """Builds the network anew; without this Keras would read a functional graph."""
        return cls(**config)


def latents(
    encoder: Encoder | None, pictures: Tensor, masks: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The vectors of a batch in its three parts, and the divergence of the encoder's.

    Args:
        encoder: makes those of the second part; without it there are but two.
        pictures: (n, 32, 32, 3) in [0, 1], whole.
        masks: (n, 32, 32, 1), 1 = face.
        noise: (n, latent) from the normal distribution.

    Returns:
        (n, latent), zeros first; and a scalar, the Kullback-Leibler divergence in nats, mean over
        the second part.
    """
    plain, encoded = shares(pictures.shape[0], encoder is not None)
    zeros = ops.zeros_like(noise[:plain])
    if encoder is None:
        return ops.concatenate([zeros, noise[plain:]], axis=0), ops.zeros(())
    part = slice(plain, plain + encoded)
    context = ops.concatenate([pictures * (1.0 - masks), masks], axis=-1)[part]
    mean, log_variance = encoder(context, training=True)
    log_variance = ops.clip(log_variance, -10.0, 10.0)
    drawn = mean + ops.exp(0.5 * log_variance) * noise[part]
    vectors = ops.concatenate([zeros, drawn, noise[plain + encoded :]], axis=0)
    nats = 0.5 * ops.sum(ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance, axis=-1)
    return vectors, ops.mean(nats)
