"""What a recognition network is worth on a test set, and Table 2 from what several are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facehal.data.faceset import FaceSet
from facehal.data.pairs import Pairs
from facehal.evaluation.roc import LOWEST, write_roc
from facehal.files import write_text
from facehal.metrics import in_batches
from facehal.metrics.interval import Mean, over_runs
from facehal.metrics.match_score import pearson
from facehal.metrics.verification import (
    Resampled,
    draws_of_people,
    fold_accuracies,
    verification,
)
from facehal.models.recognition import Recogniser

BATCH = 64
FPRS = (0.01, 0.001)  # the paper reports the first
CURVE = np.logspace(np.log10(LOWEST), 0, 81)  # FPRs of the ROC
PAPER = {"real": 0.963, "one": 0.971}  # TPR at FPR 0.01: ResNet-50-256D, CASIA-WebFace, LFW

MEASURES = {
    "tpr_0.01": "TPR at FPR 0.01",
    "tpr_0.001": "TPR at FPR 0.001",
    "by_person_0.01": "TPR at FPR 0.01, mean over people",
    "accuracy": "accuracy, ten folds of pairs",
}
"""Key → heading of what is measured on the test set; of all higher is better."""


@dataclass(frozen=True)
class Measured:
    """One network on a test set.

    Attributes:
        values: each of :data:`MEASURES`.
        resampled: the same for other draws of the test set's people (of ``accuracy``: of the
            folds), (resamples,) each; the draws are the same for every network.
        curve: TPRs at the FPRs of :data:`CURVE`.
    """

    values: dict[str, float]
    resampled: dict[str, np.ndarray]
    curve: np.ndarray


def descriptors(model: Recogniser, faces: FaceSet, *, progress: bool = True) -> np.ndarray:
    """(n, features) float32 of prepared faces, shrunk to the model's side.

    Raises:
        DataError: a face is damaged, or the model's side does not divide the faces'.
    """
    pictures, _ = faces.load(model.side)
    return in_batches(
        lambda batch: model.predict_on_batch(batch / np.float32(255)),
        pictures,
        batch_size=BATCH,
        progress=progress,
        label="descriptors",
    )


def measure(
    rows: np.ndarray, subjects: Sequence[str], pairs: Pairs | None, resamples: int, seed: int = 0
) -> Measured:
    """All against all by Pearson correlation, and the ten folds of pairs.

    Args:
        rows: (n, d) descriptors.
        subjects: (n,), who is on each picture.
        pairs: of these pictures; None: no ``accuracy``.
        resamples: draws of the people.
        seed: of the draws.

    Raises:
        MetricError: no genuine or no impostor pairs, or descriptors that are constant.
    """
    found = Resampled(rows, subjects, FPRS)
    draws = draws_of_people(found.photos, resamples, seed)
    counted = [_counted(found, weights) for weights in (None, *draws)]
    resampled = {key: np.array([one[key] for one in counted[1:]]) for key in counted[0]}

    values = counted[0]
    if pairs is not None:
        scores = pearson(rows[pairs.first], rows[pairs.second])
        accuracies = fold_accuracies(scores, pairs.same, pairs.folds)
        count = len(accuracies)
        folds = np.random.default_rng(seed).integers(count, size=(resamples, count))
        values["accuracy"] = float(accuracies.mean())
        resampled["accuracy"] = accuracies[folds].mean(axis=1)
    curve = verification(rows, subjects, tuple(CURVE)).points
    return Measured(values, resampled, np.array([point.tpr for point in curve]))


def _counted(found: Resampled, weights: np.ndarray | None) -> dict[str, float]:
    first, second = found.rates(FPRS, weights)
    return {
        "tpr_0.01": first.tpr,
        "tpr_0.001": second.tpr,
        "by_person_0.01": first.by_person,
    }


@dataclass
class Row:
    """An arm of the table.

    Attributes:
        title: how the table calls it.
        trainings: seed → what it reached.
        statuses: seed → how it was trained (:func:`facehal.evaluation.trainings.read_status`).
        held_out: seed → accuracy on the held-out photos of the people trained on.
    """

    title: str
    trainings: dict[int, Measured] = field(default_factory=dict)
    statuses: dict[int, dict[str, Any]] = field(default_factory=dict)
    held_out: dict[int, float] = field(default_factory=dict)

    def mean(self, key: str) -> Mean:
        """Of all trainings, with its interval."""
        runs = list(self.trainings.values())
        return _over_runs([one.values[key] for one in runs], [one.resampled[key] for one in runs])

    def difference(self, other: "Row", key: str) -> Mean | None:
        """To another arm, seed by seed; None where they share none."""
        both = sorted(set(self.trainings) & set(other.trainings))
        if not both:
            return None
        pairs = [(self.trainings[seed], other.trainings[seed]) for seed in both]
        return _over_runs(
            [a.values[key] - b.values[key] for a, b in pairs],
            [a.resampled[key] - b.resampled[key] for a, b in pairs],
        )


def _over_runs(values: list[float], resampled: list[np.ndarray]) -> Mean:
    return over_runs(values, np.mean(resampled, axis=0) - np.mean(values))


def write_table2(out: Path, rows: Mapping[str, Row], reference: str, about: dict[str, Any]) -> None:
    """``table2.md``, ``table2.json`` and ``roc.png``.

    Args:
        out: folder.
        rows: by arm; those without a training are left out.
        reference: the arm that the others are compared with.
        about: what else stands below the table: data, counts, versions.
    """
    rows = {name: row for name, row in rows.items() if row.trainings}
    measured = [one.values for row in rows.values() for one in row.trainings.values()]
    keys = [key for key in MEASURES if all(key in values for values in measured)]
    titles = [f"{MEASURES[key]} ↑" for key in keys]
    head = ["training data", "photos", "hallucinated", "people", "trainings", "steps"]
    head += [*titles, "held-out photos told right", f"paper: {MEASURES['tpr_0.01']}"]
    table = [[row.title, *_facts(name, row, keys)] for name, row in rows.items()]
    lines = ["# Table 2", "", *_markdown(head, table), ""]
    lines += [
        "Means over the trainings with their 95 % intervals, for other seeds (Student's t) and "
        "other people (bootstrap; of the accuracy, other folds) together.",
        "",
    ]
    if seen := about.get("test_photos_in_training"):
        lines += [f"**{seen} of the test photos are trained on: the table says nothing.**", ""]
    steps = {status["steps"] for row in rows.values() for status in row.statuses.values()}
    if len(steps) > 1:
        lines += ["**The trainings did not take equally many steps: compare with care.**", ""]

    apart: dict[str, dict[str, Mean]] = {}
    for name, row in rows.items():
        if name != reference and reference in rows:
            means = {key: row.difference(rows[reference], key) for key in keys}
            if all(means.values()):
                apart[name] = {key: mean for key, mean in means.items() if mean is not None}
    if apart:
        head = ["training data", "seeds", *titles]
        table = [
            [rows[name].title, str(means[keys[0]].n), *map(_signed, means.values())]
            for name, means in apart.items()
        ]
        lines += [f"## Difference to {rows[reference].title}", "", *_markdown(head, table), ""]
        lines += [
            "Seed by seed and on the same people; in bold where, with several seeds, 0 is outside.",
            "",
        ]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    write_text(out / "table2.md", "\n".join(lines) + "\n")

    results = {
        **about,
        "arms": {name: _plain(row, keys) for name, row in rows.items()},
        "differences_to": reference,
        "differences": {
            name: {key: _ends(mean) for key, mean in means.items()} for name, means in apart.items()
        },
        "paper": PAPER,
        "roc_fprs": CURVE.tolist(),
    }
    text = json.dumps(results, indent=2, ensure_ascii=False)
    write_text(out / "table2.json", text + "\n")
    curves = {
        row.title: (CURVE, [one.curve for one in row.trainings.values()]) for row in rows.values()
    }
    write_roc(out / "roc.png", curves)


def _facts(name: str, row: Row, keys: Sequence[str]) -> list[str]:
    """The cells of an arm behind its title."""
    statuses = list(row.statuses.values())
    pictures = statuses[0]["pictures"]
    steps = sorted({status["steps"] for status in statuses})
    whole = statuses[0]["total_steps"]
    counted = " to ".join(f"{n:,}" for n in (steps[0], steps[-1])[: len(steps)])
    if steps != [whole]:
        counted += f" of {whole:,}"
    held = list(row.held_out.values())
    return [
        f"{pictures['real']:,}",
        f"{pictures.get('hallucinated', 0):,}",
        f"{statuses[0]['people']:,}",
        str(len(row.trainings)),
        counted,
        *(_mean(row.mean(key)) for key in keys),
        f"{np.mean(held):.3f}" if held else "",
        f"{PAPER[name]:.3f}" if name in PAPER else "",
    ]


def _markdown(head: list[str], table: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *table)]


def _mean(mean: Mean) -> str:
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _signed(mean: Mean) -> str:
    """A difference, bold where its interval does not hold 0; one training alone tells nothing of
    the next."""
    text = f"{mean.value:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]"
    return f"**{text}**" if mean.n > 1 and (mean.low > 0 or mean.high < 0) else text


def _ends(mean: Mean) -> list[float]:
    return [mean.value, mean.low, mean.high]


def _plain(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "title": row.title,
        "means": {key: _ends(row.mean(key)) for key in keys},
        "trainings": {
            seed: {
                **one.values,
                "held_out_accuracy": row.held_out.get(seed),
                "roc_tprs": np.round(one.curve, 6).tolist(),
                **{key: row.statuses[seed][key] for key in ("steps", "total_steps", "minutes")},
                "pictures": row.statuses[seed]["pictures"],
                "people": row.statuses[seed]["people"],
            }
            for seed, one in row.trainings.items()
        },
    }
