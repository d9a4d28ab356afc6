"""``facehal published``: which files make which model. The files' contents are tested by family."""

import subprocess
import sys
from pathlib import Path

import pytest

from facehal.errors import FacehalError
from facehal.models.base import families, from_published

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("family", "files", "resolution", "said"),
    [
        ("cascaded", ["model"], None, "no published files are known of cascaded; of deepfake, "),
        ("nobody", ["model"], None, "no published files are known of nobody"),
        ("edgeconnect", ["one.pth"], None, "2 files: EdgeModel_gen.pth InpaintingModel_gen.pth"),
        ("genface", ["a", "b"], None, "genface is made of 1 files: Model_G.caffemodel"),
        ("genface", ["a"], 256, "genface makes pictures of one size alone"),
        ("deepfillv1", ["nowhere"], 128, "nowhere"),
    ],
)
def test_refusals(family, files, resolution, said):
    with pytest.raises(FacehalError, match=said) as caught:
        from_published(family, files, resolution)
    assert "\n" not in str(caught.value)


def test_every_rival_of_the_paper_has_its_files():
    known = {name for name, one in families().items() if one.published}
    assert known == {"genface", "deepfillv1", "symmfcnet", "edgeconnect", "deepfake"}


def test_the_verb_says_it_in_one_line(tmp_path):
    words = ["published", "edgeconnect", "one.pth", "--out", str(tmp_path / "model.keras")]
    command = [sys.executable, "-m", "facehal", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert done.stderr.splitlines()[-1].startswith("facehal: edgeconnect is made of 2 files")
