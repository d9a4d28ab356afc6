"""Prints a version's part of CHANGELOG.md: the notes of its release."""

import argparse
import sys
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def release_notes(changelog: str, version: str) -> str:
    """What stands under the heading of a version.

    Raises:
        LookupError: no heading names it.
    """
    for part in changelog.split("\n## ")[1:]:
        head, _, text = part.partition("\n")
        if head.split()[0] == version:
            return text.strip() + "\n"
    raise LookupError(f"CHANGELOG.md has no heading for {version}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="as 0.1.0")
    try:
        notes = release_notes(CHANGELOG.read_text(encoding="utf-8"), parser.parse_args().version)
    except LookupError as error:
        sys.exit(str(error))
    print(notes, end="")
