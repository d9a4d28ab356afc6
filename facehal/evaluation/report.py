"""Tables as Markdown, CSV and JSON; figures as PNG."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facehal.evaluation.measures import Cell, Measure
from facehal.evaluation.systems import Faces
from facehal.files import write_text
from facehal.images import contact_sheet, write_png
from facehal.metrics.interval import Mean, bootstrap_mean
from facehal.training.provenance import origin

Rows = dict[str, dict[str, Cell]]


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _escaped(text: str) -> str:
    """For a cell of Markdown; an error's message may hold anything."""
    return text.replace("|", "\\|")


def write_table(
    base: Path,
    title: str,
    measures: Sequence[Measure],
    rows: Rows,
    about: dict[str, Any],
    paper: dict[str, dict[str, float]],
    notes: dict[str, dict[str, str]] | None = None,
    against: str | None = None,
) -> None:
    """``base.md``, ``base.csv`` and ``results.json`` beside them.

    Args:
        base: path without suffix.
        title: heading.
        measures: the columns.
        rows: system → metric → cell.
        about: data, counts and options; written out in full.
        paper: published numbers by lower-case system name; they get columns of their own.
        notes: further columns by system name: heading → text.
        against: a system whose pictures the others' are compared with, picture by picture.
    """
    notes = notes or {}
    apart = {} if against is None else _differences(rows, against)
    remarks = list(next(iter(notes.values()), {}))
    published = [one for one in measures if any(one.key in row for row in paper.values())]
    arrows = {"high": "↑", "low": "↓"}
    head = ["system", *(f"{one.title} {arrows[one.better]}" for one in measures)]
    head += [f"paper: {one.title}" for one in published] + remarks
    table = []
    for name, cells in rows.items():
        known = paper.get(name.lower(), {})
        table.append(
            [name, *(_escaped(str(cells[one.key])) for one in measures)]
            + [f"{known[one.key]:g}" if one.key in known else "" for one in published]
            + [_escaped(notes.get(name, {}).get(remark, "")) for remark in remarks]
        )
    lines = [f"# {title}", ""]
    lines += [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *table)]
    lines += ["", "Means with their bootstrap 95 % intervals. ↑ higher is better, ↓ lower.", ""]
    if apart:
        shown = [one for one in measures if any(one.key in row for row in apart.values())]
        head = ["system", *(f"{one.title} {arrows[one.better]}" for one in shown)]
        lines += [f"## Difference to {against}, picture by picture", ""]
        lines += [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head))]
        for name, means in apart.items():
            texts = [_signed(means[one.key]) if one.key in means else "" for one in shown]
            lines.append(f"| {' | '.join([name, *texts])} |")
        lines += ["", "Means with their bootstrap 95 % intervals; in bold where 0 is outside.", ""]
    lines += [f"- {one.title}: {one.convention}" for one in measures]
    facts = {**about, **origin()}
    lines += ["", *(f"- {name}: {value}" for name, value in facts.items())]
    write_text(base.with_suffix(".md"), "\n".join(lines) + "\n")

    columns = ["system"]
    for one in measures:
        columns += [one.key, f"{one.key}_low", f"{one.key}_high"]
    columns += [f"paper_{one.key}" for one in published] + remarks
    plain: list[list[Any]] = [columns]
    for name, cells in rows.items():
        row: list[Any] = [name]
        for one in measures:
            cell = cells[one.key]
            ends = [cell.mean.low, cell.mean.high] if cell.mean else ["", ""]
            row += [cell.missing if cell.number is None else cell.number, *ends]
        known = paper.get(name.lower(), {})
        row += [known.get(one.key, "") for one in published]
        plain.append(row + [notes.get(name, {}).get(remark, "") for remark in remarks])
    write_text(base.with_suffix(".csv"), _csv(plain))

    values = {
        name: {one.key: cells[one.key].plain() for one in measures} for name, cells in rows.items()
    }
    conventions = {one.key: one.convention for one in measures}
    results = {**facts, "conventions": conventions, "systems_measured": values, "paper": paper}
    if notes:
        results["notes"] = notes
    if apart:
        results["differences_to"] = against
        results["differences"] = {
            name: {key: [mean.value, mean.low, mean.high] for key, mean in means.items()}
            for name, means in apart.items()
        }
    write_text(
        base.with_name("results.json"), json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    )


def _differences(rows: Rows, against: str) -> dict[str, dict[str, Mean]]:
    """The means of every system's values less those of ``against``, of the same pictures."""
    found: dict[str, dict[str, Mean]] = {}
    for name, cells in rows.items():
        for key, cell in cells.items():
            theirs = rows[against][key].values
            if name != against and cell.values is not None and theirs is not None:
                found.setdefault(name, {})[key] = bootstrap_mean(cell.values - theirs)
    return found


def _signed(mean: Mean) -> str:
    """A difference with its interval, bold where that does not hold 0."""
    text = f"{mean.value:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]"
    return f"**{text}**" if mean.low > 0 or mean.high < 0 else text


def write_per_image(path: Path, names: list[str], subjects: list[str], rows: Rows) -> None:
    """One line per system and picture with every metric that is one of pairs."""
    keys = [
        key
        for key in next(iter(rows.values()))
        if any(r[key].values is not None for r in rows.values())
    ]
    lines: list[list[Any]] = [["system", "name", "subject", *keys]]
    for system, cells in rows.items():
        columns = [cells[key].values for key in keys]
        if all(column is None for column in columns):
            continue
        for index, (name, subject) in enumerate(zip(names, subjects, strict=True)):
            values = ["" if column is None else f"{column[index]:.6g}" for column in columns]
            lines.append([system, name, subject, *values])
    write_text(path, _csv(lines))


def _heading(text: str, side: int = 128) -> np.ndarray:
    """A white square with a few words, for the head of a row."""
    cell = np.full((side, side, 3), 255, np.uint8)
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + len(word) < 14:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    top = side // 2 - 8 * (len(lines) - 1)
    for index, line in enumerate(lines):
        place = (4, top + 16 * index)
        cv2.putText(cell, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return cell


def write_figure5(
    path: Path, faces: Faces, pictures: dict[str, np.ndarray], columns: int = 8
) -> None:
    """Figure 5: originals, masks, and each system (uint8) in a row; faces spread over the set."""
    chosen = np.linspace(0, len(faces.names) - 1, min(columns, len(faces.names))).astype(int)
    rows = [[_heading("original"), *faces.faces[chosen]]]
    rows += [[_heading(name), *values[chosen]] for name, values in pictures.items()]
    write_png(path, contact_sheet(rows))


def write_best_and_worst(
    path: Path, faces: Faces, pictures: np.ndarray, scores: np.ndarray, name: str, count: int = 10
) -> None:
    """The highest and the lowest scores: original above hallucinated, the score in front."""
    order = np.argsort(scores)
    rows = []
    for label, chosen in (("best", order[::-1][:count]), ("worst", order[:count])):
        span = f"{scores[chosen[0]]:.3f} to {scores[chosen[-1]]:.3f}"
        rows.append([_heading(f"{label} {name} {span}"), *faces.faces[chosen]])
        rows.append([_heading("hallucinated"), *pictures[chosen]])
    write_png(path, contact_sheet(rows))
