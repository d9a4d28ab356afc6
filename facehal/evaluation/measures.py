"""The columns of the tables: each metric's name, which way is better, how it is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from facehal.errors import WeightsError
from facehal.features.descriptors import DESCRIPTORS
from facehal.images import to_float
from facehal.metrics.fid import features, frechet_distance
from facehal.metrics.interval import Mean, bootstrap_mean
from facehal.metrics.lpips import lpips
from facehal.metrics.match_score import describe, pearson
from facehal.metrics.pieapp import pieapp
from facehal.metrics.ssim import ssim
from facehal.weights import store

Pictures = np.ndarray  # (n, H, W, 3) float32 in [0, 1]


@dataclass
class Originals:
    """The real pictures, with the features of theirs that were needed already."""

    pictures: Pictures
    _features: dict[str, np.ndarray] = field(default_factory=dict)

    def features(self, name: str, compute: Callable[[Pictures], np.ndarray]) -> np.ndarray:
        """Those of the originals, computed once for all systems."""
        if name not in self._features:
            self._features[name] = compute(self.pictures)
        return self._features[name]


@dataclass(frozen=True)
class Measure:
    """One metric of a table.

    Attributes:
        key: its name on the command line and in the files.
        title: the column's heading; names the network or mode.
        better: ``high`` or ``low``.
        convention: how it is computed, for the report.
        per_pair: originals, pictures → (n,) values; or
        of_sets: originals, pictures → one value.
        weights: those without which its cell stays empty, by their names in the weight store.
        paper: whether the paper's Table 1 has it.
    """

    key: str
    title: str
    better: str
    convention: str
    per_pair: Callable[[Originals, Pictures], np.ndarray] | None = None
    of_sets: Callable[[Originals, Pictures], float] | None = None
    weights: tuple[str, ...] = ()
    paper: bool = False


def _match(descriptor: str) -> Callable[[Originals, Pictures], np.ndarray]:
    def score(originals: Originals, pictures: Pictures) -> np.ndarray:
        def compute(images: Pictures) -> np.ndarray:
            return describe(images, descriptor, progress=True)

        return pearson(originals.features(descriptor, compute), compute(pictures))

    return score


def _frechet(mode: str) -> Callable[[Originals, Pictures], float]:
    def distance(originals: Originals, pictures: Pictures) -> float:
        def compute(images: Pictures) -> np.ndarray:
            return features(images, mode, progress=True)

        return frechet_distance(originals.features(mode, compute), compute(pictures))

    return distance


MEASURES: dict[str, Measure] = {
    measure.key: measure
    for measure in (
        Measure(
            "match",
            "match score (ResNet-50-256D)",
            "high",
            "Pearson correlation of the 256-D descriptors (equation 7), mean over pairs",
            per_pair=_match("resnet50_256d"),
            weights=(DESCRIPTORS["resnet50_256d"].weights,),
            paper=True,
        ),
        Measure(
            "ssim",
            "SSIM",
            "high",
            "11×11 Gaussian window, σ 1.5, K1 0.01, K2 0.03, RGB, mean over channels and pairs",
            per_pair=lambda originals, pictures: ssim(originals.pictures, pictures, progress=True),
            paper=True,
        ),
        Measure(
            "fid",
            "FID (tf2015)",
            "low",
            "Inception of 2015, pool3, TF1 bilinear to 299, covariance with N − 1, all pictures",
            of_sets=_frechet("tf2015"),
            weights=("inception",),
            paper=True,
        ),
        Measure(
            "pieapp",
            "PieAPP v0.1",
            "low",
            "sparse patches (stride 27), channels as the official demo (BGR), mean over pairs",
            per_pair=lambda originals, pictures: pieapp(
                originals.pictures, pictures, progress=True
            ),
            weights=("pieapp",),
            paper=True,
        ),
        Measure(
            "lpips",
            "LPIPS v0.0",
            "low",
            "AlexNet, version 0.0, mean over pairs; the training loss's own metric",
            per_pair=lambda originals, pictures: lpips(originals.pictures, pictures, progress=True),
            weights=("alexnet", "lpips"),
        ),
        Measure(
            "match_dlib",
            "match score (dlib_resnet)",
            "high",
            "Pearson correlation of dlib's 128-D descriptors; not the paper's network: strangers "
            "reach 0.85 on average, two photos of one person 0.95",
            per_pair=_match("dlib_resnet"),
            weights=(DESCRIPTORS["dlib_resnet"].weights,),
        ),
        Measure(
            "frechet_dlib",
            "Fréchet distance (dlib_resnet)",
            "low",
            "Fréchet distance in the space of dlib's 128-D descriptor; not an FID",
            of_sets=_frechet("dlib_resnet"),
            weights=(DESCRIPTORS["dlib_resnet"].weights,),
        ),
        Measure(
            "l1",
            "L1",
            "low",
            "mean absolute difference over pixels and channels, mean over pairs",
            per_pair=lambda originals, pictures: np.abs(originals.pictures - pictures).mean(
                axis=(1, 2, 3), dtype=np.float64
            ),
        ),
    )
}


@dataclass(frozen=True)
class Cell:
    """One entry of a table: a mean with its interval, one value, or what is missing for it."""

    mean: Mean | None = None
    value: float | None = None
    missing: str = ""
    values: np.ndarray | None = None  # per pair

    @property
    def number(self) -> float | None:
        """The value itself, or None."""
        return self.mean.value if self.mean else self.value

    def plain(self) -> dict[str, float | str | None]:
        """For JSON: value, interval, and what is missing."""
        known = self.mean is not None and self.mean.n > 1  # one value has no interval
        low, high = (self.mean.low, self.mean.high) if self.mean and known else (None, None)
        missing = self.missing or None
        return {"value": self.number, "low": low, "high": high, "missing": missing}

    def __str__(self) -> str:
        if self.mean:
            return f"{self.mean.value:.3f} [{self.mean.low:.3f}, {self.mean.high:.3f}]"
        return self.missing if self.value is None else f"{self.value:.4g}"


def measure(one: Measure, originals: Originals, pictures: Pictures, demanded: bool) -> Cell:
    """One cell.

    Args:
        one: the metric.
        originals: the real pictures.
        pictures: a system's, in the same order.
        demanded: the user named this metric, so that a missing weight file is an error.

    Raises:
        WeightsError: ``demanded``, and the weights are not here.
    """
    try:
        if one.per_pair is None:
            assert one.of_sets is not None
            return Cell(value=one.of_sets(originals, pictures))
        values = one.per_pair(originals, pictures)
    except WeightsError as error:
        if demanded:
            raise
        return Cell(missing=_lacking(one, error))
    return Cell(mean=bootstrap_mean(values), values=values)


def measure_all(
    measures: Sequence[Measure], originals: Originals, pictures: np.ndarray, demanded: bool
) -> dict[str, Cell]:
    """One row, by metric: as :func:`measure`, of pictures (n, H, W, 3) in uint8 or float.

    Those in uint8 are floats, four times as large, only here: a table has many systems.
    """
    floats = to_float(pictures)
    return {one.key: measure(one, originals, floats, demanded) for one in measures}


def _lacking(one: Measure, error: WeightsError) -> str:
    """What stands in a cell without weights: how to get those that are absent, else the error."""
    entries = [row.entry for row in store.status() if not row.present]
    absent = [entry for entry in entries if entry.name in one.weights]
    # `weights get` does nothing about a damaged file, and has none to fetch of a pip package.
    if not absent or any(entry.package for entry in absent):
        return str(error)
    return "needs: " + " and ".join(f"`facehal weights get {entry.name}`" for entry in absent)
