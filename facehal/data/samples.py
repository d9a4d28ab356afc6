"""A small set of photos for trials: variations of two public-domain portraits.

They are Eileen Collins (NASA, in scikit-image) and Grace Hopper (US Navy, in matplotlib). Two
people are no training set; these photos show that everything runs, on any machine, offline.
"""

import math
import os
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from facehal.errors import DataError
from facehal.faces.alignment import warp
from facehal.files import write_bytes
from facehal.images import read_image

SIDE = 250
"""Width and height of a sample photo in pixels, those of LFW."""

# Where the eyes are, in pixels of the portraits, as dlib's landmarks say: (x, y) left and right.
_EYES = {
    "Eileen_Collins": ((203.3, 101.6), (246.6, 103.8)),
    "Grace_Hopper": ((222.6, 193.9), (306.9, 191.0)),
}


def portraits() -> dict[str, np.ndarray]:
    """Return the two portraits by name: (H, W, 3) uint8 RGB.

    Raises:
        DataError: scikit-image or matplotlib is not installed, or has no such picture.
    """
    try:
        import skimage.data
        from matplotlib.cbook import get_sample_data

        collins = skimage.data.astronaut()
        hopper = read_image(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    except (ImportError, OSError) as error:
        raise DataError(
            f"the sample portraits are not here ({error}): `pip install facehal[portraits]`"
        ) from error
    return {"Eileen_Collins": collins, "Grace_Hopper": hopper}


def write_samples(
    out_dir: str | os.PathLike[str], count: int = 100, *, progress: bool = False
) -> list[Path]:
    """Write a set of photos to preprocess: one folder per subject, 250x250 JPEG.

    Each is one of the two portraits, by turns, cropped, turned by up to 15 degrees, mirrored and
    relit at random; the same numbers give the same photos. Returns their paths.

    Raises:
        DataError: the portraits are not installed, or the folder cannot be written.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    sources = portraits()
    names = list(sources)
    paths = []
    for index in tqdm(range(count), unit="photo", disable=not progress):
        name = names[index % len(names)]
        # Seeded by photo: the first photos of a larger set are those of a smaller one.
        photo = _variation(sources[name], _EYES[name], np.random.default_rng(index))
        path = Path(out_dir) / name / f"{name}_{index // len(names) + 1:04d}.jpg"
        _, data = cv2.imencode(
            ".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95]
        )
        try:
            write_bytes(path, data.tobytes())
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
        paths.append(path)
    return paths


def _variation(
    portrait: np.ndarray,
    eyes: tuple[tuple[float, float], tuple[float, float]],
    random: np.random.Generator,
) -> np.ndarray:
    (x0, y0), (x1, y1) = eyes
    # Eyes about 55 pixels apart and a little above the middle, as LFW has them.
    scale = random.uniform(48, 64) / math.hypot(x1 - x0, y1 - y0)
    angle = math.radians(random.uniform(-15, 15))
    target = np.array([SIDE * 0.5, SIDE * 0.46]) + random.uniform(-12, 12, 2)
    turn = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    photo = warp(portrait, np.column_stack([turn, target - turn @ middle]), SIDE)
    if random.random() < 0.5:
        photo = photo[:, ::-1]
    return _relit(photo, random)


def _relit(photo: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another exposure, another white balance, and a light from one side."""
    light = photo.astype(np.float32) / 255
    light = light ** random.uniform(0.7, 1.4) * random.uniform(0.93, 1.07, 3)
    angle = random.uniform(0, 2 * math.pi)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    slope = random.uniform(0, 0.25) * (x * math.cos(angle) + y * math.sin(angle))
    levels: np.ndarray = np.rint(np.clip(light * (1 + slope[..., None]), 0, 1) * 255)
    return levels.astype(np.uint8)
