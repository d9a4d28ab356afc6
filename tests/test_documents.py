"""Every code block of the README and of the documentation's pages.

Python is run, page by page, beside the files that it names. Of the shell's lines the verbs, options
and targets are looked up, and the short ones, which need no training, are run as they stand.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from facehal.cli import app
from facehal.images import write_png
from facehal.models.recognition import Recogniser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    found = [
        (page.name, text)
        for page in PAGES
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if kind == language
    ]
    assert found
    return found


def test_languages_are_those_that_are_tested_here():
    kinds = {kind for page in PAGES for kind, _ in BLOCK.findall(page.read_text(encoding="utf-8"))}
    assert kinds <= {"python", "sh"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, astronaut):
    """What a reader has at hand."""
    folder = tmp_path_factory.mktemp("reader")
    write_png(folder / "photo.jpg", astronaut)
    write_png(folder / "beach.jpg", astronaut[:100])
    recogniser = folder / "runs/table2/one_0/model.keras"
    recogniser.parent.mkdir(parents=True)
    Recogniser(kind="slim", side=64, width=4, subjects=["one", "another"]).save(recogniser)
    return folder


@pytest.mark.parametrize("page", sorted({name for name, _ in blocks("python")}))
def test_python(page, place, monkeypatch):
    if page == "export.md":
        pytest.importorskip("onnx", reason="needs onnx (extra: export)")
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    for number, (_, text) in enumerate(b for b in blocks("python") if b[0] == page):
        exec(compile(text, f"{page}, Python block {number}", "exec"), names)


def test_the_notebook(monkeypatch):
    """Its cells one after the other, as Jupyter runs them; nothing is left of an earlier run."""
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib (extra: portraits)")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    matplotlib.use("Agg")
    cells = json.loads((ROOT / "docs/first_steps.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
            assert cell["execution_count"] and "error" not in str(cell["outputs"])
    history = names["history"]
    assert history["16/pixel"].iloc[-1] < 0.7 * history["16/pixel"].iloc[0]


def commands() -> list[tuple[str, list[str]]]:
    """The words of every line that begins with one of our programs, without comments."""
    found = []
    for page, text in blocks("sh"):
        for line in text.replace("\\\n", " ").splitlines():
            plain = re.sub(r"\s#.*", "", line)
            for part in re.split(r"&&|;", plain):
                words = shlex.split(re.sub(r"[\[\]…]|\.\.\.", " ", part))
                if words and words[0] in ("facehal", "make", "pip", "docker"):
                    found.append((page, words))
    return found


def test_shell_lines_name_verbs_options_and_targets_that_are_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page, words in commands():
        if words[0] == "make":
            targets = [word for word in words[1:] if re.fullmatch(r"[a-z][a-z0-9-]*", word)]
            assert targets, (page, words)
            for target in targets:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), (page, target)
        if words[0] == "facehal":
            # `weights list | get NAME` stands for several commands.
            for verb in words[1].split("|"):
                check(page, [verb, *words[2:]])


def check(page: str, words: list[str]) -> None:
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, (page, words)
        command, words = command.commands[words[0]], words[1:]
    options = {name for parameter in command.params for name in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in options | {"--help"}, (page, command.name, word)


FIGURE = re.compile(r"^\**(-?[\d.]+)(?: \[(-?[\d.]+), (-?[\d.]+)\])?\**$")


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every table, row by row, without head and rule."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    split = [[row.strip("| \n").split("|") for row in table.splitlines()] for table in found]
    return [[[cell.strip() for cell in row] for row in table[2:]] for table in split]


def bold_figures() -> list[tuple[str, str, list[str]]]:
    """Page, figure in bold, and the other figures of its column."""
    cards = (ROOT / "facehal/pretrained/MODEL_CARD.md", *(ROOT / "experiments").rglob("*.md"))
    found = []
    for page in (*PAGES, ROOT / "benchmarks/README.md", *cards):
        for table in tables(page.read_text(encoding="utf-8")):
            for column in zip(*(row for row in table if len(row) == len(table[0])), strict=True):
                for place, cell in enumerate(column):
                    if cell.startswith("**") and FIGURE.match(cell):
                        found.append((page.name, cell, [*column[:place], *column[place + 1 :]]))
    return found


def test_a_figure_is_bold_only_where_its_interval_lies_apart_from_all_others():
    bold = bold_figures()
    assert bold
    for page, cell, others in bold:
        _, low, high = FIGURE.match(cell).groups()
        assert low and high, f"{page}: {cell} is bold without an interval"
        for other in others:
            if (found := FIGURE.match(other)) and found[2]:
                apart = float(found[3]) < float(low) or float(high) < float(found[2])
                assert apart, f"{page}: {cell} is bold beside {other}"
    with_interval = [other for _, _, others in bold for other in others if "[" in other]
    assert len(with_interval) >= len(bold)


def test_the_readme_prints_the_figures_that_were_measured():
    """Every figure with an interval stands in a file of the results."""
    measured = "".join(p.read_text("utf-8") for p in (ROOT / "experiments/results").glob("*.md"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = re.findall(r"[\d.]+ \[[\d.]+, [\d.]+\]", readme)
    assert len(printed) >= 16
    assert [figure for figure in printed if figure not in measured] == []


RUN = ("facehal hallucinate photo.jpg", "facehal doctor", "facehal weights list")


def test_short_lines_run(place):
    short = [words for _, words in commands() if " ".join(words).startswith(RUN)]
    short = [words for words in short if not any(word.isupper() for word in words)]
    assert short
    for words in short:
        done = subprocess.run(
            [sys.executable, "-m", "facehal", *words[1:]],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
    assert list((place / "out").rglob("*.png"))
