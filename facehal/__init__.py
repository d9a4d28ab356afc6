"""facehal: context and background pixels from a face mask, by a cascade of GANs (WACV 2020).

``facehal.load()`` gives the shipped model: :class:`facehal.inference.hallucinator.Hallucinator`.
Importing the package is quick: Keras is imported when something needs it. Whenever Keras is
imported after (or was before) facehal, our classes are registered with it, so that
``keras.models.load_model`` reads our files.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facehal.inference.hallucinator import Hallucinator, load

__all__ = ["Hallucinator", "load"]
__version__ = "0.1.0"
_MODELS = ("facehal.models.cascade.cascade", "facehal.models.cascade.progan")


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("facehal.inference.hallucinator"), name)
    raise AttributeError(f"module 'facehal' has no attribute {name!r}")


def _is_being_imported(item: tuple[str, Any]) -> bool:
    """Whether an entry of ``sys.modules`` is one of our modules that is not ready yet."""
    name, module = item
    spec = getattr(module, "__spec__", None)
    return name.startswith("facehal.") and getattr(spec, "_initializing", False)


class _RegisterAfterKeras(importlib.abc.MetaPathFinder):
    """Imports our Keras classes, which registers them, as soon as Keras has been imported.

    Where the import comes from inside one of our own modules nothing is done: importing more from
    a half-imported package would go in a circle. ``facehal.load`` brings the classes in any case.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if not any(map(_is_being_imported, list(sys.modules.items()))):
                for name in _MODELS:
                    importlib.import_module(name)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if "keras" in sys.modules:
    for _name in _MODELS:
        importlib.import_module(_name)
else:
    sys.meta_path.insert(0, _RegisterAfterKeras())
