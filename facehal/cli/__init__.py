"""The ``facehal`` command: an app, and a file for each group of verbs."""

import os
import sys

from facehal.cli import data, evaluate, train, use, weights  # noqa: F401  they add their verbs
from facehal.cli.app import app
from facehal.errors import FacehalError

__all__ = ["main"]


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
