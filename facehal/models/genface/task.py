"""The training of GenFace: a reconstruction first, then discriminators and network by turns."""

from functools import partial
from typing import Any

import cv2
import keras
import numpy as np
from keras import ops

from facehal.features.face_parser import FaceParser
from facehal.layers.crops import cropped, hole_corners
from facehal.layers.optimizers import adam
from facehal.losses.terms import l1
from facehal.models.base import precision
from facehal.models.genface.config import NO_PARSER, GenFaceConfig
from facehal.models.genface.model import GenFace
from facehal.models.genface.networks import Discriminator
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
Report = dict[str, Tensor]

GREY = 127  # what comes in at the border of a moved picture


class Reconstruction(System):
    """The first stage: the network alone, by absolute differences of the whole picture.

    Trains on ``{"faces": (n, S, S, 3) uint8, "masks": (n, S, S) uint8, "fill": (n, S, S, 3)
    float32}``; see :meth:`GenFaceTask.prepare`.

    Args:
        model: the model to train.
        config: the experiment.
        total_steps: length of the stage.
    """

    def __init__(self, model: GenFace, config: GenFaceConfig, total_steps: int):
        self.config, self.size = config, config.network.resolution
        training = config.training
        self.adam = partial(
            adam, "auto", beta2=training.beta2, decay=training.decay, total_steps=total_steps
        )
        ours = model.trainable_variables
        optimizer = self.adam(
            ours, training.generator_rate, training.generator_beta1, name="completion"
        )
        self.update = Update(optimizer, ours)
        names = (f"{self.size}/pixel", f"{self.size}/generator")
        super().__init__(
            model=model,
            networks=[model],
            phases=[Phase("reconstruction", self.reconstruction, [self.update], names)],
            watched=names[0],
            momentum=training.moving_average,
        )

    def pictures(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Originals, what the network paints, and masks: the first two in [-1, 1]."""
        faces = ops.cast(batch["faces"], "float32") / 255.0
        masks = ops.cast(batch["masks"], "float32")[..., None]
        if self.config.training.stretch:
            low = ops.min(faces, axis=(1, 2, 3), keepdims=True)
            high = ops.max(faces, axis=(1, 2, 3), keepdims=True)
            faces = (faces - low) / ops.maximum(high - low, 1.0 / 255.0)
        painted = self.model.paint(faces * masks, masks, batch["fill"], training=True)
        return 2.0 * faces - 1.0, painted, masks

    def reconstruction(self, batch: Batch, step: Tensor) -> tuple[Tensor, Report]:
        """The mean absolute difference, of the face, too."""
        targets, painted, _ = self.pictures(batch)
        loss = l1(targets, painted)
        return loss, {f"{self.size}/pixel": loss, f"{self.size}/generator": loss}


class Adversarial(Reconstruction):
    """The second stage: both discriminators, then the network, on every batch.

    The batch also has ``"corners"`` (n, 2), of the squares that the local discriminator sees.

    Args:
        model: the model to train.
        config: the experiment.
        total_steps: length of the stage.
        parser: pictures in [0, 1] → logits, frozen, or None.
    """

    def __init__(
        self,
        model: GenFace,
        config: GenFaceConfig,
        total_steps: int,
        parser: keras.Model | None,
    ):
        super().__init__(model, config, total_steps)
        training, size = config.training, self.size
        base = config.network.discriminator_base
        self.parser = parser
        with precision(training.precision):
            self.local = Discriminator(size // 2, 2 * base, name="local")
            self.whole = Discriminator(size, base, name="whole")
        updates = [
            Update(
                self.adam(
                    network.trainable_variables,
                    training.discriminator_rate,
                    training.discriminator_beta1,
                    name=network.name,
                ),
                network.trainable_variables,
            )
            for network in (self.local, self.whole)
        ]
        parsing = [] if parser is None else [f"{size}/parsing"]
        self.networks = [model, self.local, self.whole]
        self.phases = [
            Phase("discriminators", self.discriminators, updates, _judging(size)),
            Phase("network", self.generator, [self.update], (*_painting(size), *parsing)),
        ]

    def discriminators(self, batch: Batch, step: Tensor) -> tuple[Tensor, Report]:
        """Cross-entropy of both, half of it real and half painted pictures."""
        targets, painted, masks = self.pictures(batch)
        pasted = ops.stop_gradient(targets * masks + painted * (1.0 - masks))
        total: Tensor = 0.0
        probabilities: list[tuple[Tensor, Tensor]] = []
        for network, seen in ((self.local, self._square), (self.whole, _all)):
            real, fake = (network(seen(x, batch), training=True) for x in (targets, pasted))
            total += ops.mean(ops.softplus(-real) + ops.softplus(fake)) / 2.0
            probabilities.append((ops.mean(ops.sigmoid(real)), ops.mean(ops.sigmoid(fake))))
        real, fake = (sum(pair) / 2.0 for pair in zip(*probabilities, strict=True))
        names = _judging(self.size)
        return total, dict(zip(names, (total, real, fake), strict=True))

    def generator(self, batch: Batch, step: Tensor) -> tuple[Tensor, Report]:
        """All terms by the authors' weights, over the number of a picture's values."""
        weights, values = self.config.loss, 3.0 * self.size**2
        targets, painted, masks = self.pictures(batch)
        pasted = targets * masks + painted * (1.0 - masks)
        local = ops.mean(ops.softplus(-self.local(self._square(pasted, batch), training=True)))
        # The authors add this discriminator's gradient to the painted face, too, though it judged
        # the original one there.
        through = painted + ops.stop_gradient(pasted - painted)
        whole = ops.mean(ops.softplus(-self.whole(through, training=True)))
        pixel = l1(targets, painted)
        total = pixel + (weights.local * local + weights.whole * whole) / values
        report = dict(zip(_painting(self.size), (pixel, local, whole, total), strict=True))
        if self.parser is not None:
            parsing = parsing_loss(self.parser, targets, pasted)
            total += weights.parsing * parsing * self.size**2 / values
            report |= {f"{self.size}/parsing": parsing, f"{self.size}/generator": total}
        return total, report

    def _square(self, pictures: Tensor, batch: Batch) -> Tensor:
        return cropped(pictures, batch["corners"], self.size // 2)


def parsing_loss(parser: keras.Model, targets: Tensor, pasted: Tensor) -> Tensor:
    """Mean cross-entropy over all pixels; the labels are what the parser says of the original.

    Args:
        parser: see :func:`facehal.features.face_parser.FaceParser`.
        targets: (n, S, S, 3) in [-1, 1], the originals.
        pasted: the same with what was painted in the hole, which alone gets a gradient.
    """
    truth, logits = (parser((x + 1.0) / 2.0, training=False) for x in (targets, pasted))
    labels = ops.argmax(ops.stop_gradient(truth), axis=-1)
    return ops.mean(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True))


def _all(pictures: Tensor, batch: Batch) -> Tensor:
    return pictures


def _painting(size: int) -> tuple[str, ...]:
    return tuple(f"{size}/{name}" for name in ("pixel", "local", "whole", "generator"))


def _judging(size: int) -> tuple[str, ...]:
    names = ("discriminator", "real_probability", "fake_probability")
    return tuple(f"{size}/{name}" for name in names)


class GenFaceTask(Task):
    """Two stages: the reconstruction alone, then with discriminators and, if there is one, parser.

    Raises:
        WeightsError: from :meth:`build`, where the file of the parser cannot be used.
    """

    def __init__(self, config: GenFaceConfig):
        self.config: GenFaceConfig = config
        size = config.network.resolution
        self.side = size
        self.stages = (
            Stage("reconstruction", "reconstruction", config.training.reconstruction_epochs),
            Stage("adversarial", "with discriminators", config.training.epochs),
        )
        self.parses = config.loss.parser != NO_PARSER and bool(config.loss.parsing)
        parsing = [f"{size}/parsing"] if self.parses else []
        self.columns = (*_painting(size), *parsing, *_judging(size))
        self.measures = PictureMeasures((size,), lpips_version="")

    def build(self, stage: int, previous: keras.Model | None, total_steps: int) -> Reconstruction:
        """See :meth:`facehal.models.task.Task.build`."""
        config, network = self.config, self.config.network
        parser = None
        if stage and self.parses:
            parser = FaceParser(config.loss.parser, network.resolution)
        with precision(config.training.precision):
            model = GenFace(
                network.resolution,
                network.base,
                network.features,
                network.blending,
                name="genface",
            )
        if previous is not None:
            model.set_weights(previous.get_weights())
        if not stage:
            return Reconstruction(model, config, total_steps)
        return Adversarial(model, config, total_steps, parser)

    def prepare(self, batch: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
        """Moves the faces, adds their mirror images, the noise and the local squares.

        Returns:
            ``faces`` and ``masks``, twice as many with ``pairs``; ``fill`` (n, S, S, 3) float32,
            uniform in [-1, 1]; ``corners`` (n, 2) int32.
        """
        training, size = self.config.training, self.side
        # The third number keeps them apart from the pipeline's.
        random = np.random.default_rng((training.seed, step, 3))
        faces, masks = batch["faces"], batch["masks"]
        if training.shift or training.rotation:
            faces, masks = moved(faces, masks, random, training.shift, training.rotation)
        if training.pairs:
            faces, masks = (np.concatenate([x, x[:, :, ::-1]]) for x in (faces, masks))
        noise = random.random((len(faces), size, size, 3), np.float32)
        corners = hole_corners(masks, size // 2, random)
        return {"faces": faces, "masks": masks, "fill": 2.0 * noise - 1.0, "corners": corners}

    def page(self) -> Page:
        """The terms of the network's loss, each times its weight, and the discriminators."""
        config, size = self.config, self.side
        values = 3.0 * size**2
        lines = [ChartLine("pixel", f"{size}/pixel", "c0")]
        for name, weight, colour in (
            ("local", config.loss.local, "c1"),
            ("whole", config.loss.whole, "c2"),
        ):
            lines.append(
                ChartLine(f"{name} discriminator", f"{size}/{name}", colour, weight / values)
            )
        if self.parses:
            factor = config.loss.parsing / 3.0
            lines.append(ChartLine("parsing", f"{size}/parsing", "c3", factor))
        lines.append(ChartLine("sum", f"{size}/generator"))
        bound = config.training.collapse_bound
        probability = (("real pictures", "real", "c3"), ("painted", "fake", "c2"))
        charts = [
            Chart("Network", lines, log=True),
            discriminator_loss(f"{size}/discriminator", bound, "Discriminators", "loss of both"),
            probabilities(str(size), probability, "Their probability of “real”"),
        ]
        return Page(
            title=f"GenFace, size {config.size}, {size}×{size}",
            charts={"Losses": charts},
            explanation="Network: the mean absolute difference of the whole picture in [-1, 1], "
            "the face too, and the other terms times their weights; the first stage has the first "
            "alone. Discriminators: cross-entropy, the sum of both; 2 ln 2 = 1.39 is a guess.",
            side=size,
        )


def moved(
    faces: np.ndarray,
    masks: np.ndarray,
    random: np.random.Generator,
    shift: float,
    rotation: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Faces and masks shifted and turned about the first pixel, as the authors' loader does.

    Args:
        faces: (n, S, S, 3) uint8; grey comes in at the border.
        masks: (n, S, S) uint8, 1 = face; what comes in is no face.
        random: drawn from three times a face.
        shift: share of S, at most, in both directions.
        rotation: degrees, at most, in both directions.
    """
    size = faces.shape[1]
    moved_faces, moved_masks = np.empty_like(faces), np.empty_like(masks)
    for index, (face, mask) in enumerate(zip(faces, masks, strict=True)):
        right, down, turn = random.uniform(-1.0, 1.0, 3)
        angle = np.deg2rad(rotation) * turn
        cos, sin = np.cos(angle), np.sin(angle)
        pixels = np.floor(size * shift * np.array([right, down]))
        matrix = np.array([[cos, sin, pixels[0]], [-sin, cos, pixels[1]]])
        extent = (size, size)
        moved_faces[index] = cv2.warpAffine(face, matrix, extent, borderValue=(GREY,) * 3)
        moved_masks[index] = cv2.warpAffine(mask, matrix, extent, flags=cv2.INTER_NEAREST)
    return moved_faces, moved_masks
