"""What a person sees between the steps: the bar, and the alarm for a loss that is no number."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm import tqdm

from facehal.errors import TrainingError
from facehal.training import checkpoints

LOOK = 10  # steps between two looks at the losses: reading one waits for the accelerator


def alarm(step: int, what: str, folder: Path, precision: str) -> TrainingError:
    """The error for a value that is not finite any more.

    Args:
        step: at which it was seen.
        what: the loss or the variable.
        folder: of the checkpoints, to name the newest.
        precision: ``float32`` or ``bfloat16``, of the networks.
    """
    advice = "Start a new run with lower learning rates"
    if precision != "float32":
        advice += f", or in float32 (training.precision is {precision}, a likely cause)"
    last = checkpoints.latest(folder)
    return TrainingError(
        f"step {step}: {what} is not finite; the last good checkpoint is {last or 'none'}. {advice}"
    )


class Bar:
    """A tqdm bar over one stage, with epoch, time to its end and one loss.

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
        precision: of the networks, for the alarm.
        show: draw it; the losses are watched in any case.
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
        precision: str = "float32",
        show: bool = True,
    ):
        self.watched, self.folder, self.precision = watched, folder, precision
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

    def stepped(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Moves the bar by one step; looks at the losses at the first one and at every tenth.

        Args:
            read: the means since the stretch began; called only to look.

        Raises:
            TrainingError: a loss is not a number any more.
        """
        first = not self._started
        if first and not self.bar.disable:
            self.bar.unpause()  # the clock starts now, and without this step
            self.bar.initial = self.bar.n + 1
        self._started = True
        self.step += 1
        self.bar.set_description_str(self._place(self.step), refresh=False)
        self.bar.update(1)
        if first or self.step % LOOK == 0:
            self.look(read())

    def look(self, logs: Mapping[str, float]) -> None:
        """Shows the watched loss, and looks at all; also at the end of a stretch, so that no
        checkpoint is written over a good one.

        Raises:
            TrainingError: a loss is not a number any more.
        """
        if self.watched in logs:
            self.bar.set_postfix_str(f"{self.watched} {logs[self.watched]:.4f}", False)
        broken = [name for name, value in logs.items() if not math.isfinite(value)]
        if broken:
            raise alarm(self.step, broken[0], self.folder, self.precision)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self.bar.close()
