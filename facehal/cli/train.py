"""Verbs around training: runs of every family, their pages, the ablation study."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facehal.cli.app import METRICS_HELP, EngineOption, ModelOption, app, import_keras, names
from facehal.errors import FacehalError

if TYPE_CHECKING:
    from facehal.data.faceset import FaceSet

# Typer keeps the line breaks inside a paragraph, so that each sentence here is one long line.
TRAIN_EPILOG = """\
Schedule, where the file says nothing: the paper's 50 epochs (ProGAN: 50 for every stage), batch \
10, Adam at 1e-4 (generator) and 2e-4 (discriminator). A file states what differs and may extend \
another one; facehal/models/cascade/config.py lists every name. Perceptual and identity terms \
need weights: see `facehal weights list`.

OUT holds, from the first checkpoint on (every 500 steps unless the file says \
otherwise, and after every epoch):
- report.html: configuration, data, versions, warnings, loss curves, newest pictures
- epochs.png: the same faces after five evenly spaced epochs; `facehal report OUT` renews both
- model.keras: the newest model, for `facehal hallucinate --model` or facehal.load
- history.csv, tensorboard/: every loss by epoch
- previews/: the same faces after each epoch; checkpoints/: the newest two, to resume from
- config.yaml, environment.json: all of the configuration; command, data, versions, git state

To go on after a stop or a crash, give the same command with --resume: the numbers are those of a \
run that was never stopped. Of the experiment only the number of epochs and the collapse_ warnings \
may change; where the file sets decay, another number of epochs changes the rates, too.

