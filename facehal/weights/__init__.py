"""Published weight files: where they lie, how to get them, and how they become plain arrays."""

from facehal.weights.store import (
    ENTRIES,
    Entry,
    Status,
    folder,
    get,
    import_file,
    load,
    path,
    status,
)

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
