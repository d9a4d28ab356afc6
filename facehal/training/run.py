"""A training run: fit, checkpoint, preview, log, and go on after a kill."""

import json
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml
from tqdm import tqdm

from facehal.config import Config, load_config
from facehal.data.faceset import load_faces, shrunk
from facehal.data.pipeline import Pairs, Stretch
from facehal.errors import FacehalError, TrainingError
from facehal.files import locked, write_text
from facehal.models.base import BlockModel
from facehal.models.cascade.cascade import CascadeTrainer
from facehal.models.cascade.objective import Objective
from facehal.models.cascade.progan import ProGAN, StageTrainer
from facehal.models.saving import save_model
from facehal.training import checkpoints
from facehal.training.callbacks import Bar, Preview
from facehal.training.devices import Devices
from facehal.training.history import collapses, read_history
from facehal.training.phases import GanTrainer
from facehal.training.previews import preview_path, thin_previews
from facehal.training.provenance import data_hash, environment
from facehal.training.report import write_report
from facehal.training.validation import Validation


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written to ({error.strerror}); name another folder for the run"
        ) from None


def stages(config: Config) -> list[tuple[int, ...]]:
    """The resolutions that train together, stage by stage.

    A cascade has one stage with all of them, ProGAN a stage for each (figure 4).
    """
    sizes = config.network.resolutions
    return [(size,) for size in sizes] if config.model == "progan" else [sizes]


