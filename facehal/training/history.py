"""What history.csv of a run says: the losses of every epoch, and whether they warn of something."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facehal.config import TrainingConfig
from facehal.errors import TrainingError


class Row(dict[str, float]):
    """One epoch: ``epoch``, ``step``, ``seconds`` and the mean of every loss (``128/pixel``).

    What an epoch does not have (the other stages' losses, in a growing network) is left out.

    Attributes:
        stage: name of the stage; empty where the run has but one.
    """

    stage: str = ""


def read_history(folder: Path) -> list[Row]:
    """The rows of ``folder/history.csv``; none where the first epoch has not ended yet.

    Raises:
        TrainingError: the file cannot be read or is not one that training wrote.
    """
    path = folder / "history.csv"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [_row(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (TypeError, ValueError, csv.Error) as error:
        raise TrainingError(f"{path}: not a history that training wrote ({error})") from None
    if any(not {"epoch", "step", "seconds"} <= set(row) for row in rows):
        raise TrainingError(f"{path}: not a history that training wrote (no epoch, step, seconds)")
    return rows


def _row(values: dict[str, str]) -> Row:
    row = Row({n: float(v) for n, v in values.items() if v != "" and n != "stage"})
    row.stage = values.get("stage", "")
    return row


def total_epochs(stages: Sequence[tuple[str, int]], rows: list[Row]) -> int:
    """Epochs of the whole schedule, all stages together.

    A stage that is over counts as long as it was, even if its length has changed since.

    Args:
        stages: name and epochs of each.
        rows: of the run so far.
    """
    over = [row for row in rows if row.stage != rows[-1].stage] if rows else []
    done = {row.stage for row in over}
    return len(over) + sum(epochs for name, epochs in stages if name not in done)


def resolutions(rows: list[Row]) -> list[int]:
    """The blocks that the rows have losses of, smallest first."""
    found = {name.split("/")[0] for row in rows for name in row if "/" in name}
    return sorted(int(name) for name in found if name.isdigit())


@dataclass(frozen=True)
class Collapse:
    """A discriminator that has become too good to learn from.

    Attributes:
        resolution: of its block.
        epoch: the one whose end made it sure.
        loss: the discriminator's in that epoch.
        epochs: that lay under the bound in a row, up to then.
    """

    resolution: int
    epoch: int
    loss: float
    epochs: int

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}: the discriminator of block {self.resolution} has collapsed: its "
            f"loss is {self.loss:.2g}, for {self.epochs} epochs in a row under collapse_bound. It "
            "tells real from hallucinated without fail and the generator learns little from it; "
            "start a new run with a lower discriminator_rate or weight of the adversarial term"
        )


def collapses(rows: list[Row], training: TrainingConfig) -> list[Collapse]:
    """The first collapse of every block's discriminator, in order of epochs.

    A discriminator has collapsed when its loss was under ``collapse_bound`` in each of the last
    ``collapse_epochs`` epochs, or in as many more as make up ``collapse_steps`` steps where epochs
    are short.
    """
    found = []
    for resolution in resolutions(rows):
        name = f"{resolution}/discriminator"
        epochs = steps = 0
        before = 0.0  # the step at which the epoch began
        for row in rows:
            under = name in row and row[name] < training.collapse_bound
            epochs = epochs + 1 if under else 0
            steps = steps + int(row["step"] - before) if under else 0
            before = row["step"]
            if under and epochs >= training.collapse_epochs and steps >= training.collapse_steps:
                found.append(Collapse(resolution, int(row["epoch"]), row[name], epochs))
                break
    return sorted(found, key=lambda one: one.epoch)
