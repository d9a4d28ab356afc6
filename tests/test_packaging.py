"""What a pip user gets: the files of the wheel and the sdist, and what they ask for."""

import ast
import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest

import facehal
from facehal import optional
from facehal.errors import FacehalError
from facehal.inference.hallucinator import load

ROOT = Path(__file__).resolve().parents[1]
LOWEST = runpy.run_path(str(ROOT / "tools" / "lowest.py"))


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files of the repository that are here, by path."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("compares with git's list of files; this is no checkout")
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return sorted(name for name in names.split("\0") if name and (ROOT / name).is_file())


@pytest.fixture(scope="module")
def built(tracked, tmp_path_factory) -> tuple[set[str], set[str]]:
    """The files in an sdist, and in the wheel that is built from it."""
    for package in ("build", "setuptools"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package} (extra: test)")
    # A copy: building leaves folders behind, and files that git does not know stay out.
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    assert f"facehal-{facehal.__version__}" in sdist.name
    assert f"facehal-{facehal.__version__}-py3-none-any" in wheel.name
    with tarfile.open(sdist) as archive:
        files = {one.name.partition("/")[2] for one in archive if one.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        return files, set(archive.namelist())


def test_the_sdist_is_the_repository(tracked, built):
    made = {"PKG-INFO"} | {name for name in built[0] if name.startswith("facehal.egg-info/")}
    assert sorted(built[0] - made) == tracked


def test_the_wheel_is_the_package_and_its_experiments(tracked, built):
    package = {name for name in tracked if name.startswith("facehal/")}
    yaml = [name for name in tracked if re.match(r"experiments/\w+\.yaml", name)]
    experiments = {f"facehal/{name}" for name in yaml}
    assert experiments >= {"facehal/experiments/compact.yaml", "facehal/experiments/progan.yaml"}
    assert package >= {
        "facehal/py.typed",
        "facehal/pretrained/compact.keras",
        "facehal/pretrained/compact.onnx",
        "facehal/pretrained/MODEL_CARD.md",
    }
    assert {name for name in built[1] if ".dist-info/" not in name} == package | experiments


def test_the_version_stands_in_one_place():
    """setup.cfg reads it from the source; it must be a plain text for that."""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    assert parser["metadata"]["version"] == "attr: facehal.__version__"
    tree = ast.parse(Path(facehal.__file__).read_text(encoding="utf-8"))
    values = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"
    ]
    assert values == [facehal.__version__]


def test_nothing_but_an_extra_brings_a_backend():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    required = parser["options"]["install_requires"]
    assert not re.search("tensorflow|tensorboard|jax|torch|onnx", required)
    assert "h5py" in required and "keras" in required
    assert "facehal[tensorflow]" in parser["options.extras_require"]["test"]
    # What the messages say must be there.
    named = set(re.findall(r"facehal\[(\w+)\]", optional.BACKEND))
    assert named == {"tensorflow", "jax"}
    assert named | set(optional._EXTRAS.values()) <= set(parser["options.extras_require"])


def test_without_a_backend_one_line_names_the_extras(monkeypatch):
    whole = optional.importlib.import_module

    def missing(name, *rest):
        if name in ("keras", "onnxruntime"):
            raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
        return whole(name, *rest)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(FacehalError) as caught:
        load(engine="keras")
    assert "No module named 'tensorflow'" in str(caught.value)
    assert "pip install 'facehal[tensorflow]'" in str(caught.value)
    with pytest.raises(FacehalError, match=r"pip install 'facehal\[onnx\]'"):
        load(engine="onnxruntime")


def write(folder: Path, requires: str, extras: str) -> Path:
    path = folder / "setup.cfg"
    path.write_text(
        f"[metadata]\nname = mine\n[options]\ninstall_requires =\n{requires}\n"
        f"[options.extras_require]\n{extras}\n"
    )
    return path


def test_lowest_pins_every_lower_bound(tmp_path):
    path = write(
        tmp_path,
        "    keras>=3.10\n    a.b-c >= 1.2, <2\n    d==3",
        "# why\ntest =\n    mine[more, web]\n    keras>=3.10\n"
        '    e[x]>=4; python_version < "3.12"\n'
        "more =\n    f>=5.0.1\nweb =\n    g<9,>=8",
    )
    assert LOWEST["pins"](path, []) == ["keras==3.10", "a.b-c==1.2", "d==3"]
    assert LOWEST["pins"](path, ["test"])[3:] == [
        "f==5.0.1",
        "g==8",
        'e[x]==4; python_version < "3.12"',
    ]


@pytest.mark.parametrize(
    ("requires", "extra", "said"),
    [
        ("    keras", "web", "'keras' has no lower bound"),
        ("    keras<4", "web", "'keras<4' has no lower bound"),
        ("    keras @ file", "web", "'keras @ file' has no lower bound"),
        ("    keras>=3", "webb", "no extra 'webb'"),
    ],
)
def test_lowest_says_what_it_cannot_pin(tmp_path, requires, extra, said):
    with pytest.raises(ValueError, match=said):
        LOWEST["pins"](write(tmp_path, requires, "web =\n    g>=8"), [extra])


def test_every_requirement_of_ours_has_a_lower_bound():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    pins = LOWEST["pins"](ROOT / "setup.cfg", list(parser["options.extras_require"]))
    assert any(pin.startswith("tensorflow==") for pin in pins)


def test_installed_as_it_stands():
    """An install older than setup.cfg would test other requirements than those written there."""
    try:
        installed = metadata.version("facehal")
    except metadata.PackageNotFoundError:
        pytest.skip("facehal is not installed")
    assert installed == facehal.__version__
