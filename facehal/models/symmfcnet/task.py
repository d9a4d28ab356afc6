"""The training of SymmFCNet: stage I, stage II, then all of it together.

"Stage I: landmark, illumination-consistency, TV losses; II: symmetry, reconstruction, adversarial;
end to end": so much the paper says. In what order the networks of a step are updated it does not:
generators and discriminator are, from one pass, the generators' loss looking through a
discriminator that is detached.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.features.lpips import LPIPS
from facehal.layers.landmarks import mirrored
from facehal.layers.optimizers import adam
from facehal.layers.pyramid import composite
from facehal.losses import terms
from facehal.models.base import detached, precision
from facehal.models.symmfcnet import losses
from facehal.models.symmfcnet.config import LossConfig, SymmFCNetConfig
from facehal.models.symmfcnet.model import SymmFCNet, Warped, mirror
from facehal.models.symmfcnet.networks import discriminator
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
    discriminator_loss,
)

Tensor = Any

WARPING, RECONSTRUCTION, JOINT = range(3)
"""Index of each stage."""

WARPING_TERMS = ("landmark", "smoothness", "illumination")
RECONSTRUCTION_TERMS = ("reconstruction", "perceptual", "symmetry", "adversarial")


def stage_terms(config: LossConfig, stage: int) -> tuple[str, ...]:
    """The terms of a stage whose weight is not zero."""
    names = {
        WARPING: WARPING_TERMS,
        RECONSTRUCTION: RECONSTRUCTION_TERMS,
        JOINT: (*WARPING_TERMS, *RECONSTRUCTION_TERMS),
    }[stage]
    return tuple(name for name in names if getattr(config, name))


class SymmFCNetSystem(System):
    """One stage: which networks move and by which terms.

    Trains on batches of ``faces`` (n, S, S, 3) uint8, ``masks`` (n, S, S) uint8, 1 = face,
    ``fill`` (n, S, S, 3) uint8, the noise in the hole, and ``landmarks`` with their
    ``counterparts`` in the mirror image, (n, 68, 2) in pixels.

    Args:
        model: with RecNet in all stages but the first.
        config: the experiment.
        stage: :data:`WARPING`, :data:`RECONSTRUCTION` or :data:`JOINT`.
        total_steps: of the stage.
        lpips: the perceptual term; None where the stage has none.
    """

    model: SymmFCNet

    def __init__(
        self,
        model: SymmFCNet,
        config: SymmFCNetConfig,
        stage: int,
        total_steps: int,
        lpips: LPIPS | None,
    ):
        training, side = config.training, config.network.resolution
        self.weights, self.stage, self.lpips, self.side = config.loss, stage, lpips, side
        self.terms = stage_terms(config.loss, stage)
        warping = [*model.flow.trainable_variables, *model.light.trainable_variables]
        painting: list[keras.Variable] = []
        if model.reconstruction is not None:
            painting = model.reconstruction.trainable_variables
        ours = {WARPING: warping, RECONSTRUCTION: painting, JOINT: [*warping, *painting]}[stage]
        rate = training.warping_rate if stage == WARPING else training.generator_rate
        make = partial(
            adam,
            training.optimizer,
            beta1=training.beta1,
            beta2=training.beta2,
            decay=training.decay,
            total_steps=total_steps,
        )
        updates = [Update(make(ours, rate, name="generators"), ours)]
        self.discriminator = None
        if "adversarial" in self.terms:
            with precision(training.precision):
                self.discriminator = discriminator(side, config.network.discriminator_base)
            theirs = self.discriminator.trainable_variables
            optimizer = make(theirs, training.discriminator_rate, name="discriminator")
            updates.append(Update(optimizer, theirs))
        names = columns(config, stage)
        super().__init__(
            model=model,
            networks=[model, *([] if self.discriminator is None else [self.discriminator])],
            phases=[Phase("all networks", self.loss, updates, names)],
            watched=f"{side}/generator",
            momentum=training.moving_average,
        )

    def loss(self, batch: Batch, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the stage's terms plus the discriminator's loss, and all by name."""
        original = ops.cast(batch["faces"], "float32") / 255.0
        mask = ops.cast(batch["masks"], "float32")[..., None]
        face, noise = original * mask, ops.cast(batch["fill"], "float32") / 255.0
        # In stage II the networks before RecNet are as stage I has left them.
        warped = self.model.warp(face, mask, noise, training=self.stage != RECONSTRUCTION)
        report: dict[str, Tensor] = {}
        judged: Tensor = 0.0
        if self.stage != RECONSTRUCTION:
            report |= self._warping(original, warped, batch)
        if self.stage != WARPING:
            found, judged, more = self._reconstruction(original, face, mask, warped)
            report |= found
        report = {name: report[name] for name in self.terms}
        total = sum(getattr(self.weights, name) * value for name, value in report.items())
        report["generator"] = total
        if self.discriminator is not None:
            report |= more
        return total + judged, {f"{self.side}/{name}": value for name, value in report.items()}

    def _warping(self, original: Tensor, warped: Warped, batch: Batch) -> dict[str, Tensor]:
        points, places = (ops.cast(batch[n], "float32") for n in ("landmarks", "counterparts"))
        return {
            "landmark": losses.landmark(warped.grid, points, places),
            "smoothness": losses.smoothness(warped.grid, self.model.flow_kind),
            "illumination": losses.illumination(original, warped.relit, warped.counterpart),
        }

    def _reconstruction(
        self, original: Tensor, face: Tensor, mask: Tensor, warped: Warped
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Terms, the discriminator's loss, and what is reported of it."""
        pictures, features = self.model.reconstruct(warped, training=True, mirrored=True)
        both = ops.concatenate([original, mirror(original)], axis=0)
        completed = composite(face, mask, pictures[: original.shape[0]])
        found = {
            "reconstruction": terms.l1(both, pictures),
            "symmetry": losses.symmetry(features, warped.grid, warped.both),
        }
        if self.lpips is not None:
            found["perceptual"] = ops.mean(self.lpips(original, completed))
        if self.discriminator is None:
            return found, ops.zeros(()), {}
        found["adversarial"] = terms.adversarial(detached(self.discriminator)(completed))
        real = self.discriminator(original, training=True)
        fake = self.discriminator(ops.stop_gradient(completed), training=True)
        judged = terms.discriminator_real(real, 1.0) + terms.discriminator_fake(fake)
        more = {"discriminator": judged, "real": ops.mean(real), "fake": ops.mean(fake)}
        return found, judged, more


def columns(config: SymmFCNetConfig, stage: int) -> tuple[str, ...]:
    """What a stage reports: its terms, their weighted sum, and its discriminator."""
    names = [*stage_terms(config.loss, stage), "generator"]
    if "adversarial" in names:
        names += ["discriminator", "real", "fake"]
    return tuple(f"{config.network.resolution}/{name}" for name in names)


class SymmFCNetTask(Task):
    """Three stages; the discriminator of each that has one is new."""

    landmarks = True

    def __init__(self, config: SymmFCNetConfig):
        self.config: SymmFCNetConfig = config
        training = config.training
        self.side = config.network.resolution
        self.stages = (
            Stage("warping", "stage I, warping", training.warping_epochs),
            Stage("reconstruction", "stage II, reconstruction", training.epochs),
            Stage("joint", "end to end", training.joint_epochs),
        )
        all_of_them = (name for stage in range(3) for name in columns(config, stage))
        self.columns = tuple(dict.fromkeys(all_of_them))
        version = config.loss.lpips_version if config.loss.perceptual else ""
        self.measures = PictureMeasures((self.side,), lpips_version=version)
        self._lpips: LPIPS | None = None

    def build(self, stage: int, previous: keras.Model | None, total_steps: int) -> SymmFCNetSystem:
        """See :meth:`facehal.models.task.Task.build`.

        Raises:
            WeightsError: the perceptual term needs LPIPS's weights, which are not here.
        """
        terms_here = stage_terms(self.config.loss, stage)
        if "perceptual" in terms_here and self._lpips is None:
            self._lpips = LPIPS(self.config.loss.lpips_version)  # the last two stages share it
        with precision(self.config.training.precision):
            model = self.network(reconstructs=stage != WARPING)
        if previous is not None:
            _copy(previous, model)
        lpips = self._lpips if "perceptual" in terms_here else None
        return SymmFCNetSystem(model, self.config, stage, total_steps, lpips)

    def network(self, reconstructs: bool) -> SymmFCNet:
        """A new model of the configuration."""
        network = self.config.network
        return SymmFCNet(
            network.resolution,
            flow_base=network.flow_base,
            flow_cap=network.flow_cap,
            flow_kind=network.flow,
            light_base=network.light_base,
            light_cap=network.light_cap,
            reconstruction_base=network.reconstruction_base,
            reconstruction_cap=network.reconstruction_cap,
            normalization=network.normalization,
            reconstructs=reconstructs,
            name="symmfcnet",
        )

    def prepare(self, batch: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
        """Adds the noise of the holes and the landmarks' counterparts in the mirror image."""
        # The fourth number of a seed keeps it apart from those of the pipeline.
        random = np.random.default_rng((self.config.training.seed, step, 3))
        fill = random.integers(0, 256, batch["faces"].shape, np.uint8)
        counterparts = mirrored(batch["landmarks"], self.side)
        return {**batch, "fill": fill, "counterparts": counterparts}

    def page(self) -> Page:
        """Every term times its weight, by stage, and the discriminator."""
        loss, side = self.config.loss, self.side

        def lines(names: Sequence[str]) -> list[ChartLine]:
            return [
                ChartLine(name, f"{side}/{name}", f"c{index}", getattr(loss, name))
                for index, name in enumerate(names)
                if getattr(loss, name)
            ]

        total = ChartLine("sum", f"{side}/generator")
        charts = [
            Chart("Warping: FlowNet and LightNet", lines(WARPING_TERMS), log=True),
            Chart("Reconstruction", [*lines(RECONSTRUCTION_TERMS), total], log=True),
        ]
        if loss.adversarial:
            bound = self.config.training.collapse_bound
            answers = (("real pictures", "real", "c3"), ("completed", "fake", "c2"))
            charts += [
                discriminator_loss(f"{side}/discriminator", bound),
                Chart(
                    "Its answer",
                    [ChartLine(name, f"{side}/{key}", colour) for name, key, colour in answers],
                ),
            ]
        return Page(
            title=f"SymmFCNet, size {self.config.size}, {side}×{side}",
            charts={f"{side}×{side}": charts},
            explanation="Every term times its weight; their sum is that of the stage. "
            "Discriminator (LSGAN): 1 is its aim for real pictures, 0 for completed ones, and its "
            "loss 0.5 where it cannot tell them apart.",
            side=side,
        )


def _copy(previous: keras.Model, model: SymmFCNet) -> None:
    """Takes over every network that the model of the stage before has."""
    for part in ("flow", "light", "reconstruction"):
        trained = getattr(previous, part)
        if trained is not None:
            getattr(model, part).set_weights(trained.get_weights())
