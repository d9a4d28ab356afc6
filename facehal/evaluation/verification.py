"""Face verification on a prepared set, all against all (section 4.4, Table 2's last column)."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from facehal.data.faceset import FaceSet
from facehal.errors import DataError
from facehal.evaluation.recognition import descriptors as described
from facehal.evaluation.systems import Faces
from facehal.files import write_text
from facehal.metrics.match_score import describe
from facehal.metrics.verification import verification
from facehal.models.recognition import read_recogniser
from facehal.training.provenance import data_hash, origin

FPRS = (0.001, 0.01, 0.1)  # the paper reports 0.01


def verify(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    descriptor: str = "resnet50_256d",
    scoring: str = "pearson",
) -> Path:
    """TPR at FPR 0.001, 0.01 and 0.1 over every pair of a set's faces.

    Args:
        data: a folder that ``preprocess`` wrote; its subjects say who is on a face.
        out: folder for ``verification.md`` and ``verification.json``.
        descriptor: ``resnet50_256d`` or ``dlib_resnet``, or the ``.keras`` file of a recognition
            network.
        scoring: ``pearson``, ``cosine`` or ``euclid``.

    Returns:
        The path of ``verification.md``.

    Raises:
        DataError: no prepared faces, or faces without subjects.
        WeightsError: the descriptor's weights are not here.
        FacehalError: the file is not one of a recognition network.
        MetricError: unknown names, or no two faces of one subject.
    """
    faces = Faces.load(data)
    if not all(faces.subjects):
        raise DataError(
            f"{data}: faces without a subject; prepare photos that lie in a folder per subject"
        )
    if descriptor.endswith(".keras"):
        descriptors = described(read_recogniser(descriptor), FaceSet.open(data))
    else:
        descriptors = describe(faces.originals, descriptor, progress=True)
    found = verification(descriptors, list(faces.subjects), FPRS, scoring, progress=True)
    facts = {
        "data": str(data),
        "data_sha256": data_hash(faces.faces, faces.masks),
        "faces": len(faces.names),
        "subjects": len(set(faces.subjects)),
        "photos_without_face": faces.failed,
        "descriptor": descriptor,
        "scoring": scoring,
        "genuine_pairs": found.genuine,
        "impostor_pairs": found.impostor,
        **origin(),
    }
    lines = [
        "# Verification, all against all",
        "",
        "| FPR | TPR | threshold |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {p.wanted_fpr:g} | {p.tpr:.4f} | {p.threshold:.4f} |" for p in found.points]
    lines += ["", *(f"- {name}: {value}" for name, value in facts.items())]
    out = Path(out)
    write_text(out / "verification.md", "\n".join(lines) + "\n")
    points = [asdict(point) for point in found.points]
    text = json.dumps({**facts, "points": points}, indent=2, ensure_ascii=False)
    write_text(out / "verification.json", text + "\n")
    return out / "verification.md"
