"""One way to describe pictures by any of the frozen networks: arrays in, arrays out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from facehal.features import dlib_resnet, inception_v3, resnet50, vgg_face

Tensor = Any


@dataclass(frozen=True)
class Descriptor:
    """A frozen network that turns pictures into vectors; call it.

    Attributes:
        name: as in `NAMES`; write it beside every number that comes of it.
        size: length of the vectors.
        network: (n, H, W, 3) RGB in [0, 1] to (n, size) float32 tensors.
    """

    name: str
    size: int
    network: Callable[[Tensor], Tensor]

    def __call__(self, pictures: np.ndarray, batch_size: int = 16) -> np.ndarray:
        """Describe any number of pictures.

        Args:
            pictures: (n, H, W, 3) RGB, float in [0, 1] or uint8.
            batch_size: how many go through the network at once; only memory and speed depend on
                it.

        Returns:
            (n, size) float32.

        Raises:
            ValueError: pictures of another shape, type or range.
        """
        if pictures.ndim != 4 or pictures.shape[3] != 3:
            raise ValueError(f"pictures are (n, H, W, 3) RGB, not {pictures.shape}")
        if pictures.dtype != np.uint8 and pictures.dtype.kind != "f":
            raise ValueError(f"pictures are uint8 or float in [0, 1], not {pictures.dtype}")
        vectors = np.empty((len(pictures), self.size), np.float32)
        for start in range(0, len(pictures), batch_size):
            batch = pictures[start : start + batch_size]
            count = len(batch)
            if batch.dtype == np.uint8:
                batch = batch.astype(np.float32) / 255
            elif not (batch.min() >= -1e-6 and batch.max() <= 1 + 1e-6):
                raise ValueError(
                    f"pictures are in [0, 1], not [{batch.min():.3g}, {batch.max():.3g}]"
                )
            if start and count < batch_size:
                # A last batch of another size would be compiled anew.
                batch = np.concatenate(
                    [batch, np.zeros_like(pictures[: batch_size - count], batch.dtype)]
                )
            vectors[start : start + count] = ops.convert_to_numpy(self.network(batch))[:count]
        return vectors


def _model(model: keras.Model, pictures: Tensor) -> Tensor:
    return model(ops.convert_to_tensor(pictures, dtype="float32"), training=False)


def _resnet50() -> Callable[[Tensor], Tensor]:
    return partial(_model, resnet50.ResNet50())


def _dlib() -> Callable[[Tensor], Tensor]:
    model = dlib_resnet.DlibResNet()
    return lambda pictures: _model(model, dlib_resnet.aligned_chip(pictures))


def _vgg_face(layer: str) -> Callable[[Tensor], Tensor]:
    return partial(_model, vgg_face.taps(vgg_face.VggFace(), [layer]))


def _hypercolumn() -> Callable[[Tensor], Tensor]:
    return partial(_model, vgg_face.mean_hypercolumn(vgg_face.VggFace()))


def _inception(mode: inception_v3.Mode) -> Callable[[Tensor], Tensor]:
    return partial(_model, inception_v3.InceptionV3(mode))


_NETWORKS: dict[str, tuple[int, Callable[[], Callable[[Tensor], Tensor]]]] = {
    "resnet50_256d": (resnet50.SIZE, _resnet50),
    "dlib_resnet": (dlib_resnet.SIZE, _dlib),
    "vgg_face": (vgg_face.SIZE, partial(_vgg_face, "fc7")),
    "vgg_face_fc6": (vgg_face.SIZE, partial(_vgg_face, "fc6")),
    "vgg_face_hypercolumn": (vgg_face.HYPERCOLUMN_SIZE, _hypercolumn),
    "inception_tf2015": (inception_v3.SIZE, partial(_inception, "tf2015")),
    "inception_clean": (inception_v3.SIZE, partial(_inception, "clean")),
}

NAMES = tuple(_NETWORKS)
"""The paper's for the match score; dlib's, of every install; VGG-Face's fc7, fc6 and mean
hypercolumn; and the two modes of FID's features. `dlib_resnet` takes square aligned faces, as
`facehal.faces.alignment` cuts them, the others pictures of any size."""


def descriptor(name: str) -> Descriptor:
    """Make the descriptor of this name; no other network ever stands in for it.

    Raises:
        ValueError: unknown name.
        WeightsError: its weights are not on this machine; says how to get them.
    """
    if name not in _NETWORKS:
        raise ValueError(f"no descriptor is called {name!r}; there are: {', '.join(NAMES)}")
    size, make = _NETWORKS[name]
    return Descriptor(name, size, make())
