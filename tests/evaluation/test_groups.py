"""Tables by groups of faces: what a CSV says of them, and the means of each group."""

import json

import numpy as np
import pandas as pd
import pytest

from facehal.errors import DataError
from facehal.evaluation.groups import attributes, read_groups
from facehal.evaluation.systems import Faces
from facehal.evaluation.table1 import table1


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("F age 27", {"sex": "female", "age": "20 to 39"}),
        ("M age 2", {"sex": "male", "age": "0 to 12"}),
        ("M age 13", {"sex": "male", "age": "13 to 19"}),
        ("F age 80", {"sex": "female", "age": "60 and more"}),
        ("Asian M", {"sex": "male"}),
        ("generated female", {"sex": "female"}),
        ("male/asian", {"sex": "male"}),
        ("real", {}),
        ("", {}),
    ],
)
def test_words_of_labels(labels, found):
    assert attributes(labels) == found


def described(path, names, **columns):
    """A CSV of the photos of these faces."""
    files = [f"{name}.webp" for name in names]
    pd.DataFrame({"file": files, **columns}).to_csv(path, index=False)
    return path


def test_columns_of_few_values_are_groupings(tmp_path):
    names = [f"a/{n:02d}" for n in range(30)]
    path = described(
        tmp_path / "photos.csv",
        names,
        source=["web"] * 10 + ["studio"] * 20,
        subject=names,
        side=[200] * 30,
        blur=range(30),  # every face another value
        licence=["free"] * 30,  # all the same
        labels=["F age 27"] * 5 + [""] * 25,
    )
    groups = read_groups(path, [*names, "a/unknown"])
    assert groups == {"source": ["web"] * 10 + ["studio"] * 20 + [""]}
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1] + "M age 50"]) + "\n")
    groups = read_groups(path, names)
    assert list(groups) == ["source", "sex", "age"]
    assert groups["age"] == ["20 to 39"] * 5 + [""] * 24 + ["40 to 59"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("photo,source\na.png,web\n", "no column file"),
        ("file,source\nother.png,web\n", "knows none of the faces"),
        ("file,source\nface.png,web\n", "no column has 2 to 20 different values"),
    ],
)
def test_refusals(text, said, tmp_path):
    path = tmp_path / "photos.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=f"photos.csv: .*{said}") as caught:
        read_groups(path, ["face"])
    assert "\n" not in str(caught.value)


def test_means_of_each_group(sample_data, tmp_path, monkeypatch):
    """As pandas has them from per_image.csv; a group of too few faces is left out."""
    monkeypatch.setattr("facehal.evaluation.groups.FEWEST", 5)
    names = Faces.load(sample_data).names
    sources = ["web"] * 8 + ["studio"] * (len(names) - 11) + ["booth"] * 3
    path = described(tmp_path / "photos.csv", names, source=sources)
    table1(sample_data, {}, tmp_path / "out", groups=path, metrics=["l1", "frechet_dlib"])
    every = pd.read_csv(tmp_path / "out" / "per_image.csv").set_index("name").loc[names, "l1"]
    means = every.groupby(np.array(sources)).mean()
    found = json.loads((tmp_path / "out" / "groups.json").read_text())
    assert sorted(found["groups"]["source"]) == ["studio", "web"]
    assert found["data_sha256"] and found["versions"]["keras"]
    for group, one in found["groups"]["source"].items():
        value, low, high = one["face mask"]["l1"]
        assert one["faces"] == sources.count(group)
        assert value == pytest.approx(means[group], abs=1e-6) and low < value < high
        assert set(one["face mask"]) == {"l1"}  # a Fréchet distance is of the whole set
    text = (tmp_path / "out" / "groups.md").read_text()
    assert f"| web | 8 | face mask | {means['web']:.3f} [" in text
