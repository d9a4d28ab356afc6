"""LFW's pairs, read and drawn."""

import numpy as np
import pytest

from facehal.data.pairs import FOLDS, drawn_pairs, read_pairs
from facehal.errors import DataError

FILES = ["lfw/Ann/Ann_0001.jpg", "lfw/Ann/Ann_0003.jpg", "Bob/Bob_0001.webp", "Cid/Cid_0012.jpg"]
TEXT = "2\t1\nAnn\t1\t3\nAnn\t1\tBob\t1\nAnn\t1\t2\nBob\t1\tCid\t12\n"


def test_the_published_list(tmp_path):
    """Two folds of one pair of a kind each; a photo of the second fold is not here."""
    path = tmp_path / "pairs.txt"
    path.write_text(TEXT)
    pairs = read_pairs(path, FILES)
    found = zip(pairs.first, pairs.second, pairs.same, pairs.folds, strict=True)
    assert list(found) == [(0, 1, True, 0), (0, 2, False, 0), (2, 3, False, 1)]
    assert pairs.missing == 1


@pytest.mark.parametrize(
    ("text", "files", "reason"),
    [
        ("", FILES, "not LFW's list"),
        ("10\t300\n", FILES, "0 pairs, not 10 times twice 300"),
        ("2\t1\nAnn\t1\n", FILES, "not LFW's list"),
        ("2\t1\nAnn\tx\t1\n", FILES, "not LFW's list"),
        (TEXT, ["Dan/Dan_0001.jpg"], "none of its pairs"),
    ],
)
def test_other_files_are_refused(tmp_path, text, files, reason):
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(DataError, match=reason):
        read_pairs(tmp_path / "pairs.txt", files)


def test_drawn_pairs_are_as_the_published_ones():
    """As many of one person as of two, no person in two folds, no pair twice."""
    random = np.random.default_rng(0)
    subjects = random.permutation(
        np.repeat([f"p{n}" for n in range(60)], np.r_[200, [3] * 39, [1] * 20])
    )
    pairs = drawn_pairs(subjects.tolist(), each=40)
    assert len({(a, b) for a, b in zip(pairs.first, pairs.second, strict=True)}) == len(pairs)
    people = [subjects[pairs.first], subjects[pairs.second]]
    np.testing.assert_array_equal(people[0] == people[1], pairs.same)
    seen: set[str] = set()
    for fold in range(FOLDS):
        mine = pairs.folds == fold
        assert pairs.same[mine].sum() == (~pairs.same[mine]).sum() > 8
        there = set(people[0][mine]) | set(people[1][mine])
        assert not there & seen
        seen |= there
    # Somebody with 200 photos has no more pairs of their own than a fold's share.
    own = pairs.same & (people[0] == "p0")
    assert own.sum() <= 40
    again, other = drawn_pairs(subjects.tolist(), each=40), drawn_pairs(subjects.tolist(), 1, 40)
    assert (again.first == pairs.first).all() and not np.array_equal(other.first, pairs.first)


def test_too_few_people():
    with pytest.raises(DataError, match="take 20 people"):
        drawn_pairs(["a", "a", "b", "b"])
