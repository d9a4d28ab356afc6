"""The training of DeepFillv1: critics at every step, both generators together at every fifth."""

from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.layers.crops import cropped, hole_corners
from facehal.layers.optimizers import adam
from facehal.models.base import precision
from facehal.models.deepfillv1.config import DeepFillConfig
from facehal.models.deepfillv1.losses import discounts, penalty, weighted_l1
from facehal.models.deepfillv1.model import DeepFill
from facehal.models.deepfillv1.networks import GLOBAL, LOCAL, critic
from facehal.models.task import (
    Batch,
    Chart,
    ChartLine,
    Page,
    Phase,
    PictureMeasures,
    Stage,
    System,
    Task,
    Update,
)

Tensor = Any

CRITICS = ("critics", "global_distance", "local_distance", "penalty")
GENERATORS = ("generators", "hole_l1", "known_l1", "adversarial")


class DeepFillSystem(System):
    """Two generators against two critics, one of whole pictures and one of squares in the hole.

    The authors' second critic sees their square hole. Ours, whose hole is what surrounds a face,
    sees a square of half the side around a random pixel of the hole.

    Trains on batches that :meth:`DeepFillTask.prepare` has seen.

    Args:
        model: the generators.
        config: the experiment.
        total_steps: length of the schedule; needed where ``config.training.decay`` is not 0.
    """

    def __init__(self, model: DeepFill, config: DeepFillConfig, total_steps: int = 0):
        self.model: DeepFill = model
        self.config = config
        (side,) = model.resolutions
        self.square = side // 2
        training, width = config.training, config.network.critic_width
        with precision(training.precision):
            self.whole = critic(side, width, GLOBAL, "global_critic")
            self.local = critic(self.square, width, LOCAL, "local_critic")
        make = partial(
            adam,
            training.optimizer,
            rate=training.rate,
            beta1=training.beta1,
            beta2=training.beta2,
            decay=training.decay,
        )
        theirs = [*self.whole.trainable_variables, *self.local.trainable_variables]
        ours = model.trainable_variables
        every = training.critic_steps
        critics = make(theirs, total_steps=total_steps, name="critics")
        generators = make(ours, total_steps=total_steps // every, name="generators")
        super().__init__(
            model=model,
            networks=[model, self.whole, self.local],
            phases=[
                Phase("critics", self.critics_loss, [Update(critics, theirs)], CRITICS),
                Phase(
                    "generators",
                    self.generators_loss,
                    [Update(generators, ours)],
                    GENERATORS,
                    every=every,
                ),
            ],
            watched="hole_l1",
            momentum=training.moving_average,
        )

    def pictures(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Targets, holes, and what the coarse and the refinement network paint, in [-1, 1]."""
        targets = ops.cast(batch["faces"], "float32") / 127.5 - 1.0
        masks = ops.cast(batch["masks"], "float32")[..., None]
        hole = 1.0 - masks
        coarse, refined = self.model.completed(targets * masks, hole, training=True)
        return targets, hole, coarse, refined

    def views(self, batch: Batch, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """What the two critics see of pictures (n, S, S, c): all, and a square of each."""
        return pictures, cropped(pictures, batch["corners"], self.square)

    def critics_loss(self, batch: Batch, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Both critics' Wasserstein losses and penalties."""
        targets, hole, _, refined = self.pictures(batch)
        completed = ops.stop_gradient(targets + hole * (refined - targets))
        real, fake, holes = (self.views(batch, x) for x in (targets, completed, hole))
        report: dict[str, Tensor] = {"penalty": 0.0}
        total: Tensor = 0.0
        for index, network in enumerate((self.whole, self.local)):
            name = "local" if index else "global"
            distance = ops.mean(network(real[index])) - ops.mean(network(fake[index]))
            share = batch["shares"][:, index]
            steepness = penalty(network, real[index], fake[index], holes[index], share)
            total += self.config.loss.gradient_penalty * steepness - distance
            report[f"{name}_distance"] = distance
            report["penalty"] += steepness
        return total, {"critics": total, **report}

    def generators_loss(self, batch: Batch, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 of both pictures, apart in the hole and on the face, and what the critics say."""
        loss = self.config.loss
        targets, hole, coarse, refined = self.pictures(batch)
        weights = batch["discounts"][..., None]
        hole_l1 = loss.coarse * weighted_l1(targets, coarse, hole, weights)
        hole_l1 += weighted_l1(targets, refined, hole, weights)
        known_l1 = loss.coarse * weighted_l1(targets, coarse, 1.0 - hole)
        known_l1 += weighted_l1(targets, refined, 1.0 - hole)
        whole, square = self.views(batch, targets + hole * (refined - targets))
        adversarial = -ops.mean(self.whole(whole)) - ops.mean(self.local(square))
        total = loss.hole * hole_l1 + loss.known * known_l1 + loss.adversarial * adversarial
        values = (total, hole_l1, known_l1, adversarial)
        return total, dict(zip(GENERATORS, values, strict=True))


class DeepFillTask(Task):
    """One stage, as the authors' settings have it: no training of the coarse network alone."""

    def __init__(self, config: DeepFillConfig):
        self.config: DeepFillConfig = config
        self.side = config.network.resolution
        self.stages = (Stage("", "", config.training.epochs),)
        self.columns = (*CRITICS, *GENERATORS)
        # Nothing here is trained with LPIPS: no weight file is asked for.
        self.measures = PictureMeasures((self.side,), lpips_version="")

    def build(self, stage: int, previous: keras.Model | None, total_steps: int) -> DeepFillSystem:
        """See :meth:`facehal.models.task.Task.build`."""
        network = self.config.network
        with precision(self.config.training.precision):
            model = DeepFill(network.resolution, network.width, name="deepfillv1")
        return DeepFillSystem(model, self.config, total_steps)

    def prepare(self, batch: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
        """Adds what the losses need beside faces and masks.

        Returns:
            Also ``discounts`` (n, S, S) float32, ``corners`` (n, 2) int32 of the local critic's
            squares and ``shares`` (n, 2) float32 of the painted pictures in those that the
            penalties of the global and the local critic look at.
        """
        masks = batch["masks"]
        # The third number keeps it apart from what the pipeline draws.
        random = np.random.default_rng((self.config.training.seed, step, 3))
        return {
            **batch,
            "discounts": discounts(masks, self.config.loss.discount),
            "corners": hole_corners(masks, self.side // 2, random),
            "shares": random.random((len(masks), 2), dtype=np.float32),
        }

    def page(self) -> Page:
        """The generators' terms, times their weights, and what the critics say."""
        config = self.config
        loss, side = config.loss, config.network.resolution
        distances = [
            ChartLine("whole pictures", "global_distance", "c0"),
            ChartLine("squares in the hole", "local_distance", "c1"),
        ]
        return Page(
            title=f"DeepFillv1, width {config.network.width}, {side}×{side}",
            charts={
                "Generators": [
                    Chart(
                        "L1",
                        [
                            ChartLine("hole", "hole_l1", "c0", loss.hole),
                            ChartLine("face", "known_l1", "c1", loss.known),
                        ],
                        log=True,
                    ),
                    Chart(
                        "Adversarial",
                        [ChartLine("WGAN", "adversarial", "c2", loss.adversarial)],
                    ),
                ],
                "Critics": [
                    Chart("Distance of real and painted", distances),
                    Chart(
                        "Gradient penalty",
                        [ChartLine("both", "penalty", "c4", loss.gradient_penalty)],
                        log=True,
                    ),
                ],
            },
            explanation="L1 of the coarse and the refined picture in [-1, 1]; in the hole a pixel "
            f"counts {loss.discount:g} to the power of its distance to the face. Distance: by how "
            "much a critic scores real pictures higher than painted ones; it falls as the "
            "generators catch up. The adversarial term has no zero: its changes count.",
            side=side,
        )
