"""Photos to hallucinated pictures, by the batch."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facehal.errors import FacehalError
from facehal.faces import background as backgrounds
from facehal.faces.paste import paste as paste_into
from facehal.files import unique_names
from facehal.images import contact_sheet, list_images, read_image, write_png
from facehal.inference.hallucinator import AlignedFace, Hallucinator
from facehal.jobs.mapping import each
from facehal.jobs.records import Skipped

BATCH = 32  # faces that the model takes at a time
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
    named = {path for path in paths if not path.is_dir()}
    written = [out.resolve() / name for name in outputs]

    def is_ours(file: Path) -> bool:
        where = file.parent.resolve() / file.name
        return any(where.is_relative_to(place) for place in written)

    files = list_images(paths)
    found = [file for file in files if file in named or not is_ours(file)]
    if not found:
        why = f"only what was written into {out}" if files else "no pictures in it"
        raise FacehalError(f"{paths[0]}: {why}; name photos or a folder of photos")
    return found


def hallucinate(
    photos: Sequence[Path],
    out: str | os.PathLike[str],
    hallucinator: Hallucinator,
    *,
    paste: bool = False,
    background: str | os.PathLike[str] | None = None,
    variants: int = 0,
    progress: bool = True,
) -> Hallucinated:
    """Writes ``pictures/NAME.png`` for every photo, and ``hallucinated.png`` to look at.

    Photos without a face or that cannot be read are skipped, said so on standard error and listed
    in ``skipped.csv``. What was finished is on the sheet and in the list also after Ctrl-C.

    Args:
        photos: files. The pictures have their names; two of one name get a number.
        out: folder for the pictures.
        hallucinator: the model.
        paste: also ``pasted/``: the photos themselves with hallucinated surroundings of the face.
        background: a picture; also ``background/``: the hallucinated person in front of it.
        variants: also ``variants/NAME_1.png`` … so many other pictures of every face, by the seeds
            1, 2, …; a photo's own picture is the single best one.
        progress: draw a bar on standard error where there are several photos.

    Raises:
        ImageError: the background cannot be read, or a picture cannot be written.
        FacehalError: none of the photos could be used, or the model knows no variants.
    """
    out = Path(out)
    behind = None if background is None else read_image(background)
    names = [f"{name}.png" for name in unique_names([photo.stem for photo in photos])]
    made = _Made(hallucinator, out, paste, behind, variants)
    found: list[tuple[int, AlignedFace]] = []
    with Skipped(out / "skipped.csv") as skipped:
        try:
            for done in each(
                hallucinator.prepare,
                photos,
                skipped=skipped,
                unit="photo",
                progress=progress and len(photos) > 1,
            ):
                found.append((done.index, done.result))
                if len(found) == BATCH:
                    made.write(photos, names, found, skipped)
                    found.clear()
            made.write(photos, names, found, skipped)
        finally:
            made.write_sheet()
        count = len(photos) - len(skipped)
    if count == 0:
        raise FacehalError(f"none of {len(photos)} photos could be used; see {skipped.path}")
    return Hallucinated(made.sheet, len(photos), count)


class _Made:
    """What becomes of aligned faces: the files, and the sheet."""

    def __init__(
        self,
        hallucinator: Hallucinator,
        out: Path,
        paste: bool,
        behind: np.ndarray | None,
        variants: int,
    ):
        self.hallucinator, self.out, self.paste, self.behind = hallucinator, out, paste, behind
        self.seeds = range(1, variants + 1)
        self.sheet = out / "hallucinated.png"
        self._rows: list[list[np.ndarray]] = []

    def write(
        self,
        photos: Sequence[Path],
        names: Sequence[str],
        found: Sequence[tuple[int, AlignedFace]],
        skipped: Skipped,
    ) -> None:
        """The pictures of a batch; a photo that cannot be pasted into is skipped."""
        if not found:
            return
        masked = np.stack([face.masked for _, face in found])
        masks = np.stack([face.mask for _, face in found])
        outputs = self.hallucinator.from_masks(masked, masks, all_resolutions=True)
        assert isinstance(outputs, dict)
        others = [
            self.hallucinator.from_masks(masked, masks, seeds=[seed] * len(found))
            for seed in self.seeds
        ]
        for place, (index, face) in enumerate(found):
            pictures = [some[place] for some in outputs.values()]
            try:
                results = dict(self._results(photos[index], face, pictures[-1]))
            except FacehalError as error:
                skipped.add(str(photos[index]), error)
                continue
            # Outside of that: where one picture cannot be written, neither can the others.
            for folder, picture in results.items():
                write_png(self.out / folder / names[index], picture)
            variants = [some[place] for some in others]
            for seed, picture in zip(self.seeds, variants, strict=True):
                stem = names[index].removesuffix(".png")
                write_png(self.out / "variants" / f"{stem}_{seed}.png", picture)
            if len(self._rows) < SHEET_ROWS:
                shown = [results[name] for name in ("background",) if name in results]
                self._rows.append([face.face, face.masked, *pictures, *variants, *shown])

    def _results(
        self, photo: Path, face: AlignedFace, picture: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        yield "pictures", picture
        if self.paste:
            # Read again: the memory of the machine may not hold a batch of huge photos.
            yield "pasted", paste_into(read_image(photo), picture, face.points, face.matrix)
        if self.behind is not None:
            yield (
                "background",
                backgrounds.replace_background(picture, face.points, self.behind),
            )

    def write_sheet(self) -> None:
        """A row per photo: original, mask, every resolution, variants."""
        if self._rows:
            labels = ["original", "face mask", *map(str, self.hallucinator.resolutions)]
            labels += [f"variant {seed}" for seed in self.seeds]
            if self.behind is not None:
                labels.append("background")
            write_png(self.sheet, contact_sheet(self._rows, labels=labels))
