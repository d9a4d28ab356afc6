"""The losses of EdgeConnect's two generators and of their discriminators.

All are means, over batch, pixels and channels; discriminators give logits.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from facehal.features.alexnet import AlexNet
from facehal.features.vgg19 import Vgg19
from facehal.layers.translation import translated
from facehal.models.edgeconnect.config import LossConfig

Tensor = Any
Critic = Callable[[Tensor], Sequence[Tensor]]
Report = dict[str, Tensor]

EDGE = 0.5  # probability from which a pixel counts as an edge in the report

CONTENT = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
STYLE = ("conv2_2", "conv3_4", "conv4_4", "conv5_2")
"""Layers of VGG-19 behind whose ReLU the two terms compare."""


def as_real(logits: Tensor) -> Tensor:
    """Binary cross-entropy of logits that should say "real"."""
    return ops.mean(ops.softplus(-logits))


def as_fake(logits: Tensor) -> Tensor:
    """Binary cross-entropy of logits that should say "generated"."""
    return ops.mean(ops.softplus(logits))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Half the sum of both cross-entropies, of logits."""
    return (as_real(real) + as_fake(fake)) / 2.0


def l1(target: Tensor, output: Tensor) -> Tensor:
    """Mean absolute difference; the gradient flows to the second only."""
    target, output = (ops.cast(x, "float32") for x in (ops.stop_gradient(target), output))
    return ops.mean(ops.abs(target - output))


def gram(features: Tensor) -> Tensor:
    """Which channels come together: (n, h, w, c) to (n, c, c), divided by c·h·w."""
    _, height, width, channels = features.shape
    pixels = ops.reshape(features, (-1, height * width, channels))
    products = ops.matmul(ops.transpose(pixels, (0, 2, 1)), pixels)
    return products / float(height * width * channels)


class Features:
    """The frozen network that the content and the style term compare in.

    A plain object, not a layer: its variables join no model's weights or saved file.

    Args:
        name: ``vgg19``, as published, or ``alexnet``, LPIPS's trunk: content on its five ReLUs,
            style on the last four.

    Raises:
        WeightsError: the weights are not on this machine; says how to get them.
    """

    def __init__(self, name: str):
        self.name = name
        self.network = Vgg19((*CONTENT, *STYLE)) if name == "vgg19" else AlexNet()

    def __call__(self, pictures: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The maps of the content and of the style term of pictures (n, h, w, 3) in [0, 1]."""
        if self.name == "vgg19":
            # In [0, 1], without ImageNet's mean and deviation: so the authors feed it.
            maps = list(self.network(pictures, training=False))
            return maps[: len(CONTENT)], maps[len(CONTENT) :]
        maps = list(self.network(pictures * 2.0 - 1.0, training=False))
        return maps, maps[1:]


def content(features: Features, target: Tensor, output: Tensor) -> Tensor:
    """The summed L1 distance of the maps."""
    pairs = zip(features(target)[0], features(output)[0], strict=True)
    return sum(l1(a, b) for a, b in pairs)


def style(features: Features, target: Tensor, output: Tensor) -> Tensor:
    """The summed L1 distance of the maps' Gram matrices."""
    pairs = zip(features(target)[1], features(output)[1], strict=True)
    return sum(l1(gram(a), gram(b)) for a, b in pairs)


EDGE_TERMS = (
    "adversarial",
    "matching",
    "generator",
    "discriminator",
    "real_probability",
    "fake_probability",
    "precision",
    "recall",
)


def edge_losses(
    config: LossConfig,
    pictures: Tensor,
    edges: Tensor,
    output: Tensor,
    hole: Tensor,
    critic: Critic,
    detached_critic: Critic,
) -> tuple[Tensor, Tensor, Report]:
    """Loss of G1, loss of D1, and their terms, unweighted.

    Args:
        config: the weights.
        pictures: (n, h, w, 1), grey; the discriminator sees them whole.
        edges: (n, h, w, 1), true ones.
        output: (n, h, w, 1), G1's.
        hole: (n, h, w, 1); precision and recall of the edges are those inside it.
        critic: D1, with gradient to its variables.
        detached_critic: D1 without.
    """
    real = critic(ops.concatenate([pictures, edges], axis=-1))
    fake = critic(ops.concatenate([pictures, ops.stop_gradient(output)], axis=-1))
    seen = detached_critic(ops.concatenate([pictures, output], axis=-1))
    report = _critics(real, fake)
    report["adversarial"] = as_real(seen[-1])
    report["matching"] = sum(l1(a, b) for a, b in zip(real, seen, strict=True))
    report["generator"] = report["adversarial"] + config.matching * report["matching"]
    report["precision"], report["recall"] = agreement(edges * hole, output * hole)
    return report["generator"], report["discriminator"], report


def agreement(edges: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Which share of the found edges is true, and which share of the true ones is found."""
    true, found = (ops.cast(x > EDGE, "float32") for x in (edges, output))
    both = ops.sum(true * found)
    return tuple(both / ops.maximum(ops.sum(x), 1.0) for x in (found, true))


def picture_terms(config: LossConfig) -> tuple[str, ...]:
    """The keys of the report of :func:`picture_losses`."""
    compared = [name for name in ("content", "style") if getattr(config, name)]
    critics = ("discriminator", "real_probability", "fake_probability")
    return ("pixel", *compared, "adversarial", "generator", *critics)


def picture_losses(
    config: LossConfig,
    features: Features | None,
    target: Tensor,
    output: Tensor,
    hole: Tensor,
    critic: Critic,
    detached_critic: Critic,
    step: Tensor = 0,
) -> tuple[Tensor, Tensor, Report]:
    """Loss of G2, loss of D2, and their terms, unweighted.

    Args:
        config: the weights; a term of weight 0 is not computed.
        features: of the content and the style term; None where neither has a weight.
        target: (n, h, w, 3) in [0, 1].
        output: the same of G2, known pixels as it painted them.
        hole: (n, h, w, 1).
        critic: D2, with gradient to its variables.
        detached_critic: D2 without.
        step: scalar integer; which of the translations it is (``config.translation``).
    """

    def moved(pictures: Tensor) -> Tensor:
        return translated(pictures, config.translation, step) if config.translation else pictures

    real, fake = critic(target), critic(ops.stop_gradient(output))
    report = _critics(real, fake)
    # Over the whole picture, made as large as if it were over the hole.
    report["pixel"] = l1(target, output) / ops.maximum(ops.mean(hole), 1e-3)
    if features is not None and config.content:
        report["content"] = content(features, moved(target), moved(output))
    if features is not None and config.style:
        report["style"] = style(features, moved(target * hole), moved(output * hole))
    report["adversarial"] = as_real(detached_critic(output)[-1])
    total = sum(
        getattr(config, name) * report[name]
        for name in ("pixel", "content", "style", "adversarial")
        if name in report
    )
    report["generator"] = total
    return total, report["discriminator"], report


def _critics(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Report:
    """The discriminator's loss and its mean probabilities of "real"."""
    return {
        "discriminator": discriminator_loss(real[-1], fake[-1]),
        "real_probability": ops.mean(ops.sigmoid(real[-1])),
        "fake_probability": ops.mean(ops.sigmoid(fake[-1])),
    }
