"""The verbs of the ``facehal`` command; each calls the package and says what came of it."""

import csv
import importlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from facehal.errors import FacehalError
from facehal.files import write_text

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Typer keeps the line breaks inside a paragraph, so that each sentence here is one long line.
TRAIN_EPILOG = """\
Schedule, where the file says nothing: the paper's 50 epochs (ProGAN: 50 for every stage), batch \
10, Adam at 1e-4 (generator) and 2e-4 (discriminator). A file states what differs and may extend \
another one; facehal/config.py lists every name. Perceptual and identity terms need weights: see \
`facehal weights list`.

OUT holds, from the first checkpoint on (every 500 steps unless the file says \
otherwise, and after every epoch):
- report.html: configuration, data, versions, warnings, loss curves, newest pictures
- epochs.png: the same faces after five evenly spaced epochs; `facehal report OUT` renews both
- model.keras: the newest model, for `facehal hallucinate --model` or facehal.load
- history.csv, tensorboard/: every loss by epoch
- previews/: the same faces after each epoch; checkpoints/: the newest two, to resume from
- config.yaml, environment.json: all of the configuration; command, data hash, versions, git state

To go on after a stop or a crash, give the same command with --resume: the numbers are those of a \
run that was never stopped. Of the experiment only the number of epochs and the collapse_ warnings \
may change; where the file sets decay, another number of epochs changes the rates, too.

A warning is printed when a discriminator collapses (collapse_bound, collapse_epochs, \
collapse_steps in the file). KERAS_BACKEND=jax in the environment trains on JAX instead of \
TensorFlow.
"""
train_app = typer.Typer(
    help="Train a model on prepared faces: the cascade or the growing network of the paper. "
    "--help after a verb says what lands in the run folder and how to resume.",
    no_args_is_help=True,
)
weights_app = typer.Typer(
    help="Published weights that losses and metrics need.", no_args_is_help=True
)
evaluate_app = typer.Typer(help="The paper's tables and metrics.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(weights_app, name="weights")

SHEET_ROWS = 24  # of hallucinated.png
OUTPUTS = ("pictures", "pasted", "background", "hallucinated.png")  # of `hallucinate`, in OUT


def main() -> None:
    """Entry point: errors that the user can mend are one line and exit status 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        app()
    except FacehalError as error:
        print(f"facehal: {error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:  # Typer's, for Ctrl-C
            print("facehal: stopped; what was finished is kept", file=sys.stderr)
        raise


@app.callback()
def options(
    weights_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of published weights, instead of $FACEHAL_WEIGHTS."),
    ] = None,
) -> None:
    """Hallucinate context and background around a face mask (WACV 2020)."""
    if weights_dir is not None:
        os.environ["FACEHAL_WEIGHTS"] = str(weights_dir)


def _import_keras() -> None:
    """Imports Keras and its backend, keeping back what TensorFlow prints at every start.

    Those lines are written below Python, before any log level applies. They are shown where the
    import fails.

    Raises:
        FacehalError: Keras or its backend is missing, or Keras knows no such backend.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        stderr = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            importlib.import_module("keras")
        except BaseException as error:
            sink.seek(0)
            os.write(stderr, sink.read())
            if not isinstance(error, ImportError | ValueError):
                raise
            name = os.environ.get("KERAS_BACKEND")
            raise FacehalError(
                f"Keras cannot start with {f'backend {name}' if name else 'its default backend'} "
                f"({_reason(error)}); set KERAS_BACKEND to tensorflow or jax, and install that "
                "package where it is missing"
            ) from error
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _reason(error: Exception) -> str:
    """One line of an error; TensorFlow's about a broken library begins with a whole traceback."""
    lines = [line for line in str(error).splitlines() if line and not line[0].isspace()]
    lines = [line for line in lines if not line.startswith("Traceback")]
    return lines[0] if lines else type(error).__name__


@app.command()
def preprocess(
    raw: Annotated[Path, typer.Argument(help="Folder of photos, flat or a folder per subject.")],
    out: Annotated[Path, typer.Argument(help="Folder for the aligned faces and manifest.csv.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: the cores.")
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="CSV with the 68 points of every photo; then dlib is not needed."),
    ] = None,
) -> None:
    """Photos → aligned 128×128 faces, masks' landmarks and a contact sheet. Can be interrupted."""
    from facehal.jobs.preprocess import preprocess as run

    summary = run(raw, out, workers=workers, landmarks=landmarks)
    print(summary)
    if summary.ok == 0:
        raise FacehalError(f"{raw}: no photo gave a face; {out / 'manifest.csv'} says why")


