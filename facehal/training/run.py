"""A training run: fit, checkpoint, preview, log, and go on after a kill."""

import contextlib
import hashlib
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from facehal.backend import is_lost_worker
from facehal.config import Experiment
from facehal.data.faceset import FaceSet, Folders, shrunk
from facehal.data.people import hallucinated as made_of
from facehal.data.people import split, with_photos
from facehal.data.pipeline import MEMORY, Abreast, Pipeline, open_pipeline, prefetched
from facehal.errors import DataError, FacehalError, TrainingError, first_line
from facehal.files import locked
from facehal.models.base import take_weights, task_of
from facehal.models.saving import save_model
from facehal.models.task import PictureMeasures, Task
from facehal.training import checkpoints
from facehal.training.bar import Bar, alarm
from facehal.training.cluster import Devices, Workers, work_clock
from facehal.training.folder import Board, RunFolder
from facehal.training.history import collapses, read_history
from facehal.training.phases import Trainer
from facehal.training.previews import Preview, preview_path, thin_previews
from facehal.training.report import write_report
from facehal.training.validation import HeldOut, Validation

MADE = "hallucinated"  # the set of hallucinated pictures, beside that of the real ones
FEW = 5000  # faces that are read so quickly that a bar would only flicker


@dataclass(frozen=True)
class _Prepared:
    """The pipeline with what the family does to a batch, in the threads that prepare it."""

    pipeline: Pipeline | Abreast
    task: Task

    def batch(self, step: int) -> dict[str, np.ndarray]:
        return self.task.prepare(self.pipeline.batch(step), step)


