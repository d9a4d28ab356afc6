"""Prints the requirements of setup.cfg, each pinned to its lower bound, a line each.

``python tools/lowest.py [EXTRA...]``: those of the package and of the named extras.
"""

import configparser
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SETUP = Path(__file__).resolve().parents[1] / "setup.cfg"
REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)(?:\[(?P<extras>[\w, -]+)\])?\s*"
    r"(?P<bounds>[^;]*?)\s*(?:;\s*(?P<marker>.+))?"
)
LOWER = re.compile(r"\s*(?:>=|==)\s*(?P<version>[\w.+!]+)\s*")


def pins(path: Path, extras: list[str]) -> list[str]:
    """``name==version`` for every requirement, in order, none twice.

    Raises:
        ValueError: a requirement without a lower bound, or no such extra.
    """
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, encoding="utf-8")
    own = parser["metadata"]["name"]
    groups = parser["options.extras_require"]

    def pinned(text: str) -> Iterator[str]:
        for line in filter(None, map(str.strip, text.splitlines())):
            found = REQUIREMENT.fullmatch(line)
            if found is None:
                raise ValueError(f"{path}: cannot read {line!r}")
            name, more = found["name"], found["extras"]
            if name == own:  # facehal[portraits]
                for extra in (more or "").split(","):
                    yield from pinned(group(extra.strip()))
                continue
            bounds = [LOWER.fullmatch(bound) for bound in found["bounds"].split(",")]
            versions = [bound["version"] for bound in bounds if bound]
            if not versions:
                raise ValueError(f"{path}: {line!r} has no lower bound")
            marker = f"; {found['marker']}" if found["marker"] else ""
            yield f"{name}{f'[{more}]' if more else ''}=={versions[0]}{marker}"

    def group(extra: str) -> str:
        if extra not in groups:
            raise ValueError(f"{path}: no extra {extra!r}")
        return groups[extra]

    lines = [*pinned(parser["options"]["install_requires"])]
    for extra in extras:
        lines += pinned(group(extra))
    return list(dict.fromkeys(lines))


if __name__ == "__main__":
    try:
        print("\n".join(pins(SETUP, sys.argv[1:])))
    except ValueError as error:
        sys.exit(str(error))
