"""Table 1 and Figure 5 for any system, and the same measures for any two folders of pictures."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facehal.backend import quiet_tracing
from facehal.data.faceset import FaceSet, Folders
from facehal.errors import DataError, FacehalError
from facehal.evaluation import report
from facehal.evaluation.groups import read_groups, write_groups
from facehal.evaluation.measures import MEASURES, Cell, Measure, Originals, measure_all
from facehal.evaluation.systems import (
    Faces,
    as_written,
    face_mask,
    mean_context,
    nearest_context,
    system,
)
from facehal.images import list_images, read_image, to_float
from facehal.training.provenance import data_hash

# Table 1 of the paper, on its own alignment and photos of LFW.
PAPER = {
    "genface": {"match": 0.543, "ssim": 0.491, "fid": 177.06, "pieapp": 3.536},
    "deepfillv1": {"match": 0.481, "ssim": 0.321, "fid": 241.696, "pieapp": 3.204},
    "symmfcnet": {"match": 0.457, "ssim": 0.333, "fid": 207.117, "pieapp": 2.434},
    "edgeconnect": {"match": 0.454, "ssim": 0.178, "fid": 141.695, "pieapp": 3.106},
    "deepfake": {"match": 0.459, "ssim": 0.448, "fid": 43.03, "pieapp": 1.857},
    "progan": {"match": 0.668, "ssim": 0.466, "fid": 103.71, "pieapp": 2.255},
    "cascaded": {"match": 0.722, "ssim": 0.753, "fid": 46.12, "pieapp": 1.256},
}

REFERENCES = ("face mask", "mean context", "nearest face's context")


def chosen(metrics: Sequence[str] | None) -> list[Measure]:
    """The measures by name; all of them for None.

    Raises:
        FacehalError: an unknown name.
    """
    unknown = sorted(set(metrics or ()) - set(MEASURES))
    if unknown:
        raise FacehalError(f"no metric is called {unknown[0]!r}; there are {', '.join(MEASURES)}")
    return [MEASURES[name] for name in metrics or MEASURES]


def table1(
    data: str | os.PathLike[str],
    systems: dict[str, str],
    out: str | os.PathLike[str],
    *,
    training: Folders | None = None,
    groups: str | os.PathLike[str] | None = None,
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    against: str | None = None,
    notes: dict[str, dict[str, str]] | None = None,
    missing: dict[str, str] | None = None,
) -> Path:
    """Measures systems on prepared faces and writes the table, the figures and every number.

    Args:
        data: a folder that ``preprocess`` wrote.
        systems: name → a saved or shipped model, or a folder of pictures. Names of the paper's
            systems (``cascaded``, ``progan``, ``edgeconnect``, …) get its numbers beside them.
        out: folder for ``table1.md``, ``table1.csv``, ``results.json``, ``per_image.csv``,
            ``figure5.png`` and ``best_and_worst.png``.
        training: prepared training faces, to say how many people of ``data`` are among them, and
            for the two reference rows that need them; these take the first of several folders.
        groups: a CSV that says what the faces are
            (:func:`facehal.evaluation.groups.read_groups`); then ``groups.md`` and ``groups.json``
            have the measures by source, age, sex or whatever else stands in it.
        metrics: names out of :data:`facehal.evaluation.measures.MEASURES`; by default all, and
            those whose weights are not here say so in their cells.
        limit: use only the first faces.
        against: a system; the others' differences to it, picture by picture, stand below the table.
        notes: further columns by system: heading → text.
        missing: systems that should be there → why they are not; said below the table.

    Returns:
        The path of ``table1.md``.

    Raises:
        FacehalError: an unknown metric, or ``against`` is none of the systems.
        DataError: no prepared faces, a system's picture is missing, or ``groups`` does not know
            these faces.
        WeightsError: a metric that was named needs weights that are not here.
    """
    measures = chosen(metrics)
    if against is not None and against not in systems:
        raise FacehalError(f"{against} is none of the systems ({', '.join(systems)})")
    faces = Faces.load(data, limit)
    grouped = None if groups is None else read_groups(groups, faces.names)
    # As uint8: several systems in floats are more than the memory of most machines.
    pictures: dict[str, np.ndarray] = {"face mask": as_written(face_mask(faces))}
    seen: int | None = None  # also where a set does not say who is on its faces
    if training is not None:
        folders = FaceSet.open(training)
        known = Faces.load(folders.folders[0])
        pictures["mean context"] = as_written(mean_context(faces, known))
        pictures["nearest face's context"] = as_written(nearest_context(faces, known))
        people, trained = (set(one.subjects) - {""} for one in (faces, folders))
        if people and trained:
            seen = len(people & trained)
        del known
        if seen:
            places = " or ".join(map(str, folders.folders))
            print(
                f"warning: {seen} of the {len(people)} people in {data} are in {places} too: the "
                "table flatters what was trained on it",
                file=sys.stderr,
            )
    with quiet_tracing():  # a model after the other: each is traced once
        for name, value in systems.items():
            pictures[name] = as_written(system(value, faces))

    originals = Originals(faces.originals)
    rows: dict[str, dict[str, Cell]] = {}
    for name, values in pictures.items():
        print(f"{name}:", flush=True)
        rows[name] = measure_all(measures, originals, values, metrics is not None)
    for name in REFERENCES:
        if name not in rows:
            unknown = Cell(missing="needs: `--train DIR` (prepared training faces)")
            rows[name] = dict.fromkeys([one.key for one in measures], unknown)
    rows = {name: rows[name] for name in (*REFERENCES, *systems)}

    about = {
        "data": str(data),
        "data_sha256": data_hash(faces.faces, faces.masks),
        "faces": len(faces.names),
        "photos_without_face": faces.failed,
        "training": None if training is None else ", ".join(map(str, folders.folders)),
        "people_in_training": seen,
        "systems": systems,
        **({"without": missing} if missing else {}),
    }
    out = Path(out)
    report.write_table(
        out / "table1", "Table 1", measures, rows, about, PAPER, notes=notes, against=against
    )
    report.write_per_image(out / "per_image.csv", faces.names, list(faces.subjects), rows)
    if grouped is not None:
        write_groups(out / "groups", measures, rows, grouped, {**about, "groups_of": str(groups)})
    report.write_figure5(out / "figure5.png", faces, pictures)
    if systems:
        first = next(iter(systems))
        if (cell := rows[first].get("ssim")) and cell.values is not None:
            path = out / "best_and_worst.png"
            report.write_best_and_worst(path, faces, pictures[first], cell.values, "SSIM")
    return out / "table1.md"


def pairs(
    original: str | os.PathLike[str],
    hallucinated: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    metrics: Sequence[str] | None = None,
) -> Path:
    """The same measures for any two folders of pictures with the same names.

    Args:
        original: folder of real pictures, all of one size.
        hallucinated: folder of the others; every picture of ``original`` needs one.
        out: folder for ``pairs.md``, ``pairs.csv``, ``results.json`` and ``per_image.csv``.
        metrics: as in :func:`table1`.

    Returns:
        The path of ``pairs.md``.

    Raises:
        DataError: no pictures, a name without a partner, or different sizes.
        WeightsError: a metric that was named needs weights that are not here.
    """
    measures = chosen(metrics)
    real, made = _named(Path(original)), _named(Path(hallucinated))
    names = sorted(set(real) & set(made))
    lonely = sorted(set(real) - set(made))
    if not names:
        raise DataError(f"{original} and {hallucinated}: no two pictures have the same name")
    if lonely:
        raise DataError(f"{hallucinated}: no picture of {lonely[0]} ({len(lonely)} are missing)")
    first = _stack([real[name] for name in names])
    second = _stack([made[name] for name in names])
    if first.shape != second.shape:
        raise DataError(
            f"{hallucinated}: pictures of {second.shape[2]}×{second.shape[1]}, the originals are "
            f"{first.shape[2]}×{first.shape[1]}"
        )
    originals = Originals(first)
    row = measure_all(measures, originals, second, metrics is not None)
    about = {"original": str(original), "hallucinated": str(hallucinated), "pairs": len(names)}
    out, label = Path(out), Path(hallucinated).name
    report.write_table(out / "pairs", "Pairs", measures, {label: row}, about, {})
    report.write_per_image(out / "per_image.csv", names, [""] * len(names), {label: row})
    return out / "pairs.md"


def _named(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder).with_suffix("")): path for path in list_images(folder)}


def _stack(paths: list[Path]) -> np.ndarray:
    pictures = []
    for path in paths:
        pictures.append(to_float(read_image(path)))
        if pictures[-1].shape != pictures[0].shape:
            raise DataError(f"{path}: {pictures[-1].shape[:2]}, others are {pictures[0].shape[:2]}")
    return np.stack(pictures)
