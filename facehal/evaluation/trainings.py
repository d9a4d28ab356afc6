"""Several runs in one folder, each trained in a process of its own.

One that dies (memory, a loss that is not a number, weights that are missing) takes nothing with it,
and all memory is given back when it ends. ``OUT/NAME/`` is the run's folder, ``OUT/NAME.yaml`` its
complete configuration, ``OUT/NAME.json`` how far it came, written when its process ends.
"""

import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from facehal.config import Experiment, flat
from facehal.data.faceset import FaceSet
from facehal.errors import FacehalError, TrainingError, typed_line
from facehal.files import write_text
from facehal.models.base import PictureModel, load_config
from facehal.training.run import Run

SOURCE = ("data", "limit", "hallucinated", "variants")  # what a run is trained on
SCHEDULE = ("epochs", "epochs_per_stage")  # what a run may change when it goes on


def difference(base: Experiment, config: Experiment) -> dict[str, Any]:
    """What a configuration sets otherwise than another: ``{"loss.pixel": "l2"}``."""
    ours, theirs = flat(config.to_dict()), flat(base.to_dict())
    return {name: value for name, value in ours.items() if value != theirs[name]}


def read_status(out: Path, name: str) -> dict[str, Any]:
    """How far a run came; empty where none was begun.

    Raises:
        TrainingError: the file is damaged.
    """
    path = out / f"{name}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); delete it to train anew") from None


def write_status(out: Path, name: str, **values: Any) -> None:
    """Says how far a run came: ``state``, and what else is known."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_text(out / f"{name}.json", text, TrainingError)


def check_earlier(out: Path, name: str, config: Any, source: dict[str, Any]) -> None:
    """A run may be trained longer, but its experiment and its faces stay.

    Raises:
        TrainingError: the one in the folder is another.
    """
    stored = out / name / "config.yaml"
    if stored.exists():
        before = load_config(stored)
        changed = set(difference(before, config))
        changed -= {f"training.{field}" for field in SCHEDULE}
        if changed:
            raise TrainingError(
                f"{out / name}: was trained with another configuration ({sorted(changed)[0]}); "
                "name another folder"
            )
        lengths = [x for x in SCHEDULE if hasattr(config.training, x)]
        if any(getattr(before.training, x) > getattr(config.training, x) for x in lengths):
            raise TrainingError(
                f"{out / name}: was begun with {before.training.epochs} epochs, more than "
                f"{config.training.epochs}; give it as many, or name another folder"
            )
    found = read_status(out, name)
    for key, value in source.items():
        if found and found[key] != value:
            raise TrainingError(
                f"{out / name}: was trained with {key} {found[key]}, not {value}; name another "
                "folder"
            )


def is_finished(out: Path, name: str, config: Any) -> bool:
    """Whether a run of just this configuration has come to its end, and its model is there."""
    stored = out / name / "config.yaml"
    return (
        read_status(out, name).get("state") == "finished"
        and (out / name / "model.keras").exists()
        and stored.exists()
        and load_config(stored) == config
    )


def train_apart(
    out: Path,
    name: str,
    source: dict[str, Any],
    *,
    max_minutes: float | None = None,
    max_work: float | None = None,
) -> None:
    """Trains a run in another process and sees to it that its status is written.

    Args:
        out: the folder, with the configuration in ``NAME.yaml``.
        name: of the run, which goes on if it was begun.
        source: ``data``, a folder of prepared faces, several, or for every role of the family a
            folder and a person of it; ``limit``; for a recognition network also ``hallucinated``,
            folders that augment wrote, and ``variants``, how many of every face.
        max_minutes: of training, in this call.
        max_work: minutes of the machine's work, in all calls together
            (:class:`facehal.training.run.Run`).
    """
    (out / f"{name}.json").unlink(missing_ok=True)
    limits = {"max_minutes": max_minutes, "max_work": max_work}
    job = json.dumps({"out": str(out), "name": name, **source, **limits})
    # The pipe tells the process when this one is gone, killed or not.
    with subprocess.Popen(
        [sys.executable, "-m", "facehal", "train-one", job], stdin=subprocess.PIPE
    ) as process:
        code = process.wait()
    if code == 130:
        raise KeyboardInterrupt
    if not read_status(out, name):
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        hint = "; perhaps for want of memory" if code == -9 else ""
        write_status(out, name, state="failed", reason=f"its process {how}{hint}", **source)
    found = read_status(out, name)
    if found["state"] == "failed":
        print(f"{name} failed: {found['reason']}", file=sys.stderr, flush=True)


def train_here(job: str) -> None:
    """What the process of one run does; ``job`` is what :func:`train_apart` hands to it (JSON)."""
    wanted = json.loads(job)
    out, name = Path(wanted["out"]), wanted["name"]
    source = {key: wanted[key] for key in SOURCE if key in wanted}
    try:
        run = Run(
            load_config(out / f"{name}.yaml"),
            _faces(source["data"]),
            out / name,
            resume=(out / name / "config.yaml").exists(),
            limit=source["limit"],
            hallucinated=source.get("hallucinated", ()),
            variants=source.get("variants"),
            max_minutes=wanted.get("max_minutes"),
            max_work=wanted.get("max_work"),
        )
        run.fit()
    except FacehalError as error:
        write_status(out, name, state="failed", reason=str(error), **source)
        return
    except Exception as error:  # whatever it is, the next variant has its turn
        log = out / f"{name}.log"
        write_text(log, traceback.format_exc(), TrainingError)
        reason = f"{typed_line(error)} (see {log})"
        write_status(out, name, state="failed", reason=reason, **source)
        return
    about: dict[str, Any] = {}
    if isinstance(run.averaged, PictureModel):
        about["resolution"] = run.averaged.resolutions[-1]
    if run.task.people is not None:
        about["pictures"] = {kind or "real": len(faces) for kind, faces in run.sets.items()}
        about["people"] = len(run.sets[""].subjects)
    write_status(
        out,
        name,
        state="finished" if run.finished else "stopped",
        **about,
        steps=run.step,
        total_steps=run.total_steps,
        minutes=run.worked / 60,
        **source,
    )


def _faces(data: Any) -> Any:
    """What a run takes as its faces."""
    if not isinstance(data, dict):
        return data
    return {role: FaceSet.open(folder).of_subject(name) for role, (folder, name) in data.items()}
