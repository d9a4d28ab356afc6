"""Reading prepared faces: the manifest, the faces and their masks (section 4, "Training Data")."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from facehal.data.schema import COLUMNS, FACE_POINTS, TEXT_COLUMNS
from facehal.errors import DataError, ImageError, first_line
from facehal.faces.mask import hull_masks
from facehal.files import first_outside, linked_out
from facehal.images import read_image
from facehal.places import Address, here, path_of

KEPT = ["file", "face", "subject", "source_sha256"]
"""The manifest's columns that a `FaceSet` holds as texts; with the landmarks all it needs."""
ROWS = 20_000  # of a manifest in memory as text at a time
CHUNK = 256  # faces in memory at a time, besides the result
THREADS = 8  # more than cores: on a network drive they wait
SHARE = 8  # faces for one thread at least: a small face is decoded faster than a thread wakes


Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A folder that `preprocess` wrote, or several whose faces are taken together."""


@dataclass(frozen=True, eq=False)
class FaceSet:
    """The faces of folders that `preprocess` wrote, read from their files when they are asked for.

    Only the manifests are in memory, 1.5 KB a face: half a million faces take 0.75 GB.

    Attributes:
        folders: the prepared folders.
        frame: a row per face, numbered from 0, in the order of the manifest, the folders one after
            another; the text columns ``file`` (the photo), ``face`` (relative to its folder),
            ``subject`` (empty where nobody knows) and ``source_sha256`` (of the photo).
        landmarks: (n, 68, 2) float32, x and y in pixels of the face.
        side: width and height of a face in pixels.
        places: (n,) intp, for each face which of the folders it is in, counted from 0.
    """

    folders: tuple[Path, ...]
    frame: pd.DataFrame
    landmarks: np.ndarray
    side: int
    places: np.ndarray

    @classmethod
    def open(cls, folder: Folders, limit: int | None = None) -> "FaceSet":
        """Reads the manifest; of the pictures none, or the first where nothing else says its size.

        Of several folders a photo that is in more than one, by its SHA-256, is kept where it comes
        first. No manifest says whether a name means the same person in another folder: it is taken
        for another one, ``subject`` being ``1/NAME`` in the first folder, ``2/NAME`` in the second.
        The number, and not the folder's name, so that `labels` stay when folders are moved.

        Args:
            folder: output folder of `preprocess`, or several; one in a bucket as what
                `facehal.places.place` makes of its address.
            limit: take the first so many faces, of all folders together. The rest of the manifest
                is not read where there is but one.

        Raises:
            DataError: no folder, or a URL; no manifest, not one of ours, no usable face in it, a
                face that lies outside of the folder or has no landmarks, or nothing that says how
                large a face is; folders whose faces differ in size.
        """
        several = (folder,) if isinstance(folder, str | os.PathLike | Address) else folder
        folders = tuple(map(path_of, several))
        if not folders:
            raise DataError("no folder of prepared faces is named")
        if limit is not None and limit < 1:
            raise DataError(f"{folders[0]}: at least one face is needed, not {limit}")
        if len(folders) == 1:
            return cls._single(folders[0], limit)
        return cls.joined([cls._single(one) for one in folders], limit)

    @classmethod
    def _single(cls, folder: Path, limit: int | None = None) -> "FaceSet":
        path = _manifest(folder)
        rows = found = 0
        texts: list[pd.DataFrame] = []
        points: list[np.ndarray] = []
        for part in _parts(path, [*KEPT, "status", *FACE_POINTS]):
            rows += len(part)
            part = usable(part, None if limit is None else limit - found)
            _check_faces(path, part)
            texts.append(part[KEPT])
            points.append(_points(part))
            found += len(part)
            if found == limit:
                break
        if not found:
            raise DataError(f"{path}: none of its {rows} photos gave a face")
        frame = pd.concat(texts, ignore_index=True)
        landmarks = np.empty((found, 68, 2), np.float32)
        for start, part in zip(np.cumsum([0, *map(len, points)]), points, strict=False):
            landmarks[start : start + len(part)] = part
        side = _side(folder, frame["face"].iloc[0])
        return cls((folder,), frame, landmarks, side, np.zeros(found, np.intp))

    @classmethod
    def joined(cls, sets: Sequence["FaceSet"], limit: int | None = None) -> "FaceSet":
        """Sets of one folder each, one after another; otherwise as `open` for several folders.

        Raises:
            DataError: their faces differ in size.
        """
        first = sets[0]
        for one in sets:
            if one.side != first.side:
                raise DataError(
                    f"{first.folders[0]} has faces of {first.side}x{first.side}, {one.folders[0]} "
                    f"of {one.side}x{one.side}: preprocess the photos of both at one size"
                )
        known: set[str] = set()
        frames, points, places = [], [], []
        for place, one in enumerate(sets):
            photos = one.frame["source_sha256"]
            new = ~photos.isin(known).to_numpy(bool)
            known |= set(photos) - {""}
            subjects = [name and f"{place + 1}/{name}" for name in one.frame["subject"]]
            # Objects here, too: see _parts.
            named = one.frame.assign(subject=pd.Series(subjects, dtype=object))
            frames.append(named[new])
            points.append(one.landmarks[new])
            places.append(np.full(new.sum(), place, np.intp))
        frame = pd.concat(frames, ignore_index=True)[:limit]
        landmarks, owners = np.concatenate(points)[:limit], np.concatenate(places)[:limit]
        return cls(tuple(one.folders[0] for one in sets), frame, landmarks, first.side, owners)

    def chosen(self, rows: Sequence[int] | np.ndarray) -> "FaceSet":
        """The faces of some rows alone, numbered anew."""
        rows = np.asarray(rows, int)
        frame = self.frame.iloc[rows].reset_index(drop=True)
        return FaceSet(self.folders, frame, self.landmarks[rows], self.side, self.places[rows])

    def of_subject(self, name: str) -> "FaceSet":
        """One person's faces.

        Raises:
            DataError: there are none.
        """
        rows = np.flatnonzero(self.frame["subject"].to_numpy(object) == name)
        if not len(rows):
            raise DataError(
                f"{self.folders[0]}: no face of {name!r}; write the name as in the manifest's "
                "column subject"
            )
        return self.chosen(rows)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def subjects(self) -> list[str]:
        """Who is in the set, sorted: the subject of label i at place i; empty names left out."""
        return self._labelled[1]

    @property
    def labels(self) -> np.ndarray:
        """(n,) int32: each face's subject as its place in `subjects`; -1 without a subject.

        They are numbered within this set: another limit or folder may number people otherwise.
        """
        return self._labelled[0]

    @cached_property
    def _labelled(self) -> tuple[np.ndarray, list[str]]:
        codes, names = pd.factorize(self.frame["subject"].to_numpy(object), sort=True)
        unnamed = len(names) > 0 and names[0] == ""  # the empty name is the first of all
        return codes.astype(np.int32) - np.int32(unnamed), list(names[unnamed:])

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over what the pixels and masks follow from, hexadecimal; reads no picture.

        That is, in order: the side, and of every face the photo's hash, the face's name and the
        landmarks. A face's file that was changed afterwards is not noticed.
        """
        digest = hashlib.sha256(f"{len(self)} {self.side}".encode())
        for start in range(0, len(self), ROWS):
            part = self.frame[["source_sha256", "face"]].iloc[start : start + ROWS]
            # No cell holds a NUL: it keeps apart what stands in two cells.
            text = "\0".join(part.to_numpy(object).ravel())
            digest.update(f"\0{text}".encode("utf-8", "surrogateescape"))
            digest.update(self.landmarks[start : start + ROWS].astype("<f4").data)
        return digest.hexdigest()

    def read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads the faces of some rows, in a few threads, and draws their masks.

        Args:
            rows: numbers from 0, in any order, also several times the same.

        Returns:
            faces (n, side, side, 3) uint8 RGB, masks (n, side, side) uint8 with 1 = face.

        Raises:
            DataError: a face's file is missing, damaged or of another size.
        """
        rows = np.asarray(rows, int)
        return _read(self.paths(rows), self.landmarks[rows], self.side)

    def paths(self, rows: Sequence[int] | np.ndarray) -> list[Path]:
        """The files of the faces of some rows; DataError where one is a link out of its folder."""
        rows = np.asarray(rows, int)
        names = self.frame["face"].to_numpy(object)[rows]
        places = self.places[rows]
        return [_file(self.folders[i], name) for i, name in zip(places, names, strict=True)]

    def load(
        self, side: int | None = None, *, progress: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads all faces into memory.

        Args:
            side: shrink them to so many pixels, as `shrunk` does; never are more than some
                hundred in memory at their full size.
            progress: draw a bar on standard error.

        Returns:
            faces (n, side, side, 3) uint8 RGB, masks (n, side, side) uint8 with 1 = face.

        Raises:
            DataError: a face's file is missing, damaged or of another size; or ``side`` is no
                divisor of the set's.
        """
        side = self.side if side is None else side
        check_side(self.side, side)
        faces = np.empty((len(self), side, side, 3), np.uint8)
        masks = np.empty((len(self), side, side), np.uint8)
        with tqdm(total=len(self), unit="face", disable=not progress) as bar:
            for start in range(0, len(self), CHUNK):
                stop = min(start + CHUNK, len(self))
                faces[start:stop], masks[start:stop] = shrunk(*self.read(range(start, stop)), side)
                bar.update(stop - start)
        return faces, masks


