"""Batches of faces and masks: the same ones for the same seed and step, wherever the faces lie."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from facehal.data import augmentation as augmentations
from facehal.data.faceset import FaceSet, Folders, check_side, shrunk, shrunk_points
from facehal.errors import ConfigError, DataError
from facehal.layers.landmarks import mirrored

MEMORY = 4_000_000_000
"""Bytes of faces and masks up to which a set is held in memory: 61,000 faces of 128×128."""

Batch = dict[str, np.ndarray]


class Source(Protocol):
    """Faces by their row: a `FaceSet`, which reads them from their files, or `Loaded` ones."""

    @property
    def side(self) -> int:
        """Width and height of a face in pixels."""

    @property
    def labels(self) -> np.ndarray:
        """(n,) int32: who is on it; -1 where nobody knows."""

    @property
    def landmarks(self) -> np.ndarray | None:
        """(n, 68, 2) float32: x and y in pixels of a face; None where nobody gave them."""

    @property
    def sha256(self) -> str:
        """Over what the pixels follow from, hexadecimal."""

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int] | np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Faces (n, side, side, 3) and masks (n, side, side), uint8, the caller's own."""


class Loaded:
    """Faces in memory.

    Args:
        faces: (n, S, S, 3) uint8 RGB.
        masks: (n, S, S) uint8, 1 = face.
        labels: (n,) int32, as `FaceSet.labels`; by default nobody is known.
        sha256: that of the `FaceSet` from which they come; empty for arrays from elsewhere.
        landmarks: (n, 68, 2) float32, as `FaceSet.landmarks`; by default none are known.

    Raises:
        DataError: no faces, or arrays that do not belong together.
    """

    def __init__(
        self,
        faces: np.ndarray,
        masks: np.ndarray,
        labels: np.ndarray | None = None,
        sha256: str = "",
        landmarks: np.ndarray | None = None,
    ):
        _check(faces, masks)
        if labels is None:
            labels = np.full(len(faces), -1, np.int32)
        if labels.shape != (len(faces),):
            raise DataError(f"{len(faces)} faces with labels of shape {labels.shape}")
        if landmarks is not None and landmarks.shape != (len(faces), 68, 2):
            raise DataError(f"{len(faces)} faces with landmarks of shape {landmarks.shape}")
        self.faces, self.masks, self.labels, self.sha256 = faces, masks, labels, sha256
        self.landmarks = landmarks

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def side(self) -> int:
        """Width and height of a face in pixels."""
        return int(self.faces.shape[1])

    def read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copies of some rows: faces (n, S, S, 3) and masks (n, S, S)."""
        rows = np.asarray(rows, int)
        return self.faces[rows], self.masks[rows]


class Pipeline:
    """A shuffled, mirrored stream of batches in which every step can be asked for by its number.

    The order of an epoch and which faces are mirrored follow from the seed and the epoch alone, so
    a resumed run sees what an uninterrupted one would have seen, from memory or from files. A last
    partial batch is dropped (it would cost a second compilation); its faces come up in the other
    epochs. Several threads may ask at once.

    Args:
        source: where the faces are.
        batch_size: faces a step, of all shards together; all faces where there are fewer.
        side: pixels of the faces in a batch, a divisor of the source's (see `shrunk`); by default
            the source's.
        mirror: flip a random half of the faces left to right (section 4, "Image mirroring").
        seed: of order, mirroring, augmentation and noise, not negative.
        labels: give who is on the faces, too.
        landmarks: give the 68 landmarks, too.
        noise: how many random numbers to give with every face.
        augmentation: strength of colour, small movements, blur and compression, drawn anew at every
            step, in [0, 1]; 0 is none (:mod:`facehal.data.augmentation`).
        shard: (index, count): of every batch this worker's part alone, the index-th of so many
            equal contiguous blocks; the blocks of all workers in their order are the batch.

    Raises:
        DataError: no faces; ``side`` is no divisor; ``labels`` of faces without a subject;
            ``landmarks`` of faces in memory that came without.
        ConfigError: no batch size, or one that the workers cannot share evenly; no such shard; no
            such strength; ``landmarks`` of augmented faces, which are moved away from under them.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        side: int | None = None,
        mirror: bool = True,
        seed: int = 0,
        labels: bool = False,
        landmarks: bool = False,
        noise: int = 0,
        augmentation: float = 0.0,
        shard: tuple[int, int] = (0, 1),
    ):
        if len(source) == 0:
            raise DataError("nothing to train on: no faces; run preprocess first")
        if batch_size < 1 or noise < 0:
            raise ConfigError(f"a batch of {batch_size} faces with {noise} random numbers each")
        self.source = source
        self.batch_size = min(batch_size, len(source))
        self.side = source.side if side is None else side
        check_side(source.side, self.side)
        augmentations.check_strength(augmentation)
        self.mirror, self.seed, self.labels, self.noise = mirror, seed, labels, noise
        self.augmentation = augmentation
        self._landmarks: np.ndarray | None = None
        if landmarks:
            if augmentation:
                raise ConfigError("augmentation moves faces, and landmarks do not follow: set it 0")
            if source.landmarks is None:
                raise DataError(f"{len(source)} faces without landmarks: give them to `Loaded`")
            self._landmarks = shrunk_points(source.landmarks, source.side, self.side)
        if labels and (source.labels < 0).any():
            raise DataError(
                f"{np.sum(source.labels < 0)} of {len(source)} faces have no subject: sort the "
                "photos into a folder per subject, or name them in a manifest.csv beside them"
            )
        index, count = shard
        if not 0 <= index < count:
            raise ConfigError(f"there is no shard {index} of {count}; they are numbered from 0")
        if self.batch_size % count:
            raise ConfigError(f"batches of {self.batch_size} faces cannot be shared by {count}")
        self.shard = shard
        self._epoch: tuple[int, np.ndarray, np.ndarray | None] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass over the faces."""
        return len(self.source) // self.batch_size

    def batch(self, step: int) -> Batch:
        """Batch number ``step`` since the start of training; any step, in any order.

        Returns:
            ``faces`` (b, side, side, 3) uint8 RGB and ``masks`` (b, side, side) uint8 with
            1 = face; if asked for ``labels`` (b,) int32, ``landmarks`` (b, 68, 2) float32, x and y
            in pixels of these faces, of mirrored ones too, and ``noise`` (b, noise) float32 from
            the normal distribution, by seed and step. b is the batch size over the shards' number.

        Raises:
            DataError: a face's file is missing, damaged or of another size.
        """
        epoch, number = divmod(step, self.steps_per_epoch)
        order, flip = self._drawn(epoch)
        index, count = self.shard
        size = self.batch_size // count
        first = number * self.batch_size + index * size
        rows = order[first : first + size]
        # Shrunk before it is flipped: the middle pixel of an even square is right of its middle.
        faces, masks = shrunk(*self.source.read(rows), self.side)
        if flip is not None:
            _mirror(faces, masks, flip[first : first + size])
        # What is drawn is drawn for the whole batch: a face's numbers do not depend on the shards.
        # The third number of a seed keeps it apart from the epochs' random numbers.
        block = slice(index * size, (index + 1) * size)
        if self.augmentation:
            random = np.random.default_rng((self.seed, step, 2))
            numbers = random.random((self.batch_size, augmentations.NUMBERS))[block]
            faces, masks = augmentations.changed(faces, masks, numbers, self.augmentation)
        batch = {"faces": faces, "masks": masks}
        if self.labels:
            batch["labels"] = self.source.labels[rows]
        if self._landmarks is not None:
            points = self._landmarks[rows]
            if flip is not None:
                turned = flip[first : first + size]
                points[turned] = mirrored(points[turned], self.side)
            batch["landmarks"] = points
        if self.noise:
            random = np.random.default_rng((self.seed, step, 1))
            whole = random.standard_normal((self.batch_size, self.noise), np.float32)
            batch["noise"] = whole[block].copy()
        return batch

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        known = self._epoch  # replaced as a whole by whichever thread comes to another epoch
        if known is None or known[0] != epoch:
            known = (epoch, *_draw(self.seed, epoch, len(self.source), self.mirror))
            self._epoch = known
        return known[1:]


class Abreast:
    """Batches that hold faces of several sets alike: one of each set's pipeline after the other.

    Every set goes through its own epochs, whatever the others' length.

    Args:
        pipelines: of the sets, of one batch size; each with a seed of its own.
        steps: that count as an epoch; 0: a pass over the largest set.

    Raises:
        ConfigError: no pipelines, or batches of different sizes.
    """

    def __init__(self, pipelines: Sequence[Pipeline], steps: int = 0):
        sizes = {one.batch_size for one in pipelines}
        if len(sizes) != 1:
            raise ConfigError(f"batches of {sorted(sizes)} faces cannot stand side by side")
        self.pipelines, self.steps = list(pipelines), steps
        self.batch_size = sizes.pop()

    @property
    def steps_per_epoch(self) -> int:
        """What counts as an epoch."""
        return self.steps or max(one.steps_per_epoch for one in self.pipelines)

    def batch(self, step: int) -> Batch:
        """As `Pipeline.batch`; every array holds the first set's rows, then the second's, ….

        Raises:
            DataError: a face's file is missing, damaged or of another size.
        """
        parts = [one.batch(step) for one in self.pipelines]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def open_pipeline(
    data: Folders | FaceSet,
    batch_size: int,
    *,
    memory: float = MEMORY,
    side: int | None = None,
    mirror: bool = True,
    seed: int = 0,
    labels: bool = False,
    landmarks: bool = False,
    noise: int = 0,
    augmentation: float = 0.0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> Pipeline:
    """Batches of prepared faces: from memory where they fit, else read from their files.

    The batches are the same either way. A set that is streamed is ready as soon as its manifest is
    read; a file that is missing or damaged is then noticed when its batch comes.

    Args:
        data: a folder that `preprocess` wrote, or several, or what `FaceSet.open` made of them.
        batch_size: as all others but the next and the last: see `Pipeline`.
        memory: bytes that faces and masks at ``side`` may take, 4 side² for each face; 0 always
            streams.
        side: see `Pipeline`.
        mirror: see `Pipeline`.
        seed: see `Pipeline`.
        labels: see `Pipeline`.
        landmarks: see `Pipeline`.
        noise: see `Pipeline`.
        augmentation: see `Pipeline`.
        shard: see `Pipeline`.
        progress: draw a bar on standard error while faces are read into memory.

    Raises:
        DataError: as `FaceSet.open`, `FaceSet.load` and `Pipeline`.
        ConfigError: as `Pipeline`.
    """
    faces = data if isinstance(data, FaceSet) else FaceSet.open(data)

    def pipeline(source: Source) -> Pipeline:
        return Pipeline(
            source,
            batch_size,
            side=side,
            mirror=mirror,
            seed=seed,
            labels=labels,
            landmarks=landmarks,
            noise=noise,
            augmentation=augmentation,
            shard=shard,
        )

    streamed = pipeline(faces)  # what cannot be had is said before anything is loaded
    if 4 * len(faces) * streamed.side**2 > memory:
        return streamed
    arrays = faces.load(streamed.side, progress=progress)
    points = shrunk_points(faces.landmarks, faces.side, streamed.side)
    return pipeline(Loaded(*arrays, faces.labels, faces.sha256, points))


class Numbered(Protocol):
    """Batches by their number: a `Pipeline`, or one whose batches are changed on the way."""

    def batch(self, step: int, /) -> Batch:
        """A pure function of the step."""


def prefetched(
    pipeline: Numbered, start: int, stop: int, ahead: int = 4, threads: int = 2
) -> Iterator[tuple[int, Batch]]:
    """Yields ``(step, batch)`` from ``start`` to ``stop`` (not included), prepared in advance.

    The threads end with the loop, also where it is left early (when the generator is closed or
    forgotten). What goes wrong in one of them is raised here, at its step.

    Args:
        pipeline: of which the batches are.
        start: the first step.
        stop: the step after the last.
        ahead: batches that may be waiting; that many are in memory besides the one in use.
        threads: batches prepared at the same time.

    Raises:
        DataError: as `Pipeline.batch`.
        ConfigError: nothing may be waiting.
    """
    if ahead < 1 or threads < 1:
        raise ConfigError(f"{ahead} batches in advance by {threads} threads: one is the least")
    pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
    waiting: deque[Future[Batch]] = deque()
    try:
        for step in range(start, min(start + ahead, stop)):
            waiting.append(pool.submit(pipeline.batch, step))
        for step in range(start, stop):
            batch = waiting.popleft().result()
            if step + ahead < stop:
                waiting.append(pool.submit(pipeline.batch, step + ahead))
            yield step, batch
            del batch  # not to be kept while the next one is waited for
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _check(faces: np.ndarray, masks: np.ndarray) -> None:
    if len(faces) == 0 or faces.shape[:3] != masks.shape:
        raise DataError(
            f"{len(faces)} faces of shape {faces.shape[1:]} with masks of shape {masks.shape}: "
            "nothing to train on; run preprocess first"
        )


def _draw(seed: int, epoch: int, count: int, mirror: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The order of an epoch's faces, and which places in it are mirrored."""
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(count)
    return order, random.random(count) < 0.5 if mirror else None


def _mirror(faces: np.ndarray, masks: np.ndarray, flip: np.ndarray) -> None:
    faces[flip] = faces[flip, :, ::-1]
    masks[flip] = masks[flip, :, ::-1]
