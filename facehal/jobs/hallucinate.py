"""Photos to hallucinated pictures, by the batch."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facehal.errors import FacehalError, StorageError
from facehal.faces import background as backgrounds
from facehal.faces.paste import paste as paste_into
from facehal.files import unique_names
from facehal.images import contact_sheet, list_images, read_image, to_uint8, write_png
from facehal.inference.hallucinator import AlignedFace, Hallucinator, Portable
from facehal.jobs.mapping import each
from facehal.jobs.on_ray import Ray
from facehal.jobs.records import Skipped
from facehal.places import is_address, place

CHUNK = 8  # photos that are worked on together
SHEET_ROWS = 24  # of hallucinated.png
# In the output folder.
OUTPUTS = ("pictures", "variants", "pasted", "background", "hallucinated.png")


@dataclass(frozen=True)
class Hallucinated:
    """What :func:`hallucinate` did.

    Attributes:
        sheet: path of ``hallucinated.png``.
        photos: how many there were.
        pictures: how many became a picture.
    """

    sheet: Path
    photos: int
    pictures: int


def find_photos(paths: Sequence[Path], out: Path, outputs: Sequence[str] = OUTPUTS) -> list[Path]:
    """The photos among files and folders, sorted, without what an earlier call wrote to ``out``.

    A file named outright is taken wherever it lies, and so are other pictures in ``out``: the
    photos' folder may stand there, too.

    Args:
        paths: files and folders.
        out: the output folder.
        outputs: what a call writes there.

    Raises:
        FacehalError: a path does not exist, or there are no photos.
    """
    paths, out = [place(path) for path in paths], place(out)
    named = {path for path in paths if not path.is_dir()}
    written = [out.resolve() / name for name in outputs]

    def is_ours(file: Path) -> bool:
        if is_address(file) != is_address(out):
            return False
        where = file.parent.resolve() / file.name
        return any(where.is_relative_to(folder) for folder in written)

    files = list_images(paths)
    found = [file for file in files if file in named or not is_ours(file)]
    if not found:
        why = f"only what was written into {out}" if files else "no pictures in it"
        raise FacehalError(f"{paths[0]}: {why}; name photos or a folder of photos")
    return found


def hallucinate(
    photos: Sequence[Path],
    out: str | os.PathLike[str],
    hallucinator: Hallucinator | Portable,
    *,
    paste: bool = False,
    background: str | os.PathLike[str] | None = None,
    variants: int = 0,
    on: Ray | None = None,
    progress: bool = True,
) -> Hallucinated:
    """Writes ``pictures/NAME.png`` for every photo, and ``hallucinated.png`` to look at.

    Photos without a face or that cannot be read are skipped, said so on standard error and listed
    in ``skipped.csv``. What was finished is on the sheet and in the list also after Ctrl-C.

    Args:
        photos: files, here or in a bucket. The pictures have their names; two of one name get a
            number.
        out: folder for the pictures; an address of a bucket, too (:mod:`facehal.places`).
        hallucinator: the model; a portable one on a Ray cluster.
        paste: also ``pasted/``: the photos themselves with hallucinated surroundings of the face.
        background: a picture; also ``background/``: the hallucinated person in front of it.
        variants: also ``variants/NAME_1.png`` … so many other pictures of every face, by the seeds
            1, 2, …; a photo's own picture is the single best one.
        on: a Ray cluster, where the work is done instead of in this process.
        progress: draw a bar on standard error where there are several photos.

    Raises:
        ImageError: the background cannot be read, or a picture cannot be written.
        DataError: the cluster does not see the photos.
        StorageError: no way into a bucket.
        FacehalError: none of the photos could be used, or the model knows no variants.
    """
    out = place(out)
    behind = None if background is None else read_image(place(background))
    if on is not None:
        if not isinstance(hallucinator, Portable):
            raise TypeError("on a Ray cluster the model is a Portable: portable(model)")
        out.mkdir(parents=True, exist_ok=True)
        on.check(out, *photos[:1])
        on.check_engine(hallucinator.engine)
        hallucinator = hallucinator.packed()
    names = [f"{name}.png" for name in unique_names([photo.stem for photo in photos])]
    work = _Work(hallucinator, out, paste, behind, variants)
    sheet = _Sheet(out / "hallucinated.png", variants, behind is not None)

    def send(chunk: range) -> _Chunk:
        some = slice(chunk.start, chunk.stop)
        return _Chunk(photos[some], names[some], sheet.has_room(chunk.start))

    chunks = [range(i, min(i + CHUNK, len(photos))) for i in range(0, len(photos), CHUNK)]
    with Skipped(out / "skipped.csv") as skipped:
        try:
            for done in each(
                work,
                chunks,
                send=send,
                engine=on,
                size=len,
                unit="photo",
                progress=progress and len(photos) > 1,
            ):
                for index, result in zip(done.item, done.result, strict=True):
                    if isinstance(result, FacehalError):
                        skipped.add(str(photos[index]), result)
                    else:
                        sheet.add(index, result)
        finally:
            sheet.write()
        count = len(photos) - len(skipped)
    if count == 0:
        raise FacehalError(f"none of {len(photos)} photos could be used; see {skipped.path}")
    return Hallucinated(sheet.path, len(photos), count)


@dataclass(frozen=True)
class _Chunk:
    """Photos that are worked on together."""

    photos: Sequence[Path]
    names: Sequence[str]  # of their pictures
    shown: bool  # whether the sheet may have room for them


Cells = list[np.ndarray]
"""A photo's row of the sheet, uint8; empty where it has no room."""