class Run:
    """One run, of any family.

    Its folder holds ``config.yaml`` (complete), ``environment.json`` (command, data folders and
    hash, versions, device, git state, the earlier starts), ``page.json`` (what the page says of the
    family), ``history.csv`` (a row per epoch), ``previews/``, ``tensorboard/``, ``checkpoints/``
    and, from the first checkpoint on, ``model.keras``, always the newest model; ``report.html`` and
    ``epochs.png`` show all of it and are made anew at the end of every epoch and of the run. A
    discriminator that collapses is announced once, on stderr and there.

    A family with several stages (ProGAN) has networks and optimizers of its own in each. The model
    of every finished one stays as ``stages/progan_8.keras`` …, and the next begins from just that:
    where a moving average is kept, from the average. Epochs and steps are counted through;
    ``history.csv`` says the ``stage`` in every row and leaves the losses of the others empty.

    A family that tells people apart (``Task.people``) keeps some photos of everybody from the
    training, to measure on after every epoch, and may end when their loss does not fall any more.

    Args:
        config: the experiment.
        data: a folder that ``preprocess`` wrote, or several
            (:meth:`facehal.data.faceset.FaceSet.open`). For a family that trains on several sets
            (``Task.roles``): for each role the faces of one folder, or some of them.
        folder: the run folder; it must be new or empty unless ``resume``.
        resume: go on from the newest checkpoint, in whatever stage that is.
        hallucinated: for such a family folders that ``augment`` wrote of the same faces: every
            batch is half real and half hallucinated. Pictures of a photo that is held out are left
            out.
        variants: of the hallucinated pictures of a face the best and the first so many variants;
            by default all.
        limit: use only the first faces (for a trial), of every role.
        validation: prepared faces of other people, to measure the model on after every epoch
            (:class:`facehal.training.validation.Validation`); more columns of ``history.csv``.
        devices: accelerators that share every batch (:class:`facehal.training.cluster.Devices`).
        workers: processes that train the run together; ``folder``, which all of them see, is
            written by the first. All are started with the same arguments.
        memory: bytes that the faces may take; a larger set is read from its files as it is needed.
        max_minutes: stop after this many minutes of training with everything written, as if the
            schedule ended there (for a machine that is only lent), give or take some steps.
        max_work: likewise after this many minutes of the machine's work on the whole training, all
            calls together (:func:`facehal.training.cluster.work_clock`): as much training, however
            busy the machine is.
        progress: show the bar.

    Raises:
        DataError: no prepared faces in ``data`` or ``validation``, or too small ones.
        TrainingError: the folder is in use, not writable, or belongs to another experiment; a photo
            to validate on is trained on.
        WeightsError: a loss needs a weight file that is not here.
    """

    trainer: Trainer
    averaged: keras.Model

    def __init__(
        self,
        config: Experiment,
        data: Folders | Mapping[str, FaceSet],
        folder: str | Path,
        *,
        resume: bool = False,
        hallucinated: Sequence[str | Path] = (),
        variants: int | None = None,
        limit: int | None = None,
        validation: str | Path | None = None,
        max_minutes: float | None = None,
        max_work: float | None = None,
        devices: int = 1,
        workers: Workers | None = None,
        memory: float = MEMORY,
        progress: bool = True,
    ):
        self.config, self.folder = config, RunFolder(Path(folder))
        self.progress, self.max_minutes, self.max_work = progress, max_minutes, max_work
        self.task = task_of(config)
        self.workers, self.chief = workers, workers is None or workers.index == 0
        if workers is not None and (max_minutes is not None or max_work is not None):
            raise TrainingError("several workers end at the same step: give epochs, not minutes")
        if workers is not None and self.task.people is not None and self.task.people.patience:
            raise TrainingError("several workers end at the same step: give epochs, patience: 0")
        found = checkpoints.latest(self.folder.checkpoints)
        if resume and found is None:
            print(f"{folder}: no checkpoint yet, starting from the beginning")
        elif not resume and self.chief:
            self.folder.refuse_a_run()
        if resume:
            self.folder.compare(self.task)

        faces, self.sets = self._opened(data, limit)
        self.validation: Validation | HeldOut | None = None
        if self.task.people is not None:
            self._meet(faces, hallucinated, variants)
        elif hallucinated:
            raise TrainingError(
                f"{config.model} does not tell people apart: hallucinated pictures "
                "are of no use to it"
            )
        training = config.training
        # Of every role so many; of real and hallucinated pictures so many together.
        each = training.batch_size if self.task.roles else training.batch_size // len(self.sets)
        pipelines = [
            open_pipeline(
                one,
                min(each, *map(len, self.sets.values()), len(one)),
                memory=memory * len(one) / len(faces),
                side=self.task.side,
                mirror=training.mirror,
                seed=training.seed * len(self.sets) + number,
                labels=self.task.labels,
                landmarks=self.task.landmarks,
                noise=self.task.noise,
                augmentation=self.task.augmentation,
                progress=progress and len(one) > FEW,
            )
            for number, one in enumerate(self.sets.values())
        ]
        self.pipeline: Pipeline | Abreast = pipelines[0]
        if len(pipelines) > 1 or self.task.epoch_steps:
            self.pipeline = Abreast(pipelines, self.task.epoch_steps)
        self.data_hash = faces.sha256
        if made := self.sets.get(MADE):
            both = f"{self.data_hash} {made.sha256}"
            self.data_hash = hashlib.sha256(both.encode()).hexdigest()
        if validation is not None and self.chief:
            self.validation = self._validation(validation, faces)
        self.devices = Devices(devices, self.pipeline.batch_size, workers)
        if self.chief:
            self.folder.make()  # building the model takes a while: find out before

        self.step = 0
        self.stage = self.stage_start = 0  # index into the stages; the step at which it began
        self.partial: dict[str, float] = {}  # sums over the steps of the epoch under way
        self.worked = 0.0  # seconds of the machine's work in all training steps
        self.started = time.monotonic()
        self.pace = (0.0, 0.0)  # seconds of a step by the clock and of work; 0: not known yet
        if found is not None and resume:
            self._restore(found)
        else:
            self._build(pretrained=config.training.pretrained)
        self.preview: Preview | None = None
        self.board: Board | None = None
        if self.chief:
            self._claim(faces, resume, found)

    def _claim(self, faces: FaceSet, resume: bool, found: Path | None) -> None:
        """The folder becomes this run's; only now, for a run that cannot start leaves none that
        looks like one in use."""
        with locked(self.folder.path, TrainingError):
            if resume:
                if checkpoints.latest(self.folder.checkpoints) != found:
                    raise TrainingError(
                        f"{self.folder.path}: another process has trained in it meanwhile; start "
                        "again with --resume"
                    )
            else:
                self.folder.refuse_a_run()
            about = {"step": self.step, **_about(faces), "data_sha256": self.data_hash}
            if made := self.sets.get(MADE):
                about |= {"hallucinated": [str(one) for one in made.folders], "pictures": len(made)}
            self.folder.describe(self.task, about)
            self.folder.trim_history(self.step)
        count = min(self.config.training.preview_faces, len(faces))
        if count and isinstance(self.task.measures, PictureMeasures):
            chosen = np.linspace(0, len(faces) - 1, count).astype(int)
            self.preview = Preview(*shrunk(*faces.read(chosen), self.task.side))
        self.board = Board(self.folder.path / "tensorboard")

    def _opened(
        self, data: Folders | Mapping[str, FaceSet], limit: int | None
    ) -> tuple[FaceSet, dict[str, FaceSet]]:
        """All faces, and those of every role; the role of a family that has none is empty."""
        roles = self.task.roles
        if not isinstance(data, Mapping):
            if roles:
                raise TrainingError(
                    f"{self.config.model} trains on several sets of faces: name "
                    f"{' and '.join(f'--{role}' for role in roles)}"
                )
            faces = FaceSet.open(data, limit)
            return faces, {"": faces}
        if sorted(data) != sorted(roles):
            raise TrainingError(
                f"{self.config.model} does not train on the sets {', '.join(sorted(data))}"
            )
        faces = FaceSet.joined(
            [data[role].chosen(range(len(data[role]))[:limit]) for role in roles]
        )
        rows = [np.flatnonzero(faces.places == place) for place in range(len(roles))]
        for role, found in zip(roles, rows, strict=True):
            if not len(found):
                raise DataError(
                    f"{data[role].folders[0]}: all photos of the {role} are in another set, too"
                )
        return faces, {r: faces.chosen(found) for r, found in zip(roles, rows, strict=True)}

    def _meet(self, faces: FaceSet, folders: Sequence[str | Path], variants: int | None) -> None:
        """Who is trained on, which of their photos are held out, and what is hallucinated of the
        others."""
        people = self.task.people
        assert people is not None
        real, held = split(with_photos(faces, people.min_photos), people.held_out)
        self.sets = {"": real}
        if folders:
            made = made_of(real, folders, variants)
            if made.subjects != real.subjects:
                missing = sorted(set(real.subjects) - set(made.subjects))
                raise DataError(
                    f"{folders[0]}: no hallucinated picture of {missing[0]}, as of {len(missing)} "
                    "people; run `facehal augment` on all of the faces"
                )
            self.sets[MADE] = made
        self.task.meet(real.subjects)
        if held is not None and self.chief:
            self.validation = HeldOut(held, real.subjects, people, self.task.side)

    def _examples(self, role: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See :data:`facehal.models.task.Examples`."""
        faces = self.sets[role]
        rows = np.linspace(0, len(faces) - 1, count).astype(int)
        return shrunk(*faces.read(rows), self.task.side)

    def _validation(self, folder: str | Path, faces: FaceSet) -> Validation:
        if self.task.people is not None:
            raise TrainingError(
                f"{folder}: {self.config.model} validates on photos of the people that it is "
                "trained on (training.held_out); leave --validation out"
            )
        if self.task.measures is None:
            raise TrainingError(f"{folder}: {self.config.model} makes no pictures to validate")
        return Validation(folder, self.task.measures, faces.frame["source_sha256"])

    def _build(self, previous: keras.Model | None = None, pretrained: str = "") -> None:
        """The trainer of the present stage, with the same random weights whenever it is built, or
        those of a trained model."""
        keras.utils.set_random_seed(self.config.training.seed + self.stage)
        with self.devices.scope():
            system = self.task.build(self.stage, previous, self.stage_steps)
            self.task.begin(system.model, self._examples)
            if pretrained:
                take_weights(system.model, pretrained)
            self.trainer = Trainer(system, parallel=self.devices.parallel)
        model = system.model
        self.averaged = type(model).from_config(model.get_config())

    def _grow(self) -> None:
        """From the end of one stage to the start of the next."""
        self.stage_start, self.stage = self.step, self.stage + 1
        self._build(self.averaged)

    def _restore(self, path: Path) -> None:
        """Builds the stage of a checkpoint and puts everything back."""
        state = checkpoints.read_state(path)
        if state["data_sha256"] != self.data_hash:
            raise TrainingError(
                f"{path}: was trained on other faces; prepare the same data, or start a new run"
            )
        self.step, self.partial = state["step"], state["partial"]
        self.worked = state.get("worked", 0.0)
        self.stage, self.stage_start = state["stage"], state["stage_start"]
        self._build()
        checkpoints.restore(self.trainer, path)
        self.trainer.copy_average_to(self.averaged)

    @property
    def stage_steps(self) -> int:
        """Steps of the schedule of the present stage."""
        return self.task.stages[self.stage].epochs * self.pipeline.steps_per_epoch

    @property
    def stage_end(self) -> int:
        """The step at which the present stage ends."""
        return self.stage_start + self.stage_steps

    @property
    def total_steps(self) -> int:
        """Steps of the whole schedule, all stages."""
        left = sum(stage.epochs for stage in self.task.stages[self.stage + 1 :])
        return self.stage_end + left * self.pipeline.steps_per_epoch

    @property
    def stage_over(self) -> bool:
        """Whether the present stage is at its end: of its schedule, or of what it can learn."""
        if self.step >= self.stage_end:
            return True
        people = self.task.people
        if people is None or not people.patience or not self.step:
            return False
        losses = [row[people.columns[0]] for row in read_history(self.folder.path)]
        return len(losses) > people.patience and (
            min(losses[-people.patience :]) >= min(losses[: -people.patience])
        )

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to train."""
        return self.stage + 1 == len(self.task.stages) and self.stage_over

    def fit(self) -> Path:
        """Trains to the end of the schedule; returns the path of the saved model.

        Raises:
            TrainingError: another process trains in the folder, a loss is not finite any more, or
                one of the workers is gone.
        """
        if self.workers is None:
            with locked(self.folder.path, TrainingError):
                return self._fit()
        held = locked(self.folder.path, TrainingError) if self.chief else contextlib.nullcontext()
        try:
            with held:
                return self._fit()
        except Exception as error:
            if not is_lost_worker(error):
                raise
            # TensorFlow leaves a pool of threads in these frames; alive at the interpreter's exit,
            # it would print a traceback behind the message.
            traceback.clear_frames(error.__traceback__)
            raise TrainingError(
                f"step {self.step}: another worker is gone ({first_line(error)}); start all of "
                "them again with --resume"
            ) from error

    def _fit(self) -> Path:
        self.started, trained = time.monotonic(), False
        watcher = self._watcher()
        try:
            while True:
                finished = self.stage_over  # also right after a resume
                if finished:
                    if not trained:  # an interrupted run may have left the checkpoint alone
                        self._publish()
                    self._keep_stage()
                    if self.stage + 1 == len(self.task.stages):
                        break
                if trained and any(left <= 0 for left, _ in self._limits()):
                    break
                if finished:
                    self._grow()
                    watcher.close()
                    watcher = self._watcher()
                self._stretch(watcher)
                trained = True
        finally:
            watcher.close()
        if self.board is not None:
            self.board.close()
        self._write_report()  # the last page may be of an epoch before
        return self.folder.model

    def _limits(self) -> list[tuple[float, float]]:
        """Of each limit the seconds that are left, and those that a step took last."""
        done = (time.monotonic() - self.started, self.worked)
        limits = zip((self.max_minutes, self.max_work), done, self.pace, strict=True)
        return [(60 * most - past, pace) for most, past, pace in limits if most is not None]

    def _reach(self) -> int:
        """Steps to the next checkpoint: as many as a limit leaves, but worth a checkpoint."""
        usual = self.config.training.checkpoint_steps
        fitting = [round(left / pace) for left, pace in self._limits() if pace]
        return max(1, usual // 20, min([usual, *fitting]))

    def _watcher(self) -> Bar:
        """The bar of the present stage: each has its own speed."""
        count = len(self.task.stages)
        title = self.task.stages[self.stage].title
        return Bar(
            self.trainer.system.watched,
            self.folder.checkpoints,
            step=self.step,
            span=(self.stage_start, self.stage_end),
            steps_per_epoch=self.pipeline.steps_per_epoch,
            epochs=self.total_steps // self.pipeline.steps_per_epoch,
            stage=f"{title} ({self.stage + 1}/{count})" if count > 1 else title,
            precision=self.config.training.precision,
            show=self.progress and self.chief,
        )

    def _batches(self, stop: int) -> Iterator[dict[str, np.ndarray]]:
        for _, batch in prefetched(_Prepared(self.pipeline, self.task), self.step, stop):
            yield batch

    def _stretch(self, watcher: Bar) -> None:
        """The steps to the next checkpoint, which at the latest is the end of the epoch."""
        per_epoch = self.pipeline.steps_per_epoch
        epoch_end = (self.step // per_epoch + 1) * per_epoch
        stop = min(epoch_end, self.step + self._reach())
        began, worked = time.monotonic(), work_clock()
        with self.devices.scope():
            means = self.trainer.fit(self._batches(stop), watcher.stepped)
        watcher.look(means)
        seconds, work = time.monotonic() - began, work_clock() - worked
        self._add(seconds)
        self.worked += work
        self.pace = seconds / (stop - self.step), work / (stop - self.step)
        self.step = stop
        self.trainer.copy_average_to(self.averaged)
        if stop == epoch_end:
            self._log_epoch(stop // per_epoch)
        self._save()
        self._publish()
        if stop == epoch_end:
            self._warn()
            self._write_report()

    def _keep_stage(self) -> None:
        """The model of a finished stage, beside model.keras, which the next one replaces."""
        name = self.task.stages[self.stage].name
        if name and self.chief:
            path = self.folder.path / "stages" / f"{self.config.model}_{name}.keras"
            save_model(self.averaged, path)

    def _add(self, seconds: float) -> None:
        """Sums over the epoch, and how often each report came: some phases come seldom."""
        for name, (total, count) in self.trainer.totals().items():
            self.partial[name] = self.partial.get(name, 0.0) + total
            self.partial[f"count:{name}"] = self.partial.get(f"count:{name}", 0) + count
        self.partial["seconds"] = self.partial.get("seconds", 0.0) + seconds

    def _columns(self) -> list[str]:
        """Of history.csv: all measures of every stage, whether this one has them or not."""
        stage = ["stage"] if self.task.stages[0].name else []
        held_out = self.validation.columns if self.validation else []
        return ["epoch", "step", "seconds", *stage, *self.task.columns, *held_out]

    def _log_epoch(self, epoch: int) -> None:
        """One row of history.csv and of TensorBoard: means over the epoch, seconds it took, and
        what held-out faces say at its end."""
        sums, self.partial = self.partial, {}
        if self.board is None:
            return
        row: dict[str, Any] = {"epoch": epoch, "step": self.step}
        row["seconds"] = round(sums["seconds"], 2)
        if stage := self.task.stages[self.stage].name:
            row["stage"] = stage
        for name in self.trainer.system.names:
            if name in sums:
                row[name] = sums[name] / sums[f"count:{name}"]
        if self.validation:
            row |= self.validation.measure(self.averaged)
        self.board.write(epoch, row)
        self.folder.append_history(row, self._columns())

    def _warn(self) -> None:
        """Announces a discriminator that has collapsed in the epoch just finished."""
        if not self.chief:
            return
        rows = read_history(self.folder.path)
        known = {one.resolution for one in collapses(rows[:-1], self.config.training)}
        for one in collapses(rows, self.config.training):
            if one.resolution not in known:
                tqdm.write(f"warning: {one}", file=sys.stderr)

    def _write_report(self) -> None:
        """Brings report.html and epochs.png up to date."""
        if not self.chief:
            return
        try:
            write_report(self.folder.path)
        except FacehalError as error:  # not worth days of training
            tqdm.write(f"warning: the report was not written: {error}", file=sys.stderr)

    def _save(self) -> None:
        """A checkpoint."""
        state = {
            "config": self.config.to_dict(),
            "stage": self.stage,
            "stage_start": self.stage_start,
            "partial": self.partial,
            "worked": self.worked,
            "data_sha256": self.data_hash,
        }
        try:
            folder = self.folder.checkpoints
            checkpoints.save(self.trainer, folder, self.step, state, self.chief)
        except checkpoints.NotFinite as what:
            precision = self.config.training.precision
            raise alarm(self.step, str(what), self.folder.checkpoints, precision) from None

    def _publish(self) -> None:
        """What can be made again from a checkpoint: a preview grid and the model."""
        if not self.chief:
            return
        if self.preview:
            per_epoch = self.pipeline.steps_per_epoch
            path = preview_path(self.folder.previews, self.step, per_epoch)
            self.preview.write(self.averaged, path)
            thin_previews(self.folder.previews, self.total_steps // per_epoch)
        save_model(self.averaged, self.folder.model)


def _about(faces: FaceSet) -> dict[str, Any]:
    """What ``environment.json`` says of the faces: folders, how many are taken of each, hash."""
    each = np.bincount(faces.places, minlength=len(faces.folders)).tolist()
    return {
        "data": [str(folder) for folder in faces.folders],
        "data_sha256": faces.sha256,
        "faces": len(faces),
        **({"faces_of_each": each} if len(each) > 1 else {}),
    }
