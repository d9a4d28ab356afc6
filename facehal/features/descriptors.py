"""Every frozen network that describes a face, by name: what losses and metrics choose from.

Descriptors of different networks cannot be compared with each other, nor can losses and scores that
are made of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from facehal.features import dlib_resnet, resnet50, vgg_face

Tensor = Any


@dataclass(frozen=True)
class Describer:
    """A frozen network with everything that goes before it, ready for use.

    A plain object, not a layer: its variables join no model's weights or saved file.

    Attributes:
        name: of the descriptor.
        size: length of the descriptor.
        function: aligned faces (n, N, N, 3), RGB in [0, 1], of any size N, to (n, size) float32;
            differentiable. Compute those of fixed pictures once and reuse them.
    """

    name: str
    size: int
    function: Callable[[Tensor], Tensor]

    def __call__(self, faces: Tensor) -> Tensor:
        """The descriptors of aligned faces: (n, N, N, 3), RGB in [0, 1], to (n, size) float32."""
        return self.function(faces)


@dataclass(frozen=True)
class Descriptor:
    """One row of `DESCRIPTORS`.

    Attributes:
        name: how configurations, commands and results call it.
        what: network, data set and layer, for people.
        size: length of the descriptor.
        weights: their name in the weight store.
        network: makes the frozen network, (n, h, w, 3) to (n, size) float32; WeightsError where its
            weights are not on this machine.
        prepare: aligned faces (n, N, N, 3), RGB in [0, 1], to the network's input, differentiable.
            What the network does itself (resizing, mean) stands with it.
    """

    name: str
    what: str
    size: int
    weights: str
    network: Callable[[], keras.Model]
    prepare: Callable[[Tensor], Tensor]

    def load(self) -> Describer:
        """Make the network: a Describer, anew with every call.

        Raises:
            WeightsError: its weights are not on this machine; says how to get them.
        """
        network, prepare = self.network(), self.prepare
        return Describer(self.name, self.size, lambda f: network(prepare(f), training=False))


def _as_it_is(faces: Tensor) -> Tensor:
    """The network takes RGB in [0, 1] of any size."""
    return ops.convert_to_tensor(faces, dtype="float32")


# The networks are looked up when they are made: a test may put a slim one in a module's place.
DESCRIPTORS: dict[str, Descriptor] = {
    row.name: row
    for row in (
        Descriptor(
            name="resnet50_256d",
            what="VGGFace2's ResNet-50, 256-D: the paper's match score (equation 7)",
            size=resnet50.SIZE,
            weights="resnet50_256d",
            network=lambda: resnet50.ResNet50(),
            prepare=_as_it_is,
        ),
        Descriptor(
            name="dlib_resnet",
            what="dlib's face descriptor, 128-D, which every install has",
            size=dlib_resnet.SIZE,
            weights="dlib_resnet",
            network=lambda: dlib_resnet.DlibResNet(),
            prepare=dlib_resnet.aligned_chip,
        ),
        Descriptor(
            name="vgg_face",
            what="VGG-Face's fc7, 4096-D: the paper's identity loss (equation 4)",
            size=vgg_face.SIZE,
            weights="vgg_face",
            network=lambda: vgg_face.VggFace(),
            prepare=_as_it_is,
        ),
        Descriptor(
            name="vgg_face_fc6",
            what="VGG-Face's fc6, 4096-D",
            size=vgg_face.SIZE,
            weights="vgg_face",
            network=lambda: vgg_face.taps(vgg_face.VggFace(), ["fc6"]),
            prepare=_as_it_is,
        ),
        Descriptor(
            name="vgg_face_hypercolumn",
            what="VGG-Face's mean hypercolumn, 1472-D: the pairs of section 4.2",
            size=vgg_face.HYPERCOLUMN_SIZE,
            weights="vgg_face",
            network=lambda: vgg_face.mean_hypercolumn(vgg_face.VggFace()),
            prepare=_as_it_is,
        ),
    )
}
"""Name of a descriptor: what is known of it."""
