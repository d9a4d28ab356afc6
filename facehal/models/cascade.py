"""The cascade of GAN blocks (section 3.1, figure 2): what is saved, and what trains it."""

from functools import partial

import keras
from keras import ops

from facehal.config import Config, NetworkConfig
from facehal.losses.objective import Objective
from facehal.models.block import (
    LossReport,
    build_discriminator,
    build_generator,
    build_optimizer,
    detached,
    precision,
)
from facehal.models.pyramid import composite, pyramid
from facehal.networks import Upscaler


@keras.saving.register_keras_serializable("facehal")
class Cascade(keras.Model):
    """Generators and upscalers of all blocks: from a masked face to pictures of every resolution.

    The input of block N is the masked face at N and, from the second block on, the output of the
    previous block upscaled by a learned pixel-shuffle layer. Face pixels of every output are the
    originals'.

    Args:
        base, cap, normalization, resolutions, end_to_end: see
            :class:`facehal.config.NetworkConfig`. Without ``end_to_end`` no gradient crosses from
            one block into the previous one ("independently", section 3.2).

    Call it with ``{"masked_faces": (n, S, S, 3), "masks": (n, S, S, 1)}`` — in [0, 1], black
    outside the face, 1 = face, S the largest resolution — for ``{"8": (n, 8, 8, 3), …}`` in
    [0, 1], float32.
    """

    def __init__(
        self,
        base: int = 64,
        cap: int = 512,
        normalization: str = "batch",
        resolutions: tuple[int, ...] = (8, 16, 32, 64, 128),
        end_to_end: bool = False,
        **options,
    ):
        super().__init__(**options)
        self.base, self.cap, self.normalization = base, cap, normalization
        self.resolutions = tuple(resolutions)
        self.end_to_end = end_to_end
        config = NetworkConfig(base=base, cap=cap, normalization=normalization)
        self.generators = [
            build_generator(size, config, 3 if index == 0 else 6)
            for index, size in enumerate(self.resolutions)
        ]
        self.upscalers = [Upscaler(name=f"upscaler_{size}") for size in self.resolutions[:-1]]
        for size, upscaler in zip(self.resolutions, self.upscalers, strict=False):
            upscaler.build((None, size, size, 3))
        self.built = True

    def build(self, input_shape=None):
        """Nothing is left to build: the constructor knows every shape."""

    def call(self, inputs, training=False):
        """All resolutions in one pass, lowest first."""
        faces = pyramid(inputs["masked_faces"], self.resolutions)
        masks = pyramid(inputs["masks"], self.resolutions)
        return self.hallucinate(faces, masks, training=training)

    def hallucinate(self, faces: dict, masks: dict, training=False) -> dict:
        """Like calling the model, on pyramids that were made before."""
        outputs: dict[str, object] = {}
        previous = None
        for index, size in enumerate(self.resolutions):
            x = faces[size]
            if previous is not None:
                rough = self.upscalers[index - 1](previous)
                x = ops.concatenate([x, ops.cast(rough, x.dtype)], axis=-1)
            output = self.generators[index](x, training=training)
            output = composite(faces[size], masks[size], output)
            outputs[str(size)] = output
            previous = output if self.end_to_end else ops.stop_gradient(output)
        return outputs

    def get_config(self):
        """The arguments of the constructor."""
        return {
            "base": self.base,
            "cap": self.cap,
            "normalization": self.normalization,
            "resolutions": list(self.resolutions),
            "end_to_end": self.end_to_end,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """From :meth:`get_config`."""
        return cls(**config)


class CascadeTrainer(keras.Model):
    """The cascade with its discriminators and losses: one compiled step trains all blocks.

    The step is Keras's own on every backend. :meth:`compute_loss` returns the sum of all blocks'
    generator and discriminator losses, arranged so that each term reaches only the variables it
    is meant for; a single backward pass then gives both networks' gradients.

    Args:
        config: the experiment.
        jit_compile: XLA on or off; ``auto`` is on for JAX and on a GPU. On a CPU under TensorFlow
            it pays only for wide networks.
        total_steps: length of the schedule; needed where ``config.training.decay`` is not 0.

    Trains on ``{"faces": (n, S, S, 3) uint8, "masks": (n, S, S) uint8}`` (1 = face).

    Raises:
        WeightsError: a loss needs a weight file that is not here.
    """

    def __init__(self, config: Config, jit_compile: bool | str = "auto", total_steps: int = 0):
        super().__init__(name="cascade_trainer")
        network = config.network
        self.config = config
        self.resolutions = network.resolutions
        objective = self.objective = Objective(config.loss)
        with precision(config.training.precision):
            self.cascade = Cascade(
                network.base,
                network.cap,
                network.normalization,
                network.resolutions,
                network.end_to_end,
                name="cascade",
            )
            self.discriminators = [
                build_discriminator(n, network)
                for n in self.resolutions
                if objective.adversarial_at(n)
            ]
        names = [f"{n}/{term}" for n in self.resolutions for term in self.objective.names(n)]
        self.report = LossReport(tuple(names))
        self.built = True
        optimizer = build_optimizer(config.training, total_steps)
        jit = resolve_jit(jit_compile)
        if not jit:
            skip_graph_rewriting()
        self.compile(optimizer=optimizer, jit_compile=jit)
        optimizer.build_for(
            self.cascade.trainable_variables,
            [v for d in self.discriminators for v in d.trainable_variables],
            self.trainable_variables,
        )

    def build(self, input_shape=None):
        """Nothing is left to build: the constructor knows every shape."""

    def call(self, inputs, training=False):
        """Pyramids of faces and masks, and the outputs of every block."""
        faces = ops.cast(inputs["faces"], "float32") / 255.0
        masks = ops.cast(inputs["masks"], "float32")[..., None]
        sizes = self.resolutions
        masked, shares = pyramid(faces * masks, sizes), pyramid(masks, sizes)
        targets = pyramid(faces, sizes)
        return {
            "targets": [targets[n] for n in sizes],
            "outputs": list(self.cascade.hallucinate(masked, shares, training=training).values()),
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
            )
            total += losses.generator + losses.discriminator
            report.update({f"{size}/{name}": value for name, value in losses.report.items()})
        self.report.update_state(report)
        return total

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Every term of every block by name (``128/pixel``), averaged since the last reset."""
        return {name: value for name, value in self.report.result().items()}

    @property
    def metrics(self):
        """The report alone; Keras resets what stands here at the start of an epoch."""
        return [self._loss_tracker, self.report]

    def copy_averages_to(self, cascade: Cascade) -> None:
        """Gives a cascade of the same shape the moving averages, or the weights if there are none.

        Statistics of batch normalisation are averages already and are taken as they are.
        """
        values = {id(v): v for v in self.cascade.variables}
        if self.optimizer.use_ema and int(self.optimizer.iterations.numpy()) > 0:
            averages = self.optimizer.averages()
            for variable, average in zip(self.trainable_variables, averages, strict=True):
                values[id(variable)] = average
        for theirs, ours in zip(cascade.variables, self.cascade.variables, strict=True):
            theirs.assign(values[id(ours)].numpy())


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
