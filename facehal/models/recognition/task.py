"""The training of a recognition network: who is on a face, by a softmax with or without margin."""

from collections.abc import Sequence
from typing import ClassVar

import keras
from keras import ops

from facehal.models.base import Tensor, precision
from facehal.models.recognition.config import RecognitionConfig
from facehal.models.recognition.model import Recogniser
from facehal.models.recognition.networks import set_published
from facehal.models.task import (
    Batch,
    Chart,
    ChartLine,
    Page,
    People,
    Phase,
    Stage,
    System,
    Task,
    Update,
)
from facehal.weights import store
from facehal.weights.converters import resnet50 as published


class RecognitionTask(Task):
    """One stage, one phase; the held-out photos are the same people's."""

    labels: ClassVar[bool] = True

    def __init__(self, config: RecognitionConfig):
        self.config: RecognitionConfig = config
        training = config.training
        self.side = config.network.side
        self.augmentation = training.augmentation
        self.epoch_steps = training.epoch_steps
        self.stages = (Stage("", "", training.epochs),)
        self.columns = ("loss", "accuracy")
        self.people = People(
            min_photos=training.min_photos,
            held_out=training.held_out,
            columns=("validation_loss", "validation_accuracy"),
            judge=_judged,
            patience=training.patience,
        )
        self.subjects: tuple[str, ...] = ()

    def meet(self, subjects: Sequence[str]) -> None:
        """See :meth:`facehal.models.task.Task.meet`."""
        self.subjects = tuple(subjects)

    def build(self, stage: int, previous: keras.Model | None, total_steps: int) -> System:
        """See :meth:`facehal.models.task.Task.build`."""
        network, training = self.config.network, self.config.training
        with precision(training.precision):
            model = Recogniser(
                network.kind,
                network.side,
                network.width,
                network.blocks,
                network.features,
                network.head,
                network.scale,
                self.subjects,
                name="recogniser",
            )
        if network.start == "published":
            shapes = published.network_shapes(network.width, network.features)
            set_published(model.network, store.load("resnet50_256d", shapes))
        kernels = [v for v in model.trainable_variables if len(v.shape) > 1]

        def loss(batch: Batch, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            faces = ops.cast(batch["faces"], "float32") / 255.0
            descriptors = model(faces, training=True)
            value = ops.mean(
                keras.losses.sparse_categorical_crossentropy(
                    batch["labels"],
                    model.logits(descriptors, batch["labels"], self._margin(step)),
                    from_logits=True,
                )
            )
            right = _right(model.logits(descriptors), batch["labels"])
            report = {"loss": value, "accuracy": ops.mean(right)}
            if training.weight_decay:
                squares = sum(ops.sum(ops.square(v.value)) for v in kernels)
                value = value + 0.5 * training.weight_decay * squares
            return value, report

        variables = model.trainable_variables
        optimizer = keras.optimizers.SGD(
            self._rate(total_steps), momentum=training.momentum, name="recognition"
        )
        return System(
            model=model,
            networks=[model],
            phases=[Phase("recognition", loss, [Update(optimizer, variables)], self.columns)],
            watched="loss",
            momentum=training.moving_average,
        )

    def _margin(self, step: Tensor) -> Tensor:
        """ArcFace's at a step: a network that knows nothing yet does not find its way under it."""
        training = self.config.training
        if not training.margin_steps:
            return ops.convert_to_tensor(training.margin, "float32")
        share = ops.cast(step, "float32") / training.margin_steps
        return training.margin * ops.minimum(share, 1.0)

    def _rate(self, total_steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """The rate, or its schedule."""
        training, schedules = self.config.training, keras.optimizers.schedules
        if training.decay == "steps":
            return schedules.ExponentialDecay(
                training.rate, training.decay_steps, training.gamma, staircase=True
            )
        if training.decay == "polynomial":
            return schedules.PolynomialDecay(
                training.rate, total_steps, end_learning_rate=0.0, power=training.power
            )
        if training.decay == "cosine":
            warmup = min(training.warmup, total_steps - 1)
            return schedules.CosineDecay(
                0.0 if warmup else training.rate,
                total_steps - warmup,
                warmup_target=training.rate if warmup else None,
                warmup_steps=warmup,
            )
        return training.rate

    def page(self) -> Page:
        """Loss and accuracy, in training and of the held-out photos."""
        network = self.config.network
        kind = {"resnet50": "ResNet-50-256D", "slim": "slim residual network"}[network.kind]
        lines = {
            name: [
                ChartLine("training", name, "c0"),
                ChartLine("held-out photos", f"validation_{name}", "c1"),
            ]
            for name in ("loss", "accuracy")
        }
        return Page(
            title=f"Recognition of {len(self.subjects)} people, {kind}, {network.head}",
            charts={
                "people": [
                    Chart("Cross entropy", lines["loss"], log=True),
                    Chart("Share told right", lines["accuracy"], limits=(0.0, 1.0)),
                ]
            },
            explanation="In training of augmented pictures, with the margin where there is one; of "
            "the held-out photos of the same people without either.",
            side=network.side,
        )


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the largest logit is the person's, else 0."""
    found = ops.cast(ops.argmax(logits, axis=1), "int32")
    return ops.cast(ops.equal(found, ops.cast(labels, "int32")), "float32")


def _judged(model: keras.Model, descriptors: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What held-out photos are measured by, (n,) each."""
    assert isinstance(model, Recogniser)
    logits = model.logits(ops.convert_to_tensor(descriptors))
    loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return {"validation_loss": loss, "validation_accuracy": _right(logits, labels)}
