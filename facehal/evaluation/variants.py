"""How much a model's variants of one face differ, and what they cost (section 5's extension)."""

import json
import os
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np

from facehal.errors import DataError
from facehal.evaluation.systems import Faces
from facehal.files import write_text
from facehal.images import contact_sheet, write_png
from facehal.inference.hallucinator import load
from facehal.metrics.interval import Mean, bootstrap_mean
from facehal.metrics.lpips import lpips
from facehal.metrics.match_score import describe, pearson
from facehal.training.provenance import data_hash, origin

SHOWN = 12  # faces in variants.png


def evaluate_variants(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: str = "compact",
    count: int = 6,
    descriptor: str = "dlib_resnet",
    limit: int | None = None,
) -> Path:
    """Measures the variants of every face of a set.

    Diversity is LPIPS (0.0) between two variants of one face, mean over their pairs; the face's
    own pixels are the same in both, so the whole of it comes from what is around. Quality is LPIPS
    to the original of the single best picture, of the variants on average, and of that variant
    which comes nearest; identity is the match score of the variants.

    Args:
        data: a folder that ``preprocess`` wrote.
        out: folder for ``variants.md``, ``variants.json`` and ``variants.png``.
        model: a shipped model's name or a file.
        count: variants of every face, by the seeds 1, 2, …
        descriptor: of the match score.
        limit: only the first faces.

    Returns:
        The path of ``variants.md``.

    Raises:
        DataError: no prepared faces, or fewer than two variants asked for.
        FacehalError: the model knows no variants.
        WeightsError: LPIPS's or the descriptor's weights are not here.
    """
    if count < 2:
        raise DataError(f"{count} variants cannot be compared with each other; ask for 2 or more")
    hallucinator = load(model)
    faces = Faces.load(data, limit).at(hallucinator.side)
    originals = faces.originals
    described = describe(originals, descriptor, progress=True)

    def around(seed: int | None) -> np.ndarray:
        seeds = [seed] * len(originals)
        pictures = hallucinator.from_masks(faces.masked, faces.masks, seeds=seeds)
        assert isinstance(pictures, np.ndarray)
        return pictures

    plain, variants = around(None), [around(seed) for seed in range(1, count + 1)]
    pairs = [lpips(a, b, progress=True) for a, b in combinations(variants, 2)]
    to_original = np.stack([lpips(originals, one, progress=True) for one in variants])
    match = [pearson(described, describe(one, descriptor, progress=True)) for one in variants]
    found: dict[str, Mean] = {
        "LPIPS between two variants": bootstrap_mean(np.mean(pairs, axis=0)),
        "LPIPS to the original, single best picture": bootstrap_mean(lpips(originals, plain)),
        f"LPIPS to the original, nearest of {count}": bootstrap_mean(to_original.min(axis=0)),
        "LPIPS to the original, mean of the variants": bootstrap_mean(to_original.mean(axis=0)),
        f"match score of the variants ({descriptor})": bootstrap_mean(np.mean(match, axis=0)),
    }
    out = Path(out)
    facts = {
        "data": str(data),
        "data_sha256": data_hash(faces.faces, faces.masks),
        "faces": len(originals),
        "model": str(model),
        "variants": count,
        **origin(),
    }
    values = {name: asdict(mean) for name, mean in found.items()}
    write_text(out / "variants.json", json.dumps({**facts, "measured": values}, indent=1))
    lines = [
        f"# Variants of {len(originals)} faces of {data}",
        "",
        f"Model {model}, {count} variants of every face (seeds 1 to {count}). Means over the faces "
        "with 95 % bootstrap intervals.",
        "",
        "| measure | value |",
        "| --- | --- |",
        *(f"| {name} | {m.value:.4f} [{m.low:.4f}, {m.high:.4f}] |" for name, m in found.items()),
        "",
    ]
    shown = np.linspace(0, len(originals) - 1, min(SHOWN, len(originals))).astype(int)
    rows = [[originals[n], plain[n], *(one[n] for one in variants)] for n in shown]
    labels = ["original", "best", *(f"seed {seed}" for seed in range(1, count + 1))]
    write_png(out / "variants.png", contact_sheet(rows, labels=labels))
    write_text(out / "variants.md", "\n".join(lines))
    return out / "variants.md"
