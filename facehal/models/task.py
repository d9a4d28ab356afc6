"""What a family gives to training, which runs it without knowing it by name.

A :class:`Task` has one or several :class:`Stage`; each builds a :class:`System`: the networks and
the :class:`Phase` list that a step consists of. A phase is a loss, the variables that its gradient
moves, their optimizers, and how often it comes. One pass over a sum of losses is one phase;
generator and critic by turns are two; several critic steps a generator step are a generator phase
with ``every=5``; networks trained one after the other are stages.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import keras
import numpy as np

from facehal.config import Experiment

Tensor = Any
Batch = dict[str, Tensor]
Loss = Callable[[Batch, Tensor], tuple[Tensor, dict[str, Tensor]]]
# A role and a number → so many of its faces (n, side, side, 3) and masks (n, side, side), uint8,
# evenly spread over the set and the same ones every time; where there are fewer, some come again.
Examples = Callable[[str, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Update:
    """An optimizer and the variables that it moves, in the order of its slots."""

    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]


@dataclass(frozen=True)
class Phase:
    """One part of a step.

    Attributes:
        name: for messages.
        loss: (batch, step) → a scalar to be lowered, and named scalars to report. ``step`` is a
            scalar int32, the steps done before.
        updates: who moves what by the scalar's gradient. It is taken once, for all of them.
        names: the keys of the report.
        every: the phase comes at every so many steps: at steps ``every`` - 1, 2·``every`` - 1, …
    """

    name: str
    loss: Loss
    updates: Sequence[Update]
    names: tuple[str, ...]
    every: int = 1


@dataclass
class System:
    """One stage under training.

    Attributes:
        model: what a run publishes; its moving average where ``momentum`` is not 0.
        networks: everything that is trained, ``model`` too; their variables go into checkpoints.
        phases: of a step, in order; each sees what those before it have changed.
        watched: the report that stands beside the bar.
        momentum: of the moving average of ``model``.
    """

    model: keras.Model
    networks: Sequence[keras.Model]
    phases: Sequence[Phase]
    watched: str
    momentum: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The keys of all phases' reports."""
        return tuple(name for phase in self.phases for name in phase.names)


@dataclass(frozen=True)
class Stage:
    """A part of the schedule with networks and optimizers of its own.

    Attributes:
        name: short, as it stands in ``history.csv`` and in file names; empty where there is but
            one.
        title: as the bar says it.
        epochs: how long it is.
    """

    name: str
    title: str
    epochs: int


@dataclass(frozen=True)
class PictureMeasures:
    """What held-out faces are measured by after every epoch, for families that make pictures.

    Attributes:
        resolutions: of the pictures, in all stages.
        pixel: ``l1`` or ``l2``.
        lpips_version: ``0.0``, ``0.1``, or empty: no perceptual measure.
        lpips_from: smallest resolution with it.
    """

    resolutions: tuple[int, ...]
    pixel: str = "l1"
    lpips_version: str = "0.0"
    lpips_from: int = 32


@dataclass(frozen=True)
class People:
    """Whose faces a family that tells people apart takes from a set, and how held-out ones are
    judged after every epoch.

    Attributes:
        min_photos: people with fewer are left out.
        held_out: share of everybody's photos that is not trained on
            (:func:`facehal.data.people.split`); 0: none.
        columns: what :attr:`judge` gives, as columns of ``history.csv``.
        judge: (model, what it makes of n faces in [0, 1], labels (n,)) → for each column (n,).
        patience: the training ends after so many epochs that did not lower the first column; 0: it
            does not.
    """

    min_photos: int
    held_out: float
    columns: tuple[str, ...]
    judge: Callable[[keras.Model, Tensor, Tensor], dict[str, Tensor]]
    patience: int = 0


@dataclass(frozen=True)
class ChartLine:
    """One curve of a run's page: a column of ``history.csv`` times a factor."""

    name: str
    column: str
    colour: str = ""  # c0 … c5
    factor: float = 1.0


