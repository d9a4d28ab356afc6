"""The training of the face swap: the two people's crops by turns."""

import keras
import numpy as np
from keras import ops

from facehal.layers.optimizers import adam
from facehal.losses.terms import l1
from facehal.models.base import Tensor, precision
from facehal.models.deepfake.config import DeepfakeConfig
from facehal.models.deepfake.geometry import face_side
from facehal.models.deepfake.model import ROLES, Deepfake
from facehal.models.deepfake.warping import warped
from facehal.models.task import (
    Batch,
    Chart,
    ChartLine,
    Examples,
    Page,
    Phase,
    PictureMeasures,
    Stage,
    System,
    Task,
    Update,
)


class DeepfakeTask(Task):
    """Two people's faces, one batch of each a step: first the target's (faceswap's A), then the
    source's (B)."""

    roles = ROLES

    def __init__(self, config: DeepfakeConfig):
        self.config: DeepfakeConfig = config
        self.side = face_side(config.network.crop)
        self.epoch_steps = config.training.epoch_steps
        self.stages = (Stage("", "", config.training.epochs),)
        self.columns = tuple(f"{role}/pixel" for role in ROLES)
        self.measures = PictureMeasures((self.side,), lpips_version="")

    def build(self, stage: int, previous: keras.Model | None, total_steps: int) -> System:
        """See :meth:`facehal.models.task.Task.build`."""
        one, training = self.config.network, self.config.training
        with precision(training.precision):
            model = Deepfake(
                one.crop,
                one.width,
                one.dense,
                one.targets,
                one.identity,
                one.paste,
                name="deepfake",
            )
        return System(
            model=model,
            networks=[model],
            phases=[self._phase(model, role) for role in reversed(ROLES)],
            watched="source/pixel",
            momentum=training.moving_average,
        )

    def _phase(self, model: Deepfake, role: str) -> Phase:
        """One person's step: encoder and decoder by the mean absolute error (as published, with an
        optimizer that the other person's step does not share)."""
        training, name = self.config.training, f"{role}/pixel"

        def loss(batch: Batch, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            crops, wanted = (
                ops.cast(batch[f"{role}_{kind}"], "float32") / 255.0
                for kind in ("inputs", "targets")
            )
            value = l1(wanted, model.reconstruct(crops, role))
            return value, {name: value}

        networks = (model.encoder, model.decoder(role))
        variables = [v for network in networks for v in network.trainable_variables]
        optimizer = adam(
            training.optimizer,
            variables,
            training.rate,
            training.beta1,
            training.beta2,
            decay=0.0,
            total_steps=0,
            name=role,
        )
        return Phase(role, loss, [Update(optimizer, variables)], (name,))

    def begin(self, model: keras.Model, examples: Examples) -> None:
        """The model keeps some of the target's pictures."""
        faces, _ = examples("target", self.config.network.targets)
        model.set_targets(faces)

    def prepare(self, batch: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
        """Warped crops and what they are to become again: ``source_inputs``, ``source_targets``,
        ``target_inputs`` and ``target_targets``, (b, c, c, 3) uint8 each."""
        training = self.config.training
        random = np.random.default_rng((training.seed, step, 4))
        made: dict[str, np.ndarray] = {}
        for role, faces in zip(ROLES, np.split(batch["faces"], len(ROLES)), strict=True):
            crops = warped(faces, self.config.network.crop, training, random)
            made[f"{role}_inputs"], made[f"{role}_targets"] = crops
        return made

    def page(self) -> Page:
        """The error of either person's crops."""
        network = self.config.network
        lines = [
            ChartLine(role, f"{role}/pixel", colour)
            for role, colour in zip(ROLES, ("c0", "c1"), strict=True)
        ]
        return Page(
            title=f"DeepFake, size {self.config.size}, crops of {network.crop}×{network.crop}",
            charts={
                f"{self.side}×{self.side}": [Chart("Mean absolute error of crops", lines, log=True)]
            },
            explanation="Each person's warped crops, put right by the encoder and that person's "
            f"decoder. The previews show the {network.identity}'s face on pictures of the target.",
            side=self.side,
        )