@app.command()
def sample(
    out: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    count: Annotated[int, typer.Option(min=1, help="Variations to make.")] = 100,
    portraits: Annotated[bool, typer.Option(help="The two portraits themselves instead.")] = False,
) -> None:
    """Two public-domain portraits, or a hundred variations of them to try the package on."""
    from facehal.data.samples import portraits as originals
    from facehal.data.samples import write_samples
    from facehal.images import write_png

    if portraits:
        out.mkdir(parents=True, exist_ok=True)
        for name, picture in originals().items():
            write_png(out / f"{name}.png", picture)
        return
    paths = write_samples(out, count, progress=True)
    print(
        f"{len(paths)} variations of two public-domain portraits in {out}: a sample to try the "
        "commands on, too few to learn from. Put photos of your own into data/raw/ instead."
    )


@app.command()
def lfw(
    out: Annotated[Path, typer.Argument(help="Folder for the photos.")],
    archive: Annotated[
        Path | None, typer.Option(help="lfw-funneled.tgz, if you have it already.")
    ] = None,
) -> None:
    """Labeled Faces in the Wild: download (243 MB, can be interrupted), check and unpack."""
    from facehal.data.lfw import fetch

    print(f"{fetch(out, archive)} photos in {out}")


DataOption = Annotated[
    Path, typer.Option("--data", help="Folder of prepared faces, from `facehal preprocess`.")
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


@train_app.command("cascaded", epilog=TRAIN_EPILOG)
def train_cascaded(
    data: DataOption,
    out: RunOption,
    config: Annotated[Path, typer.Option(help="Experiment file (YAML); see experiments/.")],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Instead of the file's (the paper's: 50).")
    ] = None,
    resume: ResumeOption = False,
    limit: LimitOption = None,
    validation: ValidationOption = None,
    max_minutes: MinutesOption = None,
    devices: DevicesOption = 1,
) -> None:
    """The cascade: all five blocks, 8×8 to 128×128, trained in one step (section 3.1)."""
    options: dict[str, Any] = {"resume": resume, "limit": limit, "validation": validation}
    options |= {"max_minutes": max_minutes, "devices": devices}
    _train("cascaded", config, {"epochs": epochs}, data, out, options)


@train_app.command("progan", epilog=TRAIN_EPILOG)
def train_progan(
    data: DataOption,
    out: RunOption,
    config: Annotated[
        Path, typer.Option(help="Experiment file (YAML) with `model: progan`; see experiments/.")
    ],
    epochs_per_stage: Annotated[
        int | None, typer.Option(min=1, help="Instead of the file's (the paper's: 50).")
    ] = None,
    resume: ResumeOption = False,
    limit: LimitOption = None,
    validation: ValidationOption = None,
    max_minutes: MinutesOption = None,
    devices: DevicesOption = 1,
) -> None:
    """The progressively growing version (sections 3.1, 4.3): block 8, then 16 around it … 128.

    OUT/model.keras is the newest block, OUT/stages/ has the model of every finished stage.
    """
    options: dict[str, Any] = {"resume": resume, "limit": limit, "validation": validation}
    options |= {"max_minutes": max_minutes, "devices": devices}
    _train("progan", config, {"epochs_per_stage": epochs_per_stage}, data, out, options)


