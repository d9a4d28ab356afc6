"""The model of a recognition network: faces to descriptors, and descriptors to people."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from facehal.layers.convolution import HeNormal
from facehal.models.recognition import networks
from facehal.models.recognition.heads import Cosines, with_margin

Tensor = Any


@keras.saving.register_keras_serializable("facehal")
class Recogniser(keras.Model):
    """Aligned faces to descriptors, whose correlation tells whether two are of one person.

    Call it with (n, side, side, 3), RGB in [0, 1], for (n, features) float32. The head that it
    learnt with comes along: :meth:`logits` says which of its people a descriptor is.

    Args:
        kind, side, width, blocks, features, head, scale: see
            :class:`facehal.models.recognition.config.NetworkConfig`.
        subjects: who it tells apart, in the order of the logits.
    """

    def __init__(
        self,
        kind: str = "resnet50",
        side: int = 128,
        width: int = 64,
        blocks: int = 1,
        features: int = 256,
        head: str = "softmax",
        scale: float = 64.0,
        subjects: Sequence[str] = (),
        **options: Any,
    ):
        super().__init__(**options)
        self.kind, self.side, self.width, self.blocks = kind, side, width, blocks
        self.features, self.head_kind, self.scale = features, head, scale
        self.subjects = tuple(subjects)
        if kind == "resnet50":
            self.network = networks.resnet50(side, width, features)
        else:
            self.network = networks.slim(side, width, blocks, features)
        people = len(self.subjects)
        self.head: keras.layers.Layer
        if head == "arcface":
            self.head = Cosines(people, name="head")
        else:
            initializer = HeNormal()
            self.head = keras.layers.Dense(
                people, kernel_initializer=initializer, dtype="float32", name="head"
            )
        self.head.build((None, features))
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to build: the constructor knows every shape."""

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Descriptors (n, features) of faces (n, side, side, 3) in [0, 1]."""
        return ops.cast(self.network(inputs, training=training), "float32")

    def logits(
        self, descriptors: Tensor, labels: Tensor | None = None, margin: Tensor = 0.0
    ) -> Tensor:
        """(n, people): how much a descriptor speaks for everybody, before the softmax.

        Args:
            descriptors: (n, features).
            labels: (n,), who it is: in training ArcFace's margin goes against that person.
            margin: in radians; the softmax head has none.
        """
        values = self.head(descriptors)
        if self.head_kind != "arcface":
            return values
        if labels is not None:
            values = with_margin(values, labels, margin)
        return self.scale * values

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "kind": self.kind,
            "side": self.side,
            "width": self.width,
            "blocks": self.blocks,
            "features": self.features,
            "head": self.head_kind,
            "scale": self.scale,
            "subjects": list(self.subjects),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Recogniser":
        """From :meth:`get_config`."""
        return cls(**config)
