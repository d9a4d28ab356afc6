"""One GAN block: a generator, its discriminator, their optimizer, and the base of both models."""

import contextlib
import math

import keras
import numpy as np
from keras import ops

from facehal.backend import replicas
from facehal.config import NetworkConfig, TrainingConfig
from facehal.layers.pyramid import pyramid
from facehal.models.cascade.discriminator import Discriminator
from facehal.models.cascade.generator import Generator
from facehal.models.cascade.layers import Upscaler


@contextlib.contextmanager
def precision(name: str):
    """Builds networks in ``float32`` or ``bfloat16``; variables and outputs stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if name == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_generator(resolution: int, config: NetworkConfig, input_channels: int) -> Generator:
    """The generator of one block, named ``generator_N``."""
    return Generator(
        resolution,
        input_channels,
        base=config.base,
        cap=config.cap,
        normalization=config.normalization,
        name=f"generator_{resolution}",
    )


def build_discriminator(resolution: int, config: NetworkConfig) -> Discriminator:
    """The discriminator of one block, named ``discriminator_N``."""
    return Discriminator(
        resolution,
        width=config.discriminator_width,
        strides=config.strides,
        name=f"discriminator_{resolution}",
    )


class BlockModel(keras.Model):
    """Generators of one or several blocks: what the cascade and the growing network share.

    Attributes:
        resolutions: of the blocks, lowest first.
        generators: one a block, in the same order.
        upscalers: between the blocks; one block alone has none.
        normalization: ``batch`` or ``none``.

    A subclass sets these and gives :meth:`hallucinate` and ``get_config``. Call it with
    ``{"masked_faces": (n, S, S, 3), "masks": (n, S, S, 1)}`` — in [0, 1], black outside the face,
    1 = face, S at least the largest resolution — for ``{"8": (n, 8, 8, 3), …}`` in [0, 1], float32.
    """

    resolutions: tuple[int, ...]
    generators: list[Generator]
    upscalers: list[Upscaler]
    normalization: str

    def build(self, input_shape=None):
        """Nothing is left to build: the constructor knows every shape."""

    def call(self, inputs, training=False):
        """All resolutions in one pass, lowest first."""
        faces = pyramid(inputs["masked_faces"], self.resolutions)
        masks = pyramid(inputs["masks"], self.resolutions)
        return self.hallucinate(faces, masks, training=training)

    def hallucinate(self, faces: dict, masks: dict, training=False) -> dict:
        """Like calling the model, on pyramids ``{size: pictures}`` that were made before."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """From ``get_config``."""
        return cls(**config)


def detached(network: keras.Model):
    """``network`` as a function without gradient to its variables and without updates of its state.

    The generator's loss looks through the discriminator with it, so one backward pass over the sum
    of both losses gives exactly the gradients of two separate ones.
    """

    def call(pictures):
        frozen = [ops.stop_gradient(v.value) for v in network.trainable_variables]
        state = [v.value for v in network.non_trainable_variables]
        outputs, _ = network.stateless_call(frozen, state, pictures, training=True)
        return outputs

    return call


def _summed_over_replicas(gradient):
    """Under TensorFlow's strategies every device knows the gradient of its share alone."""
    if replicas() == 1:
        return gradient
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradient)


def _joined(tensors: list):
    """All values in one vector."""
    return ops.concatenate([ops.reshape(tensor, (-1,)) for tensor in tensors])


