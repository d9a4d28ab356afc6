"""The run folder: what stands in it about the run, and the history."""

import json
import tempfile
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from facehal.config import flat
from facehal.errors import TrainingError
from facehal.files import write_text
from facehal.models.base import load_config
from facehal.models.task import Task
from facehal.training.provenance import command, environment


class RunFolder:
    """One run folder on disk.

    Args:
        path: of it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.previews = path / "previews"
        self.model = path / "model.keras"
        self.history = path / "history.csv"

    def make(self) -> None:
        """The folder, if it can be written to.

        Raises:
            TrainingError: it cannot.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise TrainingError(
                f"{self.path}: cannot be written to ({error.strerror}); name another folder for "
                "the run"
            ) from None

    def refuse_a_run(self) -> None:
        """A new run needs a folder of its own.

        Raises:
            TrainingError: one is here.
        """
        if (self.path / "config.yaml").exists():
            raise TrainingError(
                f"{self.path}: holds a run already; add --resume to go on with it, or name "
                "another folder"
            )

    def compare(self, task: Task) -> None:
        """A resumed run keeps its experiment, but for its length and its warnings.

        Raises:
            TrainingError: the stored configuration is another.
            ConfigError: it is damaged.
        """
        path = self.path / "config.yaml"
        if not path.exists():
            return
        if load_config(path).fixed() != task.config.fixed():
            raise TrainingError(
                f"{self.path}: was started with another configuration; resume with --config {path}"
            )

    def describe(self, task: Task, about: dict[str, Any]) -> None:
        """Writes ``config.yaml``, ``page.json`` and ``environment.json``, earlier starts kept.

        Args:
            task: of the run.
            about: what else ``environment.json`` says.
        """
        plain = task.config.to_dict()
        text = yaml.safe_dump(plain, sort_keys=False)
        write_text(self.path / "config.yaml", text, error=TrainingError)
        page = json.dumps(page_of(task), indent=1, ensure_ascii=False)
        write_text(self.path / "page.json", page + "\n", error=TrainingError)
        full: dict[str, Any] = {
            "command": command(),
            "started": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"),
            **about,
            **environment(),
        }
        path = self.path / "environment.json"
        if path.exists():
            before = _read_json(path)
            full["earlier"] = [*before.pop("earlier", []), before]
        write_text(path, json.dumps(full, indent=2) + "\n", error=TrainingError)

    def trim_history(self, step: int) -> None:
        """Drops rows behind the checkpoint, or without one all of them: they come again."""
        if not self.history.exists():
            return
        head, *rows = self.history.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if int(row.split(",")[1]) <= step]
        write_text(self.history, "\n".join([head, *kept]) + "\n", error=TrainingError)

    def append_history(self, row: dict[str, Any], columns: list[str]) -> None:
        """Adds a row.

        Args:
            row: by column; what it does not have stays empty.
            columns: of a history that begins with it. Of one that is here others may be new: a
                resumed run may validate only now.
        """
        text = self.history.read_text(encoding="utf-8") if self.history.exists() else ""
        text = text or ",".join(columns) + "\n"
        columns = text.split("\n", 1)[0].split(",")
        new = [name for name in row if name not in columns]
        if new:
            head, *rows = text.splitlines()
            lines = [",".join([head, *new]), *(line + "," * len(new) for line in rows)]
            text, columns = "\n".join(lines) + "\n", columns + new
        text += ",".join(str(row.get(name, "")) for name in columns) + "\n"
        write_text(self.history, text, error=TrainingError)


def page_of(task: Task) -> dict[str, Any]:
    """What the page of a run needs to know of its family, as plain values.

    With it :func:`facehal.training.report.write_report` needs no family and no Keras.
    """
    page, training = task.page(), task.config.training
    ours, default = flat(task.config.to_dict()), flat(type(task.config)().to_dict())
    return {
        "title": page.title,
        "stages": [(stage.name, stage.epochs) for stage in task.stages],
        "side": page.side,
        "explanation": page.explanation,
        "charts": {heading: [asdict(one) for one in some] for heading, some in page.charts.items()},
        "preview_faces": training.preview_faces,
        "collapse": {
            name: getattr(training, name)
            for name in ("collapse_bound", "collapse_epochs", "collapse_steps")
        },
        "differs": [
            (name, _text(value), _text(default[name]))
            for name, value in ours.items()
            if value != default[name]
        ],
    }


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read_json(path: Path) -> dict[str, Any]:
    """What an earlier start of the run wrote about itself."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); delete it, then resume") from None
    if not isinstance(found, dict) or not isinstance(found.get("earlier", []), list):
        raise TrainingError(f"{path}: not one that training wrote; delete it, then resume")
    return found


class Board:
    """TensorBoard scalars, where TensorFlow is installed to write them.

    Args:
        folder: of the event files.
    """

    def __init__(self, folder: Path):
        self.writer: Any = None
        try:
            import tensorflow as tf
        except ImportError:
            print("TensorFlow is not installed: no TensorBoard files; history.csv has the numbers")
            return
        self.summary = tf.summary
        self.writer = tf.summary.create_file_writer(str(folder))

    def write(self, epoch: int, row: dict[str, Any]) -> None:
        """The numbers of an epoch."""
        if self.writer is None:
            return
        with self.writer.as_default(step=epoch):
            for name, value in row.items():
                if isinstance(value, int | float):
                    self.summary.scalar(name, value)
        self.writer.flush()

    def close(self) -> None:
        """Ends the file."""
        if self.writer is not None:
            self.writer.close()
