"""What happens between the steps: the bar, the alarm for NaN, the preview grid."""

import math
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from facehal.errors import TrainingError
from facehal.images import contact_sheet, to_float, write_png
from facehal.models.base import BlockModel
from facehal.training import checkpoints


class Bar(keras.callbacks.Callback):
    """A tqdm bar over one stage, with epoch, time to its end and the pixel loss of its last block.

    The time is reckoned from the mean of the steps of this process, checkpoints and previews
    included; the first step, which builds the graph, is left out.

    Args:
        watched: the loss that stands beside it.
        folder: of the checkpoints, to name the newest in the alarm.
        step: steps done before, since the beginning of the run.
        span: the steps at which the stage begins and ends.
        steps_per_epoch: to say which epoch it is.
        epochs: of the whole run.
        stage: what to call the stage; empty where there is only one.
        show: draw it; the losses are watched in any case.

    Raises:
        TrainingError: from inside ``fit``, when a loss is not a number any more; at the latest
            before ``fit`` returns, so that no checkpoint is written over a good one.
    """

    def __init__(
        self,
        watched: str,
        folder: Path,
        *,
        step: int,
        span: tuple[int, int],
        steps_per_epoch: int,
        epochs: int,
        stage: str = "",
        show: bool = True,
    ):
        super().__init__()
        self.watched, self.folder = watched, folder
        self.step = step  # a disabled bar does not count
        self.steps_per_epoch, self.epochs, self.stage = steps_per_epoch, epochs, stage
        start, stop = self.span = span
        self.bar = tqdm(
            total=stop - start,
            initial=step - start,
            unit="step",
            disable=not show,
            smoothing=0,  # checkpoints come in bursts: only the mean tells the time to the end
            desc=self._place(step),
        )
        if step < stop:
            self.bar.set_postfix_str("building the first step")
        self._started = False

    def _place(self, step: int) -> str:
        """Stage and epoch: the one under way, at the end of the stage its last."""
        epoch = min(step // self.steps_per_epoch + 1, self.span[1] // self.steps_per_epoch)
        return f"{self.stage}{', ' if self.stage else ''}epoch {epoch}/{self.epochs}"

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar by one step and looks at the losses (means since the stretch began)."""
        if not self._started and not self.bar.disable:
            self.bar.unpause()  # the clock starts now, and without this step
            self.bar.initial = self.bar.n + 1
        self._started = True
        self.step += 1
        self.bar.set_description_str(self._place(self.step), refresh=False)
        self.bar.update(1)
        if self.step % 10 == 0 or batch == 0:  # reading a loss waits for the accelerator
            self._look(logs)

    def on_train_end(self, logs=None):
        """Looks at the losses of the steps since the last look."""
        self._look(logs)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self.bar.close()

    def _look(self, logs: dict | None) -> None:
        logs = logs or {}
        self.bar.set_postfix_str(f"{self.watched} {float(logs[self.watched]):.4f}", False)
        broken = [name for name, value in logs.items() if not math.isfinite(float(value))]
        if broken:
            last = checkpoints.latest(self.folder)
            raise TrainingError(
                f"step {self.step}: {broken[0]} is not finite; the last good checkpoint is "
                f"{last or 'none'}. Start a new run with lower learning rates"
            )


class Preview:
    """The same faces drawn again and again: input | every resolution | target, a row per face.

    Args:
        faces: (n, S, S, 3) uint8.
        masks: (n, S, S) uint8, 1 = face.
    """

    def __init__(self, faces: np.ndarray, masks: np.ndarray):
        self.targets = to_float(faces)
        self.masks = masks.astype("float32")[..., None]
        self.masked = self.targets * self.masks

    def write(self, network: BlockModel, path: Path) -> None:
        """Hallucinates and writes the grid as PNG."""
        outputs = network.predict_on_batch({"masked_faces": self.masked, "masks": self.masks})
        sizes = [str(size) for size in network.resolutions]  # JAX sorts them as text
        columns = [self.masked, *(outputs[size] for size in sizes), self.targets]
        rows = [[column[index] for column in columns] for index in range(len(self.targets))]
        write_png(path, contact_sheet(rows, labels=["face mask", *sizes, "original"]))
