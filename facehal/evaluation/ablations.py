"""The ablation study: many variants of one experiment trained alike, one table, one picture."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from facehal.config import shipped
from facehal.data.faceset import FaceSet, Folders
from facehal.errors import FacehalError, TrainingError
from facehal.evaluation import report
from facehal.evaluation.measures import Cell, Originals, measure_all
from facehal.evaluation.systems import Faces, as_written, face_mask, of_model
from facehal.evaluation.table1 import chosen
from facehal.evaluation.trainings import (
    SCHEDULE,
    check_earlier,
    difference,
    is_finished,
    read_status,
    train_apart,
    write_status,
)
from facehal.files import write_text
from facehal.images import contact_sheet, write_png
from facehal.models.base import from_dict, load_config, task_of
from facehal.training.provenance import data_hash

METRICS = ("ssim", "l1", "lpips", "match_dlib", "frechet_dlib")
BASE = "base"
PREFIX = "ablation_"
SHOWN = 8  # faces in ablations.png


def _experiments(folder: str | os.PathLike[str] | None) -> Path:
    if folder is not None:
        return Path(folder)
    base = shipped(f"{PREFIX}{BASE}")
    if base is None:
        raise FacehalError("this copy of facehal has no experiment files: name their folder")
    return base.parent


def variants(
    experiments: str | os.PathLike[str] | None = None, base: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """The configurations of a folder's ``ablation_NAME.yaml`` by name, ``base`` first.

    Args:
        experiments: the folder, by default that which comes with the package;
            ``ablation_base.yaml`` in it is what the others differ from.
        base: another experiment file to start from. What a variant sets otherwise than
            ``ablation_base.yaml`` is set in this one; a stage of ProGAN then takes as many epochs
            as its cascade, so that every block of every variant has the same number of steps.

    Raises:
        ConfigError: a file is missing or wrong.
        FacehalError: no variants in the folder.
    """
    folder = _experiments(experiments)
    own = load_config(folder / f"{PREFIX}{BASE}.yaml")
    start = own
    if base is not None:
        start = load_config(Path(base))
        start = start.replace_training(epochs_per_stage=start.training.epochs)
    found = {BASE: start}
    for path in sorted(folder.glob(f"{PREFIX}*.yaml")):
        name = path.stem.removeprefix(PREFIX)
        if name == BASE:
            continue
        plain = start.to_dict()
        for key, value in difference(own, load_config(path)).items():
            section, _, field = key.rpartition(".")
            (plain[section] if section else plain)[field] = value
        found[name] = from_dict(plain, source=str(path))
    if len(found) == 1:
        raise FacehalError(f"{folder}: no {PREFIX}NAME.yaml beside {PREFIX}{BASE}.yaml")
    return found


def ablate(
    data: Folders,
    test: str | os.PathLike[str],
    out: str | os.PathLike[str],
    names: Sequence[str] = (),
    *,
    experiments: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
    epochs: int | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
    max_minutes: float | None = None,
    metrics: Sequence[str] | None = None,
) -> dict[str, str]:
    """Trains what is not trained yet, measures all, and writes the table and the picture.

    Called again, it goes on where it was, inside a variant too; one that failed is tried again.

    Args:
        data: prepared training faces, of one folder or of several.
        test: prepared faces of other people, to measure on.
        out: folder for a run folder ``NAME/`` for each variant, its complete configuration
            ``NAME.yaml`` and how far it came ``NAME.json``; and for ``ablations.md`` and ``.csv``,
            ``results.json``, ``per_image.csv``, ``ablations.png``.
        names: variants to train; by default all. The table also has those trained before.
        experiments: folder of the experiment files, by default that of the package.
        base: as in :func:`variants`.
        epochs: of every variant, and of every stage of ProGAN, instead of the files'.
        limit: train on the first faces only (for a trial).
        test_limit: measure on the first faces only.
        max_minutes: of training for each variant in this call; the next one goes on.
        metrics: as in :func:`facehal.evaluation.table1.table1`; by default :data:`METRICS`, those
            whose weights are not here saying so in their cells.

    Returns:
        Variant → why it could not be trained or measured; empty where all went well.

    Raises:
        DataError: no prepared faces.
        ConfigError: an experiment file is missing or wrong.
        FacehalError: an unknown variant or metric, or ``out`` holds other experiments.
        WeightsError: a metric that was named needs weights that are not here.
    """
    out = Path(out)
    measures = chosen(metrics or METRICS)
    plan = variants(experiments, base)
    unknown = sorted(set(names) - set(plan))
    if unknown:
        raise FacehalError(f"no variant is called {unknown[0]!r}; there are {', '.join(plan)}")
    if epochs is not None:
        changes = dict.fromkeys(SCHEDULE, epochs)
        plan = {name: config.replace_training(**changes) for name, config in plan.items()}
    # Everything that could go wrong is looked at before the night, not after it.
    training = FaceSet.open(data).folders
    folders = [str(folder.resolve()) for folder in training]
    side = plan[BASE].network.resolutions[-1]
    faces = Faces.load(test, test_limit).at(side)
    source = {"data": folders if len(folders) > 1 else folders[0], "limit": limit}
    for name, config in plan.items():
        check_earlier(out, name, config, source)

    todo = [name for name in plan if not names or name in names]
    for number, name in enumerate(todo, 1):
        differs = difference(plan[BASE], plan[name])
        what = _words(differs) or ("the base" if name == BASE else "nothing else than the base")
        print(f"{name} ({number} of {len(todo)}): {what}", flush=True)
        if name != BASE and not differs:
            write_status(out, name, state="same as base", **source)
            continue
        if is_finished(out, name, plan[name]):
            continue
        text = yaml.safe_dump(plan[name].to_dict(), sort_keys=False)
        write_text(out / f"{name}.yaml", text, TrainingError)
        train_apart(out, name, source, max_minutes=max_minutes)

    states = {name: state for name in plan if (state := read_status(out, name))}
    # What failed late may have left a model, and what was stopped early a small one: neither is
    # one to compare with.
    trained = [name for name, state in states.items() if state.get("resolution") == side]
    pictures = {"face mask": as_written(face_mask(faces))}  # as uint8: there are many variants
    for name in trained:
        try:
            pictures[name] = as_written(of_model(str(out / name / "model.keras"), faces))
        except FacehalError as error:
            # Failed, it is tried again: the next call writes the model anew from its checkpoint.
            write_status(out, name, state="failed", reason=str(error), **source)
            states[name] = read_status(out, name)
            print(f"{name} failed: {error}", file=sys.stderr, flush=True)
    problems = {n: s["reason"] for n, s in states.items() if s["state"] == "failed"}
    originals = Originals(faces.originals)
    rows: report.Rows = {}
    for name, values in pictures.items():
        print(f"{name}:", flush=True)
        rows[name] = measure_all(measures, originals, values, metrics is not None)
    empty = dict.fromkeys([one.key for one in measures], Cell(missing="–"))
    rows = {name: rows.get(name, empty) for name in ("face mask", *states)}
    about = {
        "training": ", ".join(map(str, training)),
        "first_faces_only": limit,
        "data": str(test),
        "data_sha256": data_hash(faces.faces, faces.masks),
        "faces": len(faces.names),
        "resolution": side,
        "base": str(base or _experiments(experiments) / f"{PREFIX}{BASE}.yaml"),
        "minutes": "of the machine's work in training steps; see environment.json of each run",
    }
    if warnings := _warnings(plan, states, str(Path(test).resolve()) in folders):
        about["warning"] = "; ".join(warnings)
    notes = {name: _note(plan[BASE], plan[name], state) for name, state in states.items()}
    report.write_table(out / "ablations", "Ablations", measures, rows, about, {}, notes)
    report.write_per_image(out / "per_image.csv", faces.names, list(faces.subjects), rows)
    _write_picture(out / "ablations.png", faces, pictures)
    return problems


def _warnings(
    plan: dict[str, Any], states: dict[str, dict[str, Any]], same_faces: bool
) -> list[str]:
    """What a reader of the table must know."""
    warnings = ["measured on the training faces: says nothing about others"] if same_faces else []
    steps = {
        state["steps"] / len(task_of(plan[name]).stages)
        for name, state in states.items()
        if "steps" in state
    }
    if len(steps) > 1:
        warnings.append("the blocks of some variants had more steps than those of others")
    return warnings


def _words(differs: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in differs.items())


def _note(base: Any, config: Any, status: dict[str, Any]) -> dict[str, str]:
    """The columns that say what a row is and what it cost."""
    state = status["state"]
    if state == "failed":
        state += f": {status['reason']}"
    elif (size := status.get("resolution", 0)) and size != config.network.resolutions[-1]:
        state += f" at {size}×{size}"
    known = "steps" in status
    return {
        "differs in": _words(difference(base, config)),
        "steps": f"{status['steps']} of {status['total_steps']}" if known else "",
        "minutes": f"{status['minutes']:.1f}" if known else "",
        "state": state,
    }


def _write_picture(path: Path, faces: Faces, pictures: dict[str, np.ndarray]) -> None:
    """A row per face, a column per variant beside original and mask."""
    rows = np.linspace(0, len(faces.names) - 1, min(SHOWN, len(faces.names))).astype(int)
    cells = [[faces.faces[row], *(values[row] for values in pictures.values())] for row in rows]
    labels = ["original", *(name.replace("_", " ") for name in pictures)]
    write_png(path, contact_sheet(cells, labels=labels, cell=128))
