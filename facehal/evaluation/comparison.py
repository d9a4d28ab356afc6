"""Table 1 whole: the systems that the paper compares, trained alike and measured together.

The paper took the inpainting models as their authors had released them and trained none on face
masks (section 4.1). Here every system is trained on the same faces for the same time, a stronger
comparison than the paper's; the column ``mode`` says so.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from facehal.backend import quiet_tracing
from facehal.data.faceset import FaceSet, Folders
from facehal.data.samples import portraits
from facehal.errors import DataError, FacehalError, TrainingError
from facehal.evaluation.table1 import chosen, table1
from facehal.evaluation.trainings import check_earlier, is_finished, read_status, train_apart
from facehal.files import write_text
from facehal.images import contact_sheet, write_png
from facehal.inference.hallucinator import load
from facehal.models.base import load_config

MINUTES = 60.0
PEOPLE = {"source": "George_W_Bush", "target": "Colin_Powell"}
"""Section 4.2: whose face is put on whose pictures."""


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        experiment: a shipped one, of the compact size.
        schedule: what of its ``training`` makes it about an hour on two cores.
        people: it trains on :data:`PEOPLE` instead of all faces.
    """

    experiment: str
    schedule: dict[str, int] = field(default_factory=dict)
    people: bool = False


SYSTEMS = {
    "GenFace": Entry("genface_compact"),
    "DeepFillv1": Entry("deepfillv1_compact"),
    "SymmFCNet": Entry("symmfcnet_compact"),
    "EdgeConnect": Entry("edgeconnect_compact"),
    "DeepFake": Entry("deepfake_compact", people=True),
    "ProGAN": Entry("progan_compact", {"epochs_per_stage": 1}),
    "cascaded": Entry("compact", {"epochs": 1}),
}
"""The rows in the paper's order; the last is what the others are compared with."""


def compare(
    data: Folders,
    test: str | os.PathLike[str],
    out: str | os.PathLike[str],
    names: Sequence[str] = (),
    *,
    people: str | os.PathLike[str] | None = None,
    minutes: float = MINUTES,
    limit: int | None = None,
    test_limit: int | None = None,
    metrics: Sequence[str] | None = None,
) -> dict[str, str]:
    """Trains what is not trained yet, each system in a process of its own, and writes the table.

    Called again, it goes on where it was, inside a system too; one that failed is tried again.

    Args:
        data: prepared training faces, of one folder or of several.
        test: prepared faces of other people, to measure on.
        out: folder for a run folder ``NAME/`` for each system
            (:mod:`facehal.evaluation.trainings`), for what :func:`facehal.evaluation.table1.table1`
            writes, and for ``portraits.png``: the two public-domain portraits by every system.
        names: systems to train; by default all. The table also has those trained before.
        people: prepared faces with both of :data:`PEOPLE`, by default ``test``.
        minutes: of the machine's work for every system, of all calls together
            (:func:`facehal.training.cluster.work_clock`: a machine that does other things besides
            trains as much, only later); one that ends before has had its whole schedule.
        limit: train on the first faces only (for a trial).
        test_limit: measure on the first faces only.
        metrics: as in :func:`facehal.evaluation.table1.table1`; by default all, those whose
            weights are not here saying so in their cells.

    Returns:
        System → why it could not be trained; empty where all went well.

    Raises:
        DataError: no prepared faces.
        FacehalError: an unknown system or metric, or ``out`` holds other experiments.
        WeightsError: a metric that was named needs weights that are not here.
    """
    out = Path(out)
    chosen(metrics)  # an unknown one is said before the training, not after it
    unknown = sorted(set(names) - set(SYSTEMS))
    if unknown:
        raise FacehalError(f"no system is called {unknown[0]!r}; there are {', '.join(SYSTEMS)}")
    folders = FaceSet.open(data).folders
    FaceSet.open(test)
    sources = {name: _source(entry, folders, people or test) for name, entry in SYSTEMS.items()}
    for source in sources.values():
        source["limit"] = limit
    plan = {
        name: load_config(entry.experiment).replace_training(**entry.schedule)
        for name, entry in SYSTEMS.items()
    }
    for name, config in plan.items():
        check_earlier(out, name, config, sources[name])

    todo = [name for name in plan if not names or name in names]
    for number, name in enumerate(todo, 1):
        left = minutes - read_status(out, name).get("minutes", 0.0)
        if is_finished(out, name, plan[name]) or left <= 0:
            continue
        print(f"{name} ({number} of {len(todo)}): {left:.0f} minutes", flush=True)
        text = yaml.safe_dump(plan[name].to_dict(), sort_keys=False)
        write_text(out / f"{name}.yaml", text, TrainingError)
        train_apart(out, name, sources[name], max_work=minutes)

    states = {name: state for name in plan if (state := read_status(out, name))}
    trained = {name: str(out / name / "model.keras") for name in states if "steps" in states[name]}
    notes = {name: _note(states[name]) for name in trained}
    failed = {n: s["reason"] for n, s in states.items() if s["state"] == "failed"}
    reference = list(SYSTEMS)[-1]
    table1(
        test,
        trained,
        out,
        training=folders,
        metrics=metrics,
        limit=test_limit,
        against=reference if reference in trained and len(trained) > 1 else None,
        notes=notes,
        missing=failed,
    )
    with quiet_tracing():
        _write_portraits(out / "portraits.png", trained)
    return failed


def _source(
    entry: Entry, folders: Sequence[Path], people: str | os.PathLike[str]
) -> dict[str, Any]:
    """What a system is trained on, as plain values."""
    if entry.people:
        place = str(Path(people).resolve())
        return {"data": {role: [place, subject] for role, subject in PEOPLE.items()}}
    plain = [str(folder.resolve()) for folder in folders]
    return {"data": plain if len(plain) > 1 else plain[0]}


def _note(status: dict[str, Any]) -> dict[str, str]:
    """The columns that say how a row came to be."""
    return {
        "mode": "retrained",
        "minutes": f"{status['minutes']:.0f}",
        "steps": f"{status['steps']} of {status['total_steps']}",
    }


def _write_portraits(path: Path, models: dict[str, str]) -> None:
    """Figure 5 with the two portraits that may be shown: a row each, a column per system."""
    try:
        photos = portraits()
    except DataError as error:
        print(f"{path.name} is left out: {error}", file=sys.stderr)
        return
    cells: list[list[np.ndarray]] = []
    for photo in photos.values():
        cells.append([])
        for number, model in enumerate(models.values()):
            system = load(model)
            face = system.prepare(photo)
            if not number:
                cells[-1] += [face.face, face.masked]
            made = system.from_masks(face.masked[None], face.mask[None])
            assert isinstance(made, np.ndarray)
            cells[-1].append(made[0])
    if models:
        write_png(path, contact_sheet(cells, labels=["original", "face mask", *models], cell=128))
