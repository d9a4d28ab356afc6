"""Who looks most like one person of a set: how section 4.2 chose its pair for the face swap."""

import json
import os
from pathlib import Path

import numpy as np

from facehal.errors import DataError
from facehal.evaluation.systems import Faces
from facehal.files import write_text
from facehal.images import contact_sheet, write_png
from facehal.metrics.match_score import describe
from facehal.training.provenance import data_hash, origin

SHOWN = 6  # photos of a person in the picture


def nearest_subjects(
    data: str | os.PathLike[str],
    subject: str,
    out: str | os.PathLike[str],
    *,
    descriptor: str = "vgg_face_hypercolumn",
    count: int = 10,
    min_photos: int = 1,
) -> Path:
    """The people of a set in the order of their mean descriptor's distance to one of them.

    Section 4.2 swaps George W Bush, the person of most photos in LFW, with Colin Powell, whose
    mean hypercolumn "is proximal" to his.

    Args:
        data: a folder that ``preprocess`` wrote; its subjects say who is on a face.
        subject: the person to compare with, as the manifest writes it.
        out: folder for ``nearest.md``, ``nearest.json`` and ``nearest.png`` (a row per person).
        descriptor: one of :data:`facehal.features.descriptors.DESCRIPTORS`.
        count: people to list.
        min_photos: leave out people with fewer photos, whose means are chance.

    Returns:
        The path of ``nearest.md``.

    Raises:
        DataError: no prepared faces, or no face of this subject.
        WeightsError: the descriptor's weights are not here.
    """
    faces = Faces.load(data)
    if subject not in faces.subjects:
        raise DataError(
            f"{data}: no face of {subject!r}; write the name as in the manifest's column subject"
        )
    descriptors = describe(faces.originals, descriptor, progress=True)
    names, groups = np.unique(faces.subjects, return_inverse=True)
    photos = np.bincount(groups)
    means = np.zeros((len(names), descriptors.shape[1]))
    np.add.at(means, groups, descriptors)
    means /= photos[:, None]
    distances = np.linalg.norm(means - means[names == subject], axis=1)
    order = np.argsort(distances, kind="stable")  # the person is the first
    known = (photos[order] >= min_photos) | (names[order] == subject)
    order = order[known][: count + 1]

    facts = {
        "data": str(data),
        "data_sha256": data_hash(faces.faces, faces.masks),
        "subject": subject,
        "descriptor": descriptor,
        "distance": "Euclidean, between the means over a person's photos",
        **origin(),
    }
    lines = [
        f"# Nearest to {subject}",
        "",
        "| subject | photos | distance |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {names[i]} | {photos[i]} | {distances[i]:.4f} |" for i in order]
    lines += ["", *(f"- {name}: {value}" for name, value in facts.items())]
    out = Path(out)
    write_text(out / "nearest.md", "\n".join(lines) + "\n")
    found = [
        {"subject": str(names[i]), "photos": int(photos[i]), "distance": float(distances[i])}
        for i in order
    ]
    text = json.dumps({**facts, "nearest": found}, indent=2, ensure_ascii=False)
    write_text(out / "nearest.json", text + "\n")
    rows = [list(faces.faces[groups == i][:SHOWN]) for i in order]
    write_png(out / "nearest.png", contact_sheet(rows))
    return out / "nearest.md"
