"""The training of the cascade and of ProGAN: one pass over the sum of all blocks' losses.

The sum is arranged so that each term reaches only the variables that it is meant for: the
generators' losses look through discriminators that are detached, the discriminators' at pictures
that are. A single backward pass then gives both networks' gradients, as two separate ones would.
"""

from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.errors import ConfigError
from facehal.layers.optimizers import adam
from facehal.layers.pyramid import pyramid, resized
from facehal.models.base import detached, precision, read_model
from facehal.models.cascade.blocks import BlockModel, build_discriminator
from facehal.models.cascade.cascade import Cascade
from facehal.models.cascade.config import CascadeConfig, NetworkConfig
from facehal.models.cascade.latent import SIDE, Encoder, latents, shares
from facehal.models.cascade.objective import Objective
from facehal.models.cascade.progan import ProGAN, grow
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
    probabilities,
)

Tensor = Any

DIVERGENCE = "encoder/divergence"  # the encoder's column of history.csv

# Terms of equation 6 with the name of their weight, in the order and colours of a run's page.
TERMS = (
    ("pixel", None, "c0"),
    ("perceptual", "perceptual", "c1"),
    ("adversarial", "adversarial", "c2"),
    ("identity", "identity", "c3"),
    ("total_variation", "total_variation", "c5"),
    ("lattice", "lattice", "c4"),
)


