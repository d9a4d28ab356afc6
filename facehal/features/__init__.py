"""Frozen published networks, one file each; what each expects of its input stands with it."""

from typing import Any


def set_arrays(model: Any, arrays: dict[str, Any]) -> None:
    """Puts ``LAYER.kernel`` and ``LAYER.bias`` into every layer of a Keras model that has weights.

    Arrays are taken out of the mapping as they are used: VGG-Face's would lie in memory twice.
    """
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([arrays.pop(f"{layer.name}.{part}") for part in ("kernel", "bias")])