A warning is printed when a discriminator collapses (collapse_bound, collapse_epochs, \
collapse_steps in the file). KERAS_BACKEND=jax in the environment trains on JAX instead of \
TensorFlow.
"""

DataOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        help="Folder of prepared faces, from `facehal preprocess`. Given several times: the faces "
        "of all, a photo that is in two of them once.",
    ),
]
SourceOption = Annotated[
    Path | None,
    typer.Option(
        "--source",
        help="Of deepfake, in place of --data: prepared faces of the person whose face is put on.",
    ),
]
TargetOption = Annotated[
    Path | None,
    typer.Option(
        "--target", help="Of deepfake: prepared faces of the person whose pictures it is put on."
    ),
]
SourceSubjectOption = Annotated[
    str | None,
    typer.Option("--source-subject", help="Only this person of --source, as in its manifest."),
]
TargetSubjectOption = Annotated[
    str | None,
    typer.Option("--target-subject", help="Only this person of --target, as in its manifest."),
]
RunOption = Annotated[
    Path, typer.Option("--out", help="Run folder: a new one, or with --resume that of the run.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from the newest checkpoint in OUT.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Use only the first faces, for a trial.")
]
HallucinatedOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--hallucinated",
        help="Of recognition: what `facehal augment` wrote of the faces in --data, for each folder "
        "once. Every batch is then half real, half hallucinated.",
    ),
]
VariantsOption = Annotated[
    int | None,
    typer.Option(
        "--variants",
        min=0,
        help="Of --hallucinated take of every face the best picture and the first so many "
        "variants; default: all.",
    ),
]
ValidationOption = Annotated[
    Path | None,
    typer.Option(
        "--validation",
        help="Prepared faces of other people, to measure the model on after every epoch.",
    ),
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        "--max-minutes",
        min=0,
        help="Stop at the first checkpoint after this time; --resume goes on.",
    ),
]
DevicesOption = Annotated[
    int, typer.Option("--devices", min=1, help="GPUs that share every batch evenly.")
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        help="HOST:PORT,HOST:PORT,… of the processes that train together, the same on all; "
        "default: what TF_CONFIG says."
    ),
]
WorkerOption = Annotated[
    int | None, typer.Option(min=0, help="Which of --workers this process is; 0 writes.")
]
MemoryOption = Annotated[
    float,
    typer.Option(
        "--memory",
        min=0,
        help="GB that the faces may take; more of them are read from their files as they come.",
    ),
]


@app.command(
    "train",
    epilog=TRAIN_EPILOG,
    short_help="Train a model of a family on prepared faces. --help says more.",
    help="Train a model of a family on prepared faces: cascaded, all five blocks of 8×8 to 128×128 "
    "in one step (section 3.1); progan, the progressively growing version (sections 3.1, 4.3), "
    "block 8, then 16 around it … 128, whose finished stages stay in OUT/stages/. What is written "
    "below of the schedule is theirs. deepfake, the face swap (section 4.2), trains on two people: "
    "--source and --target. recognition (section 4.4) learns to tell the people of a set apart, "
    "with --hallucinated also from pictures of `facehal augment`.",
)
def train(
    family: Annotated[
        str, typer.Argument(help="cascaded, progan, recognition, …; the file's `model`.")
    ],
    out: RunOption,
    config: Annotated[
        Path,
        typer.Option(
            help="Experiment file (YAML), or the name of one that comes with the package "
            "(compact, cascaded, progan_compact, …); see experiments/."
        ),
    ],
    data: DataOption = None,
    source: SourceOption = None,
    target: TargetOption = None,
    source_subject: SourceSubjectOption = None,
    target_subject: TargetSubjectOption = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Instead of the file's (the paper's: 50).")
    ] = None,
    epochs_per_stage: Annotated[
        int | None, typer.Option(min=1, help="Of ProGAN, instead of the file's (the paper's: 50).")
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="Begin with the weights of a trained model of the same networks: a shipped one's "
            "name, a .keras file, hf://USER/NAME. Instead of the file's training.pretrained."
        ),
    ] = None,
    hallucinated: HallucinatedOption = None,
    variants: VariantsOption = None,
    resume: ResumeOption = False,
    limit: LimitOption = None,
    validation: ValidationOption = None,
    max_minutes: MinutesOption = None,
    devices: DevicesOption = 1,
    workers: WorkersOption = None,
    worker: WorkerOption = None,
    memory: MemoryOption = 4.0,
) -> None:
    """Trains a run, or goes on with it."""
    import_keras()
    from facehal.training.cluster import Workers

    together = Workers.found(workers, worker)  # before the backend does anything
    from facehal.models import families, load_config
    from facehal.training.run import Run

    if family not in (known := families()):
        raise FacehalError(f"train {family}: there are {', '.join(known)}")
    experiment = load_config(config)
    if experiment.model != family:
        raise FacehalError(
            f"{config}: its model is {experiment.model}; train it with "
            f"`facehal train {experiment.model}`, or name a file for {family}"
        )
    changes: dict[str, int | str | None] = {
        "epochs": epochs,
        "epochs_per_stage": epochs_per_stage,
        "pretrained": pretrained,
    }
    if given := {name: value for name, value in changes.items() if value is not None}:
        experiment = experiment.replace_training(**given)
    people = {"source": (source, source_subject), "target": (target, target_subject)}
    run = Run(
        experiment,
        _faces(data, people),
        out,
        resume=resume,
        hallucinated=hallucinated or (),
        variants=variants,
        limit=limit,
        validation=validation,
        max_minutes=max_minutes,
        devices=devices,
        workers=together,
        memory=memory * 1e9,
    )
    path = run.fit()
    if not run.chief:
        return
    if not run.finished:
        print(f"{path}: {run.step} of {run.total_steps} steps done; --resume goes on")
    else:
        print(f"{path}: trained; {out / 'report.html'} shows how")


def _faces(
    data: list[Path] | None, people: dict[str, tuple[Path | None, str | None]]
) -> "list[Path] | dict[str, FaceSet]":
    """What a run trains on: the folders of --data, or the faces of every person that is named.

    Raises:
        FacehalError: neither is named, or both, or one person alone.
        DataError: no prepared faces, or none of a person.
    """
    if not any(folder or subject for folder, subject in people.values()):
        if not data:
            raise FacehalError(
                "name the prepared faces: --data DIR; of deepfake --source, --target"
            )
        return data
    from facehal.data.faceset import FaceSet

    found = {}
    for role, (folder, subject) in people.items():
        if data or folder is None:
            raise FacehalError("a face swap's people are named by --source DIR and --target DIR")
        faces = FaceSet.open(folder)
        found[role] = faces.of_subject(subject) if subject else faces
    return found


@app.command(
    help="A run's page and epoch study: RUN/report.html and RUN/epochs.png. Training may go on.\n\n"
    "report.html needs no other file: configuration and what differs from the paper's, data hash, "
    "versions, git state, time, warnings, loss curves, the newest preview. epochs.png shows the "
    "same faces after 10, 20, 30, 40, 50 epochs, or as many evenly spaced ones as the run has."
)
def report(
    run: Annotated[Path, typer.Argument(help="Run folder, the --out of `facehal train`.")],
) -> None:
    """A run's page and epoch study."""
    from facehal.training.report import write_report

    made = write_report(run)
    for warning in made.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if made.epochs:
        print(f"{run / 'epochs.png'}: after epochs {', '.join(map(str, made.epochs))}")
    else:
        print(f"{run}: no epochs.png, for no finished epoch has a preview")
    print(made.page)


