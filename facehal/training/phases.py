"""What trains generators: their discriminators, their losses and the one step for all of them."""

from functools import partial

import keras
from keras import ops

from facehal.backend import replicas
from facehal.config import Config
from facehal.layers.pyramid import pyramid
from facehal.models.base import (
    BlockModel,
    LossReport,
    build_discriminator,
    build_optimizer,
    detached,
    precision,
)
from facehal.models.cascade.objective import Objective


class GanTrainer(keras.Model):
    """Generators with their discriminators and losses: one compiled step trains all blocks.

    The step is Keras's own on every backend. :meth:`compute_loss` returns the sum of all blocks'
    generator and discriminator losses, arranged so that each term reaches only the variables it
    is meant for; a single backward pass then gives both networks' gradients. Every block has a
    discriminator of its own (section 3.1).

    Args:
        network: the generators, a cascade or a stage of the growing network.
        config: the experiment.
        objective: the losses, if they are there already (they may hold large frozen networks).
        jit_compile: XLA on or off; ``auto`` is on for JAX and on a GPU. On a CPU under TensorFlow
            it pays only for wide networks.
        total_steps: length of the schedule; needed where ``config.training.decay`` is not 0.

    Trains on ``{"faces": (n, S, S, 3) uint8, "masks": (n, S, S) uint8}`` (1 = face); S is at least
    the network's largest resolution.

    Raises:
        WeightsError: a loss needs a weight file that is not here.
    """

    def __init__(
        self,
        network: BlockModel,
        config: Config,
        objective: Objective | None = None,
        jit_compile: bool | str = "auto",
        total_steps: int = 0,
        name: str = "gan_trainer",
    ):
        super().__init__(name=name)
        self.config = config
        self.resolutions = network.resolutions
        objective = self.objective = objective or Objective(config.loss)
        self.network = network
        with precision(config.training.precision):
            self.discriminators = [
                build_discriminator(n, config.network)
                for n in self.resolutions
                if objective.config.adversarial_at(n)
            ]
        names = [f"{n}/{term}" for n in self.resolutions for term in objective.names(n)]
        self.report = LossReport(tuple(names))
        # The optimizer's counter is out of reach where JAX computes the loss.
        self.steps = self.add_weight((), "zeros", "int32", trainable=False, name="steps")
        self.built = True
        optimizer = build_optimizer(config.training, total_steps)
        jit = resolve_jit(jit_compile)
        if not jit:
            skip_graph_rewriting()
        self.compile(optimizer=optimizer, jit_compile=jit)
        optimizer.build_for(
            network.trainable_variables,
            [v for d in self.discriminators for v in d.trainable_variables],
            self.trainable_variables,
        )

    def build(self, input_shape=None):
        """Nothing is left to build: the constructor knows every shape."""

    def call(self, inputs, training=False):
        """Targets and outputs of every block, ``{"targets": [...], "outputs": [...]}``."""
        faces = ops.cast(inputs["faces"], "float32") / 255.0
        masks = ops.cast(inputs["masks"], "float32")[..., None]
        sizes = self.resolutions
        masked, shares = pyramid(faces * masks, sizes), pyramid(masks, sizes)
        targets = pyramid(faces, sizes)
        return {
            "targets": [targets[n] for n in sizes],
            "outputs": list(self.network.hallucinate(masked, shares, training=training).values()),
        }

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum of every block's losses (equation 6 and LSGAN); also fills the report."""
        total, report = 0.0, {}
        networks = {network.resolution: network for network in self.discriminators}
        for index, size in enumerate(self.resolutions):
            network = networks.get(size)
            losses = self.objective(
                y_pred["targets"][index],
                y_pred["outputs"][index],
                discriminator=network and partial(network, training=training),
                detached_discriminator=network and detached(network),
                step=self.steps,
            )
            total += losses.generator + losses.discriminator
            report.update({f"{size}/{name}": value for name, value in losses.report.items()})
        self.report.update_state(report)
        if training:
            self.steps.assign_add(1)
        # Each device adds its share's gradient to the sum (see GanAdam).
        return total / replicas()

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Every term of every block by name (``128/pixel``), averaged since the last reset."""
        return {name: value for name, value in self.report.result().items()}

    @property
    def metrics(self):
        """The report alone; Keras resets what stands here at the start of an epoch."""
        return [self._loss_tracker, self.report]

    def copy_averages_to(self, network: BlockModel) -> None:
        """Gives a network of the same shape the moving averages, or the weights if there are none.

        Statistics of batch normalisation are averages already and are taken as they are.
        """
        averages = {}
        if self.optimizer.use_ema and int(self.optimizer.iterations.numpy()) > 0:
            pairs = zip(self.trainable_variables, self.optimizer.averages(), strict=True)
            averages = {id(variable): average for variable, average in pairs}
        for theirs, ours in zip(network.variables, self.network.variables, strict=True):
            average = averages.get(id(ours))
            theirs.assign(ours.numpy() if average is None else ops.convert_to_numpy(average))


def resolve_jit(choice: bool | str) -> bool:
    """XLA for JAX and on a GPU; plain graphs for TensorFlow on a CPU."""
    if choice != "auto":
        return bool(choice)
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def skip_graph_rewriting() -> None:
    """Keeps TensorFlow from rewriting plain graphs, for this process.

    For a whole training step that takes seven seconds of the first one and makes none faster.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