class Run:
    """One run folder.

    It holds ``config.yaml`` (complete), ``environment.json`` (command, data hash, versions, device,
    git state, the earlier starts), ``history.csv`` (a row per epoch), ``previews/``,
    ``tensorboard/``, ``checkpoints/`` and, from the first checkpoint on, ``model.keras``, always
    the newest model; ``report.html`` and ``epochs.png`` show all of it and are made anew at the
    end of every epoch and of the run. A discriminator that collapses is announced once, on stderr
    and there.

    A ProGAN trains in stages, each with networks and an optimizer of its own and a schedule of
    ``epochs_per_stage``. The model of every finished one stays as ``stages/progan_8.keras`` …, and
    the next grows from just that: where a moving average is kept, from the average. Epochs and
    steps are counted through; ``history.csv`` says the ``stage`` (its resolution) in every row and
    leaves the losses of the other resolutions empty.

    Args:
        config: the experiment.
        data: a folder that ``preprocess`` wrote.
        folder: the run folder; it must be new or empty unless ``resume``.
        resume: go on from the newest checkpoint, in whatever stage that is.
        limit: use only the first faces (for a trial).
        validation: prepared faces of other people, to measure the model on after every epoch
            (:class:`facehal.training.validation.Validation`); more columns of ``history.csv``.
        devices: accelerators that share every batch (:class:`facehal.training.devices.Devices`).
        max_minutes: stop after this many minutes of training with everything written, as if the
            schedule ended there (for a machine that is only lent).
        progress: show the bar.

    Raises:
        DataError: no prepared faces in ``data`` or ``validation``.
        TrainingError: the folder is in use, not writable, or belongs to another experiment; a photo
            to validate on is trained on.
        WeightsError: a loss needs a weight file that is not here.
    """

    model: GanTrainer
    averaged: BlockModel

    def __init__(
        self,
        config: Config,
        data: str | Path,
        folder: str | Path,
        *,
        resume: bool = False,
        limit: int | None = None,
        validation: str | Path | None = None,
        max_minutes: float | None = None,
        devices: int = 1,
        progress: bool = True,
    ):
        self.config, self.folder = config, Path(folder)
        self.checkpoint_folder = self.folder / "checkpoints"
        self.progress, self.max_minutes = progress, max_minutes
        self.stages = stages(config)
        found = checkpoints.latest(self.checkpoint_folder)
        if resume and found is None:
            print(f"{self.folder}: no checkpoint yet, starting from the beginning")
        elif not resume:
            self._refuse_a_run()
        if resume and (self.folder / "config.yaml").exists():
            self._compare_with_stored()

        faces, masks, frame = load_faces(data, limit=limit)
        training = config.training
        faces, masks = shrunk(faces, masks, config.network.resolutions[-1])
        self.pairs = Pairs(
            faces, masks, training.batch_size, mirror=training.mirror, seed=training.seed
        )
        self.data_hash = data_hash(faces, masks)
        self.validation = (
            None if validation is None else Validation(validation, config, frame["source_sha256"])
        )
        self.devices = Devices(devices, self.pairs.batch_size)
        _make_folder(self.folder)  # building the model takes a while: find out before

        self.step = 0
        self.stage = self.stage_start = 0  # index into stages; the step at which it began
        self.partial: dict[str, float] = {}  # sums over the steps of the epoch under way
        if found is not None and resume:
            self._restore(found)
        else:
            self._build()
        # Only now: a run that cannot start leaves no folder that looks like one in use.
        with locked(self.folder, TrainingError):
            if resume:
                if checkpoints.latest(self.checkpoint_folder) != found:
                    raise TrainingError(
                        f"{self.folder}: another process has trained in it meanwhile; start again "
                        "with --resume"
                    )
            else:
                self._refuse_a_run()
            self._write_description()
            self._trim_history()
        count = min(training.preview_faces, len(faces))
        chosen = np.linspace(0, len(faces) - 1, count).astype(int)
        self.preview = Preview(faces[chosen], masks[chosen]) if count else None
        self.board = _Board(self.folder / "tensorboard")

    def _refuse_a_run(self) -> None:
        """A new run needs a folder of its own."""
        if (self.folder / "config.yaml").exists():
            raise TrainingError(
                f"{self.folder}: holds a run already; add --resume to go on with it, or name "
                "another folder"
            )

    def _build(self, previous: ProGAN | None = None, objective: Objective | None = None) -> None:
        """The trainer of the present stage, with the same random weights whenever it is built."""
        config = self.config
        keras.utils.set_random_seed(config.training.seed + self.stage)
        with self.devices.scope():
            if config.model == "progan":
                self.model = StageTrainer(
                    config, self.stage, previous, objective, total_steps=self.stage_steps
                )
            else:
                self.model = CascadeTrainer(config, total_steps=self.stage_steps)
        network = self.model.network
        self.averaged = type(network).from_config(network.get_config())

    def _grow(self) -> None:
        """From the end of one stage to the start of the next."""
        self.stage_start, self.stage = self.step, self.stage + 1
        assert isinstance(self.averaged, ProGAN)
        self._build(self.averaged, self.model.objective)

    def _compare_with_stored(self) -> None:
        """A resumed run keeps its experiment; only its length and its warnings may change."""
        stored = load_config(self.folder / "config.yaml").to_dict()
        ours = self.config.to_dict()
        free: tuple[str, ...] = ("epochs", "epochs_per_stage")
        free += ("collapse_bound", "collapse_epochs", "collapse_steps")
        for plain in (stored, ours):
            for name in free:
                plain["training"].pop(name)
        if stored != ours:
            raise TrainingError(
                f"{self.folder}: was started with another configuration; resume with "
                f"--config {self.folder / 'config.yaml'}"
            )

    def _write_description(self) -> None:
        text = yaml.safe_dump(self.config.to_dict(), sort_keys=False)
        write_text(self.folder / "config.yaml", text, error=TrainingError)
        about: dict[str, Any] = {
            "command": " ".join(sys.argv),
            "started": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"),
            "step": self.step,
            "data_sha256": self.data_hash,
            "faces": len(self.pairs.faces),
            **environment(),
        }
        path = self.folder / "environment.json"
        if path.exists():
            before = _read_json(path)
            about["earlier"] = [*before.pop("earlier", []), before]
        write_text(path, json.dumps(about, indent=2) + "\n", error=TrainingError)

    def _restore(self, path: Path) -> None:
        """Builds the stage of a checkpoint and puts everything back."""
        state = checkpoints.read_state(path)
        if state["data_sha256"] != self.data_hash:
            raise TrainingError(
                f"{path}: was trained on other faces; prepare the same data, or start a new run"
            )
        self.step, self.partial = state["step"], state["partial"]
        self.stage = state.get("stage", 0)  # earlier versions knew the cascade's one stage only
        self.stage_start = state.get("stage_start", 0)
        self._build()
        checkpoints.restore(self.model, path)
        self.model.copy_averages_to(self.averaged)

    def _trim_history(self) -> None:
        """Drops rows behind the checkpoint, or without one all of them: they come again."""
        history = self.folder / "history.csv"
        if not history.exists():
            return
        head, *rows = history.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if int(row.split(",")[1]) <= self.step]
        write_text(history, "\n".join([head, *kept]) + "\n", error=TrainingError)

    @property
    def stage_steps(self) -> int:
        """Steps of the schedule of one stage."""
        training = self.config.training
        epochs = training.epochs_per_stage if self.config.model == "progan" else training.epochs
        return epochs * self.pairs.steps_per_epoch

    @property
    def stage_end(self) -> int:
        """The step at which the present stage ends."""
        return self.stage_start + self.stage_steps

    @property
    def total_steps(self) -> int:
        """Steps of the whole schedule, all stages."""
        return self.stage_end + (len(self.stages) - self.stage - 1) * self.stage_steps

    def fit(self) -> Path:
        """Trains to the end of the schedule; returns the path of the saved model.

        Raises:
            TrainingError: another process trains in the folder, or a loss is not finite any more.
        """
        with locked(self.folder, TrainingError):
            return self._fit()

    def _fit(self) -> Path:
        started, trained = time.monotonic(), False
        watcher = self._watcher()
        try:
            while True:
                finished = self.step >= self.stage_end  # also right after a resume
                if finished:
                    if not trained:  # an interrupted run may have left the checkpoint alone
                        self._publish()
                    self._keep_stage()
                    if self.stage + 1 == len(self.stages):
                        break
                minutes = (time.monotonic() - started) / 60
                if trained and self.max_minutes is not None and minutes >= self.max_minutes:
                    break
                if finished:
                    self._grow()
                    watcher.close()
                    watcher = self._watcher()
                self._stretch(watcher)
                trained = True
        finally:
            watcher.close()
        self.board.close()
        self._write_report()  # the last page may be of an epoch before
        return self.folder / "model.keras"

    def _watcher(self) -> Bar:
        """The callback of the present stage, with a bar of its own: each has its own speed."""
        largest, count = self.stages[self.stage][-1], len(self.stages)
        stage = f"block {largest} ({self.stage + 1}/{count})" if count > 1 else ""
        return Bar(
            f"{largest}/pixel",
            self.checkpoint_folder,
            step=self.step,
            span=(self.stage_start, self.stage_end),
            steps_per_epoch=self.pairs.steps_per_epoch,
            epochs=self.total_steps // self.pairs.steps_per_epoch,
            stage=stage,
            show=self.progress,
        )

    def _stretch(self, watcher: Bar) -> None:
        """The steps to the next checkpoint, which at the latest is the end of the epoch."""
        per_epoch = self.pairs.steps_per_epoch
        epoch_end = (self.step // per_epoch + 1) * per_epoch
        stop = min(epoch_end, self.step + self.config.training.checkpoint_steps)
        began = time.monotonic()
        with self.devices.scope():
            history = self.model.fit(
                Stretch(self.pairs, self.step, stop).source(),
                shuffle=False,  # Pairs has; Keras's own order would differ after a resume
                verbose=0,
                callbacks=[watcher],
            ).history
        self._add(history, stop - self.step, time.monotonic() - began)
        self.step = stop
        self.model.copy_averages_to(self.averaged)
        if stop == epoch_end:
            self._log_epoch(stop // per_epoch, per_epoch)
        self._save()
        self._publish()
        if stop == epoch_end:
            self._warn()
            self._write_report()

    def _keep_stage(self) -> None:
        """The model of a finished stage of ProGAN, beside model.keras, which the next replaces."""
        if self.config.model == "progan":
            (size,) = self.stages[self.stage]
            save_model(self.averaged, self.folder / "stages" / f"progan_{size}.keras")

    def _add(self, history: dict[str, list], steps: int, seconds: float) -> None:
        for name, values in history.items():
            if name != "loss":
                self.partial[name] = self.partial.get(name, 0.0) + float(values[0]) * steps
        self.partial["seconds"] = self.partial.get("seconds", 0.0) + seconds
        self.partial["steps"] = self.partial.get("steps", 0) + steps

    def _columns(self) -> list[str]:
        """Of history.csv: all measures of every resolution, whether this stage has them or not."""
        names = []
        for size in self.config.network.resolutions:
            terms = self.model.objective.names(size)
            terms += self.validation.names(size) if self.validation else ()
            names += [f"{size}/{term}" for term in terms]
        stage = ["stage"] if self.config.model == "progan" else []
        return ["epoch", "step", "seconds", *stage, *names]

    def _log_epoch(self, epoch: int, steps: int) -> None:
        """One row of history.csv and of TensorBoard: means over the epoch, seconds it took, and
        what held-out faces say at its end."""
        sums, self.partial = self.partial, {}
        seconds = sums.pop("seconds")
        sums.pop("steps")
        row = {"epoch": epoch, "step": self.step, "seconds": round(seconds, 2)}
        if self.config.model == "progan":
            (row["stage"],) = self.stages[self.stage]
        row |= {name: sums[name] / steps for name in self.model.report.names}
        if self.validation:
            row |= self.validation.measure(self.averaged)
        self.board.write(epoch, row)
        path = self.folder / "history.csv"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        text = text or ",".join(self._columns()) + "\n"
        columns = text.split("\n", 1)[0].split(",")
        new = [name for name in row if name not in columns]  # a resumed run may validate only now
        if new:
            head, *rows = text.splitlines()
            text = "\n".join([",".join([head, *new]), *(line + "," * len(new) for line in rows)])
            text, columns = text + "\n", columns + new
        text += ",".join(str(row.get(name, "")) for name in columns) + "\n"
        write_text(path, text, error=TrainingError)

    def _warn(self) -> None:
        """Announces a discriminator that has collapsed in the epoch just finished."""
        rows = read_history(self.folder)
        known = {one.resolution for one in collapses(rows[:-1], self.config.training)}
        for one in collapses(rows, self.config.training):
            if one.resolution not in known:
                tqdm.write(f"warning: {one}", file=sys.stderr)

    def _write_report(self) -> None:
        """Brings report.html and epochs.png up to date."""
        try:
            write_report(self.folder)
        except FacehalError as error:  # not worth days of training
            tqdm.write(f"warning: the report was not written: {error}", file=sys.stderr)

    def _save(self) -> None:
        """A checkpoint."""
        state = {
            "config": self.config.to_dict(),
            "stage": self.stage,
            "stage_start": self.stage_start,
            "partial": self.partial,
            "data_sha256": self.data_hash,
        }
        checkpoints.save(self.model, self.checkpoint_folder, self.step, state)

    def _publish(self) -> None:
        """What can be made again from a checkpoint: a preview grid and the model."""
        if self.preview:
            folder = self.folder / "previews"
            path = preview_path(folder, self.step, self.pairs.steps_per_epoch)
            self.preview.write(self.averaged, path)
            thin_previews(folder, self.total_steps // self.pairs.steps_per_epoch)
        save_model(self.averaged, self.folder / "model.keras")


def _read_json(path: Path) -> dict[str, Any]:
    """What an earlier start of the run wrote about itself."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); delete it, then resume") from None
    if not isinstance(found, dict) or not isinstance(found.get("earlier", []), list):
        raise TrainingError(f"{path}: not one that training wrote; delete it, then resume")
    return found


class _Board:
    """TensorBoard scalars, where TensorFlow is installed to write them."""

    def __init__(self, folder: Path):
        try:
            import tensorflow as tf
        except ImportError:
            print("TensorFlow is not installed: no TensorBoard files; history.csv has the numbers")
            self.writer = None
            return
        self.summary = tf.summary
        self.writer = tf.summary.create_file_writer(str(folder))

    def write(self, epoch: int, row: dict[str, float]) -> None:
        if self.writer is None:
            return
        with self.writer.as_default(step=epoch):
            for name, value in row.items():
                self.summary.scalar(name, value)
        self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
