"""A trained model with its batch normalisation folded into the convolutions, for inference."""

from typing import Any

import numpy as np
from keras import layers

from facehal.models.cascade.generator import Generator
from facehal.models.cascade.layers import Modulation, ResidualBlock


def fold(model: Any) -> Any:
    """The same function with ``normalization="none"``: fewer layers, the same outputs.

    With its moving statistics batch normalisation is one factor and one offset per channel, which
    the convolution before it takes over. Outputs agree to the rounding of float32. The result
    saves, loads and infers like any other; train the original instead, for the result has no
    statistics left to train with.

    Args:
        model: a trained cascade or ProGAN. One without normalisation is returned as it is.
    """
    if model.normalization == "none":
        return model
    folded = type(model).from_config({**model.get_config(), "normalization": "none"})
    for ours, theirs in zip(model.generators, folded.generators, strict=True):
        _fold_generator(ours, theirs)
    for ours, theirs in zip(model.upscalers, folded.upscalers, strict=True):
        theirs.set_weights(ours.get_weights())
    return folded


def _fold_generator(ours: Generator, theirs: Generator) -> None:
    norms = {layer.name for layer in ours.layers if isinstance(layer, layers.BatchNormalization)}
    for layer in ours.layers:
        if isinstance(layer, ResidualBlock):
            block = theirs.get_layer(layer.name)
            _fold_into(layer.conv1, layer.norm1, block.conv1)
            _fold_into(layer.conv2, layer.norm2, block.conv2)
        elif isinstance(layer, Modulation):
            theirs.get_layer(layer.name).set_weights(layer.get_weights())
        elif isinstance(layer, layers.Conv2D):
            norm = f"{layer.name}_norm"
            target = theirs.get_layer(layer.name)
            if norm in norms:
                _fold_into(layer, ours.get_layer(norm), target)
            else:
                target.set_weights(layer.get_weights())


def _fold_into(conv: layers.Conv2D, norm: layers.BatchNormalization, target: layers.Conv2D) -> None:
    gamma, beta, mean, variance = (value.astype(np.float64) for value in norm.get_weights())
    factor = gamma / np.sqrt(variance + norm.epsilon)
    offset = beta - mean * factor
    # In the decoder a pixel shuffle stands between the two: every channel that is normalised is
    # four of the convolution's, which TensorFlow's order tiles.
    times = conv.filters // len(factor)
    kernel = conv.get_weights()[0] * np.tile(factor, times)
    target.set_weights([kernel.astype(np.float32), np.tile(offset, times).astype(np.float32)])
