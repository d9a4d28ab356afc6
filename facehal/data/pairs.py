"""LFW's pairs: read from its pairs.txt, or drawn alike from any prepared set."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facehal.errors import DataError

FOLDS = 10
FEWEST = 2 * FOLDS
"""People of two pictures or more that pairs can be drawn of: two of them in every fold."""

EACH = 300  # pairs of one person in a fold, and as many of two: 6,000 in all


@dataclass(frozen=True)
class Pairs:
    """Pairs of pictures in folds.

    Attributes:
        first, second: (n,), rows of the set.
        same: (n,), whether it is one person.
        folds: (n,), from 0.
        missing: pairs of the list whose pictures are not in the set.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    folds: np.ndarray
    missing: int = 0

    def __len__(self) -> int:
        return len(self.first)


def read_pairs(path: str | os.PathLike[str], files: Sequence[str]) -> Pairs:
    """The pairs of LFW's ``pairs.txt`` (view 2).

    Its first line is the number of folds and of pairs of a kind in each; a line of three columns
    is two pictures of a person, ``NAME n m``, one of four two people, ``NAME n OTHER m``; a picture
    is called ``NAME_000n``.

    Args:
        path: of it.
        files: what each picture of the set is called, with any folder and suffix.

    Raises:
        DataError: it cannot be read, is not such a list, or the set has none of its pairs.
    """
    path = Path(path)
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        wanted = [line.split("\t") for line in lines if line.strip()]
        folds, each = map(int, head.split())
        named = [_named(words) for words in wanted]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not LFW's list of pairs ({error})") from None
    if not each or len(named) != 2 * folds * each:
        raise DataError(f"{path}: {len(named)} pairs, not {folds} times twice {each}")
    rows = {Path(name).stem: row for row, name in enumerate(files)}
    found = [
        (rows[a], rows[b], same, number // (2 * each))
        for number, (a, b, same) in enumerate(named)
        if a in rows and b in rows
    ]
    if not found:
        raise DataError(f"{path}: none of its pairs is in the set")
    return _pairs(found, missing=len(named) - len(found))


def _named(words: list[str]) -> tuple[str, str, bool]:
    """Two pictures by name, and whether they are one person's."""
    if len(words) == 3:
        name, one, two = words
        return f"{name}_{int(one):04d}", f"{name}_{int(two):04d}", True
    name, one, other, two = words
    return f"{name}_{int(one):04d}", f"{other}_{int(two):04d}", False


def drawn_pairs(subjects: Sequence[str], seed: int = 0, each: int = EACH) -> Pairs:
    """Pairs as LFW's were made: ten folds of different people, in each as many of one person as of
    two.

    A person is drawn first, and then two of their pictures, so that somebody with hundreds of
    pictures does not fill the list; of two people one picture each.

    Args:
        subjects: (n,), who is on each picture.
        seed: of the draw.
        each: of a kind in a fold, where its people have as many; a pair is drawn once.

    Raises:
        DataError: fewer than :data:`FEWEST` people of two pictures or more.
    """
    random = np.random.default_rng(seed)
    names, people = np.unique(np.asarray(subjects), return_inverse=True)
    rows = [np.flatnonzero(people == person) for person in range(len(names))]
    several = sum(len(one) > 1 for one in rows)
    if several < FEWEST:
        raise DataError(
            f"{FOLDS} folds of pairs take {FEWEST} people of two pictures or more, not {several}"
        )
    # Those of several pictures are dealt out first: every fold has some.
    order = random.permutation(len(names))
    order = order[np.argsort([len(rows[person]) < 2 for person in order], kind="stable")]
    found: list[tuple[int, int, bool, int]] = []
    for fold in range(FOLDS):
        mine = [rows[person] for person in order[fold::FOLDS]]
        more = [one for one in mine if len(one) > 1]
        genuine = _drawn(random, each, sum(len(o) * (len(o) - 1) // 2 for o in more), more, 1)
        impostor = _drawn(random, len(genuine), _between(mine), mine, 2)
        found += [(*pair, True, fold) for pair in genuine]
        found += [(*pair, False, fold) for pair in impostor]
    return _pairs(found)


def _between(people: list[np.ndarray]) -> int:
    """Pairs of pictures of two people."""
    counts = np.array([len(one) for one in people])
    return int((counts.sum() ** 2 - (counts**2).sum()) // 2)


def _drawn(
    random: np.random.Generator, wanted: int, there: int, people: list[np.ndarray], of: int
) -> list[tuple[int, int]]:
    """Different pairs, of one person or of two."""
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < min(wanted, there):
        chosen = random.choice(len(people), of, replace=False)
        if of == 1:
            one, two = random.choice(people[chosen[0]], 2, replace=False)
        else:
            one, two = (random.choice(people[person]) for person in chosen)
        pairs[int(min(one, two)), int(max(one, two))] = None
    return list(pairs)


def _pairs(found: list[tuple[int, int, bool, int]], missing: int = 0) -> Pairs:
    first, second, same, folds = map(np.array, zip(*found, strict=True))
    return Pairs(first, second, same, folds, missing)
