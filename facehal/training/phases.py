"""The training step: the phases of a system, compiled together, on TensorFlow and on JAX.

The whole story of a step: for every phase whose turn it is, the loss on the batch, one backward
pass, the optimizers; then the moving average of the published model, the report and the counter.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.backend import Parallel, Stepper, replicas, resolve_jit, value_and_gradients
from facehal.layers.optimizers import joined, parts
from facehal.models.task import Batch, Phase, System

Tensor = Any
Logs = dict[str, float]


class Report(keras.metrics.Metric):
    """Running means of many named scalars in two variables (a metric each would cost the graph)."""

    def __init__(self, names: Sequence[str], name: str = "losses"):
        super().__init__(name=name)
        self.names = tuple(names)
        self.sums = self.add_weight(shape=(len(names),), initializer="zeros", name="sums")
        self.counts = self.add_weight(shape=(len(names),), initializer="zeros", name="counts")

    def update_state(self, values: dict[str, Tensor]) -> None:
        """Adds one step's values; what does not come at this step is left out."""
        zero = ops.zeros(())
        vector = ops.stack([ops.cast(values.get(name, zero), "float32") for name in self.names])
        counted = np.array([name in values for name in self.names], np.float32)
        self.sums.assign(self.sums + vector)
        self.counts.assign(self.counts + counted)

    def result(self) -> dict[str, Tensor]:
        """{name: mean since the last reset}."""
        means = self.sums / ops.maximum(self.counts, 1.0)
        return {name: means[index] for index, name in enumerate(self.names)}


class MovingAverage:
    """The moving average of a model's trained weights, in one vector.

    The momentum grows with the steps to its full value; otherwise the untrained weights would show
    for as many steps as the average is long. The first step takes the weights.

    Args:
        variables: the weights.
        momentum: in (0, 1).
    """

    def __init__(self, variables: Sequence[keras.Variable], momentum: float):
        self.weights, self.momentum = list(variables), momentum
        length = sum(int(np.prod(v.shape)) for v in self.weights)
        self.vector = keras.Variable(
            keras.initializers.Zeros(), (length,), "float32", trainable=False, name="average"
        )

    def update(self, step: Tensor) -> None:
        """After a step; ``step`` others were done before."""
        done = ops.cast(step, "float32") + 1.0
        keep = ops.where(done > 1.0, ops.minimum(self.momentum, done / (9.0 + done)), 0.0)
        now = joined([v.value for v in self.weights])
        self.vector.assign(now + (self.vector - now) * keep)

    def values(self) -> list[np.ndarray]:
        """The average of every weight."""
        return [ops.convert_to_numpy(part) for part in parts(self.vector.value, self.weights)]


class Trainer:
    """Trains a system: one compiled function a step, whatever the phases.

    Args:
        system: of one stage. Where ``parallel`` is given, both are made in its scope.
        jit_compile: XLA on or off; ``auto`` is on for JAX and on a GPU. On a CPU under TensorFlow
            it pays only for wide networks.
        parallel: devices that share every batch.

    Attributes:
        variables: all that a run needs to go on: networks, counter, report, slots of every
            optimizer, moving average; each once, always in this order.
    """

    def __init__(
        self, system: System, jit_compile: bool | str = "auto", parallel: Parallel | None = None
    ):
        self.system = system
        self.report = Report(system.names)
        # Every optimizer has a counter of its own; phases that come more seldom need one of steps.
        self.steps = keras.Variable(0, dtype="int32", trainable=False, name="steps")
        self.average: MovingAverage | None = None
        if system.momentum:
            self.average = MovingAverage(system.model.trainable_variables, system.momentum)
        networks = [v for network in system.networks for v in network.variables]
        optimizers = []
        for phase in system.phases:
            for update in phase.updates:
                update.optimizer.build(update.variables)
                optimizers += update.optimizer.variables
        self.groups = {
            "model": _once([*networks, *self.report.variables, self.steps]),
            "optimizer": _once(optimizers),
            "average": [self.average.vector] if self.average else [],
        }
        self.variables = [v for group in self.groups.values() for v in group]
        self._stepper = Stepper(self._step, self.variables, resolve_jit(jit_compile), parallel)

    def fit(
        self,
        batches: Iterable[dict[str, np.ndarray]],
        watch: Callable[[Callable[[], Logs]], None] | None = None,
    ) -> Logs:
        """A step on each batch.

        Args:
            batches: dictionaries of arrays, always of the same shapes.
            watch: called after every step with a function that reads the means so far; reading
                waits for the device.

        Returns:
            The means of every report over these steps; a phase that did not come has none.
        """
        self.report.reset_state()
        step = int(ops.convert_to_numpy(self.steps))
        with self._stepper.running():
            for batch in batches:
                turn = tuple(
                    index
                    for index, phase in enumerate(self.system.phases)
                    if (step + 1) % phase.every == 0
                )
                self._stepper(turn, batch)
                step += 1
                if watch is not None:
                    watch(self.logs)
            return self.logs()

    def totals(self) -> dict[str, tuple[float, int]]:
        """Sum of every report since :meth:`fit` began, and how often it came; not those that did
        not come."""
        sums, counts = map(self._stepper.read, (self.report.sums, self.report.counts))
        pairs = zip(self.report.names, sums.tolist(), counts.tolist(), strict=True)
        return {name: (total, int(count)) for name, total, count in pairs if count}

    def logs(self) -> Logs:
        """The means of the same."""
        return {name: total / count for name, (total, count) in self.totals().items()}

    def _step(self, turn: tuple[int, ...], batch: Batch) -> None:
        """What is compiled: the phases whose turn it is."""
        report: dict[str, Tensor] = {}
        for index in turn:
            report |= self._phase(self.system.phases[index], batch)
        if self.average is not None:
            self.average.update(self.steps.value)
        self.report.update_state(report)
        self.steps.assign_add(1)

    def _phase(self, phase: Phase, batch: Batch) -> dict[str, Tensor]:
        moved = [v for update in phase.updates for v in update.variables]

        def loss() -> tuple[Tensor, dict[str, Tensor]]:
            value, report = phase.loss(batch, self.steps.value)
            # Each device adds its share's gradient to the sum.
            return value / replicas(), report

        report: dict[str, Tensor]
        _, report, gradients = value_and_gradients(loss, moved, self.variables)
        start = 0
        for update in phase.updates:
            stop = start + len(update.variables)
            update.optimizer.apply(gradients[start:stop], update.variables)
            start = stop
        return report

    def copy_average_to(self, model: keras.Model) -> None:
        """Gives a model like the published one the moving average, or the weights if there is none.

        Statistics of normalisation are averages already and are taken as they are.
        """
        averages: dict[int, np.ndarray] = {}
        if self.average is not None and int(ops.convert_to_numpy(self.steps)) > 0:
            pairs = zip(self.average.weights, self.average.values(), strict=True)
            averages = {id(variable): value for variable, value in pairs}
        ours = self.system.model.variables
        for theirs, variable in zip(model.variables, ours, strict=True):
            average = averages.get(id(variable))
            theirs.assign(variable.numpy() if average is None else average)


def _once(variables: Sequence[keras.Variable]) -> list[keras.Variable]:
    """Each variable once, in the order of its first place."""
    return list({id(v): v for v in variables}.values())
