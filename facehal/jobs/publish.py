"""A run's model, shared with what its folder knows of it."""

import json
import os
from pathlib import Path
from typing import Any

from facehal import hub
from facehal.errors import DataError, FacehalError
from facehal.training.history import read_history

KNOWN = ("facehal", "keras", "backend", "data_sha256", "faces", "git")
"""Of ``environment.json``: what says how a model came to be and names no one's folders."""


def publish(
    run: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    licence: str,
    title: str | None = None,
    private: bool = False,
) -> str:
    """Publishes the model of a run, its card written from the run folder.

    Args:
        run: a run folder, or a ``.keras`` file, of which the card can say nothing.
        to: a folder, or ``hf://user/name`` (:func:`facehal.hub.publish`).
        licence: of the weights, as hubs write it; what they learnt from may bind it.
        title: of the card.
        private: of a new repository on a hub.

    Returns:
        What :func:`facehal.load` takes.

    Raises:
        DataError: the folder is no run, or what it says of itself cannot be read.
        FacehalError: as :func:`facehal.hub.publish`.
    """
    run = Path(run)
    if not run.is_dir():
        return hub.publish(run, to, licence=licence, title=title, private=private)
    if not (run / hub.MODEL).is_file():
        raise DataError(f"{run}: no {hub.MODEL}; name a run folder, or a .keras file")
    try:
        page = json.loads((run / "page.json").read_text(encoding="utf-8"))
        environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        rows = read_history(run) if (run / "history.csv").exists() else []
    except (OSError, ValueError) as error:
        raise DataError(f"{run}: not a whole run folder ({error})") from None
    except FacehalError as error:
        raise DataError(str(error)) from None
    known = {name: environment[name] for name in KNOWN if name in environment}
    text = _text(page, known, rows)
    title = title or page["title"]
    return hub.publish(
        run / hub.MODEL, to, licence=licence, title=title, about=known, text=text, private=private
    )


def _text(page: dict[str, Any], known: dict[str, Any], rows: list[Any]) -> str:
    parts = ["## How it was trained", ""]
    faces = f"{known['faces']:,} faces" if "faces" in known else "faces"
    steps = f", {int(rows[-1]['step']):,} steps" if rows else ""
    parts[-1] = f"On {faces} (SHA-256 of the data {known.get('data_sha256', 'unknown')}){steps}."
    differs = [f"| `{name}` | {ours} | {default} |" for name, ours, default in page["differs"]]
    if differs:
        head = ["| setting | here | default |", "| --- | --- | --- |"]
        parts += ["## What differs from the defaults", "\n".join([*head, *differs])]
    held_out = {n: v for n, v in rows[-1].items() if "/validation_" in n} if rows else {}
    if held_out:
        head = ["| measure | value |", "| --- | --- |"]
        lines = [f"| {name} | {value:.4f} |" for name, value in held_out.items()]
        parts += ["## On held-out faces, after the last epoch", "\n".join([*head, *lines])]
    return "\n\n".join(parts)
