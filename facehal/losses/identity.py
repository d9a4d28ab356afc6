"""The identity loss (section 3.2, equation 4): squared distance of two face descriptors."""

from typing import Any

from keras import ops

from facehal.features.descriptors import DESCRIPTORS, Describer

Tensor = Any


def identity_network(name: str) -> Describer:
    """Make the identity network of this name: `"vgg_face"` is the paper's, `"dlib_resnet"` ours.

    Args:
        name: one of `facehal.features.descriptors.DESCRIPTORS`.

    Raises:
        ValueError: unknown name.
        WeightsError: its weights are not on this machine; says how to get them.
    """
    if name not in DESCRIPTORS:
        raise ValueError(f"no identity network is called {name!r}; there are: {list(DESCRIPTORS)}")
    return DESCRIPTORS[name].load()


class IdentityLoss:
    """Equation 4: the mean over batch and features of the squared difference of descriptors.

    A plain object, not a layer: its frozen variables join no model's weights or saved file.

    The two networks are not on one scale. dlib's descriptor has 128 values of the order of 0.1 and
    a length of about 1.4: being a mean, the loss at dlib's threshold between strangers, a distance
    of 0.6, is 0.36 / 128 = 0.0028, and that of a good likeness (0.3) 0.0007. VGG-Face's fc7 has
    4096 values without any such bound, scaled by pixels of 0-255. The paper's weight of 10 is for
    fc7; with dlib's network it holds the identity far more loosely.

    Args:
        network: a name for `identity_network`, or one already made (to share it between blocks).

    Raises:
        ValueError: unknown name.
        WeightsError: its weights are not on this machine.
    """

    def __init__(self, network: str | Describer = "vgg_face") -> None:
        self.network = identity_network(network) if isinstance(network, str) else network

    def __call__(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Loss (scalar, float32) of two batches (n, N, N, 3) of aligned faces, RGB in [0, 1].

        The gradient flows to `y_pred` only.
        """
        return self.distance(self.network(y_true), self.network(y_pred))

    def distance(self, target: Tensor, descriptor: Tensor) -> Tensor:
        """The same for descriptors (n, size); the gradient flows to the second only."""
        return ops.mean(ops.square(descriptor - ops.stop_gradient(target)))
