"""Verbs of ``facehal evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from facehal.cli.app import (
    METRICS_HELP,
    EngineOption,
    ModelOption,
    app,
    evaluate_app,
    import_keras,
    names,
)
from facehal.errors import FacehalError

app.add_typer(evaluate_app, name="evaluate")


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
    groups: Annotated[
        Path | None,
        typer.Option(
            help="CSV of the photos (file, source, labels, …): the measures by source, age, sex."
        ),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help=METRICS_HELP)] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Use only the first faces.")] = None,
    against: Annotated[
        str | None,
        typer.Option(help="A system: the others' differences to it, picture by picture."),
    ] = None,
) -> None:
    """Table 1 and Figure 5: any systems beside the reference rows and the paper's numbers."""
    import_keras()
    from facehal.evaluation.table1 import table1

    systems: dict[str, str] = {}
    for item in system or ["cascaded=compact"]:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise FacehalError(f"--system {item}: write NAME=MODEL or NAME=FOLDER_OF_PICTURES")
        if name in systems:
            raise FacehalError(f"--system {item}: the name {name} is taken by {systems[name]}")
        systems[name] = value
    path = table1(
        data,
        systems,
        out,
        training=train,
        groups=groups,
        metrics=names(metrics),
        limit=limit,
        against=against,
    )
    print(path.read_text(encoding="utf-8"))
    written = [path, out / "figure5.png", *([out / "groups.md"] if groups else [])]
    print("; ".join(map(str, written)))


@evaluate_app.command("variants")
def evaluate_variants(
    data: Annotated[Path, typer.Option(help="Prepared faces (what preprocess wrote).")],
    out: Annotated[Path, typer.Option(help="Folder for the table and the picture.")],
    model: ModelOption = "compact",
    count: Annotated[int, typer.Option("--variants", min=2, help="Of every face.")] = 6,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first faces.")] = None,
) -> None:
    """How much the variants of a face differ, how near the best of them comes to the original."""
    import_keras()
    from facehal.evaluation.variants import evaluate_variants as run

    path = run(data, out, model=model, count=count, limit=limit)
    print(path.read_text(encoding="utf-8"))
    print(f"{path}; {out / 'variants.png'}")


@evaluate_app.command("flicker")
def evaluate_flicker(
    clips: Annotated[list[Path], typer.Argument(help="Videos of a face.")],
    out: Annotated[Path, typer.Option(help="Folder for flicker.md, .json and .jpg.")],
    model: ModelOption = "compact",
    engine: EngineOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="As for `facehal video`.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Use only the first frames.")] = 120,
) -> None:
    """How calm `facehal video` is beside frame by frame, and whether it follows the head."""
    import_keras()
    from facehal.evaluation.flicker import evaluate_flicker as run

    path = run(clips, out, model=model, engine=engine, seed=seed, limit=limit)
    print(path.read_text(encoding="utf-8"))
    print(f"{path}; {out / 'flicker.jpg'}")


@evaluate_app.command("pairs")
def evaluate_pairs(
    original: Annotated[Path, typer.Option(help="Folder of real pictures.")],
    hallucinated: Annotated[Path, typer.Option(help="Folder of pictures with the same names.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables.")],
    metrics: Annotated[str | None, typer.Option(help=METRICS_HELP)] = None,
) -> None:
    """The metrics of any two folders of pictures with the same names."""
    import_keras()
    from facehal.evaluation.table1 import pairs

    path = pairs(original, hallucinated, out, metrics=names(metrics))
    print(path.read_text(encoding="utf-8"))
    print(path)


@evaluate_app.command("verification")
def evaluate_verification(
    data: Annotated[Path, typer.Option(help="Prepared faces (what preprocess wrote).")],
    out: Annotated[Path, typer.Option(help="Folder for verification.md and .json.")],
    descriptor: Annotated[
        str,
        typer.Option(
            help="resnet50_256d (the paper's), dlib_resnet, or a .keras file that `facehal train "
            "recognition` wrote."
        ),
    ] = "resnet50_256d",
    scoring: Annotated[
        str, typer.Option(help="pearson (the paper's), cosine, euclid.")
    ] = "pearson",
) -> None:
    """All against all: TPR at fixed FPRs (section 4.4)."""
    import_keras()
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
    import_keras()
    from facehal.evaluation.subjects import nearest_subjects

    path = nearest_subjects(
        data, subject, out, descriptor=descriptor, count=count, min_photos=min_photos
    )
    print(path.read_text(encoding="utf-8"))
    print(f"{path}; {out / 'nearest.png'}")


@evaluate_app.command("figure6")
def evaluate_figure6(
    photos: Annotated[list[Path], typer.Argument(help="Photos of the source, or folders of them.")],
    model: Annotated[str, typer.Option(help="A .keras file that `facehal train deepfake` wrote.")],
    out: Annotated[Path, typer.Option(help="The picture, a PNG.")],
    target: Annotated[
        list[Path] | None,
        typer.Option(help="Photos of the target, in place of those in the model; may be repeated."),
    ] = None,
    beside: Annotated[
        str | None, typer.Option(help="Another model, for a column of its own: the bottom row.")
    ] = None,
) -> None:
    """Figure 6: source, rectangle, hallucinated, target, blended; a row for every photo."""
    import_keras()
    from facehal.evaluation.figure6 import figure6

    print(figure6(model, photos, out, targets=target or (), beside=beside))
