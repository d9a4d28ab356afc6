"""Verbs of ``facehal weights``, and ``facehal doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from facehal.cli.app import app, import_keras, weights_app
from facehal.errors import FacehalError

app.add_typer(weights_app, name="weights")


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
def doctor(
    backend: Annotated[
        bool,
        typer.Option(
            "--backend", help="Also start Keras's backend and look for a GPU, which takes seconds."
        ),
    ] = False,
) -> None:
    """Versions, backend, dlib and its model files, weights: here or missing."""
    from facehal.doctor import report

    lines, healthy = report(import_keras if backend else None)
    print("\n".join(lines))
    if not healthy:
        raise FacehalError("something that is needed is missing or cannot be used (marked ✗ above)")