@dataclass(frozen=True)
class _Work:
    """A chunk of photos → the files, and of every photo its row of the sheet or what is wrong."""

    model: Hallucinator | Portable
    out: Path
    paste: bool
    behind: np.ndarray | None
    variants: int

    def __call__(self, chunk: _Chunk) -> list[Cells | FacehalError]:
        model = self.model.load() if isinstance(self.model, Portable) else self.model
        results: list[Cells | FacehalError] = []
        found: dict[int, AlignedFace] = {}
        for index, photo in enumerate(chunk.photos):
            results.append([])
            try:
                found[index] = model.prepare(photo)
            except StorageError:  # the next photo would have it, too
                raise
            except FacehalError as error:
                results[index] = error
        if not found:
            return results
        masked = np.stack([face.masked for face in found.values()])
        masks = np.stack([face.mask for face in found.values()])
        outputs = model.from_masks(masked, masks, all_resolutions=True)
        assert isinstance(outputs, dict)
        others = [
            model.from_masks(masked, masks, seeds=[seed] * len(found))
            for seed in range(1, self.variants + 1)
        ]
        for row, (index, face) in enumerate(found.items()):
            pictures = [some[row] for some in outputs.values()]
            try:
                made = dict(self._made(chunk.photos[index], face, pictures[-1]))
            except FacehalError as error:  # a photo that cannot be pasted into
                results[index] = error
                continue
            # Outside of that: where one picture cannot be written, neither can the others.
            for folder, picture in made.items():
                write_png(self.out / folder / chunk.names[index], picture)
            variants = [some[row] for some in others]
            for seed, picture in enumerate(variants, 1):
                stem = chunk.names[index].removesuffix(".png")
                write_png(self.out / "variants" / f"{stem}_{seed}.png", picture)
            if chunk.shown:
                last = [made[name] for name in ("background",) if name in made]
                cells = [face.face, face.masked, *pictures, *variants, *last]
                results[index] = [to_uint8(cell) for cell in cells]
        return results

    def _made(
        self, photo: Path, face: AlignedFace, picture: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        yield "pictures", picture
        if self.paste:
            # Read again: the memory of the machine may not hold several huge photos.
            yield "pasted", paste_into(read_image(photo), picture, face.points, face.matrix)
        if self.behind is not None:
            yield (
                "background",
                backgrounds.replace_background(picture, face.points, self.behind),
            )


class _Sheet:
    """A row for each of the first photos: original, mask, every resolution, variants.

    Which come first does not depend on which were ready first.
    """

    def __init__(self, path: Path, variants: int, background: bool) -> None:
        self.path = path
        self._last = [f"variant {seed}" for seed in range(1, variants + 1)]
        self._last += ["background"] * background
        self._rows: dict[int, Cells] = {}  # by the photo's number

    def has_room(self, index: int) -> bool:
        """Whether a photo may come on it: those before that are known do not fill it."""
        return sum(row < index for row in self._rows) < SHEET_ROWS

    def add(self, index: int, cells: Cells) -> None:
        """Takes a photo's row, and lets one go where there are too many."""
        if cells:
            self._rows[index] = cells
        if len(self._rows) > SHEET_ROWS:
            del self._rows[max(self._rows)]

    def write(self) -> None:
        """The picture, of the rows that it has."""
        rows = [self._rows[index] for index in sorted(self._rows)]
        if rows:
            sizes = [str(cell.shape[0]) for cell in rows[0][2 : len(rows[0]) - len(self._last)]]
            labels = ["original", "face mask", *sizes, *self._last]
            write_png(self.path, contact_sheet(rows, labels=labels))
