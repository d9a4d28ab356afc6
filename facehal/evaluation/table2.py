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

from facehal.backend import quiet_tracing
from facehal.data.faceset import FaceSet, Folders
from facehal.data.pairs import FEWEST, Pairs, drawn_pairs, read_pairs
from facehal.data.people import with_photos
from facehal.errors import FacehalError, TrainingError
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
class Training:
    """One of the plan.

    Attributes:
        arm: of :data:`ARMS`.
        seed: of weights, order and augmentation.
        config: with it.
        source: as :func:`facehal.evaluation.trainings.train_apart` takes it.
    """

    arm: str
    seed: int
    config: RecognitionConfig
    source: dict[str, Any]


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
    config: str | Path = "recognition_compact",
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
        DataError: no prepared faces, faces without subjects, too few people, or a list of pairs of
            another set.
        FacehalError: an unknown arm or model, an experiment of another family, or ``out`` holds
            other experiments.
        WeightsError: the experiment starts from weights that are not here.
    """
    out = Path(out)
    unknown = sorted(set(arms) - set(ARMS))
    if unknown:
        raise FacehalError(f"no arm is called {unknown[0]!r}; there are {', '.join(ARMS)}")
    experiment = load_config(config)
    if not isinstance(experiment, RecognitionConfig):
        raise FacehalError(f"{config}: is an experiment of {experiment.model}, not of recognition")
    if epochs is not None:
        experiment = experiment.replace_training(epochs=epochs)
    faces, tested = FaceSet.open(data, limit), FaceSet.open(test, test_limit)
    with_photos(faces, experiment.training.min_photos)  # says what is wrong before all else
    with_photos(tested, 1)
    seen = _seen(faces, tested)
    listed = _pairs(pairs, tested)

    folders = [str(folder.resolve()) for folder in faces.folders]
    made = [str((out / "hallucinated" / str(n)).resolve()) for n in range(1, len(folders) + 1)]
    source: dict[str, Any] = {"data": folders if len(folders) > 1 else folders[0], "limit": limit}
    plan: dict[str, Training] = {}
    for seed in range(seeds):
        for name, arm in ARMS.items():
            given = dict(source)
            if arm.hallucinated:
                given |= {"hallucinated": made, "variants": variants if arm.several else 0}
            one = Training(name, seed, experiment.replace_training(seed=seed), given)
            check_earlier(out, f"{name}_{seed}", one.config, given)
            plan[f"{name}_{seed}"] = one

    todo = {
        name: one
        for name, one in plan.items()
        if (not arms or one.arm in arms) and not is_finished(out, name, one.config)
    }
    wanted = [ARMS[one.arm] for one in todo.values()]
    if any(arm.hallucinated for arm in wanted):
        most = variants if any(arm.several for arm in wanted) else 0
        for number, (folder, pictures) in enumerate(zip(folders, made, strict=True), 1):
            print(f"hallucinating {folder} ({number} of {len(folders)})", flush=True)
            augment(folder, pictures, model, variants=most, engine=engine, limit=limit)
    for number, (name, one) in enumerate(todo.items(), 1):
        if minutes is not None and read_status(out, name).get("minutes", 0.0) >= minutes:
            continue
        print(f"{name} ({number} of {len(todo)})", flush=True)
        text = yaml.safe_dump(one.config.to_dict(), sort_keys=False)
        write_text(out / f"{name}.yaml", text, TrainingError)
        train_apart(out, name, one.source, max_work=minutes)

    about = {
        "data": folders,
        "data_sha256": faces.sha256,
        "test": str(test),
        "test_sha256": tested.sha256,
        "test_faces": len(tested),
        "test_people": len(tested.subjects),
        **seen,
        "pairs": None if listed is None else len(listed),
        "pairs_of": "drawn from the test set with seed 0" if pairs is None else str(pairs),
        "pairs_without_picture": None if listed is None else listed.missing,
        "hallucinated_by": _hallucinator(made),
        "variants": variants,
        "experiment": str(config),
        "resamples": RESAMPLES,
        **origin(),
    }
    rows, failed = _measured(out, plan, tested, listed)
    write_table2(out, rows, next(iter(ARMS)), about)
    return failed


def _measured(
    out: Path, plan: dict[str, Training], tested: FaceSet, pairs: Pairs | None
) -> tuple[dict[str, Row], dict[str, str]]:
    """The rows from all that is trained, and which trainings failed and why."""
    rows = {name: Row(arm.title) for name, arm in ARMS.items()}
    failed: dict[str, str] = {}
    for name, one in plan.items():
        status = read_status(out, name)
        if status.get("state") == "failed":
            failed[name] = status["reason"]
        if "steps" not in status:
            continue
        print(f"{name}:", flush=True)
        with quiet_tracing():  # every network is another
            found = descriptors(read_recogniser(out / name / "model.keras"), tested)
        row = rows[one.arm]
        subjects = tested.frame["subject"].tolist()
        row.trainings[one.seed] = measure(found, subjects, pairs, RESAMPLES)
        row.statuses[one.seed] = status
        history = read_history(out / name)
        if history and "validation_accuracy" in history[-1]:
            row.held_out[one.seed] = history[-1]["validation_accuracy"]
    return rows, failed


def _seen(faces: FaceSet, tested: FaceSet) -> dict[str, int]:
    """How many of the people and photos tested are trained on: there should be none."""
    photos = set(faces.frame["source_sha256"]) & set(tested.frame["source_sha256"]) - {""}
    # Of several folders a name has the folder's number before it.
    several = len(faces.folders) > 1
    trained = {name.partition("/")[2] if several else name for name in faces.subjects}
    people = trained & set(tested.subjects)
    if people or photos:
        print(
            f"warning: {len(people)} of the {len(tested.subjects)} people in {tested.folders[0]} "
            f"have names that are trained on, {len(photos)} of its {len(tested)} photos are: the "
            "table flatters the networks",
            file=sys.stderr,
        )
    return {"test_people_in_training": len(people), "test_photos_in_training": len(photos)}


def _pairs(path: str | os.PathLike[str] | None, tested: FaceSet) -> Pairs | None:
    """Those of the file, or drawn alike; None where the people are too few."""
    if path is not None:
        return read_pairs(path, tested.frame["file"].tolist())
    subjects = tested.frame["subject"]
    if (subjects.value_counts() > 1).sum() < FEWEST:
        print(
            f"{tested.folders[0]}: ten folds of pairs take {FEWEST} people with two photos or more "
            "each; the accuracy is left out",
            file=sys.stderr,
        )
        return None
    return drawn_pairs(subjects.tolist())


def _hallucinator(made: Sequence[str]) -> str | None:
    """Which model made the pictures, as augment has noted it."""
    path = Path(made[0]) / "augment.json"
    if not path.exists():
        return None
    about = json.loads(path.read_text(encoding="utf-8"))
    return f"{about['model']}, SHA-256 {about['model_sha256']}"
