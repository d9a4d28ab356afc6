"""Verbs that use a trained model."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from facehal.cli.app import (
    EngineOption,
    ModelOption,
    RayGpusOption,
    RayOption,
    WithRay,
    WorkersOption,
    app,
    import_keras,
    ray_cluster,
)
from facehal.optional import OR_NONE


@app.command(cls=WithRay)
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
    variants: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="Also OUT/variants/: so many other hair, clothes and backgrounds for every face.",
        ),
    ] = 0,
    ray: RayOption = None,
    ray_gpus: RayGpusOption = None,
) -> None:
    """Photos → OUT/pictures/*.png, and OUT/hallucinated.png to look at.

    Photos without a face or that cannot be read are skipped and listed in OUT/skipped.csv. Of a
    folder that holds OUT, the pictures that an earlier call wrote there are left out.
    """
    from facehal.inference.hallucinator import needs_keras, portable
    from facehal.jobs.hallucinate import find_photos
    from facehal.jobs.hallucinate import hallucinate as run

    files = find_photos(photos, out)  # before the model: what is missing is said at once
    if ray_gpus and engine is None:
        engine = "keras"  # the one that uses them
    if needs_keras(model, engine) and (ray is None or engine == "onnxruntime"):
        if engine == "onnxruntime":
            print(f"{model}: preparing it for onnxruntime, once", file=sys.stderr)
        import_keras(OR_NONE)
    source = portable(model, engine=engine)
    with ray_cluster(ray, None, ray_gpus) as cluster:
        done = run(
            files,
            out,
            source.load() if cluster is None else source,
            paste=paste,
            background=background,
            variants=variants,
            on=cluster,
        )
    print(f"{done.pictures} of {done.photos} photos hallucinated: {done.sheet}")


@app.command()
def video(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.mp4", help="The video to write.")],
    model: ModelOption = "compact",
    engine: EngineOption = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Another hair, clothes and background, for the whole video."),
    ] = None,
    paste: Annotated[
        bool,
        typer.Option(
            "--paste",
            help="The frames themselves, at their size, with hallucinated surroundings of the "
            "face; without it the aligned face's square.",
        ),
    ] = False,
    size: Annotated[
        int | None, typer.Option(help="Side of the square in pixels; default: the model's.")
    ] = None,
    blend: Annotated[
        bool, typer.Option(help="Over time; without it hair and background flicker.")
    ] = True,
) -> None:
    """A video → OUT.mp4 with hallucinated surroundings of its face (docs/video.md).

    The largest face is followed. H.264 and the sound need an ffmpeg (extra: video). Stopped, the
    same command goes on where it was.
    """
    # What OpenCV and FFmpeg say of a broken file goes past Python; our own line says it, too.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    from facehal.inference.hallucinator import needs_keras
    from facehal.jobs.video import video as run
    from facehal.videos import MPEG4, VideoReader, tools

    with VideoReader(source):  # before Keras: what is no video is said at once
        pass
    if tools().codec == MPEG4:
        print(
            "no ffmpeg with x264 here: the video will be MPEG-4 Part 2, which browsers do not play "
            "(pip install 'facehal[video]')",
            file=sys.stderr,
        )
    if needs_keras(model, engine):
        import_keras(OR_NONE)
    done = run(source, out, model, engine=engine, seed=seed, paste=paste, size=size, blend=blend)
    for remark in done.remarks:
        print(f"{source}: {remark}", file=sys.stderr)
    print(
        f"{done.video}: {done.frames} frames, {done.found} with a face, {done.bridged} bridged, "
        f"{done.lost} {'left as they were' if paste else 'black'} without one; {done.codec}; "
        f"sound: {done.sound}{'' if done.new else '; it was finished already'}"
    )


@app.command()
def swap(
    photos: Annotated[list[Path], typer.Argument(help="Photos or folders of photos.")],
    model: Annotated[
        str, typer.Option(help="A .keras file that `facehal train deepfake` or `weights` wrote.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    identity: Annotated[
        str, typer.Option(help="Whose face: source, or target for the way back.")
    ] = "source",
    mask: Annotated[
        str,
        typer.Option(help="rectangle, faded at its border, or hull: inside the landmarks alone."),
    ] = "rectangle",
) -> None:
    """One person's face on photos of another (section 4.2) → OUT/swapped/*.png, OUT/swapped.png.

    Of a photo the largest face is swapped. Photos without a face or that cannot be read are skipped
    and listed in OUT/skipped.csv.
    """
    import_keras()
    from facehal.inference.swap import Swapper, load_deepfake
    from facehal.jobs.hallucinate import find_photos
    from facehal.jobs.swap import OUTPUTS
    from facehal.jobs.swap import swap as run

    files = find_photos(photos, out, OUTPUTS)
    done = run(files, out, Swapper(load_deepfake(model), identity, mask))
    print(f"{done.pictures} of {done.photos} photos swapped: {done.sheet}")


@app.command("demo-web")
def demo_web(
    model: ModelOption = "compact",
    system: Annotated[
        list[str] | None,
        typer.Option(help="NAME=MODEL: one more for the page's menu; may be repeated."),
    ] = None,
    compared: Annotated[
        Path | None,
        typer.Option(help="A folder of `facehal compare`: all that it trained, in the menu."),
    ] = None,
    engine: EngineOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page's address.")] = 7860,
) -> None:
    """A local page: drop a photo, see mask, resolutions, result and variants (extra: web)."""
    from facehal.inference.hallucinator import load, needs_keras
    from facehal.web import gradio, menu, serve

    gradio()  # before the model: a missing package is said at once
    models = menu(model, system or (), compared)
    if any(needs_keras(one, engine) for one in models.values()):
        import_keras(OR_NONE)
    serve({name: partial(load, one, engine=engine) for name, one in models.items()}, port)


@app.command(cls=WithRay)
def augment(
    data: Annotated[Path, typer.Argument(help="Prepared faces (what preprocess wrote).")],
    out: Annotated[Path, typer.Argument(help="Folder for the pictures and images.csv.")],
    model: Annotated[str, typer.Option(help="A .keras file or a shipped model.")] = "compact",
    engine: EngineOption = None,
    variants: Annotated[
        int,
        typer.Option(
            min=0, max=100, help="Also so many other hair, clothes and backgrounds for every face."
        ),
    ] = 0,
    form: Annotated[
        str, typer.Option("--format", help="png, or webp: a sixth of the size, with a loss.")
    ] = "png",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first faces.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces at a time.")] = 32,
    workers: WorkersOption = None,
    ray: RayOption = None,
    ray_gpus: RayGpusOption = None,
) -> None:
    """A hallucinated version of every face, a folder per subject (section 4.4).

    OUT/images.csv lists real and hallucinated pictures with their labels, to train a recognition
    network on. Can be interrupted: what is there is kept. Damaged faces are skipped and listed in
    OUT/skipped.csv.
    """
    from facehal.inference.hallucinator import needs_keras

    if ray_gpus and engine is None:
        engine = "keras"  # the one that uses them
    if needs_keras(model, engine) and (ray is None or engine == "onnxruntime"):
        import_keras(OR_NONE)
    from facehal.jobs.augment import augment as run

    with ray_cluster(ray, workers, ray_gpus) as cluster:
        done = run(
            data,
            out,
            model,
            variants=variants,
            form=form,
            engine=engine,
            limit=limit,
            batch_size=batch_size,
            workers=workers,
            on=cluster,
        )
    skipped = (
        f", {done.skipped} faces skipped ({done.images.with_name('skipped.csv')})"
        if done.skipped
        else ""
    )
    print(
        f"{done.pictures} pictures of {done.subjects} subjects, {done.new} of them new{skipped}; "
        f"{done.images} lists them beside the real ones; {done.images.with_name('augmented.png')}"
    )


@app.command()
def published(
    family: Annotated[str, typer.Argument(help="deepfillv1, edgeconnect, genface, deepfake, ….")],
    files: Annotated[
        list[Path],
        typer.Argument(help="Its authors' files; with a wrong number of them a message names all."),
    ],
    out: Annotated[Path, typer.Option(help="The model, a .keras file.")],
    resolution: Annotated[
        int | None,
        typer.Option(min=8, help="Of the pictures, where the networks fit any; 128 for Table 1."),
    ] = None,
    choose: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: what a family leaves open; of genface blending=poisson."),
    ] = None,
) -> None:
    """A system's published weights as a model: for `hallucinate`, `export` and the paper's rows.

    The files lie with their authors, who say what they may be used for; docs/fidelity.md has more.
    """
    import_keras()
    from facehal.models.base import from_published
    from facehal.models.saving import save_model

    chosen = {name: value for name, _, value in (one.partition("=") for one in choose or [])}
    print(save_model(from_published(family, files, resolution, chosen), out))


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
    from facehal.inference.hallucinator import load_keras
    from facehal.shipped import find_model

    path = find_model(model)
    import_keras()
    from facehal.inference.export import export, file_name

    target = out or Path(file_name(path.stem, form))
    difference = export(load_keras(path), form, target, path.name)
    print(f"{target}: largest difference to the Keras model's pictures {difference:.1e}")


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(help="A run folder, or a .keras file.")],
    to: Annotated[str, typer.Option(help="A folder, or hf://USER/NAME (extra: hub).")],
    licence: Annotated[
        str,
        typer.Option(help="Of the weights, one word: apache-2.0, cc-by-nc-4.0, other."),
    ],
    title: Annotated[str | None, typer.Option(help="Of the model card.")] = None,
    private: Annotated[
        bool, typer.Option("--private", help="A new repository on a hub is not public.")
    ] = False,
) -> None:
    """Shares a trained model with its card and its hash; facehal.load takes it from there."""
    from facehal.jobs.publish import publish as share

    print(share(run, to, licence=licence, title=title, private=private))