@app.command()
def ablations(
    data: Annotated[
        list[Path], typer.Option(help="Prepared training faces; several times for several folders.")
    ],
    test: Annotated[Path, typer.Option(help="Prepared faces of other people, to measure on.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs, the table and the picture.")],
    variant: Annotated[
        list[str] | None,
        typer.Argument(help="Variants to train, as l2 or progan; default: all."),
    ] = None,
    experiments: Annotated[
        Path | None,
        typer.Option(
            help="Folder with ablation_base.yaml and ablation_VARIANT.yaml; default: the package's."
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="Experiment file to start from in place of ablation_base.yaml; "
            "cascaded is the paper's size, tiny a trial's."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of every variant and ProGAN stage.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Train on the first faces.")] = None,
    test_limit: Annotated[int | None, typer.Option(min=2, help="Measure on the first.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="For each variant; a next call goes on.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Comma-separated; default: ssim, l1, lpips, match_dlib, frechet_dlib."),
    ] = None,
) -> None:
    """Trains the variants of one experiment alike: OUT/ablations.md, .csv and .png.

    What is trained already is kept, and a variant that was stopped goes on where it was. One that
    fails is noted in the table, and the others have their turn; the exit status is then 1.
    """
    import_keras()
    from facehal.config import find
    from facehal.evaluation.ablations import ablate

    problems = ablate(
        data,
        test,
        out,
        variant or (),
        experiments=experiments,
        base=find(base) if base else None,
        epochs=epochs,
        limit=limit,
        test_limit=test_limit,
        max_minutes=max_minutes,
        metrics=names(metrics),
    )
    path = out / "ablations.md"
    print(path.read_text(encoding="utf-8"))
    print(f"{path}; {out / 'ablations.png'}")
    if problems:
        raise FacehalError(
            f"{len(problems)} failed ({', '.join(problems)}); {path} says why. The next call tries "
            "them again"
        )


@app.command("compare")
def compare(
    data: Annotated[
        list[Path], typer.Option(help="Prepared training faces; several times for several folders.")
    ],
    test: Annotated[Path, typer.Option(help="Prepared faces of other people, to measure on.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs, the table and the pictures.")],
    system: Annotated[
        list[str] | None,
        typer.Argument(help="Systems to train, as EdgeConnect or cascaded; default: all."),
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option(
            help="Prepared faces with George_W_Bush and Colin_Powell, for DeepFake; else --test."
        ),
    ] = None,
    minutes: Annotated[
        float,
        typer.Option(min=0, help="Of the machine's work on each system, in all calls together."),
    ] = 60.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Train on the first faces.")] = None,
    test_limit: Annotated[int | None, typer.Option(min=2, help="Measure on the first.")] = None,
    metrics: Annotated[str | None, typer.Option(help=METRICS_HELP)] = None,
) -> None:
    """Table 1 whole: trains the paper's systems alike, measures all: OUT/table1.md and pictures.

    What is trained already is kept, and a system that was stopped goes on where it was. One that
    fails is left out, and the others have their turn; the exit status is then 1.
    """
    import_keras()
    from facehal.evaluation.comparison import compare as run

    problems = run(
        data,
        test,
        out,
        system or (),
        people=people,
        minutes=minutes,
        limit=limit,
        test_limit=test_limit,
        metrics=names(metrics),
    )
    path = out / "table1.md"
    print(path.read_text(encoding="utf-8"))
    print(f"{path}; {out / 'figure5.png'}; {out / 'portraits.png'}")
    if problems:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in problems.items())
        raise FacehalError(f"{len(problems)} failed ({reasons}). The next call tries them again")


@app.command("train-one", hidden=True)
def train_one(job: str) -> None:
    """One of several runs, in a process of its own."""
    import_keras()
    from facehal.evaluation.trainings import train_here
    from facehal.processes import follow_parent

    follow_parent()
    train_here(job)


@app.command("table2")
def table2(
    data: Annotated[
        list[Path],
        typer.Option(help="Prepared photos, a folder per person; several times for several."),
    ],
    test: Annotated[Path, typer.Option(help="Prepared photos of other people: LFW.")],
    out: Annotated[Path, typer.Option(help="Folder for pictures, runs and the table.")],
    arm: Annotated[
        list[str] | None,
        typer.Argument(help="Data arms to train: real, one, variants; default: all."),
    ] = None,
    model: ModelOption = "compact",
    engine: EngineOption = None,
    config: Annotated[
        str, typer.Option(help="Experiment of recognition: a file, or a shipped one's name.")
    ] = "recognition_compact",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every arm.")] = 3,
    variants: Annotated[
        int, typer.Option(min=1, help="Of every face, in the arm variants, besides its best.")
    ] = 4,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the file's.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0, help="Of the machine's work on a training at most, all calls together."
        ),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="LFW's pairs.txt; without it pairs are drawn alike.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Train on the first faces.")] = None,
    test_limit: Annotated[int | None, typer.Option(min=2, help="Measure on the first.")] = None,
) -> None:
    """Table 2: does hallucinated context make a recogniser better? OUT/table2.md, roc.png.

    Hallucinates, trains and measures what is missing: every arm with every seed, all for equally
    many steps. Stopped, the next call goes on where it was. A training that fails is left out, and
    the others have their turn; the exit status is then 1.
    """
    import_keras()
    from facehal.evaluation.table2 import table2 as run

    problems = run(
        data,
        test,
        out,
        arms=arm or (),
        model=model,
        engine=engine,
        config=config,
        seeds=seeds,
        variants=variants,
        epochs=epochs,
        minutes=minutes,
        pairs=pairs,
        limit=limit,
        test_limit=test_limit,
    )
    path = out / "table2.md"
    print(path.read_text(encoding="utf-8"))
    print(f"{path}; {out / 'roc.png'}")
    if problems:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in problems.items())
        raise FacehalError(f"{len(problems)} failed ({reasons}). The next call tries them again")
