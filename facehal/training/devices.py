"""Training on several accelerators of one machine: every one takes an equal share of a batch."""

import contextlib
from collections.abc import Iterator

import keras

from facehal.errors import TrainingError


def available() -> list[str]:
    """The GPUs by name; without any, the CPU, of which tests make several."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return [device.name.removeprefix("/device:") for device in devices]
    return keras.distribution.list_devices()


class Devices:
    """The accelerators of a run, through the backend's own data parallelism.

    TensorFlow: ``tf.distribute.MirroredStrategy``; JAX: ``keras.distribution.DataParallel``. Losses
    and statistics of batch normalisation are those of the whole batch, so the numbers are those of
    one device to the rounding of float32.

    Args:
        count: how many; 1 leaves the choice to the backend.
        batch_size: of a step, all devices together.

    Raises:
        TrainingError: the machine has fewer, or the batch cannot be shared out evenly.
    """

    def __init__(self, count: int, batch_size: int):
        self.count = count
        self._parallel = None
        if count == 1:
            return
        there = available()
        if count > len(there):
            raise TrainingError(
                f"{count} devices asked for, but {keras.backend.backend()} sees "
                f"{', '.join(there)}; facehal doctor says more"
            )
        if batch_size % count:
            raise TrainingError(
                f"a batch of {batch_size} cannot be shared out evenly among {count} devices; set "
                f"training.batch_size to a multiple of {count}"
            )
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self._parallel = tf.distribute.MirroredStrategy(there[:count])
        else:
            self._parallel = keras.distribution.DataParallel(devices=there[:count])

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Build and fit a model in it; other models, outside, stay on one device."""
        if self._parallel is None:
            yield
            return
        with self._parallel.scope():
            yield