def _train(
    model: str,
    config: Path,
    changes: dict[str, int | None],
    data: Path,
    out: Path,
    options: dict[str, Any],
) -> None:
    """What both verbs do; ``changes`` of the file's schedule count where they are not None."""
    _import_keras()
    from facehal.config import load_config, replace_training
    from facehal.training.run import Run

    experiment = load_config(config)
    if experiment.model != model:
        raise FacehalError(
            f"{config}: its model is {experiment.model}; train it with "
            f"`facehal train {experiment.model}`, or name a file for {model}"
        )
    given = {name: value for name, value in changes.items() if value is not None}
    if given:
        experiment = replace_training(experiment, **given)
    run = Run(experiment, data, out, **options)
    path = run.fit()
    if run.step < run.total_steps:
        print(f"{path}: {run.step} of {run.total_steps} steps done; --resume goes on")
    else:
        print(f"{path}: trained; {out / 'report.html'} shows how")


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


ModelOption = Annotated[
    str, typer.Option("--model", help="A shipped model, a .keras file or an exported .onnx file.")
]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="keras or onnxruntime (starts in a second); default: by file."),
]


@app.command()
def hallucinate(
    photos: Annotated[list[Path], typer.Argument(help="Photos or folders of photos.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    model: ModelOption = "compact",
    engine: EngineOption = None,
    paste: Annotated[
        bool,
        typer.Option(
            "--paste",
            help="Also OUT/pasted/: the photos themselves, at their size, with hallucinated "
            "surroundings of the face.",
        ),
    ] = False,
    background: Annotated[
        Path | None,
        typer.Option(
            help="A picture; also OUT/background/: the hallucinated person in front of it."
        ),
    ] = None,
) -> None:
    """Photos → OUT/pictures/*.png, and OUT/hallucinated.png to look at.

    Photos without a face or that cannot be read are skipped and listed in OUT/skipped.csv. Of a
    folder that holds OUT, the pictures that an earlier call wrote there are left out.
    """
    from tqdm import tqdm

    from facehal.faces.background import replace_background
    from facehal.faces.paste import paste as paste_into
    from facehal.images import contact_sheet, read_image, write_png
    from facehal.inference.hallucinator import AlignedFace, load, needs_keras

    files = _photos(photos, out)
    if needs_keras(model, engine):
        if engine == "onnxruntime":
            print(f"{model}: preparing it for onnxruntime, once", file=sys.stderr)
        _import_keras()
    behind = None if background is None else read_image(background)
    hallucinator = load(model, engine=engine)
    found: list[tuple[Path, AlignedFace]] = []
    skipped: list[tuple[Path, str]] = []
    names = picture_names(files)
    rows: list[list] = []
    labels: list[str] = []

    def skip(file: Path, error: FacehalError) -> None:
        skipped.append((file, str(error)))
        tqdm.write(f"skipped: {error}", file=sys.stderr)

    def flush() -> None:
        if not found:
            return
        import numpy as np

        outputs = hallucinator.from_masks(
            np.stack([f.masked for _, f in found]),
            np.stack([f.mask for _, f in found]),
            all_resolutions=True,
        )
        assert isinstance(outputs, dict)
        labels[:] = ["original", "face mask", *map(str, outputs)]
        if behind is not None:
            labels.append("background")
        for index, (file, face) in enumerate(found):
            pictures = [pictures[index] for pictures in outputs.values()]
            picture = pictures[-1]
            made = {"pictures": picture}
            try:
                if paste:
                    # Read again: the memory of the machine may not hold a batch of huge photos.
                    photo = read_image(file)
                    made["pasted"] = paste_into(photo, picture, face.points, face.matrix)
                if behind is not None:
                    made["background"] = replace_background(picture, face.points, behind)
                    pictures.append(made["background"])
            except FacehalError as error:
                skip(file, error)
                continue
            # Outside of that: where one picture cannot be written, neither can the others.
            for folder, result in made.items():
                write_png(out / folder / names[file], result)
            if len(rows) < SHEET_ROWS:
                rows.append([face.face, face.masked, *pictures])
        found.clear()

    listed = out / "skipped.csv"
    try:
        listed.unlink(missing_ok=True)
    except OSError as error:
        raise FacehalError(f"{out}: cannot be written ({error.strerror or error})") from error
    try:
        for file in tqdm(files, unit="photo", disable=len(files) < 2):
            try:
                found.append((file, hallucinator.prepare(file)))
            except FacehalError as error:
                skip(file, error)
            if len(found) == 32:
                flush()
        flush()
    finally:  # also after Ctrl-C or an error: what was finished is on the sheet, or in the list
        if skipped:
            text = io.StringIO()
            csv.writer(text).writerows([("file", "reason"), *sorted(skipped)])
            write_text(listed, text.getvalue())
        if rows:
            write_png(out / "hallucinated.png", contact_sheet(rows, labels=labels))
    done = len(files) - len(skipped)
    if done == 0:
        raise FacehalError(f"none of {len(files)} photos could be used; see {listed}")
    print(f"{done} of {len(files)} photos hallucinated: {out / 'hallucinated.png'}")


@app.command("demo-web")
def demo_web(
    model: ModelOption = "compact",
    engine: EngineOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page's address.")] = 7860,
) -> None:
    """A local page: drop a photo, see the mask, every resolution and the result (extra: web)."""
    from facehal.inference.hallucinator import load, needs_keras
    from facehal.web import gradio, serve

    gradio()  # before the model: a missing package is said at once
    if needs_keras(model, engine):
        _import_keras()
    serve(load(model, engine=engine), port)


def _photos(paths: list[Path], out: Path) -> list[Path]:
    """The photos among files and folders, sorted, without what `hallucinate` wrote into ``out``.

    A file named outright is taken wherever it lies, and so are other pictures in ``out``: the
    photos' folder may stand there, too.

    Raises:
        FacehalError: a path does not exist, or there are no photos.
    """
    from facehal.images import list_images

    named = {path for path in paths if not path.is_dir()}
    written = [out.resolve() / name for name in OUTPUTS]

    def is_ours(file: Path) -> bool:
        where = file.parent.resolve() / file.name
        return any(where.is_relative_to(place) for place in written)

    files = list_images(paths)
    found = [file for file in files if file in named or not is_ours(file)]
    if not found:
        why = f"only what was written into {out}" if files else "no pictures in it"
        raise FacehalError(f"{paths[0]}: {why}; name photos or a folder of photos")
    return found


def picture_names(files: list[Path]) -> dict[Path, str]:
    """An output name for every photo, the stem alone where that is unique."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last one tried of every stem: those before are taken
    for file in files:
        stem = name = file.stem
        number = numbers.get(stem, 1)
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        numbers[stem] = number
        taken.add(name)
        names[file] = f"{name}.png"
    return names


@app.command()
def masks(
    data: Annotated[Path, typer.Argument(help="Prepared faces (what preprocess wrote).")],
    out: Annotated[Path, typer.Argument(help="Folder for faces/, masked/ and masks/.")],
    size: Annotated[int, typer.Option(min=8, help="Side in pixels.")] = 128,
    white: Annotated[str, typer.Option(help="What is white in a mask: hole or face.")] = "hole",
    flat: Annotated[bool, typer.Option("--flat", help="No subfolders.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first faces.")] = None,
) -> None:
    """Faces, masked faces and masks as pictures, for other inpainting programs (section 4.1).

    What such a program makes of them goes into the table under the same names:
    `facehal evaluate table1 --system NAME=FOLDER`.
    """
    from facehal.data.exchange import write_masks

    count = write_masks(data, out, size=size, white=white, flat=flat, limit=limit)
    print(f"{count} faces: {out / 'faces'}, {out / 'masked'}, {out / 'masks'}")


@app.command()
def augment(
    data: Annotated[Path, typer.Argument(help="Prepared faces (what preprocess wrote).")],
    out: Annotated[Path, typer.Argument(help="Folder for the pictures and images.csv.")],
    model: Annotated[str, typer.Option(help="A .keras file or a shipped model.")] = "compact",
    engine: Annotated[
        str | None, typer.Option(help="keras, or onnxruntime (faster on a CPU; extra: export).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first faces.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces at a time.")] = 32,
) -> None:
    """A hallucinated version of every face, a folder per subject (section 4.4).

    OUT/images.csv lists real and hallucinated pictures with their labels, to train a recognition
    network on. Can be interrupted: what is there is kept.
    """
    from facehal.inference.hallucinator import needs_keras

    if needs_keras(model, engine):
        _import_keras()
    from facehal.jobs.augment import augment as run

    done = run(data, out, model, engine=engine, limit=limit, batch_size=batch_size)
    print(
        f"{done.pictures} pictures of {done.subjects} subjects, {done.new} of them new; "
        f"{done.images} lists them beside the real ones; {out / 'augmented.png'}"
    )


@app.command()
def ablations(
    data: Annotated[Path, typer.Option(help="Prepared training faces.")],
    test: Annotated[Path, typer.Option(help="Prepared faces of other people, to measure on.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs, the table and the picture.")],
    variant: Annotated[
        list[str] | None,
        typer.Argument(help="Variants to train, as l2 or progan; default: all."),
    ] = None,
    experiments: Annotated[
        Path, typer.Option(help="Folder with ablation_base.yaml and ablation_VARIANT.yaml.")
    ] = Path("experiments"),
    base: Annotated[
        Path | None,
        typer.Option(
            help="Experiment file to start from in place of ablation_base.yaml; "
            "experiments/cascaded.yaml is the paper's size, experiments/tiny.yaml a trial's."
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
    _import_keras()
    from facehal.evaluation.ablations import ablate

    problems = ablate(
        data,
        test,
        out,
        variant or (),
        experiments=experiments,
        base=base,
        epochs=epochs,
        limit=limit,
        test_limit=test_limit,
        max_minutes=max_minutes,
        metrics=_names(metrics),
    )
    path = out / "ablations.md"
    print(path.read_text(encoding="utf-8"))
    print(f"{path}; {out / 'ablations.png'}")
    if problems:
        raise FacehalError(
            f"{len(problems)} failed ({', '.join(problems)}); {path} says why. The next call tries "
            "them again"
        )


@app.command("train-variant", hidden=True)
def train_variant(job: str) -> None:
    """One variant of `ablations`, in a process of its own."""
    _import_keras()
    from facehal.evaluation.ablations import follow_parent
    from facehal.evaluation.ablations import train_variant as run

    follow_parent()
    run(job)


@app.command("export")
def export_model(
    model: Annotated[str, typer.Argument(help="A .keras file or a shipped model.")] = "compact",
    form: Annotated[
        str, typer.Option("--format", help="onnx, litert or savedmodel (a folder).")
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="The file; default: the model's name, here.")
    ] = None,
) -> None:
    """A model for programs without Keras, checked against it; docs/export.md says how to use it."""
    from facehal.inference.hallucinator import find_model, load_keras

    path = find_model(model)
    _import_keras()
    from facehal.inference.export import export, file_name

    target = out or Path(file_name(path.stem, form))
    difference = export(load_keras(path), form, target, path.name)
    print(f"{target}: largest difference to the Keras model's pictures {difference:.1e}")


METRICS_HELP = (
    "Comma-separated: match, ssim, fid, pieapp, lpips, match_dlib, frechet_dlib, l1. Default: all; "
    "those whose weights are missing then say so in the table."
)


def _names(metrics: str | None) -> list[str] | None:
    return None if metrics is None else [name.strip() for name in metrics.split(",")]


@evaluate_app.command("table1")
def evaluate_table1(
    data: Annotated[Path, typer.Option(help="Prepared faces (what preprocess wrote).")],
    out: Annotated[Path, typer.Option(help="Folder for tables and figures.")],
    system: Annotated[
        list[str] | None,
        typer.Option(help="NAME=MODEL or NAME=FOLDER_OF_PICTURES; may be repeated."),
    ] = None,
    train: Annotated[
        Path | None, typer.Option(help="Prepared training faces, for the reference rows.")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help=METRICS_HELP)] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Use only the first faces.")] = None,
) -> None:
    """Table 1 and Figure 5: any systems beside the reference rows and the paper's numbers."""
    _import_keras()
    from facehal.evaluation.table1 import table1

    systems: dict[str, str] = {}
    for item in system or ["cascaded=compact"]:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise FacehalError(f"--system {item}: write NAME=MODEL or NAME=FOLDER_OF_PICTURES")
        if name in systems:
            raise FacehalError(f"--system {item}: the name {name} is taken by {systems[name]}")
        systems[name] = value
    path = table1(data, systems, out, training=train, metrics=_names(metrics), limit=limit)
    print(path.read_text(encoding="utf-8"))
    print(f"{path}; {out / 'figure5.png'}")


@evaluate_app.command("pairs")
def evaluate_pairs(
    original: Annotated[Path, typer.Option(help="Folder of real pictures.")],
    hallucinated: Annotated[Path, typer.Option(help="Folder of pictures with the same names.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables.")],
    metrics: Annotated[str | None, typer.Option(help=METRICS_HELP)] = None,
) -> None:
    """The metrics of any two folders of pictures with the same names."""
    _import_keras()
    from facehal.evaluation.table1 import pairs

    path = pairs(original, hallucinated, out, metrics=_names(metrics))
    print(path.read_text(encoding="utf-8"))
    print(path)


@evaluate_app.command("verification")
def evaluate_verification(
    data: Annotated[Path, typer.Option(help="Prepared faces (what preprocess wrote).")],
    out: Annotated[Path, typer.Option(help="Folder for verification.md and .json.")],
    descriptor: Annotated[
        str, typer.Option(help="resnet50_256d (the paper's) or dlib_resnet.")
    ] = "resnet50_256d",
    scoring: Annotated[
        str, typer.Option(help="pearson (the paper's), cosine, euclid.")
    ] = "pearson",
) -> None:
    """All against all: TPR at fixed FPRs (section 4.4)."""
    _import_keras()
    from facehal.evaluation.verification import verify

    path = verify(data, out, descriptor=descriptor, scoring=scoring)
    print(path.read_text(encoding="utf-8"))
    print(path)


@evaluate_app.command("nearest")
def evaluate_nearest(
    data: Annotated[Path, typer.Option(help="Prepared faces (what preprocess wrote).")],
    subject: Annotated[str, typer.Option(help="A person, as in the manifest.")],
    out: Annotated[Path, typer.Option(help="Folder for nearest.md, .json and .png.")],
    descriptor: Annotated[
        str, typer.Option(help="vgg_face_hypercolumn (the paper's), vgg_face, dlib_resnet, ….")
    ] = "vgg_face_hypercolumn",
    count: Annotated[int, typer.Option(min=1, help="People to list.")] = 10,
    min_photos: Annotated[int, typer.Option(min=1, help="Only people of so many photos.")] = 1,
) -> None:
    """Who of a set looks most like one person: the pair of the face swap (section 4.2)."""
    _import_keras()
    from facehal.evaluation.subjects import nearest_subjects

    path = nearest_subjects(
        data, subject, out, descriptor=descriptor, count=count, min_photos=min_photos
    )
    print(path.read_text(encoding="utf-8"))
    print(f"{path}; {out / 'nearest.png'}")


@weights_app.command("list")
def weights_list() -> None:
    """Every file by name: what it is for, its licence, here or missing."""
    from facehal.weights import store

    for row in store.status():
        entry = row.entry
        state = str(row.path) if row.present else "missing"
        print(f"{entry.name:16}{entry.what}\n{'':16}{entry.licence}; {state}")


@weights_app.command("get")
def weights_get(name: Annotated[str, typer.Argument(help="See `facehal weights list`.")]) -> None:
    """Fetch a file from its publisher, check it and convert it. A broken download goes on."""
    from facehal.weights import store

    print(store.get(name))


@weights_app.command("import")
def weights_import(
    name: Annotated[str, typer.Argument(help="See `facehal weights list`.")],
    file: Annotated[Path, typer.Argument(help="The publisher's file, or a converted one.")],
) -> None:
    """Take a file that you have already."""
    from facehal.weights import store

    print(store.import_file(name, file))


@app.command()
def doctor() -> None:
    """Versions, backend, GPU, dlib and its model files, weights: here or missing."""
    from facehal.doctor import report

    problem = None
    try:
        _import_keras()
    except FacehalError as error:
        problem = str(error)
    lines, healthy = report(problem)
    print("\n".join(lines))
    if not healthy:
        raise FacehalError(
            "something that every command needs is missing or cannot be used (marked ✗ above)"
        )
