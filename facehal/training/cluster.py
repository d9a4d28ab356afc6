"""Where a run trains: one device, or several accelerators of one machine that share every batch."""

import contextlib
import time
from typing import Any

import keras

from facehal import backend
from facehal.errors import TrainingError
from facehal.processes import usable_cores


def available() -> list[str]:
    """The GPUs by name; without any, the CPU, of which tests make several."""
    if backend.name() == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return [device.name.removeprefix("/device:") for device in devices]
    return list(keras.distribution.list_devices())


def work_clock() -> float:
    """Seconds of work that this machine has done for this process; differences mean something.

    On an accelerator time as it passes. On processors, which other programs share, the processor
    time of all threads over the number of cores: what would have passed on an idle machine.
    """
    if backend.has_accelerator():
        return time.monotonic()
    return time.process_time() / usable_cores()


class Devices:
    """The accelerators of a run, through the backend's own data parallelism.

    The numbers are those of one device to the rounding of float32.

    Args:
        count: how many; 1 leaves the choice to the backend.
        batch_size: of a step, all devices together.

    Attributes:
        parallel: how they share a batch; None where there is one.

    Raises:
        TrainingError: the machine has fewer, or the batch cannot be shared out evenly.
    """

    def __init__(self, count: int, batch_size: int):
        self.count = count
        self.parallel: backend.Parallel | None = None
        if count == 1:
            return
        there = available()
        if count > len(there):
            raise TrainingError(
                f"{count} devices asked for, but {backend.name()} sees "
                f"{', '.join(there)}; facehal doctor says more"
            )
        if batch_size % count:
            raise TrainingError(
                f"a batch of {batch_size} cannot be shared out evenly among {count} devices; set "
                f"training.batch_size to a multiple of {count}"
            )
        self.parallel = backend.Parallel(there[:count])

    def scope(self) -> Any:
        """Build and train a model in it; other models, outside, stay on one device."""
        return contextlib.nullcontext() if self.parallel is None else self.parallel.scope()