@dataclass(frozen=True)
class Chart:
    """One figure of a run's page.

    Attributes:
        bound: a level to draw as a dashed line, and its name.
    """

    title: str
    lines: Sequence[ChartLine]
    log: bool = False
    limits: tuple[float, float] | None = None
    bound: tuple[float, str] | None = None


def discriminator_loss(
    column: str, bound: float, title: str = "Discriminator", name: str = "loss"
) -> Chart:
    """A discriminator's loss, with the level under which a run warns; 0 is none."""
    return Chart(
        title,
        [ChartLine(name, column, "c4")],
        log=True,
        bound=(bound, "collapse_bound") if bound else None,
    )


def probabilities(
    head: str,
    answers: Sequence[tuple[str, str, str]],
    title: str = "Its probability of “real”",
) -> Chart:
    """What a discriminator says of several kinds of pictures.

    Args:
        head: of the columns ``HEAD/KEY_probability``.
        answers: name, key and colour of each kind.
        title: heading.
    """
    lines = [ChartLine(name, f"{head}/{key}_probability", colour) for name, key, colour in answers]
    return Chart(title, lines, limits=(0.0, 1.0))


@dataclass(frozen=True)
class Page:
    """What the page of a run says of its family.

    Attributes:
        title: one sentence on what is trained, without a full stop.
        charts: heading → figures.
        explanation: how to read them.
        side: of the preview's pictures, in pixels.
    """

    title: str
    charts: dict[str, list[Chart]] = field(default_factory=dict)
    explanation: str = ""
    side: int = 128


class Task(abc.ABC):
    """The training of one family.

    Attributes:
        config: the experiment.
        side: pixels of the faces that it trains on.
        roles: names of the sets of faces that it trains on, where they are more than one. A batch
            then holds ``batch_size`` faces of each, one set's after the other's.
        epoch_steps: steps that count as an epoch; 0: a pass over the set, of several over the
            largest.
        labels: batches need ``labels``, the subjects as integers.
        people: who they are and how they are judged; None where subjects do not matter.
        landmarks: batches need ``landmarks``, (n, 68, 2) in pixels; not with ``augmentation``.
        noise: length of the random vector that batches need as ``noise``; 0 is none.
        augmentation: strength in [0, 1] of colour, small movements and blur in the faces of a batch
            (:mod:`facehal.data.augmentation`); 0 is none.
        stages: at least one.
        columns: of ``history.csv``: the reports of all stages.
        measures: of held-out faces; None where the family makes no pictures.
    """

    roles: ClassVar[tuple[str, ...]] = ()
    epoch_steps: int = 0
    labels: ClassVar[bool] = False
    landmarks: ClassVar[bool] = False
    noise: int = 0
    augmentation: float = 0.0
    config: Experiment
    side: int
    stages: tuple[Stage, ...]
    columns: tuple[str, ...]
    measures: PictureMeasures | None = None
    people: People | None = None

    @abc.abstractmethod
    def build(self, stage: int, previous: keras.Model | None, total_steps: int) -> System:
        """The system of a stage, its weights drawn from Keras's random seed.

        Args:
            stage: index into :attr:`stages`.
            previous: what the stage before has published, or None: the first stage, or one whose
                weights a checkpoint will bring.
            total_steps: of the stage, for rates that decay.

        Raises:
            WeightsError: a loss needs a weight file that is not here.
        """

    def meet(self, subjects: Sequence[str]) -> None:
        """Who is on the faces, in the order of their labels; said once, before anything is built.

        By default it does not matter.
        """
        return

    def begin(self, model: keras.Model, examples: Examples) -> None:
        """What a model that was just built takes from the faces before its first step.

        By default nothing.

        Args:
            model: the one that is published.
            examples: gives faces of a role.
        """
        return

    @abc.abstractmethod
    def page(self) -> Page:
        """What the page of a run shows."""

    def prepare(self, batch: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
        """What is done to a batch before it goes to the device, in NumPy, beside the step before.

        A pure function of the batch and the step. By default nothing.
        """
        return batch
