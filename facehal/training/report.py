"""The page of a run: what was trained, on what, how the losses went and what came out.

Nothing here needs Keras: the page is made from the files of the run folder alone, while the run
goes on, after it, or on another machine.
"""

import base64
import html
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facehal.config import TrainingConfig
from facehal.errors import TrainingError
from facehal.files import write_text
from facehal.training import curves, history, previews
from facehal.training.curves import Line, chart
from facehal.training.history import Row

FILES = (
    ("model.keras", "the newest model: facehal.load, facehal hallucinate --model, Keras itself"),
    ("stages/", "the model of every finished stage, where there are several"),
    ("config.yaml", "the whole configuration; train --config takes it"),
    ("environment.json", "command, data, versions, device, git state; earlier starts of the run"),
    ("page.json", "what this page says of the kind of model: titles, charts, what differs"),
    ("history.csv", "a row per epoch: seconds and the mean of every loss, unweighted"),
    ("previews/", "the same faces after every epoch: mask, every resolution, original"),
    ("epochs.png", "the same faces after evenly spaced epochs, beside mask and original"),
    ("checkpoints/", "the newest two; train --resume goes on from the last"),
    ("tensorboard/", "the rows of history.csv for tensorboard --logdir"),
)
SHOWN = 600  # pixels; narrower pictures are enlarged by a whole factor up to this
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f24; --soft: #5c636e; --rule: #d9dce1;
  --alarm: #b3261e; --panel: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171b; --ink: #e6e8eb; --soft: #9aa2ad;
  --rule: #343941; --alarm: #ff8a80; --panel: #1e2126; } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1.2rem; background: var(--paper);
  color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; border-top: 1px solid var(--rule);
  padding-top: .6rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); font-size: .9rem; }
.alarm { border-left: 4px solid var(--alarm); background: var(--panel); padding: .6rem .9rem;
  margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
td, th { text-align: left; padding: .15rem 1.2rem .15rem 0; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } td { overflow-wrap: anywhere; }
code, pre { font: .85rem/1.4 ui-monospace, monospace; }
pre { background: var(--panel); padding: .8rem; overflow-x: auto; }
img { max-width: 100%; border: 1px solid var(--rule); image-rendering: pixelated; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr));
  gap: 1rem 1.6rem; }
