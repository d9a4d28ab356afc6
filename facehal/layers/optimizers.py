"""Adam over one joined vector, and a rate that falls at the end."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.backend import summed_over_replicas

Tensor = Any


def joined(tensors: list[Tensor]) -> Tensor:
    """All values in one vector."""
    return ops.concatenate([ops.reshape(tensor, (-1,)) for tensor in tensors])


def parts(vector: Tensor, variables: list[keras.Variable]) -> list[Tensor]:
    """A joined vector cut into the shapes of its variables."""
    shapes = [tuple(v.shape) for v in variables]
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1].tolist()
    cut = ops.split(vector, ends) if ends else [vector]
    return [ops.reshape(part, shape) for part, shape in zip(cut, shapes, strict=True)]


@keras.saving.register_keras_serializable("facehal")
class JoinedAdam(keras.optimizers.Optimizer):
    """Adam (Kingma and Ba 2015) with all variables joined into one vector.

    The numbers are those of ``keras.optimizers.Adam``; a step is a few operations a variable in
    place of forty, which in a network of many small layers are half of the graph
    (``benchmarks/optimizers.py``). Its temporaries are as long as all variables together: for a few
    large ones take Keras's.

    Args:
        learning_rate: a number or a schedule of Keras.
        beta_1, beta_2, epsilon: as Adam's.

    Raises:
        ValueError: another option of Keras's Adam is asked for (weight decay, clipping,
            accumulation, moving average, scaling): this one has none of them.
    """

    built: bool

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "joined_adam",
        **options: Any,
    ):
        asked = sorted(option for option, value in options.items() if value not in (None, False))
        if asked:
            raise ValueError(f"JoinedAdam has no {asked[0]}: take keras.optimizers.Adam, which has")
        super().__init__(learning_rate=learning_rate, name=name)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the slots: one vector of each kind for all variables together."""
        if self.built:
            return
        super().build(variables)
        self._joined = list(variables)
        length = (sum(math.prod(v.shape) for v in variables),)
        self._momentum = self.add_variable(length, name="momentum")
        self._velocity = self.add_variable(length, name="velocity")

    def apply(
        self, grads: list[Tensor], trainable_variables: list[keras.Variable] | None = None
    ) -> None:
        """Adam's step for all variables at once.

        Raises:
            ValueError: a variable has no gradient.
        """
        if trainable_variables is not None and not self.built:
            self.build(trainable_variables)
        if len(grads) != len(self._joined) or any(grad is None for grad in grads):
            raise ValueError("a variable has no gradient; build the optimizer without it")
        step = ops.cast(self.iterations + 1, "float32")
        rate = ops.cast(self.learning_rate, "float32")
        rate = rate * ops.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)
        gradient = summed_over_replicas(joined(grads))
        momentum = self._momentum + (gradient - self._momentum) * (1.0 - self.beta_1)
        velocity = self._velocity + (ops.square(gradient) - self._velocity) * (1.0 - self.beta_2)
        self._momentum.assign(momentum)
        self._velocity.assign(velocity)
        change = rate * momentum / (ops.sqrt(velocity) + self.epsilon)
        for variable, part in zip(self._joined, parts(change, self._joined), strict=True):
            self.assign_sub(variable, part)
        self.iterations.assign_add(1)

    def get_config(self) -> dict[str, Any]:
        """Rate and Adam's constants."""
        rate = super().get_config()["learning_rate"]
        ours = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {"name": self.name, "learning_rate": rate, **ours}


@keras.saving.register_keras_serializable("facehal")
class LinearEnd(keras.optimizers.schedules.LearningRateSchedule):
    """A constant rate that falls linearly to zero over the last share of the schedule.

    Args:
        rate: until then.
        total_steps: length of the schedule; afterwards the rate is zero.
        share: of it, in (0, 1].
    """

    def __init__(self, rate: float, total_steps: int, share: float):
        self.rate, self.total_steps, self.share = rate, total_steps, share

    def __call__(self, step: Tensor) -> Tensor:
        """The rate of the step after ``step`` others."""
        left = self.total_steps - ops.cast(step, "float32")
        return self.rate * ops.clip(left / (self.share * self.total_steps), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"rate": self.rate, "total_steps": self.total_steps, "share": self.share}


JOINED_UP_TO = 10_000_000
"""Values up to which ``auto`` joins them: beyond, the temporaries weigh more than the graph
(``benchmarks/optimizers.py``: 5.3 GiB against 1.2 for the paper's generators)."""


def adam(
    kind: str,
    variables: list[keras.Variable],
    rate: float,
    beta1: float,
    beta2: float,
    *,
    decay: float,
    total_steps: int,
    name: str,
) -> keras.optimizers.Optimizer:
    """The Adam of a network.

    Args:
        kind: ``joined``, ``adam`` (Keras's own), or ``auto``: joined up to :data:`JOINED_UP_TO`.
        variables: that it is for.
        rate, beta1, beta2: as published.
        decay: last share of ``total_steps`` over which the rate falls to zero; 0 is off.
        total_steps: of the schedule.
        name: variables of two optimizers in one process are told apart by it.
    """
    if kind == "auto":
        values = sum(math.prod(v.shape) for v in variables)
        kind = "joined" if values <= JOINED_UP_TO else "adam"
    schedule = LinearEnd(rate, total_steps, decay) if decay and total_steps else rate
    make = {"joined": JoinedAdam, "adam": keras.optimizers.Adam}[kind]
    return make(schedule, beta_1=beta1, beta_2=beta2, name=name)