@keras.saving.register_keras_serializable("facehal")
class GanAdam(keras.optimizers.Adam):
    """Adam with a rate of its own for the discriminators' variables.

    Both networks use Adam with the same β (section 4), so the two optimizers of a GAN differ in
    their rate alone; one object keeps one step counter. All gradients are joined into one vector,
    and so are both moments and the moving average: a few operations a variable in place of forty,
    which were half of the graph of a step.

    Args:
        discriminator_ratio: the discriminators' rate divided by the generators'.
        decay: last share of ``total_steps`` over which both rates fall linearly to zero; 0 is off.
        total_steps: length of the whole schedule.
    """

    built: bool
    use_ema: bool

    def __init__(
        self,
        *args,
        discriminator_ratio: float = 2.0,
        decay: float = 0.0,
        total_steps: int = 0,
        **options,
    ):
        super().__init__(*args, **options)
        self.discriminator_ratio = discriminator_ratio
        self.decay = decay
        self.total_steps = total_steps
        self._ratios: dict[int, float] = {}

    def build_for(self, generators: list, discriminators: list, order: list) -> None:
        """Creates all slots before the first step (inside it they would cost a second trace).

        Args:
            generators: variables with the plain rate.
            discriminators: variables with the other rate.
            order: all of them, as the model lists them.
        """
        assert len(generators) + len(discriminators) == len(order)
        self.build(order)
        self._ratios = {
            self._get_variable_index(v): self.discriminator_ratio for v in discriminators
        }

    def build(self, variables: list) -> None:
        """Creates the slots: one vector of each kind for all variables together."""
        if self.built:
            return
        averaging, self.use_ema = self.use_ema, False  # Keras's slots are one for each variable
        super(keras.optimizers.Adam, self).build(variables)
        self.use_ema = averaging
        length = (sum(math.prod(v.shape) for v in variables),)
        self._momentum = self.add_variable(length, name="momentum")
        self._velocity = self.add_variable(length, name="velocity")
        if self.use_ema:
            self._average = self.add_variable(length, name="average")
        self.built = True

    def _get_current_learning_rate(self):
        """The rate of this step. In the step itself and not in a schedule object of Keras, so that
        the saved state does not depend on it."""
        rate = super()._get_current_learning_rate()
        if not self.decay or not self.total_steps:
            return rate
        left = self.total_steps - ops.cast(self.iterations, "float32")
        return rate * ops.clip(left / (self.decay * self.total_steps), 0.0, 1.0)

    def _backend_apply_gradients(self, grads, trainable_variables):
        """Adam's step for all variables at once, then the moving average."""
        if len(grads) != len(self._trainable_variables):
            raise ValueError("a variable has no gradient; build the optimizer without it")
        step = ops.cast(self.iterations + 1, "float32")
        rate = self.learning_rate * ops.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)
        gradient = _summed_over_replicas(_joined(grads))
        momentum = self._momentum + (gradient - self._momentum) * (1.0 - self.beta_1)
        velocity = self._velocity + (ops.square(gradient) - self._velocity) * (1.0 - self.beta_2)
        self._momentum.assign(momentum)
        self._velocity.assign(velocity)
        change = rate * momentum / (ops.sqrt(velocity) + self.epsilon)
        for index, (variable, part) in enumerate(
            zip(trainable_variables, self._parts(change), strict=True)
        ):
            ratio = self._ratios.get(index, 1.0)
            self.assign_sub(variable, part if ratio == 1.0 else part * ratio)
        if self.use_ema:
            # The momentum grows with the steps to its full value; otherwise the untrained weights
            # would show for as many steps as the average is long. The first step takes the weights.
            keep = ops.minimum(self.ema_momentum, step / (9.0 + step))
            keep = ops.where(step > 1.0, keep, 0.0)
            weights = _joined(trainable_variables)
            self._average.assign(weights + (self._average - weights) * keep)

    def _parts(self, vector) -> list:
        """A vector of all variables cut into their shapes."""
        shapes = [tuple(v.shape) for v in self._trainable_variables]
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1].tolist()
        parts = ops.split(vector, ends) if ends else [vector]
        return [ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]

    def averages(self) -> list:
        """The moving average of every variable, in the order of :meth:`build_for`."""
        return self._parts(self._average.value)

    def finalize_variable_values(self, var_list):
        """Leaves the weights as they are when ``fit`` returns.

        Keras would overwrite them with the moving averages. A run calls ``fit`` once for every
        stretch between two checkpoints and goes on from the weights; the averages are copied into
        the saved model instead (:meth:`facehal.training.phases.GanTrainer.copy_averages_to`).
        """

    def get_config(self):
        """Adam's configuration, the ratio and the decay."""
        ours = {"decay": self.decay, "total_steps": self.total_steps}
        return {**super().get_config(), "discriminator_ratio": self.discriminator_ratio, **ours}


def build_optimizer(config: TrainingConfig, total_steps: int = 0) -> GanAdam:
    """The optimizer of section 4, with the generators' moving average if one is asked for.

    ``total_steps`` is the length of the schedule, over whose last share the rates may decay.
    """
    return GanAdam(
        config.generator_rate,
        beta_1=config.beta1,
        beta_2=config.beta2,
        discriminator_ratio=config.discriminator_rate / config.generator_rate,
        decay=config.decay,
        total_steps=total_steps,
        name="gan_adam",  # variables of a second model in the same process have the same paths
        use_ema=config.moving_average > 0,
        ema_momentum=config.moving_average or 0.99,
    )


@keras.saving.register_keras_serializable("facehal")
class LossReport(keras.metrics.Metric):
    """Running means of many named scalars in one variable (a metric each would cost the graph)."""

    def __init__(self, names: tuple[str, ...], name: str = "losses"):
        super().__init__(name=name)
        self.names = names
        self.sums = self.add_weight(shape=(len(names),), initializer="zeros", name="sums")
        self.steps = self.add_weight(shape=(), initializer="zeros", name="steps")

    def update_state(self, values: dict):
        """Adds one step's values; every name must be there."""
        vector = ops.stack([ops.cast(values[name], "float32") for name in self.names])
        self.sums.assign(self.sums + vector)
        self.steps.assign(self.steps + 1.0)

    def result(self) -> dict:
        """{name: mean since the last reset}."""
        means = self.sums / ops.maximum(self.steps, 1.0)
        return {name: means[index] for index, name in enumerate(self.names)}
