"""The demo page: a person drops a photo and sees mask, resolutions, result and the photo again.

Everything happens on the own machine: the page is served to it alone, its fonts and scripts come
with Gradio, and Gradio's reports to its makers are off. Photos that were dropped are deleted within
two hours, or when the page is closed down. Gradio (extra: ``web``) is imported when the page is
made, not before: what the page says and shows is here without it.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facehal.errors import FacehalError, ImageError
from facehal.faces.paste import paste
from facehal.images import decode_image, resize, to_uint8
from facehal.inference.hallucinator import Hallucinator

HOST = "127.0.0.1"
PORT = 7860
SHOWN = 256  # pixels a side of the small pictures on the page
PREVIEW = 1024  # pixels of a photo's longer side on the page
_HOUR = 3600
_CSS = "#result img, #photo img, #pasted img { width: 100%; height: 100%; object-fit: contain; }"

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
        result: (128, 128, 3) uint8; None where no face was found.
        pasted: (H, W, 3) uint8, the photo with its hallucinated surroundings; None likewise.
    """

    message: str
    photo: np.ndarray | None = None
    steps: list[tuple[np.ndarray, str]] = field(default_factory=list)
    result: np.ndarray | None = None
    pasted: np.ndarray | None = None


def answer(hallucinator: Hallucinator, photo: str | os.PathLike[str] | None) -> Answer:
    """What the page says and shows for a dropped file; never raises for what a photo can be."""
    if photo is None:
        return Answer("Drop a photo to begin.")
    preview = None
    try:
        image = _dropped(Path(photo))
        preview = _fitting(image)
        found = hallucinator.prepare(image)
    except FacehalError as error:
        text = str(error)
        return Answer(f"{text[0].upper()}{text[1:]}.", preview)
    outputs = hallucinator.from_masks(found.masked[None], found.mask[None], all_resolutions=True)
    assert isinstance(outputs, dict)
    steps = [(_enlarged(found.face), "aligned"), (_enlarged(found.masked), "face mask")]
    steps += [(_enlarged(pictures[0]), f"{size}×{size}") for size, pictures in outputs.items()]
    result = to_uint8(outputs[hallucinator.side][0])
    pasted = paste(image, result, found.points, found.matrix)
    message = "One face found."
    if found.faces_found > 1:
        message = f"{found.faces_found} faces found: the largest one was taken."
    return Answer(message, preview, steps, result, pasted)


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


def page(hallucinator: Hallucinator) -> Any:
    """The page as a ``gradio.Blocks``.

    Raises:
        FacehalError: Gradio is not installed.
    """
    gr = gradio()

    def respond(file: str | None) -> tuple[Any, ...]:
        given = answer(hallucinator, file)
        return f"### {given.message}", given.photo, given.result, given.pasted, given.steps

    # No button shares a picture: those of Gradio upload it.
    plain = {"interactive": False, "format": "png", "buttons": ["download", "fullscreen"]}
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as blocks:
        gr.Markdown(f"# {_TITLE}\n\n{_INTRO}")
        with gr.Row():
            # A file and not a gr.Image, which opens it first and fails with an error of its own.
            file = gr.File(label="photo", type="filepath", height=140, elem_id="file")
            message = gr.Markdown(respond(None)[0], elem_id="message")
        with gr.Row():
            photo = gr.Image(label="photo", height=360, elem_id="photo", **plain)
            result = gr.Image(
                label="hallucinated, aligned by the eyes", height=360, elem_id="result", **plain
            )
            pasted = gr.Image(
                label="pasted back into the photo", height=360, elem_id="pasted", **plain
            )
        gr.Markdown("What the model sees, and the output of every block:")
        steps = gr.Gallery(
            show_label=False,
            columns=2 + len(hallucinator.resolutions),
            height=220,
            object_fit="contain",
            elem_id="steps",
            **plain,
        )
        outputs = [message, photo, result, pasted, steps]
        file.change(respond, file, outputs, show_progress="minimal")
    return blocks


def serve(hallucinator: Hallucinator, port: int = PORT) -> None:
    """Serves the page to this machine until Ctrl+C.

    Raises:
        FacehalError: Gradio is not installed, or the port is taken.
    """
    blocks = page(hallucinator)
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