class GanSystem(System):
    """Generators with their discriminators and losses: one phase trains all blocks.

    Every block has a discriminator of its own (section 3.1), where its loss has an adversarial
    term. Trains on ``{"faces": (n, S, S, 3) uint8, "masks": (n, S, S) uint8}`` (1 = face); S is at
    least the network's largest resolution.

    Args:
        network: the generators, a cascade or a stage of the growing network. Those that are not
            trainable have neither losses nor discriminators.
        config: the experiment.
        objective: the losses.
        total_steps: length of the schedule; needed where ``config.training.decay`` is not 0.
    """

    def __init__(
        self,
        network: BlockModel,
        config: CascadeConfig,
        objective: Objective,
        total_steps: int = 0,
    ):
        training = config.training
        self.resolutions = network.resolutions
        self.trained = tuple(one.resolution for one in network.generators if one.trainable)
        self.objective, self.latent = objective, network.latent
        with precision(training.precision):
            self.discriminators = [
                build_discriminator(n, config.network)
                for n in self.trained
                if objective.config.adversarial_at(n)
            ]
            # With blocks that stay as they are the vector means what it means.
            learnt = self.latent and self.trained == self.resolutions
            self.encoder = Encoder(self.latent, name="encoder") if learnt else None
        make = partial(
            adam,
            training.optimizer,
            beta1=training.beta1,
            beta2=training.beta2,
            decay=training.decay,
            total_steps=total_steps,
        )
        ours = network.trainable_variables
        if self.encoder is not None:
            ours = [*ours, *self.encoder.trainable_variables]
        updates = [Update(make(ours, training.generator_rate, name="generators"), ours)]
        theirs = [v for d in self.discriminators for v in d.trainable_variables]
        if theirs:
            optimizer = make(theirs, training.discriminator_rate, name="discriminators")
            updates.append(Update(optimizer, theirs))
        names = [f"{n}/{term}" for n in self.trained for term in objective.names(n)]
        others = [] if self.encoder is None else [self.encoder]
        if others:
            names.append(DIVERGENCE)
        super().__init__(
            model=network,
            networks=[network, *self.discriminators, *others],
            phases=[Phase("all blocks", self.loss, updates, tuple(names))],
            watched=f"{self.resolutions[-1]}/pixel",
            momentum=training.moving_average,
        )

    def pictures(
        self, batch: Batch, training: bool = False
    ) -> tuple[dict[int, Tensor], dict[int, Tensor], Tensor]:
        """Targets and outputs of every block, ``{size: (n, size, size, 3)}`` each, and how far the
        encoder's latent vectors are from normal ones, in nats."""
        faces = ops.cast(batch["faces"], "float32") / 255.0
        masks = ops.cast(batch["masks"], "float32")[..., None]
        sizes = self.resolutions
        targets, masked, parts = (pyramid(x, sizes) for x in (faces, faces * masks, masks))
        vectors, nats = None, ops.zeros(())
        if self.latent:
            noise = ops.cast(batch["noise"], "float32")
            seen, part = (resized(x, SIDE) for x in (faces, masks))
            vectors, nats = latents(self.encoder, seen, part, noise)
        outputs = self.model.hallucinate(masked, parts, training=training, latent=vectors)
        return targets, {n: outputs[str(n)] for n in sizes}, nats

    def loss(self, batch: Batch, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of every block's losses (equation 6 and LSGAN), and every term by name."""
        targets, outputs, nats = self.pictures(batch, training=True)
        compared = None
        if self.latent:
            compared = sum(shares(batch["faces"].shape[0], self.encoder is not None))
        networks = {network.resolution: network for network in self.discriminators}
        total: Tensor = 0.0
        report: dict[str, Tensor] = {}
        for size in self.trained:
            network = networks.get(size)
            losses = self.objective(
                targets[size],
                outputs[size],
                discriminator=None if network is None else partial(network.__call__, training=True),
                detached_discriminator=None if network is None else detached(network),
                step=step,
                compared=compared,
            )
            total += losses.generator + losses.discriminator
            report |= {f"{size}/{name}": value for name, value in losses.report.items()}
        if self.encoder is not None:
            total += self.objective.config.divergence * nats
            report[DIVERGENCE] = nats
        return total, report


class _GanTask(Task):
    """What both have in common. The losses hold frozen networks: all stages share them."""

    title: str

    def __init__(self, config: CascadeConfig):
        self.config: CascadeConfig = config
        sizes = config.network.resolutions
        self.side = sizes[-1]
        self.noise = config.network.latent
        self.augmentation = config.training.augmentation
        self._objective: Objective | None = None
        columns = [
            f"{n}/{term}" for n in self.trained() for term in Objective.terms(config.loss, n)
        ]
        self.encoded = bool(self.noise) and self.trained() == sizes
        self.columns = (*columns, *([DIVERGENCE] if self.encoded else []))
        loss = config.loss
        self.measures = PictureMeasures(
            sizes,
            pixel=loss.pixel,
            lpips_version=loss.lpips_version if loss.perceptual else "",
            lpips_from=loss.perceptual_from,
        )

    def trained(self) -> tuple[int, ...]:
        """The resolutions that have losses."""
        return self.config.network.resolutions

    def network(self, stage: int, previous: keras.Model | None) -> BlockModel:
        """The generators of a stage."""
        raise NotImplementedError

    def build(self, stage: int, previous: keras.Model | None, total_steps: int) -> GanSystem:
        """See :meth:`facehal.models.task.Task.build`."""
        with precision(self.config.training.precision):
            network = self.network(stage, previous)
        if self._objective is None:
            self._objective = Objective(self.config.loss)
        return GanSystem(network, self.config, self._objective, total_steps)

    def prepare(self, batch: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
        """The batch as it is, if it has a part for every kind of latent vector.

        Raises:
            ConfigError: there are too few faces; TensorFlow would say so in twenty lines.
        """
        if self.noise:
            shares(len(batch["faces"]), self.encoded)
        return batch

    def page(self) -> Page:
        """For every block what each term adds to the generator's loss, and its discriminator."""
        config, sizes = self.config, self.config.network.resolutions
        charts = {f"{size}×{size}": self._charts(size) for size in self.trained()}
        if self.encoded:
            line = ChartLine("divergence in nats", DIVERGENCE, "c1")
            charts["Latent vectors"] = [Chart("Encoder", [line], log=True)]
        return Page(
            title=f"{self.title}, size {config.size}, blocks {sizes[0]} to {sizes[-1]}",
            charts=charts,
            explanation="Generator: every term times its weight, and their sum, equation 6; a "
            "term far below the others has only its last value in the key. Discriminator: 0 is a "
            "perfect one, from which the generator learns nothing; "
            f"{config.loss.label_smoothing:g} is the target for real pictures.",
            side=sizes[-1],
        )

    def _charts(self, size: int) -> list[Chart]:
        loss = self.config.loss
        lines = [
            ChartLine(
                term.replace("_", " "),
                f"{size}/{term}",
                colour,
                getattr(loss, weight) if weight else 1.0,
            )
            for term, weight, colour in TERMS
        ]
        charts = [Chart("Generator", [*lines, ChartLine("sum", f"{size}/generator")], log=True)]
        if not loss.adversarial_at(size):
            return charts
        answers = (("real pictures", "real", "c3"), ("hallucinated", "fake", "c2"))
        return [
            *charts,
            discriminator_loss(f"{size}/discriminator", self.config.training.collapse_bound),
            probabilities(str(size), answers),
        ]


class CascadeTask(_GanTask):
    """All blocks in every step (section 3.1)."""

    title = "Cascade"

    def __init__(self, config: CascadeConfig):
        self._start = _started(config.network)
        super().__init__(config)
        self.stages = (Stage("", "", config.training.epochs),)

    def trained(self) -> tuple[int, ...]:
        """Those of the blocks that ``network.start`` does not bring."""
        known = self._start.resolutions if self._start else ()
        return tuple(n for n in self.config.network.resolutions if n not in known)

    def network(self, stage: int, previous: keras.Model | None) -> Cascade:
        """A new cascade, its first blocks those of ``network.start``."""
        one, start = self.config.network, self._start
        widths = one.widths
        if start is not None:
            known = [(g.base, g.cap) for g in start.generators]
            widths = (*known, *(one.width_of(n) for n in range(len(known), len(one.resolutions))))
        model = Cascade(
            one.base,
            one.cap,
            one.normalization,
            one.resolutions,
            one.end_to_end,
            widths,
            one.latent,
            name="cascade",
        )
        if start is not None:
            old: list[keras.layers.Layer] = [*start.generators, *start.upscalers]
            count = len(start.generators)
            new: list[keras.layers.Layer] = [
                *model.generators[:count],
                *model.upscalers[: count - 1],
            ]
            for theirs, ours in zip(old, new, strict=True):
                ours.set_weights(theirs.get_weights())
                ours.trainable = False
        return model


def _started(network: NetworkConfig) -> Cascade | None:
    """The trained cascade that ``network.start`` names.

    Raises:
        FacehalError: there is none, or it is not one of ours.
        ConfigError: it is no cascade, or no part of the one that the configuration describes.
    """
    name = network.start
    if not name:
        return None
    model = read_model(name)
    if not isinstance(model, Cascade):
        raise ConfigError(f"{name}: holds a {type(model).__name__}; start is a trained cascade")
    for setting in ("normalization", "latent"):
        theirs, ours = getattr(model, setting), getattr(network, setting)
        if theirs != ours:
            raise ConfigError(f"{name}: start has {setting} {theirs}; the new blocks have {ours}")
    if len(model.resolutions) >= len(network.resolutions):
        raise ConfigError(
            f"{name}: start has blocks up to {model.resolutions[-1]} and resolutions end at "
            f"{network.resolutions[-1]}; name more of them, for a block to train"
        )
    return model


class ProGANTask(_GanTask):
    """One block after the other, each grown from the one before (sections 3.1 and 4.3).

    "The loss function, hyper parameters and training data are kept the same" as the cascade's. The
    paper does not say what becomes of the discriminator; here "each block" has its own, as in the
    cascade, and every stage a new optimizer.
    """

    title = "ProGAN"

    def __init__(self, config: CascadeConfig):
        super().__init__(config)
        self.stages = tuple(
            Stage(str(size), f"block {size}", config.training.epochs_per_stage)
            for size in config.network.resolutions
        )

    def network(self, stage: int, previous: keras.Model | None) -> ProGAN:
        """The block of a stage, with the smaller one inside it.

        Raises:
            ValueError: ``previous`` is not the block of the stage before.
        """
        one = self.config.network
        resolution = one.resolutions[stage]
        if previous is None:
            return ProGAN(resolution, one.base, one.cap, one.normalization, name="progan")
        model = grow(previous)
        if model.resolutions != (resolution,):
            raise ValueError(
                f"stage {stage} is block {resolution}, but {previous} grows to {model.resolutions}"
            )
        return model
