"""Table 2: does hallucinated context make a recognition network better? (section 4.4)

The paper fine-tunes one network on CASIA-WebFace and another on it and a hallucinated version of
every photo, and finds 0.963 and 0.971 of LFW's genuine pairs at an FPR of 0.01. Here every data arm
is trained several times, from the same seeds, with the same augmentation, and all for as many steps
of as many pictures: what differs is what hallucination adds to the pictures.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from facehal.data.faceset import FaceSet, Folders
from facehal.data.pairs import Pairs, drawn_pairs, read_pairs
from facehal.data.people import with_photos
from facehal.errors import DataError, FacehalError, TrainingError
from facehal.evaluation.recognition import Row, descriptors, measure, write_table2
from facehal.evaluation.trainings import check_earlier, is_finished, read_status, train_apart
from facehal.files import write_text
from facehal.jobs.augment import augment
from facehal.models.base import load_config
from facehal.models.recognition import RecognitionConfig, read_recogniser
from facehal.training.history import read_history
from facehal.training.provenance import origin

SEEDS = 3
VARIANTS = 4
RESAMPLES = 1000


@dataclass(frozen=True)
class Arm:
    """What a network is trained on.

    Attributes:
        title: its row of the table.
        hallucinated: half of every batch is.
        several: of every face variants, too, and not the best picture alone.
    """

    title: str
    hallucinated: bool = False
    several: bool = False


ARMS = {
    "real": Arm("real photos"),
    "one": Arm("real, and one hallucinated version of each", hallucinated=True),
    "variants": Arm("real, and several variants of each", hallucinated=True, several=True),
}
"""The rows; the first is what the others are compared with."""


def table2(
    data: Folders,
    test: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    arms: Sequence[str] = (),
    model: str | os.PathLike[str] = "compact",
    engine: str | None = None,
    config: str | os.PathLike[str] = "recognition_compact",
    seeds: int = SEEDS,
    variants: int = VARIANTS,
    epochs: int | None = None,
    minutes: float | None = None,
    pairs: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
) -> dict[str, str]:
    """Hallucinates what is missing, trains what is missing, measures all, and writes the table.

    Called again, it goes on where it was, inside a training too; one that failed is tried again.
    The trainings come by seeds, so that after a third of the time every arm has one.

    Args:
        data: prepared photos with subjects, of one folder or of several.
        test: prepared photos of other people, with subjects: LFW.
        out: folder for ``hallucinated/`` (what augment writes, a folder for each of ``data``), the
            run folders ``ARM_SEED/`` (:mod:`facehal.evaluation.trainings`), and for
            ``table2.md``, ``table2.json`` and ``roc.png``.
        arms: of :data:`ARMS`; by default all. The table also has those trained before.
        model: what hallucinates: a ``.keras`` or ``.onnx`` file or a shipped model.
        engine: as :func:`facehal.jobs.augment.augment`.
        config: experiment of the family recognition: a file, or the name of a shipped one.
        seeds: trainings of every arm.
        variants: of every face, for the arm ``variants``, besides its best picture.
        epochs: in place of the experiment's.
        minutes: of the machine's work for every training at most, of all calls together
            (:func:`facehal.training.cluster.work_clock`); one that ends by it has not had its whole
            schedule, which the table says.
        pairs: LFW's ``pairs.txt``; without it pairs are drawn from ``test`` in the same way.
        limit: train on the first faces only (for a trial).
        test_limit: measure on the first faces only.

    Returns:
        Training → why it could not be done; empty where all went well.

    Raises:
        DataError: no prepared faces, faces without subjects, too few people, a photo that is in
            both sets, or a list of pairs of another set.
        FacehalError: an unknown arm or model, an experiment of another family, or ``out`` holds
            other experiments.
        WeightsError: the experiment starts from weights that are not here.
    """
    out = Path(out)
    unknown = sorted(set(arms) - set(ARMS))
    if unknown:
        raise FacehalError(f"no arm is called {unknown[0]!r}; there are {', '.join(ARMS)}")
    plain = load_config(config)
    if not isinstance(plain, RecognitionConfig):
        raise FacehalError(f"{config}: is an experiment of {plain.model}, not of recognition")
    if epochs is not None:
        plain = plain.replace_training(epochs=epochs)
    faces, tested = FaceSet.open(data, limit), FaceSet.open(test, test_limit)
    with_photos(faces, plain.training.min_photos)  # says what is wrong before anything is made
    with_photos(tested, 1)
    strangers = _check_apart(faces, tested)
    listed = _pairs(pairs, tested)

    folders = [str(folder.resolve()) for folder in faces.folders]
    made = [str((out / "hallucinated" / str(n)).resolve()) for n in range(1, len(folders) + 1)]
    source: dict[str, Any] = {"data": folders if len(folders) > 1 else folders[0], "limit": limit}
    plan: dict[str, tuple[str, RecognitionConfig, dict[str, Any]]] = {}
    for seed in range(seeds):
        for name, arm in ARMS.items():
            given = dict(source)
            if arm.hallucinated:
                given |= {"hallucinated": made, "variants": variants if arm.several else 0}
            plan[f"{name}_{seed}"] = (name, plain.replace_training(seed=seed), given)
    for name, (_, experiment, given) in plan.items():
        check_earlier(out, name, experiment, given)

    todo = [
        name
        for name, (arm, experiment, _) in plan.items()
        if (not arms or arm in arms) and not is_finished(out, name, experiment)
    ]
    several = any(ARMS[plan[name][0]].several for name in todo)
    if any(ARMS[plan[name][0]].hallucinated for name in todo):
        options: dict[str, Any] = {"variants": variants} if several else {}
        for number, (folder, pictures) in enumerate(zip(folders, made, strict=True), 1):
            print(f"hallucinating {folder} ({number} of {len(folders)})", flush=True)
            augment(folder, pictures, model, engine=engine, limit=limit, **options)
    for number, name in enumerate(todo, 1):
        if minutes is not None and read_status(out, name).get("minutes", 0.0) >= minutes:
            continue
        print(f"{name} ({number} of {len(todo)})", flush=True)
        _, experiment, given = plan[name]
        text = yaml.safe_dump(experiment.to_dict(), sort_keys=False)
        write_text(out / f"{name}.yaml", text, TrainingError)
        train_apart(out, name, given, max_work=minutes)

    rows = {name: Row(arm.title) for name, arm in ARMS.items()}
    failed: dict[str, str] = {}
    for name, (arm, _, _) in plan.items():
        status, seed = read_status(out, name), int(name.rpartition("_")[2])
        if status.get("state") == "failed":
            failed[name] = status["reason"]
        if "steps" not in status:
            continue
        print(f"{name}:", flush=True)
        network = read_recogniser(out / name / "model.keras")
        found = descriptors(network, tested)
        measured = measure(found, tested.frame["subject"].tolist(), listed, RESAMPLES)
        rows[arm].trainings[seed], rows[arm].statuses[seed] = measured, status
        history = read_history(out / name)
        if history and "validation_accuracy" in history[-1]:
            rows[arm].held_out[seed] = history[-1]["validation_accuracy"]
    about = {
        "data": folders,
        "data_sha256": faces.sha256,
        "test": str(test),
        "test_sha256": tested.sha256,
        "test_faces": len(tested),
        "test_people": len(tested.subjects),
        "people_in_training": strangers,
        "pairs": f"{len(listed)}, {'drawn with seed 0' if pairs is None else pairs}",
        "pairs_without_picture": listed.missing,
        "hallucinated_by": _hallucinator(made),
        "variants": variants,
        "experiment": str(config),
        "resamples": RESAMPLES,
        **origin(),
    }
    write_table2(out, rows, next(iter(ARMS)), about)
    return failed


def _check_apart(faces: FaceSet, tested: FaceSet) -> int:
    """How many of the people tested are trained on, by their names: there should be none.

    Raises:
        DataError: a photo is in both sets.
    """
    both = set(faces.frame["source_sha256"]) & set(tested.frame["source_sha256"]) - {""}
    if both:
        raise DataError(
            f"{tested.folders[0]}: {len(both)} of its photos are trained on; test on other people"
        )
    # Of several folders a name has the folder's number before it.
    several = len(faces.folders) > 1
    trained = {name.partition("/")[2] if several else name for name in faces.subjects}
    known = len(trained & set(tested.subjects))
    if known:
        print(
            f"warning: {known} of the {len(tested.subjects)} people in {tested.folders[0]} have "
            "names that are trained on: the table flatters the networks",
            file=sys.stderr,
        )
    return known


def _pairs(path: str | os.PathLike[str] | None, tested: FaceSet) -> Pairs:
    if path is None:
        return drawn_pairs(tested.frame["subject"].tolist())
    return read_pairs(path, tested.frame["file"].tolist())


def _hallucinator(made: Sequence[str]) -> str | None:
    """Which model made the pictures, as augment has noted it."""
    path = Path(made[0]) / "augment.json"
    if not path.exists():
        return None
    about = json.loads(path.read_text(encoding="utf-8"))
    return f"{about['model']}, SHA-256 {about['model_sha256']}"
