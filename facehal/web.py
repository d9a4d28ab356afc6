"""The demo page: a person drops a photo and sees mask, resolutions, result and the photo again.

Other answers are a slider away (variants), other networks a menu (systems), and another background
a second file. Everything happens on the own machine: the page is served to it alone, its fonts and
scripts come with Gradio, and Gradio's reports to its makers are off. Files that were dropped are
deleted within two hours, or when the page is closed down. Gradio (extra: ``web``) is imported when
the page is made, not before: what the page says and shows is here without it.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facehal.errors import FacehalError, ImageError
from facehal.faces.background import replace_background
from facehal.faces.paste import paste
from facehal.images import decode_image, resize, to_uint8
from facehal.inference.hallucinator import AlignedFace, Hallucinator
from facehal.shipped import find_model

HOST = "127.0.0.1"
PORT = 7860
SHOWN = 256  # pixels a side of the small pictures on the page
PREVIEW = 1024  # pixels of a photo's longer side on the page
VARIANTS = 12  # on the slider, and shown beside each other
_HOUR = 3600
_CSS = """
#result img, #photo img, #pasted img, #behind img {
    width: 100%; height: 100%; object-fit: contain;
}
#message { min-height: 2.5em; }
/* As many beside each other as the window has room for: a gallery's own columns do not change. */
#variants .grid-container, #steps .grid-container {
    grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)); grid-template-rows: none;
}
#variants .grid-wrap, #steps .grid-wrap { height: auto; min-height: 0; max-height: none; }
#variants .grid-wrap { padding-top: 1.5em; }
"""

_TITLE = "facehal: from a face mask to a picture"
_INTRO = (
    "Drop a photo. Only the pixels inside the hull of the face's landmarks are kept; forehead, "
    "hair, neck, clothes and background are hallucinated around them, from 8×8 pixels upwards. "
    "What comes out is invented: it says nothing about what the person looks like. Nothing leaves "
    "this machine."
)


@dataclass(frozen=True)
class Answer:
    """What the page shows for a photo.

    Attributes:
        message: one line: what was found, or why there is no picture.
        photo: the photo as it was read, (h, w, 3) uint8, shrunk to 1024 pixels; None without one.
        steps: (256, 256, 3) uint8 and its caption: aligned face, mask, every resolution.
        result: (S, S, 3) uint8, the size of the model; None where no face was found.
        pasted: (H, W, 3) uint8, the photo with its hallucinated surroundings; None likewise.
        behind: (S, S, 3) uint8, the person before the other background; None without one.
        variants: (S, S, 3) uint8 and its number, from 1; empty where the model knows one picture.
    """

    message: str
    photo: np.ndarray | None = None
    steps: list[tuple[np.ndarray, str]] = field(default_factory=list)
    result: np.ndarray | None = None
    pasted: np.ndarray | None = None
    behind: np.ndarray | None = None
    variants: list[tuple[np.ndarray, str]] = field(default_factory=list)


def answer(
    hallucinator: Hallucinator,
    photo: str | os.PathLike[str] | None,
    variant: int = 0,
    background: str | os.PathLike[str] | None = None,
) -> Answer:
    """What the page says and shows for a dropped file; never raises for what a photo can be.

    Args:
        hallucinator: the system that was chosen.
        photo: the dropped file, if any.
        variant: 0 is the single best picture; others from 1 to :data:`VARIANTS`. A model that knows
            one picture for every face gives that.
        background: a dropped picture to put behind the person, if any.
    """
    if photo is None:
        return Answer("Drop a photo to begin.")
    preview = None
    try:
        image = _dropped(Path(photo))
        preview = _fitting(image)
        found = hallucinator.prepare(image)
    except FacehalError as error:
        return Answer(_sentence(error), preview)
    message = "One face found."
    if found.faces_found > 1:
        message = f"{found.faces_found} faces found: the largest one was taken."
    outputs, variants = _pictures(hallucinator, found, variant)
    steps = [(_enlarged(found.face), "aligned"), (_enlarged(found.masked), "face mask")]
    steps += [(_enlarged(picture), f"{size}×{size}") for size, picture in outputs.items()]
    result = outputs[hallucinator.side]
    behind = None
    if background is not None:
        try:
            behind = replace_background(result, found.points, _dropped(Path(background)))
        except FacehalError as error:
            message += f" The background: {_sentence(error)}"
    pasted = paste(image, result, found.points, found.matrix)
    return Answer(
        message,
        preview,
        steps,
        result,
        pasted,
        None if behind is None else to_uint8(behind),
        variants,
    )


def _pictures(
    hallucinator: Hallucinator, found: AlignedFace, variant: int
) -> tuple[dict[int, np.ndarray], list[tuple[np.ndarray, str]]]:
    """The chosen picture at every resolution, and all variants with their numbers, in one batch."""
    seeds: list[int | None] = [None]
    if hallucinator.latent:
        seeds += range(1, VARIANTS + 1)
    count = len(seeds)
    outputs = hallucinator.from_masks(
        np.repeat(found.masked[None], count, axis=0),
        np.repeat(found.mask[None], count, axis=0),
        seeds=seeds if hallucinator.latent else None,
        all_resolutions=True,
    )
    assert isinstance(outputs, dict)
    chosen = variant if hallucinator.latent else 0
    made = {size: to_uint8(pictures[chosen]) for size, pictures in outputs.items()}
    others = outputs[hallucinator.side][1:]
    return made, [(to_uint8(picture), str(n)) for n, picture in enumerate(others, 1)]


def _sentence(error: FacehalError) -> str:
    text = str(error)
    return f"{text[0].upper()}{text[1:]}."


def _dropped(photo: Path) -> np.ndarray:
    """The picture in an uploaded file; its errors do not name the temporary file."""
    try:
        return decode_image(photo.read_bytes())
    except OSError as error:
        raise ImageError(f"the file cannot be read ({error.strerror or error})") from error


def _fitting(photo: np.ndarray) -> np.ndarray:
    """A photo, shrunk where it is larger than a page shows."""
    height, width = photo.shape[:2]
    scale = min(1.0, PREVIEW / max(height, width))
    return resize(photo, (max(1, round(width * scale)), max(1, round(height * scale))))


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """A small picture with its pixels as squares, as large as the page shows it."""
    factor = max(1, SHOWN // picture.shape[0])
    picture = to_uint8(picture).repeat(factor, axis=0).repeat(factor, axis=1)
    return resize(picture, SHOWN)


def menu(
    model: str, systems: Sequence[str] = (), compared: str | os.PathLike[str] | None = None
) -> dict[str, str]:
    """The models that the page offers, by the names that its menu shows.

    Args:
        model: the one that it begins with: a shipped model's name or a file.
        systems: further ones, each ``NAME=MODEL``.
        compared: a folder of :func:`facehal.evaluation.comparison.compare`.

    Raises:
        FacehalError: a model that is not there, an entry without a name, two of the same name, or
            ``compared`` holds no trained system.
    """
    entries = [(Path(model).stem, model)]
    for item in systems:
        name, equals, path = item.partition("=")
        if not (name and equals and path):
            raise FacehalError(f"--system {item}: write NAME=MODEL")
        entries.append((name, path))
    if compared is not None:
        trained = sorted(Path(compared).glob("*/model.keras"))
        if not trained:
            raise FacehalError(f"{compared}: no trained system; name a folder of facehal compare")
        entries += [(path.parent.name, str(path)) for path in trained]
    found: dict[str, str] = {}
    for name, path in entries:
        if name in found:
            raise FacehalError(f"two systems are called {name}; give them different names")
        find_model(path)
        found[name] = path
    return found


def gradio() -> Any:
    """Gradio, its reports switched off.

    Raises:
        FacehalError: it is not installed; says how to install it.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError as error:
        raise FacehalError(
            "demo-web needs the package gradio: pip install 'facehal[web]'"
        ) from error
    return gradio