"""


@dataclass(frozen=True)
class Report:
    """What :func:`write_report` made.

    Attributes:
        page: path of ``report.html``.
        epochs: those that stand in ``epochs.png``; empty where there is no such picture.
        warnings: one line each.
    """

    page: Path
    epochs: list[int]
    warnings: list[str]


def write_report(folder: str | Path) -> Report:
    """Writes ``report.html``, which needs no other file, and ``epochs.png`` into a run folder.

    Args:
        folder: of any run, under way, stopped or finished. ``epochs.png`` is made from the grids
            in ``previews/`` and left out while no epoch is finished.

    Raises:
        TrainingError: not a run folder, a file in it is damaged, or the page cannot be written.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise TrainingError(
            f"{folder}: not a run folder (no config.yaml in it); name the folder given to "
            "train --out"
        )
    about = read_page(folder)
    rows = history.read_history(folder)
    grids = folder / "previews"
    shown = previews.write_epoch_study(folder / "epochs.png", grids, rows, about["side"])
    warnings = [str(one) for one in history.collapses(rows, TrainingConfig(**about["collapse"]))]
    newest = previews.newest(grids, rows)
    name = html.escape(folder.resolve().name)
    parts = [
        f"<h1>{name}</h1><p>{_status(about, rows)}</p>",
        *(f'<p class="alarm"><b>Warning.</b> {html.escape(one)}</p>' for one in warnings),
        "<h2>Run</h2>",
        _table(_about(folder, rows)),
        "<h2>Newest preview</h2>",
        _picture(newest[1], f"after {newest[0]}; the same faces every time") if newest
        else _soft(_no_previews(about)),
        "<h2>Epochs</h2>",
        _picture(folder / "epochs.png", "the same faces, later and later in training") if shown
        else _soft("no epoch with a preview is finished yet" if newest else _no_previews(about)),
        "<h2>Losses</h2>",
        *_charts(about, rows),
        "<h2>Configuration</h2>",
        *_configuration(folder, about),
        "<h2>Files</h2>",
        _table([(file, what) for file, what in FILES if (folder / file).exists()], code=True),
    ]  # fmt: skip
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: facehal run</title><style>{STYLE}{curves.STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    path = folder / "report.html"
    write_text(path, page, error=TrainingError)
    return Report(path, shown, warnings)


def _soft(text: str) -> str:
    return f'<p class="soft">{html.escape(text)}</p>'


def _no_previews(about: dict[str, Any]) -> str:
    if about["preview_faces"] == 0:
        return "none: preview_faces is 0 in the configuration"
    return "none yet: the first is drawn with the first checkpoint"


def _picture(path: Path, caption: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror or error})") from None
    width = int.from_bytes(data[16:20], "big")  # as every PNG's header has it
    width *= max(1, SHOWN // max(width, 1))
    text = html.escape(caption)
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{text}" width="{width}" src="{source}"><p class="soft">{text}</p>'


def _table(rows: list[tuple[str, str]], *, code: bool = False) -> str:
    cells = ((f"<code>{html.escape(a)}</code>" if code else html.escape(a), b) for a, b in rows)
    lines = (f"<tr><th>{a}</th><td>{html.escape(b)}</td></tr>" for a, b in cells)
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _status(about: dict[str, Any], rows: list[Row]) -> str:
    """How far the run is, for the top of the page."""
    total = history.total_epochs(about["stages"], rows)
    done = int(rows[-1]["epoch"]) if rows else 0
    text = f"{about['title']}. "
    if done >= total:
        text += f"Finished: {done} of {total} epochs."
    else:
        text += f"{done} of {total} epochs."
        if rows and (stage := rows[-1].stage):
            text += f" Last stage trained: {f'{stage}×{stage}' if stage.isdigit() else stage}."
    return f'{html.escape(text)} <span class="soft">Page of {_now()}.</span>'


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z")


def duration(seconds: float) -> str:
    """Seconds in words: "2 h 5 min", "3 min 20 s", "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _about(folder: Path, rows: list[Row]) -> list[tuple[str, str]]:
    """Command, data, time and versions."""
    path = folder / "environment.json"
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        earlier = list(about.pop("earlier", []))
    except FileNotFoundError:
        about, earlier = {}, []
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise TrainingError(
            f"{path}: not one that training wrote ({error}); delete it to report without it"
        ) from None
    shown = []
    if rows:
        each = duration(rows[-1]["seconds"])
        total = duration(sum(row["seconds"] for row in rows))
        shown.append(("training time", f"{total} in {len(rows)} epochs; the last took {each}"))
    labels = {"data_sha256": "data (SHA-256)", "git": "facehal's git commit"}
    labels |= {"started": "started (UTC)", "step": "from step"}
    labels |= {"faces_of_each": "of each folder"}
    shown += [(labels.get(name, name), _words(value)) for name, value in about.items()]
    if earlier:
        starts = (f"{one.get('started', '?')} from step {one.get('step', '?')}" for one in earlier)
        shown.append(("started before", "; ".join(starts)))
    return shown


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _charts(about: dict[str, Any], rows: list[Row]) -> list[str]:
    """The figures of the family, and those of held-out faces, under the family's headings."""
    if not rows:
        return [_soft("the first epoch is not finished yet")]
    text = (
        f"Means over each epoch. {about['explanation']} "
        "Held-out faces (--validation), at the end of each epoch: terms without their weights, of "
        "the model that is saved."
    )
    parts = [_soft(text)]
    for heading, figures in about["charts"].items():
        drawn = [_chart(one, rows) for one in figures]
        size = heading.split("×")[0]
        if any(f"{size}/validation_pixel" in row for row in rows):
            drawn += _validation_charts(rows, size)
        if any(drawn):
            parts.append(f'<h3>{heading}</h3><div class="charts">{"".join(drawn)}</div>')
    return parts


def _points(rows: list[Row], name: str, factor: float = 1.0) -> list[tuple[float, float]]:
    return [(row["epoch"], row[name] * factor) for row in rows if name in row]


def _chart(one: dict[str, Any], rows: list[Row]) -> str:
    """One figure of the family; empty where no epoch has any of its columns."""
    lines = [
        Line(line["name"], points, line["colour"])
        for line in one["lines"]
        if (points := _points(rows, line["column"], line["factor"]))
    ]
    if not lines:
        return ""
    limits, bound = one["limits"], one["bound"]
    return chart(
        one["title"],
        lines,
        log=one["log"],
        limits=(limits[0], limits[1]) if limits else None,
        bound=(bound[0], bound[1]) if bound else None,
    )


def _validation_charts(rows: list[Row], size: str) -> list[str]:
    """Pixel and perceptual term, and SSIM, of faces that are not trained on."""
    terms = (("pixel", "c0"), ("perceptual", "c1"))
    lines = [
        Line(name, _points(rows, f"{size}/validation_{name}"), colour) for name, colour in terms
    ]
    figures = [chart("Held-out faces", [line for line in lines if line.points])]
    similarity = _points(rows, f"{size}/validation_ssim")
    if similarity:
        figures.append(chart("Held-out faces: SSIM", [Line("SSIM", similarity, "c3")]))
    return figures


def _configuration(folder: Path, about: dict[str, Any]) -> list[str]:
    """What differs from the published numbers, then everything."""
    everything = html.escape((folder / "config.yaml").read_text(encoding="utf-8"))
    whole = f"<details><summary>All of config.yaml</summary><pre>{everything}</pre></details>"
    rows = about["differs"]
    if not rows:
        return [_soft("exactly the published one (the defaults of its family)"), whole]
    lines = "".join(
        f"<tr><th>{name}</th><td>{html.escape(ours)}</td><td>{html.escape(default)}</td></tr>"
        for name, ours, default in rows
    )
    head = "<tr><th>differs</th><th>this run</th><th>paper, or default</th></tr>"
    return [f'<div class="wide"><table>{head}{lines}</table></div>', whole]


def read_page(folder: Path) -> dict[str, Any]:
    """What training wrote about its family (:func:`facehal.training.folder.page_of`).

    Raises:
        TrainingError: it is missing (a run of an earlier version) or damaged.
    """
    path = folder / "page.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path}: cannot be read ({error}); train --resume writes it anew"
        ) from None
    wanted = {"title", "stages", "charts", "explanation", "side", "collapse", "differs"}
    if not isinstance(found, dict) or not {*wanted, "preview_faces"} <= set(found):
        raise TrainingError(f"{path}: not one that training wrote; train --resume writes it anew")
    return found
