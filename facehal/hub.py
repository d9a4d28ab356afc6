"""Models that others share: a folder with a model, its hashes and its card, on disk or on a hub.

A published folder holds ``model.keras``, ``facehal.json`` (what the file is, its SHA-256) and
``README.md``, the model card with the front matter that hubs read. Nothing else is ever fetched,
and what was fetched is read as arrays and as classes of this package alone: no code comes with it.
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from facehal.errors import FacehalError
from facehal.files import replacing, sha256, write_text

SCHEME = "hf://"
MODEL, ABOUT, CARD = "model.keras", "facehal.json", "README.md"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def is_address(model: str | os.PathLike[str]) -> bool:
    """Whether a model's name is one on a hub: ``hf://user/name`` or ``hf://user/name@revision``."""
    return str(model).startswith(SCHEME)


def fetch(address: str) -> Path:
    """The model of an address, from the hub or from its cache on this machine.

    Args:
        address: ``hf://user/name``, or with ``@revision`` a branch, a tag or a commit.

    Raises:
        FacehalError: not such an address, huggingface_hub is not installed, there is no such
            model, it is not one of this package, or what arrived is damaged.
    """
    repository, revision = _parsed(address)
    hub = _hub()
    try:
        folder = hub.snapshot_download(repository, revision=revision, allow_patterns=[MODEL, ABOUT])
    except Exception as error:  # of the network, of the hub, of its cache: many types
        raise FacehalError(
            f"{address}: cannot be fetched ({str(error).splitlines()[0]}); check the name and the "
            "network, and log in with `hf auth login` where it is private"
        ) from error
    return published_model(folder)


def published_model(folder: str | os.PathLike[str]) -> Path:
    """The model in a folder that :func:`publish` wrote, its hash checked.

    Raises:
        FacehalError: the folder is not one of those, or the model is not the one that was
            published.
    """
    folder = Path(folder)
    path = folder / MODEL
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        expected = about["sha256"][MODEL]
        found = sha256(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FacehalError(
            f"{folder}: not a published model ({error}); `facehal publish` writes one"
        ) from None
    if found != expected:
        raise FacehalError(f"{path}: not the file that was published (its SHA-256 differs)")
    return path


def publish(
    model: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    licence: str,
    title: str | None = None,
    about: dict[str, Any] | None = None,
    text: str = "",
    private: bool = False,
) -> str:
    """Shares a model: writes its folder, or sends it to a hub.

    Args:
        model: a ``.keras`` file.
        to: a new or empty folder, one that was published before, or ``hf://user/name``.
        licence: as hubs write it: ``apache-2.0``, ``cc-by-nc-4.0``, ``other`` …
        title: of the card; by default the name of the folder or the repository.
        about: what else ``facehal.json`` says, as plain values.
        text: the body of the card, Markdown.
        private: of a new repository on a hub.

    Returns:
        Where it is now: the folder, or the address that :func:`fetch` takes.

    Raises:
        FacehalError: no such model, a folder with other things in it, a file cannot be written, or
            the hub refuses.
    """
    model, address = Path(model), is_address(to)
    if model.suffix.lower() != ".keras" or not model.is_file():
        raise FacehalError(f"{model}: not a .keras file; name one that a run wrote, or the run")
    if not address:
        path = Path(to)
        _write(model, path, title or path.name, licence, about or {}, text, path.name)
        return str(to)
    repository, revision = _parsed(str(to))
    hub = _hub()
    with tempfile.TemporaryDirectory() as folder:
        name = title or repository.split("/")[1]
        place = f"{SCHEME}{repository}"
        _write(model, Path(folder) / "model", name, licence, about or {}, text, place)
        try:
            api = hub.HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repository,
                folder_path=Path(folder) / "model",
                revision=revision,
                commit_message=f"facehal publish {model.name}",
            )
        except Exception as error:  # of the network and of the hub: many types
            raise FacehalError(
                f"{to}: the hub refuses ({str(error).splitlines()[0]}); log in with `hf auth login`"
            ) from error
    return f"{SCHEME}{repository}"


def _write(
    model: Path,
    folder: Path,
    title: str,
    licence: str,
    about: dict[str, Any],
    text: str,
    place: str,
) -> None:
    card = _card(title, licence, text, place)
    if folder.exists() and not (folder / ABOUT).exists() and any(folder.iterdir()):
        raise FacehalError(f"{folder}: holds other things; name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / MODEL) as part:
            shutil.copyfile(model, part)
        digest = sha256(folder / MODEL)
    except OSError as error:
        raise FacehalError(f"{folder}: cannot be written ({error.strerror or error})") from error
    content = {"sha256": {MODEL: digest}, **about}
    write_text(folder / ABOUT, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / CARD, card)


def _card(title: str, licence: str, text: str, place: str) -> str:
    if not re.fullmatch(r"[\w.+-]+", licence):
        raise FacehalError(
            f"licence {licence!r}: one word, as hubs write it: apache-2.0, cc-by-nc-4.0, other"
        )
    return f"""---
license: {licence}
library_name: facehal
pipeline_tag: image-to-image
tags:
- facehal
- keras
- face
- inpainting
- gan
---

# {title}

{text.strip()}

```python
import facehal

model = facehal.load("{place}")
picture = model.hallucinate("photo.jpg")
```

What it makes is invented. It says nothing about what a person's hair, clothes or surroundings
look like, and must not be passed off as a photograph of them or used to identify anyone.
"""


def _parsed(address: str) -> tuple[str, str | None]:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise FacehalError(f"{address}: write hf://user/name, or hf://user/name@revision")
    return match[1], match[2]


def _hub() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
    except ImportError as error:
        raise FacehalError(
            "models on a hub need the package huggingface_hub: pip install 'facehal[hub]'"
        ) from error
    return huggingface_hub
