"""facehal: context and background pixels from a face mask, by a cascade of GANs (WACV 2020).

``facehal.load()`` gives the shipped model: :class:`facehal.inference.hallucinator.Hallucinator`.
Importing the package is quick: Keras is imported when something needs it. To read our files with
``keras.models.load_model``, import :mod:`facehal.models` before, which registers our classes.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facehal.inference.hallucinator import Hallucinator, load

__all__ = ["Hallucinator", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("facehal.inference.hallucinator"), name)
    raise AttributeError(f"module 'facehal' has no attribute {name!r}")
