"""Where a run trains: one device, or accelerators of one or several machines that share a batch."""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
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


class Workers:
    """The processes, on one machine or on several, that train one run together.

    All of them read the same faces and compute the same batch, of which each takes its rows; the
    first, the chief, writes. To be made before the backend is used; waits for the others.

    Args:
        addresses: ``host:port`` of every worker, the chief's first, the same list on all.
        index: which of them this process is, from 0.

    Raises:
        TrainingError: there is no such worker, or an address without a port.
    """

    def __init__(self, addresses: Sequence[str], index: int):
        self.addresses, self.index = tuple(addresses), index
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            if not (host and port.isdigit()):
                raise TrainingError(f"worker {address!r}: write HOST:PORT")
        if not 0 <= index < len(self.addresses):
            raise TrainingError(
                f"worker {index} of {len(self.addresses)}: they are numbered from 0 to "
                f"{len(self.addresses) - 1}"
            )
        backend.join_workers(self.addresses, index)

    @classmethod
    def found(cls, addresses: str | None = None, index: int | None = None) -> "Workers | None":
        """The workers that a command line or the environment names; None where there is one.

        The environment is ``TF_CONFIG``, as Kubernetes's TFJob and other launchers of TensorFlow
        write it (read on JAX, too), or Keras's ``KERAS_DISTRIBUTION_JOB_ADDRESSES`` and
        ``KERAS_DISTRIBUTION_PROCESS_ID``.

        Args:
            addresses: ``host:port,host:port,…``
            index: of this process.

        Raises:
            TrainingError: one of the two without the other, or what they say cannot be.
        """
        if addresses is None and index is None:
            named = _from_environment(os.environ)
        elif addresses is None or index is None:
            raise TrainingError("--workers and --worker are given together")
        else:
            named = addresses.split(","), index
        if named is None or len(named[0]) == 1:
            return None
        return cls(*named)


def _from_environment(environment: Mapping[str, str]) -> tuple[list[str], int] | None:
    """Addresses and index that a launcher has left; the chief's address comes first."""
    if text := environment.get("TF_CONFIG"):
        try:
            config = json.loads(text)
            cluster, task = config.get("cluster", {}), config.get("task", {})
            chiefs, others = cluster.get("chief", []), cluster.get("worker", [])
            kind, index = str(task.get("type", "worker")), int(task.get("index", 0))
        except (ValueError, AttributeError, TypeError) as error:
            raise TrainingError(f"TF_CONFIG cannot be read ({error})") from None
        if kind not in ("chief", "worker"):
            raise TrainingError(
                f"TF_CONFIG calls this process {kind!r}; only chief and worker train here"
            )
        if not chiefs + others:
            return None
        return chiefs + others, index if kind == "chief" else len(chiefs) + index
    if text := environment.get("KERAS_DISTRIBUTION_JOB_ADDRESSES"):
        try:
            return text.split(","), int(environment["KERAS_DISTRIBUTION_PROCESS_ID"])
        except (KeyError, ValueError):
            raise TrainingError(
                "KERAS_DISTRIBUTION_JOB_ADDRESSES needs KERAS_DISTRIBUTION_PROCESS_ID, a number"
            ) from None
    return None


class Devices:
    """The accelerators of a run, through the backend's own data parallelism.

    The numbers are those of one device to the rounding of float32.

    Args:
        count: how many of this machine; 1 leaves the choice to the backend.
        batch_size: of a step, all devices together.
        workers: with whom this process trains; the devices are then all of theirs.

    Attributes:
        parallel: how they share a batch; None where there is one.
        chief: whether this process writes what the run leaves.

    Raises:
        TrainingError: the machine has fewer, or the batch cannot be shared out evenly.
    """

    def __init__(self, count: int, batch_size: int, workers: Workers | None = None):
        self.count = count
        self.parallel: backend.Parallel | None = None
        self.chief = workers is None or workers.index == 0
        if workers is not None:
            if count > 1:
                raise TrainingError(
                    "--devices is for one machine; workers take all that each of them sees "
                    "(CUDA_VISIBLE_DEVICES says which)"
                )
            self.parallel = backend.Parallel(None)
            self.count = self.parallel.count
            self._check_share(batch_size)
            return
        if count == 1:
            return
        there = available()
        if count > len(there):
            raise TrainingError(
                f"{count} devices asked for, but {backend.name()} sees "
                f"{', '.join(there)}; facehal doctor says more"
            )
        self._check_share(batch_size)
        self.parallel = backend.Parallel(there[:count])

    def _check_share(self, batch_size: int) -> None:
        if batch_size % self.count:
            raise TrainingError(
                f"a batch of {batch_size} cannot be shared out evenly among {self.count} devices; "
                f"set training.batch_size to a multiple of {self.count}"
            )

    def scope(self) -> Any:
        """Build and train a model in it; other models, outside, stay on one device."""
        return contextlib.nullcontext() if self.parallel is None else self.parallel.scope()
