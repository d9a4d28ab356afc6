"""Pages of run folders made by hand; of real runs see test_run.py."""

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from facehal import cli
from facehal.cli.train import TRAIN_EPILOG
from facehal.errors import FacehalError, TrainingError
from facehal.images import contact_sheet, write_png
from facehal.models import from_dict, task_of
from facehal.models.cascade.config import CascadeConfig
from facehal.training.folder import page_of
from facehal.training.report import duration, write_report

VOID = {"meta", "img", "circle", "path", "polyline"}


class Page(HTMLParser):
    """Text of a page; fails where tags do not match or where it needs another file."""

    def __init__(self, path):
        super().__init__()
        self.open, self.words, self.pictures = [], [], 0
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            assert name != "href" and (name != "src" or value.startswith("data:image/png;base64,"))
        self.pictures += tag == "img"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def made(folder, config: CascadeConfig, epochs: int, previews: bool = True):
    """A run folder after so many epochs."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    (folder / "page.json").write_text(json.dumps(page_of(task_of(config))))
    about = {"command": "facehal train <x>", "started": "2026-01-02", "data_sha256": "ab" * 32}
    about["earlier"] = [{"started": "2026-01-01", "step": 0}]
    (folder / "environment.json").write_text(json.dumps(about))
    sizes = config.network.resolutions
    terms = ("pixel", "total_variation", "generator", "discriminator")
    terms += ("real_probability", "fake_probability")
    stage = config.model == "progan"
    names = [f"{size}/{term}" for size in sizes for term in terms]
    lines = [",".join(["epoch", "step", "seconds", *(["stage"] if stage else []), *names])]
    for epoch in range(1, epochs + 1):
        now = sizes[(epoch - 1) // config.training.epochs_per_stage] if stage else None
        values = [
            "" if stage and name.split("/")[0] != str(now) else f"{0.5 / epoch}" for name in names
        ]
        lines.append(",".join(map(str, [epoch, epoch * 9, 60, *([now] if stage else []), *values])))
        if previews:
            cell = np.full((sizes[-1], sizes[-1], 3), epoch, np.uint8)
            sheet = contact_sheet([[cell] * 3] * 2, labels=["face mask", "8", "original"])
            write_png(folder / "previews" / f"epoch_{epoch:04d}.png", sheet)
    if epochs:
        (folder / "history.csv").write_text("\n".join(lines) + "\n")
    return folder


TINY = {"size": "tiny", "loss": {"perceptual": 0, "identity": 0}}


def test_finished_cascade(tmp_path):
    config = from_dict({**TINY, "training": {"epochs": 10, "collapse_bound": 0.0}})
    report = write_report(made(tmp_path / "a & b", config, 10))
    assert (report.epochs, report.warnings) == ([2, 4, 6, 8, 10], [])
    page = Page(report.page)
    assert page.pictures == 2 and (tmp_path / "a & b" / "epochs.png").exists()
    for words in (
        *("a & b", "Cascade, size tiny, blocks 8 to 32.", "Finished: 10 of 10 epochs."),
        *("10 min 0 s in 10 epochs", "facehal train <x>", "ab" * 32, "2026-01-01 from step 0"),
        *("8×8", "16×16", "32×32", "hallucinated 0.05", "after epoch 10"),
    ):
        assert words in page.text, words
    # Small pictures are enlarged: two gaps and three cells of 34 pixels, five times.
    assert 'width="520"' in report.page.read_text(encoding="utf-8")
    # What differs from the paper, and nothing else.
    differs = page.text.split("paper, or default")[1].split("All of config.yaml")[0]
    names = re.findall(r"[a-z]+\.[a-z_]+|\bsize\b", differs)
    assert names == [
        *("size", "network.base", "network.cap", "network.discriminator_width"),
        *("network.resolutions", "loss.perceptual", "loss.identity"),
        *("training.epochs", "training.collapse_bound"),
    ]
    assert "network.base 2 64" in differs


def test_progan_under_way(tmp_path):
    """Every block has charts of its own stage; the study runs through the stages."""
    config = from_dict({**TINY, "model": "progan", "training": {"epochs_per_stage": 4}})
    report = write_report(made(tmp_path / "run", config, 6))
    page = Page(report.page)
    assert "ProGAN" in page.text and "6 of 12 epochs. Last stage trained: 16×16." in page.text
    assert "8×8" in page.text and "32×32" not in page.text
    assert report.epochs == [1, 2, 4, 5, 6]


def test_warning(tmp_path):
    watch = {"collapse_bound": 0.2, "collapse_epochs": 2, "collapse_steps": 1}
    report = write_report(made(tmp_path / "run", from_dict({**TINY, "training": watch}), 5))
    assert [one.split(":")[0] for one in report.warnings] == ["epoch 4"] * 3
    text = html.unescape(report.page.read_text(encoding="utf-8"))
    assert all(one in text for one in report.warnings)


def test_before_the_first_epoch(tmp_path):
    report = write_report(made(tmp_path / "run", from_dict(TINY), 0))
    page = Page(report.page)
    assert report.epochs == [] and page.pictures == 0
    assert "0 of 50 epochs" in page.text and "the first epoch is not finished yet" in page.text


def test_without_previews(tmp_path):
    config = from_dict({**TINY, "training": {"preview_faces": 0}})
    report = write_report(made(tmp_path / "run", config, 3, previews=False))
    assert report.epochs == [] and "preview_faces is 0" in Page(report.page).text
    assert not (tmp_path / "run" / "epochs.png").exists()


def test_damaged_run_folders(tmp_path):
    with pytest.raises(TrainingError, match=r"not a run folder \(no config.yaml"):
        write_report(tmp_path)
    folder = made(tmp_path / "run", from_dict(TINY), 2)
    for name in ("environment.json", "page.json"):
        for text in ("[", "[]", "3"):
            (folder / name).write_text(text)
            with pytest.raises(TrainingError, match=name) as caught:
                write_report(folder)
            assert "\n" not in str(caught.value)
    (folder / "page.json").unlink()  # a run of an earlier version
    with pytest.raises(TrainingError, match="train --resume writes it anew"):
        write_report(folder)


def test_it_needs_no_keras(tmp_path):
    folder = made(tmp_path / "run", from_dict(TINY), 2)
    code = (
        "import sys\nfrom facehal.training.report import write_report\n"
        "write_report(sys.argv[1])\nassert 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True, timeout=60)


def test_page_cannot_be_written(tmp_path):
    folder = made(tmp_path / "run", from_dict(TINY), 2)
    (folder / "report.html").mkdir()
    with pytest.raises(FacehalError, match=r"report\.html: cannot be written"):
        write_report(folder)


def test_command(tmp_path, monkeypatch, capsys):
    watch = {"collapse_bound": 0.2, "collapse_epochs": 2, "collapse_steps": 1}
    folder = made(tmp_path / "run", from_dict({**TINY, "training": watch}), 5)
    for words, status in (([str(folder)], 0), ([str(tmp_path)], 1)):
        monkeypatch.setattr("sys.argv", ["facehal", "report", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == status
        out, err = capsys.readouterr()
        if status == 0:
            assert f"{folder / 'epochs.png'}: after epochs 1, 2, 3, 4, 5" in out
            assert out.endswith(f"{folder / 'report.html'}\n") and err.count("warning: ") == 3
        else:
            assert out == "" and err.startswith("facehal: ") and len(err.splitlines()) == 1


def test_help_of_training_is_up_to_date():
    """It names the schedule's defaults and what lands in the run folder."""
    training = CascadeConfig().training
    for words in (
        *(f"{training.epochs} epochs", f"{training.epochs_per_stage} for every stage"),
        *(f"batch {training.batch_size}", f"every {training.checkpoint_steps} steps"),
        *("1e-4 (generator)", "2e-4 (discriminator)", "collapse_bound", "--resume"),
        *("report.html", "epochs.png", "model.keras", "history.csv", "previews/", "checkpoints/"),
        *("config.yaml", "environment.json", "tensorboard/"),
    ):
        assert words in TRAIN_EPILOG, words
    assert (training.generator_rate, training.discriminator_rate) == (1e-4, 2e-4)


@pytest.mark.parametrize(
    ("seconds", "words"), [(12.4, "12 s"), (200, "3 min 20 s"), (7499, "2 h 4 min"), (0, "0 s")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words
