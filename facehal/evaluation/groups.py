"""The measures of a table by groups of faces: where they come from, age, sex.

What the faces are is said by a CSV of the photos, such as the one that lies beside them: a column
``file`` and any others. A column of few different values is a grouping as it stands; ``labels``
(words like ``F age 27`` or ``generated male``) gives two, ``sex`` and ``age``.
"""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from facehal.errors import DataError, typed_line
from facehal.evaluation.measures import Measure
from facehal.evaluation.report import Rows
from facehal.files import write_text
from facehal.metrics.interval import Mean, bootstrap_mean
from facehal.training.provenance import origin

MOST = 20
"""Different values of a column that is a grouping; names and numbers have more."""
FEWEST = 20
"""Faces of a group that is shown: the interval of fewer says nothing."""

AGES = ((13, "0 to 12"), (20, "13 to 19"), (40, "20 to 39"), (60, "40 to 59"))
OLDEST = "60 and more"
_SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}
_NO_GROUPS = ("file", "labels", "subject", "note", "side")  # of the photo, not of who is on it


def attributes(labels: str) -> dict[str, str]:
    """What free words say of a face: ``sex`` and ``age`` (in years), where they do.

    >>> attributes("F age 27")
    {'sex': 'female', 'age': '20 to 39'}
    """
    found = {}
    for word in re.split(r"[^a-z]+", labels.lower()):
        if word in _SEXES:
            found["sex"] = _SEXES[word]
    if years := re.search(r"\bage (\d+)", labels):
        older = (name for bound, name in AGES if int(years[1]) < bound)
        found["age"] = next(older, OLDEST)
    return found


def read_groups(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, list[str]]:
    """The groups of faces.

    Args:
        path: the CSV.
        names: of the faces (:attr:`facehal.evaluation.systems.Faces.names`), which are those of the
            photos without their suffixes.

    Returns:
        ``{grouping: group of every face}``; empty text where the CSV does not say.

    Raises:
        DataError: not such a CSV, no face of it among ``names``, or no grouping in it.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read ({typed_line(error)}); name a CSV with a column file"
        ) from error
    if not rows or "file" not in rows[0]:
        raise DataError(f"{path}: has no column file; its rows belong to photos")
    known: dict[str, dict[str, str]] = {}
    for row in rows:
        known[str(PurePosixPath(row["file"]).with_suffix(""))] = {
            **{k: v or "" for k, v in row.items() if k and k not in _NO_GROUPS},
            **attributes(row.get("labels") or ""),
        }
    found = [known.get(name, {}) for name in names]
    if not any(found):
        raise DataError(
            f"{path}: knows none of the faces ({names[0]}, …); name the CSV of their photos"
        )
    groupings = dict.fromkeys(name for row in found for name in row)
    columns = {name: [row.get(name, "") for row in found] for name in groupings}
    columns = {n: c for n, c in columns.items() if 2 <= len(set(c) - {""}) <= MOST}
    if not columns:
        raise DataError(f"{path}: no column has 2 to {MOST} different values, to group faces by")
    return columns


def write_groups(
    base: Path,
    measures: Sequence[Measure],
    rows: Rows,
    groups: dict[str, list[str]],
    about: dict[str, Any],
) -> None:
    """``base.md`` and ``base.json``: every grouping with all systems' means of every measure that
    is one of pairs, with bootstrap intervals.

    Args:
        base: path without suffix.
        measures: of the table.
        rows: system → metric → cell, of all faces.
        groups: as :func:`read_groups` gives them.
        about: data and options; command and versions come to them.
    """
    shown = [m for m in measures if any(row[m.key].values is not None for row in rows.values())]
    arrows = {"high": "↑", "low": "↓"}
    facts = {**about, **origin()}
    lines = ["# By groups of faces", ""]
    plain: dict[str, dict[str, dict[str, Any]]] = {}
    for grouping, column in groups.items():
        head = [grouping, "faces", "system", *(f"{m.title} {arrows[m.better]}" for m in shown)]
        table = [head, ["---"] * len(head)]
        values = np.array(column)
        for group, count in sorted(Counter(column).items()):
            if not group or count < FEWEST:
                continue
            of_group = plain.setdefault(grouping, {})[group] = {"faces": count}
            for system, cells in rows.items():
                means = {
                    m.key: bootstrap_mean(every[values == group])
                    for m in shown
                    if (every := cells[m.key].values) is not None
                }
                if means:
                    of_group[system] = {k: [m.value, m.low, m.high] for k, m in means.items()}
                    texts = [_text(means.get(m.key)) for m in shown]
                    table.append([group, str(count), system, *texts])
        lines += [f"| {' | '.join(row)} |" for row in table] + [""]
    lines += [
        f"Means with their bootstrap 95 % intervals; groups of {FEWEST} faces and more. "
        "↑ higher is better, ↓ lower.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    write_text(base.with_suffix(".md"), "\n".join(lines) + "\n")
    results = {**facts, "groups": plain}
    write_text(base.with_suffix(".json"), json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def _text(mean: Mean | None) -> str:
    return "" if mean is None else f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
