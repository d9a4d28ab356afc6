"""The training of EdgeConnect: edges, pictures on true edges, pictures on generated ones.

Generator and discriminator are brought on together: the authors, too, take both losses, and so both
gradients, at the weights of before the step. So a step is one phase, whose generator's loss looks
through a discriminator that is detached, the discriminator's at an output that is.
"""

from functools import partial
from typing import Any

import keras
from keras import ops

from facehal.layers.optimizers import adam
from facehal.models.base import detached, precision
from facehal.models.edgeconnect.canny import canny, grey
from facehal.models.edgeconnect.config import EdgeConnectConfig
from facehal.models.edgeconnect.model import EdgeConnect, hole_of
from facehal.models.edgeconnect.networks import Discriminator
from facehal.models.edgeconnect.objective import (
    EDGE_TERMS,
    Features,
    edge_losses,
    picture_losses,
    picture_terms,
)
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

# Terms with the name of their weight, in the order and colours of a run's page.
TERMS = (
    ("pixel", "pixel", "c0"),
    ("content", "content", "c1"),
    ("style", "style", "c3"),
    ("adversarial", "adversarial", "c2"),
)


class StageSystem(System):
    """A generator, its discriminator and their losses in one stage.

    Trains on ``{"faces": (n, S, S, 3) uint8, "masks": (n, S, S) uint8}`` (1 = face). The generator
    that the stage does not train stays as it is.

    Args:
        stage: ``edges``, ``pictures`` or ``joint``.
        config: the experiment.
        model: both generators.
        critic: the discriminator of the one that is trained.
        features: of the picture generator's losses; None where they need none.
        total_steps: of the stage; needed where ``config.training.decay`` is not 0.
    """

    def __init__(
        self,
        stage: str,
        config: EdgeConnectConfig,
        model: EdgeConnect,
        critic: Discriminator,
        features: Features | None,
        total_steps: int = 0,
    ):
        training, self.config = config.training, config
        self.stage, self.features, self.critic = stage, features, critic
        trained, other = model.pictures, model.edges
        loss, names = self.picture_loss, picture_terms(config.loss)
        if stage == "edges":
            trained, other = other, trained
            loss, names = self.edge_loss, EDGE_TERMS
        other.trainable = False
        self.head = heading(config, stage)
        make = partial(
            adam,
            training.optimizer,
            beta1=training.beta1,
            beta2=training.beta2,
            decay=training.decay,
            total_steps=total_steps,
        )
        updates = [
            Update(make(variables, rate, name=name), variables)
            for name, rate, variables in (
                ("generator", training.generator_rate, trained.trainable_variables),
                ("discriminator", training.discriminator_rate, critic.trainable_variables),
            )
        ]
        reported = tuple(f"{self.head}/{name}" for name in names)
        super().__init__(
            model=model,
            networks=[model, critic],
            phases=[Phase(stage, loss, updates, reported)],
            watched=f"{self.head}/{'matching' if stage == 'edges' else 'pixel'}",
            momentum=training.moving_average,
        )

    def read(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Faces, the same in grey, their true edges, the hole."""
        faces = ops.cast(batch["faces"], "float32") / 255.0
        hole = hole_of(ops.cast(batch["masks"], "float32")[..., None])
        pictures = grey(faces)
        edges = canny(pictures, ops.ones_like(pictures), self.config.network.sigma)
        return faces, pictures, edges, hole

    def edge_loss(self, batch: Batch, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of G1 and D1."""
        _, pictures, edges, hole = self.read(batch)
        output = self.model.completed_edges(pictures, edges, hole, training=True)
        return self.sum(
            edge_losses(self.config.loss, pictures, edges, output, hole, *self.critics())
        )

    def picture_loss(self, batch: Batch, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of G2 and D2, on true edges or on those of G1."""
        faces, pictures, edges, hole = self.read(batch)
        if self.stage == "joint":
            found = ops.stop_gradient(self.model.completed_edges(pictures, edges, hole))
            edges = found * hole + edges * (1.0 - hole)
        output = self.model.painted_by(faces, edges, hole, training=True)
        return self.sum(
            picture_losses(self.config.loss, self.features, faces, output, hole, *self.critics())
        )

    def critics(self) -> tuple[Any, Any]:
        """The discriminator with gradient to its variables, and without."""
        return partial(self.critic.__call__, training=True), detached(self.critic)

    def sum(
        self, losses: tuple[Tensor, Tensor, dict[str, Tensor]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One backward pass over the sum gives each network the gradient of its own loss."""
        generator, discriminator, report = losses
        named = {f"{self.head}/{name}": value for name, value in report.items()}
        return generator + discriminator, named


def heading(config: EdgeConnectConfig, stage: str) -> str:
    """Of a stage's columns: those of pictures by their size."""
    return "edges" if stage == "edges" else str(config.network.resolution)


class EdgeConnectTask(Task):
    """Three stages, as the authors' programs have them (models 1, 2 and 3)."""

    def __init__(self, config: EdgeConnectConfig):
        self.config: EdgeConnectConfig = config
        self.side = config.network.resolution
        training = config.training
        self.epoch_steps = training.epoch_steps
        stages = (
            Stage("edges", "edges", training.edge_epochs),
            Stage("pictures", "pictures on true edges", training.picture_epochs),
            Stage("joint", "pictures on generated edges", training.epochs),
        )
        self.stages = tuple(stage for stage in stages if stage.epochs)
        size = heading(config, "pictures")
        self.columns = (
            *(f"edges/{name}" for name in EDGE_TERMS),
            *(f"{size}/{name}" for name in picture_terms(config.loss)),
        )
        self.measures = PictureMeasures((self.side,))
        self._features: Features | None = None
        self._critic: Discriminator | None = None

    def build(self, stage: int, previous: keras.Model | None, total_steps: int) -> System:
        """See :meth:`facehal.models.task.Task.build`.

        The third stage goes on with the discriminator of the second, as the authors' program reads
        it from its file; a checkpoint brings the one that belongs to it.
        """
        network, name = self.config.network, self.stages[stage].name
        with precision(self.config.training.precision):
            model = EdgeConnect(
                network.resolution,
                network.width,
                network.blocks,
                network.sigma,
                network.merged,
                name="edgeconnect",
            )
            critic = Discriminator(
                2 if name == "edges" else 3,
                network.discriminator_width,
                name="discriminator",
            )
        if previous is not None:
            model.set_weights(previous.get_weights())
            if name == "joint" and self._critic is not None:
                critic.set_weights(self._critic.get_weights())
        self._critic = critic
        return StageSystem(name, self.config, model, critic, self.features(name), total_steps)

    def features(self, stage: str) -> Features | None:
        """The frozen network of the picture generator's losses, which its stages share."""
        loss = self.config.loss
        if stage == "edges" or not (loss.content or loss.style):
            return None
        if self._features is None:
            self._features = Features(loss.features)
        return self._features

    def page(self) -> Page:
        """What each term adds to the generators' losses, and the discriminators."""
        size, loss = heading(self.config, "pictures"), self.config.loss
        lines = [
            ChartLine(name, f"{size}/{name}", colour, getattr(loss, weight))
            for name, weight, colour in TERMS
            if name in picture_terms(loss)
        ]
        edges = [
            ChartLine("adversarial", "edges/adversarial", "c2"),
            ChartLine("matching", "edges/matching", "c1", loss.matching),
        ]
        found = [ChartLine(n, f"edges/{n}", c) for n, c in (("precision", "c0"), ("recall", "c5"))]
        return Page(
            title=f"EdgeConnect, size {self.config.size}, {size} pixels",
            charts={
                "Edges": [
                    self._generator(edges, "edges"),
                    Chart("Edges of the hole", found, limits=(0.0, 1.0)),
                    *self._discriminator("edges"),
                ],
                f"{size}×{size}": [self._generator(lines, size), *self._discriminator(size)],
            },
            explanation="Generator: every term times its weight, and their sum. Discriminator: "
            "half the sum of its cross-entropies; ln 2 is one that cannot tell. Until the stage of "
            "edges is over, the pictures of previews and of held-out faces mean nothing.",
            side=self.side,
        )

    @staticmethod
    def _generator(lines: list[ChartLine], head: str) -> Chart:
        return Chart("Generator", [*lines, ChartLine("sum", f"{head}/generator")], log=True)

    def _discriminator(self, head: str) -> list[Chart]:
        answers = (("true", "real", "c3"), ("generated", "fake", "c2"))
        return [
            discriminator_loss(f"{head}/discriminator", self.config.training.collapse_bound),
            probabilities(head, answers),
        ]
