"""The app of the ``facehal`` command, and what all of its verbs share.

Start time counts: nothing here or in the verbs' files imports NumPy, OpenCV or Keras before a verb
needs it.
"""

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from facehal.errors import FacehalError, first_line
from facehal.optional import BACKEND

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
evaluate_app = typer.Typer(help="The paper's tables and metrics.", no_args_is_help=True)
weights_app = typer.Typer(
    help="Published weights that losses and metrics need.", no_args_is_help=True
)


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


def import_keras() -> None:
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
                f"({first_line(error)}); set KERAS_BACKEND to tensorflow or jax, and install that "
                f"package where it is missing: {BACKEND}"
            ) from error
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


ModelOption = Annotated[
    str, typer.Option("--model", help="A shipped model, a .keras or .onnx file, or hf://USER/NAME.")
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine", help="keras or onnxruntime (starts in a second; extra: onnx); default: by file."
    ),
]

METRICS_HELP = (
    "Comma-separated: match, ssim, fid, pieapp, lpips, match_dlib, frechet_dlib, l1. Default: all; "
    "those whose weights are missing then say so in the table."
)


def names(metrics: str | None) -> list[str] | None:
    """The names of a comma-separated option."""
    return None if metrics is None else [name.strip() for name in metrics.split(",")]
