"""Fixtures of the frozen networks."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def submodule() -> Iterator[Callable[[str, str], ModuleType]]:
    """Import one module of a package without what the package itself would import.

    torch-fidelity and piq import torchvision, for networks that nothing here uses; their modules
    that we compare with do not. So an empty package with the real one's folder takes its place.
    """
    with pytest.MonkeyPatch.context() as patch:

        def load(package: str, module: str) -> ModuleType:
            pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
            spec = importlib.util.find_spec(package)
            if spec is None:
                pytest.skip(f"needs the pip package {package} (extra: reference)")
            hollow = types.ModuleType(package)
            hollow.__path__ = list(spec.submodule_search_locations or [])
            for name in [n for n in sys.modules if n.split(".")[0] == package]:
                patch.delitem(sys.modules, name)
            patch.setitem(sys.modules, package, hollow)
            return importlib.import_module(f"{package}.{module}")

        yield load
        # What was imported into the empty packages goes with them.
        for name, module in list(sys.modules.items()):
            root = sys.modules.get(name.split(".")[0])
            if "." in name and root is not None and not root.__spec__ and module is not root:
                patch.delitem(sys.modules, name)
