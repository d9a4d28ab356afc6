"""Preview grids: how they are drawn, their names, which of them stay, and the epoch study."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from facehal.errors import ImageError, TrainingError
from facehal.images import contact_sheet, read_image, sheet_cells, to_float, write_png
from facehal.training.history import Row
from facehal.variants import latent_of

KEEP_EPOCHS = 50  # grids of whole epochs that stay, evenly spaced, besides the newest
KEEP_STEPS = 2  # grids from the middle of an epoch that stay
COLUMNS = 5  # epochs in the study: 10, 20, 30, 40, 50 of the paper's schedule
VARIANTS = (1, 2)  # seeds of the pictures beside the single best one
SMALLEST = 64  # side of a picture in the study, so that the headings can be read


class Preview:
    """The same faces drawn again and again: input | every resolution | target, a row per face.

    A model with a latent vector shows two variants in front of the largest resolution.

    Args:
        faces: (n, S, S, 3) uint8.
        masks: (n, S, S) uint8, 1 = face.
    """

    def __init__(self, faces: np.ndarray, masks: np.ndarray):
        self.targets = to_float(faces)
        self.masks = masks.astype("float32")[..., None]
        self.masked = self.targets * self.masks

    def write(self, network: Any, path: Path) -> None:
        """Hallucinates with a :class:`facehal.models.PictureModel` and writes the grid as PNG."""
        inputs = {"masked_faces": self.masked, "masks": self.masks}
        outputs = network.predict_on_batch(inputs)
        sizes = [str(size) for size in network.resolutions]  # JAX sorts them as text
        columns = {"face mask": self.masked} | {size: outputs[size] for size in sizes[:-1]}
        for seed in VARIANTS if network.latent else ():
            latent = np.tile(latent_of(seed, network.latent), (len(self.targets), 1))
            found = network.predict_on_batch({**inputs, "latent": latent})
            columns[f"variant {seed}"] = found[sizes[-1]]
        columns |= {sizes[-1]: outputs[sizes[-1]], "original": self.targets}
        rows = [[some[index] for some in columns.values()] for index in range(len(self.targets))]
        write_png(path, contact_sheet(rows, labels=list(columns)))


def preview_path(folder: Path, step: int, steps_per_epoch: int) -> Path:
    """``epoch_0010.png`` at the end of an epoch, ``step_00001500.png`` in the middle of one."""
    epoch, rest = divmod(step, steps_per_epoch)
    return folder / (f"step_{step:08d}.png" if rest else f"epoch_{epoch:04d}.png")


def thin_previews(folder: Path, epochs: int) -> None:
    """Removes grids so that their number stays within bounds, however long the run is.

    Args:
        folder: of the grids.
        epochs: of the whole schedule; up to ``KEEP_EPOCHS`` of them all stay.
    """
    for old in sorted(folder.glob("step_*.png"))[:-KEEP_STEPS]:
        old.unlink(missing_ok=True)
    every = -(-epochs // KEEP_EPOCHS)
    for old in sorted(folder.glob("epoch_*.png"))[:-1]:
        if _number(old) % every:
            old.unlink(missing_ok=True)


def _number(path: Path) -> int:
    found = re.fullmatch(r"(?:step|epoch)_(\d+)", path.stem)
    return int(found[1]) if found else 0


def by_epoch(folder: Path, rows: list[Row]) -> dict[int, Path]:
    """The grid of every finished epoch that has one, in order.

    Runs of version 0.1.0 named all grids by the step.
    """
    found = {}
    for row in rows:
        epoch = int(row["epoch"])
        names = (f"epoch_{epoch:04d}.png", f"step_{int(row['step']):08d}.png")
        paths = [folder / name for name in names if (folder / name).exists()]
        if paths:
            found[epoch] = paths[0]
    return found


def newest(folder: Path, rows: list[Row]) -> tuple[str, Path] | None:
    """The last grid that was drawn, and when: "epoch 3" or "step 1500"."""
    drawn = {int(row["step"]): f"epoch {int(row['epoch'])}" for row in rows}
    found = [(_number(path), path) for path in folder.glob("step_*.png")]
    found += [
        (int(row["step"]), path)
        for row in rows
        if (path := folder / f"epoch_{int(row['epoch']):04d}.png").exists()
    ]
    if not found:
        return None
    step, path = max(found)
    return drawn.get(step, f"step {step}"), path


def evenly_spaced(epochs: list[int], count: int = COLUMNS) -> list[int]:
    """Of the epochs that there are, at most ``count``, evenly spaced up to the last.

    Of 1 to 50 these are 10, 20, 30, 40, 50.
    """
    if not epochs:
        return []
    count = min(count, len(epochs))
    wanted = [epochs[-1] * (n + 1) / count for n in range(count)]
    return sorted({min(epochs, key=lambda epoch: abs(epoch - one)) for one in wanted})


def write_epoch_study(path: Path, folder: Path, rows: list[Row], side: int) -> list[int]:
    """The same faces after evenly spaced epochs: mask | one column per epoch | original.

    Args:
        path: of the PNG.
        folder: of the preview grids.
        rows: the run's history; in a growing network the heading says the stage too.
        side: of the cells, the run's largest resolution.

    Returns:
        The epochs shown; none, and no picture, where no finished epoch has a grid.

    Raises:
        TrainingError: a grid is damaged or not one of this run.
        ImageError: the picture cannot be written.
    """
    grids = by_epoch(folder, rows)
    shown = evenly_spaced(list(grids))
    if not shown:
        return []
    sheets = []
    for epoch in shown:
        try:
            sheets.append(sheet_cells(read_image(grids[epoch]), side))
        except ImageError as error:
            reason = str(error).removeprefix(f"{grids[epoch]}: ")
            raise TrainingError(
                f"{grids[epoch]}: not a preview of this run ({reason}); delete it"
            ) from None
    faces = min(map(len, sheets))
    study: list[list[np.ndarray]] = [
        [sheets[-1][face][0], *(sheet[face][-2] for sheet in sheets), sheets[-1][face][-1]]
        for face in range(faces)
    ]
    stages = {int(row["epoch"]): row.stage for row in rows if row.stage}
    labels = [f"epoch {n}" + (f" ({_named(stages[n])})" if n in stages else "") for n in shown]
    labels = ["face mask", *labels, "original"]
    write_png(path, contact_sheet(study, labels=labels, cell=max(side, SMALLEST)))
    return shown


def _named(stage: str) -> str:
    """A stage in a heading: one that is named by a resolution with its unit."""
    return f"{stage} px" if stage.isdigit() else stage
