"""A small set of photos for trials: variations of two public-domain portraits.

They are Eileen Collins (NASA, in scikit-image) and Grace Hopper (US Navy, in matplotlib). Two
people are no training set; these photos show that everything runs, on any machine, offline.
"""

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from facehal.errors import DataError
from facehal.faces.alignment import warp
from facehal.files import write_bytes
from facehal.images import read_image
from facehal.videos import write_video

SIDE = 250
"""Width and height of a sample photo in pixels, those of LFW."""

CLIP_SIZE = 320, 240
"""Width and height of the frames of a sample clip in pixels."""

CLIP_RATE = 24
"""Frames per second of a sample clip."""

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


def write_clips(
    out_dir: str | os.PathLike[str], frames: int = 72, *, progress: bool = False
) -> list[Path]:
    """Write two short clips of each portrait, .mp4: as it is, and its head turning (`clip`).

    Raises:
        DataError: the portraits are not installed.
        FacehalError: a clip cannot be written.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1, not {frames}")
    paths = []
    for name, turning in itertools.product(portraits(), (False, True)):
        path = Path(out_dir) / f"{name}{'_turning' * turning}.mp4"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
        made = clip(name, frames, turning=turning)
        shown = tqdm(made, total=frames, unit="frame", disable=not progress)
        write_video(path, shown, CLIP_RATE)
        paths.append(path)
    return paths


def clip(name: str, frames: int = 72, *, turning: bool = False) -> Iterator[np.ndarray]:
    """Give the frames of one portrait's clip, (240, 320, 3) uint8, the same ones every time.

    The camera's zoom, place and turn follow sine curves of their own; within three seconds the
    face's width changes by a quarter, its place by more than the distance of its eyes, its angle by
    12 degrees. Every frame has its own grain, as those of a camera have.

    Args:
        name: of the portrait.
        frames: how many.
        turning: the head turns, too, left and right: what is near the camera, the nose most, moves
            sideways before the rest.

    Raises:
        DataError: the portraits are not installed.
    """
    portrait = portraits()[name]
    for index in range(frames):
        shown = _turned(portrait, _EYES[name], index / CLIP_RATE) if turning else portrait
        frame = warp(shown, clip_matrix(name, index), CLIP_SIZE).astype(np.float32)
        grain = np.random.default_rng(index).normal(0, 2, frame.shape)
        yield np.rint(np.clip(frame + grain, 0, 255)).astype(np.uint8)


def clip_matrix(name: str, index: int) -> np.ndarray:
    """Where a frame of a clip shows the portrait: (2, 3), from its pixels to the frame's."""
    (x0, y0), (x1, y1) = _EYES[name]
    second = index / CLIP_RATE
    scale = 48 * (1 + 0.125 * math.sin(2.2 * second)) / math.hypot(x1 - x0, y1 - y0)
    angle = math.radians(6 * math.sin(2.9 * second + 1))
    across = CLIP_SIZE[0] * 0.5 + 28 * math.sin(1.9 * second)
    target = np.array([across, CLIP_SIZE[1] * 0.46 + 12 * math.sin(2.6 * second + 2)])
    turn = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    return np.column_stack([turn, target - turn @ [(x0 + x1) / 2, (y0 + y1) / 2]])


def _turned(
    portrait: np.ndarray, eyes: tuple[tuple[float, float], tuple[float, float]], second: float
) -> np.ndarray:
    """The portrait at a moment of turning, its head a smooth bump that sways sideways."""
    (x0, y0), (x1, y1) = eyes
    distance = math.hypot(x1 - x0, y1 - y0)
    y, x = np.mgrid[: portrait.shape[0], : portrait.shape[1]].astype(np.float32)
    across, down = x - (x0 + x1) / 2, y - (y0 + y1) / 2 - distance / 2
    depth = np.exp(-(across**2 + down**2) / (2 * (1.1 * distance) ** 2))
    x -= np.float32(0.35 * distance * math.sin(2.4 * second)) * depth
    return cv2.remap(portrait, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


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
