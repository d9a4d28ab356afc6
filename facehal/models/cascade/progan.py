"""The progressively growing version (sections 3.1 and 4.3, figure 4): one block that grows."""

import logging

import keras

from facehal.config import Config, NetworkConfig
from facehal.layers.pyramid import composite
from facehal.models.base import BlockModel, build_generator, precision
from facehal.models.cascade.objective import Objective
from facehal.training.phases import GanTrainer

OUTER = ("entry", "entry_norm", "exit")  # a block's own layers; no other block can use them


@keras.saving.register_keras_serializable("facehal")
class ProGAN(BlockModel):
    """The generator of one block, straight from the masked face of its size.

    Block 8 is trained first; :func:`grow` puts the layers of the next size around it, up to 128.
    "During testing, the trained block 128 is used … directly" (section 3.1). Face pixels of the
    output are the originals'.

    Args:
        resolution: N, of this block: 8, 16, 32, 64 or 128.
        base, cap, normalization: see :class:`facehal.config.NetworkConfig`.

    Call it with ``{"masked_faces": (n, S, S, 3), "masks": (n, S, S, 1)}`` — in [0, 1], black
    outside the face, 1 = face, S at least N — for ``{"N": (n, N, N, 3)}`` in [0, 1], float32.
    """

    def __init__(
        self,
        resolution: int = 128,
        base: int = 64,
        cap: int = 512,
        normalization: str = "batch",
        **options,
    ):
        super().__init__(**options)
        self.base, self.cap, self.normalization = base, cap, normalization
        self.resolutions = (resolution,)
        config = NetworkConfig(base=base, cap=cap, normalization=normalization)
        self.generators = [build_generator(resolution, config, 3)]
        self.upscalers = []
        self.built = True

    def hallucinate(self, faces: dict, masks: dict, training=False) -> dict:
        """Like calling the model, on pyramids ``{size: pictures}`` that were made before."""
        (size,) = self.resolutions
        output = self.generators[0](faces[size], training=training)
        return {str(size): composite(faces[size], masks[size], output)}

    def get_config(self):
        """The arguments of the constructor."""
        return {
            "resolution": self.resolutions[0],
            "base": self.base,
            "cap": self.cap,
            "normalization": self.normalization,
            "name": self.name,
        }


def grow(previous: ProGAN) -> ProGAN:
    """The block of twice the resolution with the smaller block inside it (figure 4).

    All layers of ``previous`` but the two that touch pixels — the first convolution with its
    normalisation, and the last — come along bit for bit, with their statistics; the first and last
    convolutions and one more step down and up around the old ones are new. ``previous`` stays as
    it is.

    Raises:
        ValueError: ``previous`` is as large as a block can be.
    """
    (size,) = previous.resolutions
    if size >= 128:
        raise ValueError(f"block {size} is the largest; there is none to grow into")
    config = {**previous.get_config(), "resolution": 2 * size}
    grown = ProGAN.from_config(config)
    old, new = previous.generators[0], grown.generators[0]
    for layer in old.layers:
        if layer.weights and layer.name not in OUTER:
            new.get_layer(layer.name).set_weights(layer.get_weights())
    return grown


class StageTrainer(GanTrainer):
    """One stage of the growth: a block with a new discriminator and a new optimizer.

    "The loss function, hyper parameters and training data are kept the same" (section 3.1) as the
    cascade's. The paper does not say what becomes of the discriminator; here "each block" has its
    own, as in the cascade.

    Args:
        config: the experiment.
        stage: which of ``config.network.resolutions``, from 0.
        previous: the trained block of the stage before, to grow from; without it all layers are
            new (the first stage, or one whose weights a checkpoint will bring).
        objective, jit_compile, total_steps: as :class:`facehal.training.phases.GanTrainer`; the
            steps are this stage's.

    Raises:
        WeightsError: a loss needs a weight file that is not here.
    """

    def __init__(
        self,
        config: Config,
        stage: int,
        previous: ProGAN | None = None,
        objective: Objective | None = None,
        jit_compile: bool | str = "auto",
        total_steps: int = 0,
    ):
        if keras.backend.backend() == "tensorflow":
            logging.getLogger("tensorflow").addFilter(_other_than_retracing)
        resolution = config.network.resolutions[stage]
        network = config.network
        with precision(config.training.precision):
            if previous is not None:
                model = grow(previous)
            else:
                shape = (network.base, network.cap, network.normalization)
                model = ProGAN(resolution, *shape, name="progan")
        if model.resolutions != (resolution,):
            raise ValueError(
                f"stage {stage} is block {resolution}, but {previous} grows to {model.resolutions}"
            )
        super().__init__(
            model,
            config,
            objective,
            jit_compile=jit_compile,
            total_steps=total_steps,
            name=f"progan_trainer_{resolution}",
        )


def _other_than_retracing(record: logging.LogRecord) -> bool:
    """Keeps one warning of TensorFlow out of the log.

    It tells functions apart by their place in Keras, so that the fifth stage looks to it like one
    function that is traced for the fifth time. Every stage has new networks; each is traced once.
    """
    return "triggered tf.function retracing" not in record.getMessage()