def page(systems: Mapping[str, Callable[[], Hallucinator]]) -> Any:
    """The page as a ``gradio.Blocks``.

    Args:
        systems: what its menu offers, by name; each is loaded when it is first chosen, the first
            one at once.

    Raises:
        FacehalError: Gradio is not installed, or the first system cannot be loaded.
    """
    gr = gradio()
    from gradio import SelectData  # a name of a module: Gradio reads annotations

    names = list(systems)
    loaded = {names[0]: systems[names[0]]()}

    def chosen(name: str) -> Hallucinator:
        if name not in loaded:
            loaded[name] = systems[name]()
        return loaded[name]

    def respond(
        file: str | None, name: str, variant: float, background: str | None
    ) -> tuple[Any, ...]:
        try:
            hallucinator = chosen(name)
        except FacehalError as error:
            given, slides = Answer(_sentence(error)), False
        else:
            given = answer(hallucinator, file, int(variant), background)
            slides = bool(hallucinator.latent)
        return (
            f"### {given.message}",
            given.photo,
            given.result,
            given.pasted,
            gr.update(value=given.behind, visible=given.behind is not None),
            gr.update(interactive=slides),
            gr.update(value=given.variants, visible=bool(given.variants)),
            given.steps,
        )

    # No button shares a picture: those of Gradio upload it.
    plain = {"interactive": False, "format": "png", "buttons": ["download", "fullscreen"]}
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as blocks:
        gr.Markdown(f"# {_TITLE}\n\n{_INTRO}")
        with gr.Row():
            # A file and not a gr.Image, which opens it first and fails with an error of its own.
            file = gr.File(label="photo", type="filepath", height=140, elem_id="file")
            behind_file = gr.File(
                label="another background (if you like)",
                type="filepath",
                height=140,
                elem_id="background",
            )
            with gr.Column():
                system = gr.Dropdown(
                    names,
                    value=names[0],
                    label="system",
                    elem_id="system",
                    visible=len(names) > 1,
                )
                variant = gr.Slider(
                    0,
                    VARIANTS,
                    value=0,
                    step=1,
                    label="variant: 0 is the single best picture",
                    elem_id="variant",
                    interactive=bool(loaded[names[0]].latent),
                )
        message = gr.Markdown("### Drop a photo to begin.", elem_id="message")
        with gr.Row():
            photo = gr.Image(label="photo", height=360, elem_id="photo", **plain)
            result = gr.Image(
                label="hallucinated, aligned by the eyes", height=360, elem_id="result", **plain
            )
            pasted = gr.Image(
                label="pasted back into the photo", height=360, elem_id="pasted", **plain
            )
            behind = gr.Image(
                label="in front of your background",
                height=360,
                elem_id="behind",
                visible=False,
                **plain,
            )
        galleries = {"object_fit": "contain", "height": "auto", **plain}
        variants = gr.Gallery(
            label="variants: click one to take it",
            allow_preview=False,
            elem_id="variants",
            visible=False,
            **galleries,
        )
        gr.Markdown("What the model sees, and the output of every block:")
        steps = gr.Gallery(
            show_label=False,
            elem_id="steps",
            **galleries,
        )
        inputs = [file, system, variant, behind_file]
        outputs = [message, photo, result, pasted, behind, variant, variants, steps]
        gr.on(
            [file.change, behind_file.change, system.change, variant.change],
            respond,
            inputs,
            outputs,
            show_progress="minimal",
            trigger_mode="always_last",
        )

        def take(event: SelectData) -> int:
            return int(event.index) + 1

        variants.select(take, None, variant, show_progress="hidden")
    return blocks


def serve(systems: Mapping[str, Callable[[], Hallucinator]], port: int = PORT) -> None:
    """Serves the page to this machine until Ctrl+C.

    Args:
        systems: as :func:`page`.
        port: of its address.

    Raises:
        FacehalError: Gradio is not installed, the first system cannot be loaded, or the port is
            taken.
    """
    blocks = page(systems)
    try:
        _, address, _ = blocks.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            max_file_size="100mb",
            footer_links=[],
            css=_CSS,
            ssr_mode=False,
        )
    except OSError as error:
        raise FacehalError(f"port {port} cannot be used ({error}); name another one") from error
    print(f"{address} shows the page; Ctrl+C ends it", flush=True)
    blocks.block_thread()