def read_manifest(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Read and check the whole manifest: one row per photo, failed ones too, every column.

    The columns are those of `facehal.data.schema`; text columns hold strings (empty where there is
    nothing), the others numbers (NaN where there is nothing). For large sets there is `FaceSet`,
    which keeps only the columns that are needed.

    Raises:
        DataError: no manifest, not one of ours, or no usable face in it.
    """
    path = _manifest(folder)
    frame = pd.concat(_parts(path), ignore_index=True)
    ok = frame[frame["status"] == "ok"]
    if ok.empty:
        raise DataError(f"{path}: none of its {len(frame)} photos gave a face")
    _check_faces(path, ok)
    return frame


def usable(frame: pd.DataFrame, limit: int | None = None) -> pd.DataFrame:
    """The rows of a manifest that have a face, numbered from 0; at most the first ``limit``."""
    frame = frame[frame["status"] == "ok"].head(limit if limit is not None else len(frame))
    return frame.reset_index(drop=True)


def load_faces(
    folder: str | os.PathLike[str], *, limit: int | None = None, progress: bool = False
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Load the aligned faces of a preprocessed folder, their masks, and the manifest's rows.

    Args:
        folder: output folder of `preprocess`.
        limit: take the first so many faces in the order of the manifest.
        progress: show a bar.

    Returns:
        faces (n, S, S, 3) uint8 RGB, masks (n, S, S) uint8 with 1 = face, and the manifest's rows
        of these faces with all columns, numbered from 0.

    Raises:
        DataError: as `read_manifest`, or a face's file is missing, damaged or of another size.
    """
    frame = usable(read_manifest(folder), limit)
    return *load_rows(folder, frame, progress=progress), frame


def load_rows(
    folder: str | os.PathLike[str], frame: pd.DataFrame, *, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Load the faces of some rows of `usable`, for sets that do not fit into memory at once.

    Returns:
        faces (n, S, S, 3) uint8 RGB and masks (n, S, S) uint8 with 1 = face.

    Raises:
        DataError: a face's file is missing, damaged or of another size.
    """
    names, folder = frame["face"].to_numpy(object), Path(folder)
    side = _side(folder, names[0] if len(names) else "")
    return _read([_file(folder, name) for name in names], _points(frame), side, progress)


def shrunk(faces: np.ndarray, masks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Prepared faces and masks for a model whose largest resolution is smaller (the tiny size).

    Args:
        faces: (n, S, S, 3) uint8.
        masks: (n, S, S) uint8, 1 = face.
        size: divides S. Faces become the mean over squares of S / size, masks the pixel at the
            middle of each, so that they stay 0 and 1.

    Returns:
        (n, size, size, 3) and (n, size, size) uint8; the arrays themselves where S is ``size``.

    Raises:
        DataError: ``size`` does not divide S.
    """
    check_side(faces.shape[1], size)
    step = faces.shape[1] // size
    if step == 1:
        return faces, masks
    boxes = (len(faces), size, step, size, step)
    small = faces.reshape(*boxes, 3).mean(axis=(2, 4)).round().astype(np.uint8)
    return small, masks[:, step // 2 :: step, step // 2 :: step].copy()


def shrunk_points(points: np.ndarray, prepared: int, size: int) -> np.ndarray:
    """Landmarks on faces that are `shrunk`.

    Args:
        points: (n, 68, 2), x and y in pixels, (0, 0) being the centre of the top left pixel.
        prepared: side of the faces that they are on.
        size: of the shrunk ones, a divisor.

    Returns:
        The same in pixels of the shrunk faces; the array itself where they are as large.
    """
    if size == prepared:
        return points
    # Half a pixel lies between the picture's edge, which stays, and its first pixel's centre.
    return (points + 0.5) / (prepared // size) - 0.5


def check_side(prepared: int, wanted: int) -> None:
    """DataError unless faces of ``prepared`` pixels can be shrunk to ``wanted`` ones."""
    if wanted < 1 or prepared % wanted:
        raise DataError(
            f"faces of {prepared}x{prepared} cannot be shrunk to {wanted}x{wanted}: "
            "preprocess the photos at that size or a multiple of it"
        )


def _manifest(folder: str | os.PathLike[str]) -> Path:
    path = path_of(folder) / "manifest.csv"
    if not path.is_file():
        hint = f"run `facehal preprocess PHOTOS {folder}` first"
        if any(path.with_name(f"manifest.partial{end}").exists() for end in (".csv", "")):
            hint = "preprocessing was interrupted: run it again, it goes on"
        raise DataError(f"{path}: no manifest: {hint}")
    return path


def _parts(path: Path, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
    """The manifest's rows, some thousands at a time; all columns or some, landmarks as float32."""
    try:
        with here(path) as file:
            yield from _parts_of(file, path, columns)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'cannot be read'}") from error


def _parts_of(file: Path, path: Path, columns: list[str] | None) -> Iterator[pd.DataFrame]:
    """The same of a file that errors call by another name."""
    options = {"keep_default_na": False, "encoding_errors": "surrogateescape"}
    try:
        header = pd.read_csv(file, nrows=0, **options).columns
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a manifest: {first_line(error)}") from error
    absent = [name for name in COLUMNS if name not in header]
    if absent:
        raise DataError(f"{path}: the column {absent[0]} is missing: preprocess the photos again")
    try:
        parts = pd.read_csv(
            file,
            usecols=columns,
            # "NA" and "None" are names of people, too: only numbers can be missing. Objects, for
            # names that are no UTF-8 have no place in Arrow's strings.
            na_values={name: [""] for name in COLUMNS if name not in TEXT_COLUMNS},
            dtype=dict.fromkeys(TEXT_COLUMNS, object) | dict.fromkeys(FACE_POINTS, np.float32),
            chunksize=ROWS,
            **options,
        )
        with parts:
            yield from parts
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: not a manifest: {first_line(error)}") from error
    except ValueError as error:  # what is no number
        raise DataError(f"{path}: a face has no landmarks: preprocess the photos again") from error


def _points(frame: pd.DataFrame) -> np.ndarray:
    points: np.ndarray = frame[FACE_POINTS].to_numpy(np.float32)
    return points.reshape(-1, 68, 2)


def _check_faces(path: Path, frame: pd.DataFrame) -> None:
    """Every row's face must have its landmarks and lie in the folder."""
    bad = ~np.isfinite(_points(frame)).all((1, 2))
    if bad.any():
        photo = frame["file"].iloc[int(bad.argmax())]
        raise DataError(
            f"{path}: the face of {photo} has no landmarks: preprocess the photos again"
        )
    # Manifests are passed on with their pictures: one must not read elsewhere on the disk.
    strange = first_outside(path.parent, frame["face"])
    if strange is not None:
        raise DataError(f"{path}: the face {strange!r} lies outside of the folder: not read")


def _file(folder: Path, name: str) -> Path:
    """A face's file; DataError where it is a link out of the folder."""
    path = folder / name
    if linked_out(folder, path):
        raise DataError(f"{path}: is a link out of {folder}: not read; copy the picture there")
    return path


def _side(folder: Path, name: str) -> int:
    """Side of a face: what `preprocess` noted, else that of the first face."""
    try:
        side = json.loads((folder / "settings.json").read_bytes())["size"]
        if type(side) is int and side > 0:
            return side
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return int(_face(_file(folder, name)).shape[0])


def _face(path: Path) -> np.ndarray:
    try:
        return read_image(path)
    except ImageError as error:
        raise DataError(f"{error}: preprocess the photos again") from error


def read_face(path: Path, side: int) -> np.ndarray:
    """One prepared face: (side, side, 3) uint8 RGB.

    Raises:
        DataError: the file is missing, damaged or of another size.
    """
    face = _face(path)
    if face.shape != (side, side, 3):
        raise DataError(f"{path}: must be {side}x{side}: preprocess the photos again")
    return face


def _read(
    paths: Sequence[Path], points: np.ndarray, side: int, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    faces = np.empty((len(paths), side, side, 3), np.uint8)
    with tqdm(total=len(paths), unit="face", disable=not progress) as bar:

        def load(rows: range) -> None:
            for row in rows:
                faces[row] = read_face(paths[row], side)
            bar.update(len(rows))

        step = max(SHARE, min(CHUNK, -(-len(paths) // THREADS)))
        shares = [range(i, min(i + step, len(paths))) for i in range(0, len(paths), step)]
        if len(shares) < 2:
            for share in shares:
                load(share)
        else:
            # OpenCV decodes outside Python's lock.
            with ThreadPoolExecutor(min(THREADS, len(shares))) as pool:
                list(pool.map(load, shares))
    return faces, hull_masks(points, side)
