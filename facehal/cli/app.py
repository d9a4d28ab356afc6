"""The app of the ``facehal`` command, and what all of its verbs share.

Start time counts: nothing here or in the verbs' files imports NumPy, OpenCV or Keras before a verb
needs it.
"""

import contextlib
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from facehal.errors import ConfigError, FacehalError, first_line
from facehal.optional import BACKEND

if TYPE_CHECKING:
    from facehal.jobs.on_ray import Ray

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


def import_keras(or_else: str = "") -> None:
    """Imports Keras and its backend, keeping back what TensorFlow prints at every start.

    Those lines are written below Python, before any log level applies. They are shown where the
    import fails.

    Args:
        or_else: what else a user may do, behind the message of an import that fails.

    Raises:
        FacehalError: Keras or its backend is missing, or Keras knows no such backend.
    """
    from facehal.quiet import kept_back

    failed = False
    with kept_back(lambda written: written if failed else b""):
        try:
            importlib.import_module("keras")
        except BaseException as error:
            failed = True
            if not isinstance(error, ImportError | ValueError):
                raise
            name = os.environ.get("KERAS_BACKEND")
            raise FacehalError(
                f"Keras cannot start with {f'backend {name}' if name else 'its default backend'} "
                f"({first_line(error)}); set KERAS_BACKEND to tensorflow or jax, and install that "
                f"package where it is missing: {BACKEND}{or_else}"
            ) from error


class WithRay(TyperCommand):
    """A verb that knows ``--ray [ADDRESS]``; Typer's options have a value always or never.

    An address is ``local``, ``auto`` or ``host:port``: what else follows ``--ray`` is not its own.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Click calls it."""
        complete: list[str] = []
        for word, after in zip(args, [*args[1:], ""], strict=True):
            complete.append(word)
            if word == "--ray" and not _RAY_ADDRESS.fullmatch(after):
                complete.append("local")
        return super().parse_args(ctx, complete)


_RAY_ADDRESS = re.compile(r"local|auto|[\w.-]+:\d+")

RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Work on a Ray cluster: HOST:PORT, auto, or by default one of this machine alone, "
        "started for it (extra: ray; docs/scale.md).",
    ),
]
RayGpusOption = Annotated[
    float | None,
    typer.Option(min=0.01, help="GPUs of each worker on Ray, also a part of one."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Processes; default: the cores, on Ray those of the cluster."),
]


@contextlib.contextmanager
def ray_cluster(
    address: str | None, workers: int | None, gpus: float | None = None
) -> Iterator["Ray | None"]:
    """The cluster of ``--ray``; None without it.

    Raises:
        ConfigError: ``--ray-gpus`` without it.
    """
    from facehal.jobs.on_ray import Ray

    if address is None:
        if gpus is not None:
            raise ConfigError("--ray-gpus is for --ray: name that, too")
        yield None
    else:
        with Ray(address, gpus=gpus or 0, workers=workers) as cluster:
            yield cluster


ModelOption = Annotated[
    str, typer.Option("--model", help="A shipped model, a .keras or .onnx file, or hf://USER/NAME.")
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="keras, or onnxruntime (starts in a second; extra: onnx); default: that one where "
        "it is installed and the model is exported, as the shipped one is.",
    ),
]

METRICS_HELP = (
    "Comma-separated: match, ssim, fid, pieapp, lpips, match_dlib, frechet_dlib, l1. Default: all; "
    "those whose weights are missing then say so in the table."
)


def names(metrics: str | None) -> list[str] | None:
    """The names of a comma-separated option."""
    return None if metrics is None else [name.strip() for name in metrics.split(",")]
