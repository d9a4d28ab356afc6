"""Verbs that make and pass on prepared faces."""

from pathlib import Path
from typing import Annotated

import typer

from facehal.cli.app import RayOption, WithRay, WorkersOption, app, ray_cluster
from facehal.errors import FacehalError


@app.command(cls=WithRay)
def preprocess(
    raw: Annotated[Path, typer.Argument(help="Folder of photos, flat or a folder per subject.")],
    out: Annotated[Path, typer.Argument(help="Folder for the aligned faces and manifest.csv.")],
    workers: WorkersOption = None,
    size: Annotated[int, typer.Option(min=8, help="Side of the aligned faces in pixels.")] = 128,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="CSV with the 68 points of every photo; then dlib is not needed."),
    ] = None,
    ray: RayOption = None,
) -> None:
    """Photos → aligned faces, masks' landmarks and a contact sheet. Can be interrupted."""
    from facehal.jobs.preprocess import preprocess as run
    from facehal.places import place

    raw, out = place(raw), place(out)
    with ray_cluster(ray, workers) as cluster:
        summary = run(raw, out, size=size, workers=workers, landmarks=landmarks, on=cluster)
    print(summary)
    if summary.ok == 0:
        raise FacehalError(f"{raw}: no photo gave a face; {out / 'manifest.csv'} says why")


@app.command()
def sample(
    out: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    count: Annotated[int, typer.Option(min=1, help="Variations to make.")] = 100,
    portraits: Annotated[bool, typer.Option(help="The two portraits themselves instead.")] = False,
    clips: Annotated[
        bool,
        typer.Option("--clips", help="Four clips of them of three seconds, for `video`, instead."),
    ] = False,
) -> None:
    """Two public-domain portraits, or a hundred variations of them to try the package on."""
    from facehal.data.samples import portraits as originals
    from facehal.data.samples import write_clips, write_samples
    from facehal.images import write_png

    if clips:
        print(*write_clips(out, progress=True), sep="\n")
        return
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
    from facehal.jobs.masks import write_masks

    count = write_masks(data, out, size=size, white=white, flat=flat, limit=limit)
    print(f"{count} faces: {out / 'faces'}, {out / 'masked'}, {out / 'masks'}")
