"""Published weight files: where they lie, how to get them, and how they become plain arrays."""

from facehal.weights.store import Status, folder, get, import_file, load, path, status
from facehal.weights.table import ENTRIES, Entry

__all__ = [
    "ENTRIES",
    "Entry",
    "Status",
    "folder",
    "get",
    "import_file",
    "load",
    "path",
    "status",
]
