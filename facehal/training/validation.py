"""How the model of a run does on faces that it does not train on, after every epoch."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from facehal.data.faceset import FaceSet, check_side, shrunk
from facehal.errors import TrainingError
from facehal.images import to_float
from facehal.layers.pyramid import pyramid
from facehal.losses.terms import PIXEL_TERMS
from facehal.metrics.lpips import lpips
from facehal.metrics.ssim import WINDOW, ssim
from facehal.models.base import PictureModel
from facehal.models.task import People, PictureMeasures

HELD_OUT = 2048  # photos of the people trained on: smaller work each
FACES = 512  # at most, evenly spaced over the folder: a few seconds of every epoch
BATCH = 32


class Validation:
    """Measures on held-out faces: pixel term, perceptual term and SSIM of every resolution.

    Pixel and perceptual term are the loss's own (section 3.2) on whole pictures, without weight
    and without ``loss.translation``; SSIM is :func:`facehal.metrics.ssim.ssim`. All are of the
    model that is saved, with its moving average where one is kept.

    Args:
        data: a folder that ``preprocess`` wrote; at most ``FACES`` of its faces are used.
        measures: which; the largest of its resolutions is the faces'.
        trained: ``source_sha256`` of the photos that are trained on.

    Raises:
        DataError: no prepared faces in ``data``.
        TrainingError: photos among them are trained on.
    """

    def __init__(self, data: str | Path, measures: PictureMeasures, trained: Iterable[str]):
        found = FaceSet.open(data)
        known = set(trained)
        both = [index for index, sha in enumerate(found.frame["source_sha256"]) if sha in known]
        if both:
            raise TrainingError(
                f"{data}: {len(both)} of these {len(found)} photos are trained on "
                f"({found.frame['file'][both[0]]}); validate on others, of other people"
            )
        side = measures.resolutions[-1]
        check_side(found.side, side)
        chosen = np.linspace(0, len(found) - 1, min(FACES, len(found))).astype(int)
        faces, masks = shrunk(*found.read(chosen), side)
        self.targets, self.masks = to_float(faces), masks.astype("float32")
        self.measures = measures

    def _perceptual_at(self, resolution: int) -> bool:
        return bool(self.measures.lpips_version) and resolution >= self.measures.lpips_from

    def names(self, resolution: int) -> tuple[str, ...]:
        """What is measured of a resolution, as columns of ``history.csv`` without it."""
        names = ["validation_pixel"]
        if self._perceptual_at(resolution):
            names.append("validation_perceptual")
        if resolution >= WINDOW:
            names.append("validation_ssim")
        return tuple(names)

    @property
    def columns(self) -> list[str]:
        """All of them, of every resolution."""
        return [f"{size}/{n}" for size in self.measures.resolutions for n in self.names(size)]

    def measure(self, network: PictureModel) -> dict[str, float]:
        """Means over the faces, ``{"128/validation_pixel": …}``, of each block that there is."""
        found: dict[str, float] = {}
        for size, (targets, outputs) in self._pictures(network).items():
            values = [PIXEL_TERMS[self.measures.pixel](targets, outputs)]
            if self._perceptual_at(size):
                values.append(lpips(targets, outputs, self.measures.lpips_version).mean())
            if size >= WINDOW:
                values.append(ssim(targets, outputs).mean())
            names = self.names(size)
            found |= {f"{size}/{n}": float(v) for n, v in zip(names, values, strict=True)}
        return found

    def _pictures(self, network: PictureModel) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Originals and hallucinated pictures of every resolution."""
        sizes = tuple(network.resolutions)
        parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {size: [] for size in sizes}
        for start in range(0, len(self.targets), BATCH):
            batch = slice(start, start + BATCH)
            targets, masks = self.targets[batch], self.masks[batch, ..., None]
            count = len(targets)
            if start:  # a last batch is filled up, for XLA compiles anew for another size
                fill = ((0, BATCH - count), (0, 0), (0, 0), (0, 0))
                targets, masks = np.pad(targets, fill), np.pad(masks, fill)
            outputs = network.predict_on_batch({"masked_faces": targets * masks, "masks": masks})
            originals = pyramid(targets, sizes)
            for size in sizes:
                pair = (originals[size], outputs[str(size)])
                a, b = (ops.convert_to_numpy(x)[:count].clip(0, 1) for x in pair)
                parts[size].append((a, b))
        return {
            size: (np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
            for size, pairs in parts.items()
        }


class HeldOut:
    """Measures on held-out photos of the people who are trained on, for families that tell them
    apart.

    Args:
        faces: prepared, with subjects; at most ``HELD_OUT`` are used, evenly spaced. Always real
            ones, whatever the training adds to them.
        subjects: of the training, in the order of its labels.
        people: how they are judged.
        side: pixels of the faces that the model takes.

    Raises:
        DataError: a face's file is missing or damaged, or ``side`` does not divide its side.
    """

    def __init__(self, faces: FaceSet, subjects: Sequence[str], people: People, side: int):
        chosen = np.linspace(0, len(faces) - 1, min(HELD_OUT, len(faces))).astype(int)
        faces = faces.chosen(chosen)
        self.faces, _ = faces.load(side)
        places = {name: label for label, name in enumerate(subjects)}
        self.labels = np.array([places[name] for name in faces.frame["subject"]], np.int32)
        self.people = people

    @property
    def columns(self) -> list[str]:
        """Of ``history.csv``."""
        return list(self.people.columns)

    def measure(self, model: keras.Model) -> dict[str, float]:
        """The mean of every column over the photos."""
        parts = [
            {name: ops.convert_to_numpy(values)[:count] for name, values in judged.items()}
            for judged, count in self._judged(model)
        ]
        return {
            name: float(np.concatenate([part[name] for part in parts]).mean())
            for name in self.people.columns
        }

    def _judged(self, model: keras.Model) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        for start in range(0, len(self.labels), BATCH):
            batch = slice(start, start + BATCH)
            faces, labels = to_float(self.faces[batch]), self.labels[batch]
            count = len(labels)
            if start:  # a last batch is filled up, for XLA compiles anew for another size
                faces = np.pad(faces, ((0, BATCH - count), (0, 0), (0, 0), (0, 0)))
                labels = np.pad(labels, (0, BATCH - count))
            yield self.people.judge(model, model.predict_on_batch(faces), labels), count
