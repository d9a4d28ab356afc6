"""Frozen published networks, one file each; what each expects of its input stands with it."""

from typing import Any

import keras


def set_arrays(model: keras.Model, arrays: dict[str, Any]) -> None:
    """Puts ``LAYER.kernel`` and ``LAYER.bias`` into all layers with weights, nested ones too.

    Arrays are taken out of the mapping as they are used: VGG-Face's would lie in memory twice.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            set_arrays(layer, arrays)
        elif layer.weights:
            parts = ("kernel", "bias")[: len(layer.weights)]
            layer.set_weights([arrays.pop(f"{layer.name}.{part}") for part in parts])
