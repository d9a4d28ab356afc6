"""The plan of the house: who may import whom. Read from the source, function-level imports too."""

import ast
from pathlib import Path

import pytest

from facehal.models.base import FOLDERS

PACKAGE = Path(__file__).resolve().parents[1] / "facehal"

# From the ground up; a room imports from its own floor and from those below.
FLOORS = (
    (
        *("errors", "files", "quiet", "images", "videos", "config", "backend", "optional"),
        *("processes", "hub", "shipped", "variants", "places"),
    ),
    ("weights",),
    ("faces", "layers"),
    ("features",),
    ("losses", "metrics", "data"),
    ("models",),
    ("training",),
    ("inference",),
    ("jobs",),
    ("evaluation",),
    ("web", "doctor", "cli"),
)
# A family knows these and nothing else of the package.
FAMILY_MAY = ("config", "errors", "optional", "backend", "weights", "layers", "losses", "features")
FAMILY_MAY_MODELS = ("facehal.models.base", "facehal.models.task")


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, by their longest name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports by the full name, not relative to itself"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in FILES else str(node.module))
    return {name for name in found if name.split(".")[0] == "facehal"}


IMPORTS = {module: _imported(path) for module, path in FILES.items()}


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if _room(module) in rooms)


def test_every_room_has_its_floor():
    """A new room is given one here, and one that is gone loses it."""
    there = {_room(module) for module in FILES} - {"", "__main__"}
    planned = {room for rooms in FLOORS for room in rooms}
    assert there == planned


@pytest.mark.parametrize("module", [m for m in FILES if _room(m) not in ("", "__main__")])
def test_imports_run_downwards(module):
    upwards = {n for n in IMPORTS[module] if n != "facehal" and _floor(n) > _floor(module)}
    assert not upwards, f"{module} imports from floors above it: {sorted(upwards)}"


def test_no_two_files_import_each_other():
    """Nor do more of them go in a circle. The front door is left out: it only names."""
    done: set[str] = {"facehal"}

    def visit(module: str, way: tuple[str, ...]) -> None:
        if module in done:
            return
        assert module not in way, " → ".join([*way[way.index(module) :], module])
        for other in sorted(IMPORTS.get(module, set()) - {module}):
            visit(other, (*way, module))
        done.add(module)

    for module in FILES:
        visit(module, ())


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_family_knows_no_other(folder):
    home = f"facehal.models.{folder}"
    for module in (m for m in FILES if m == home or m.startswith(f"{home}.")):
        for name in IMPORTS[module]:
            allowed = name.startswith(home) or name in FAMILY_MAY_MODELS
            assert allowed or _room(name) in FAMILY_MAY, f"{module} imports {name}"


def test_training_knows_no_family_by_name():
    """Neither as an import nor as a word in its code."""
    from facehal.models.base import families

    words = {*families(), *FOLDERS}
    for module in (m for m in FILES if _room(m) == "training"):
        assert not any(
            n.startswith(f"facehal.models.{f}") for n in IMPORTS[module] for f in FOLDERS
        )
        tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        assert not words & {text for text in texts if isinstance(text, str)}, module


def test_no_two_classes_are_saved_under_one_name():
    """Keras would take the one that was imported last."""
    names: dict[str, str] = {}
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", []):
                call = mark.func if isinstance(mark, ast.Call) else mark
                if ast.unparse(call).endswith("register_keras_serializable"):
                    name = f"{ast.literal_eval(mark.args[0])}>{node.name}"
                    assert name not in names, f"{name}: {names[name]} and {module}"
                    names[name] = module
    assert len(names) > 20


def test_public_interfaces_only():
    """Nothing is taken from inside Keras, TensorFlow or JAX."""
    inside = ("keras.src", "tensorflow.python", "jax._src")
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names.append(str(getattr(node, "module", "")))
            assert not any(name.startswith(inside) for name in names), module


def test_no_file_of_a_thousand_lines_and_no_folder_of_one_line_files():
    for module, path in FILES.items():
        assert len(path.read_text(encoding="utf-8").splitlines()) < 600, module
    for folder in {path.parent for path in FILES.values()}:
        lines = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in folder.glob("*.py"))
        assert lines > 50 or any(p.is_dir() for p in folder.iterdir()), folder
