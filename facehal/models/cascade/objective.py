"""Equation 6: the weighted sum of all terms for one block, every term by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

from facehal.backend import input_gradient
from facehal.features.lpips import LPIPS
from facehal.layers.translation import translated
from facehal.losses import terms
from facehal.losses.identity import IdentityLoss
from facehal.models.cascade.config import LossConfig

Tensor = Any


@dataclass(frozen=True)
class BlockLosses:
    """What one block contributes to a step.

    Attributes:
        generator: scalar; the weighted sum of equation 6.
        discriminator: scalar; real plus fake mini-batch.
        report: every term by name, unweighted, plus the two sums and the discriminator's mean
            probabilities.
    """

    generator: Tensor
    discriminator: Tensor
    report: dict[str, Tensor]


class Objective:
    """The losses of a block at any resolution.

    Args:
        config: weights and choices. A term of weight zero is not computed, and the networks that
            it needs are not loaded.

    Raises:
        WeightsError: a term of non-zero weight needs a weight file that is not here.
    """

    def __init__(self, config: LossConfig):
        self.config = config
        self.lpips: Any = LPIPS(config.lpips_version) if config.perceptual else None
        self.identity: Any = IdentityLoss(config.identity_network) if config.identity else None

    def names(self, resolution: int) -> tuple[str, ...]:
        """The keys of :attr:`BlockLosses.report` at this resolution, in order."""
        return self.terms(self.config, resolution)

    @staticmethod
    def terms(config: LossConfig, resolution: int) -> tuple[str, ...]:
        """The same, without the networks that the losses need."""
        names = ["pixel"]
        if config.perceptual_at(resolution):
            names.append("perceptual")
        if config.adversarial_at(resolution):
            names.append("adversarial")
        if config.identity_at(resolution):
            names.append("identity")
        if config.total_variation:
            names.append("total_variation")
        if config.lattice_at(resolution):
            names.append("lattice")
        names.append("generator")
        if config.adversarial_at(resolution):
            names += ["discriminator", "real_probability", "fake_probability"]
            if config.gradient_penalty:
                names.append("gradient_penalty")
        return tuple(names)

    def __call__(
        self,
        target: Tensor,
        output: Tensor,
        discriminator: Callable[[Tensor], Tensor] | None,
        detached_discriminator: Callable[[Tensor], Tensor] | None,
        step: Tensor = 0,
        compared: int | None = None,
    ) -> BlockLosses:
        """The losses of one block.

        Args:
            target: real pictures, (n, N, N, 3) in [0, 1].
            output: hallucinated pictures with the original face pixels, the same shape.
            discriminator: pictures → (n,) probabilities, with gradient to its variables.
            detached_discriminator: the same without gradient to its variables.
            step: scalar integer; which of the translations it is (``config.translation``).
            compared: only so many of the first pictures are compared with the originals, pixel by
                pixel and by LPIPS; by default all.
        """
        config = self.config
        resolution = target.shape[1]
        report = {"pixel": terms.PIXEL_TERMS[config.pixel](target[:compared], output[:compared])}
        total = report["pixel"]
        seen, seen_target = output, target
        if config.translation:
            seen, seen_target = (translated(x, config.translation, step) for x in (output, target))
        if config.perceptual_at(resolution):
            report["perceptual"] = ops.mean(self.lpips(seen_target[:compared], seen[:compared]))
            total += config.perceptual * report["perceptual"]
        if config.adversarial_at(resolution):
            assert detached_discriminator is not None
            report["adversarial"] = terms.adversarial(detached_discriminator(seen))
            total += config.adversarial * report["adversarial"]
        if config.identity_at(resolution):
            report["identity"] = self.identity(target, output)
            total += config.identity * report["identity"]
        if config.total_variation:
            report["total_variation"] = terms.total_variation(output)
            total += config.total_variation * report["total_variation"]
        if config.lattice_at(resolution):
            report["lattice"] = terms.lattice(output)
            total += config.lattice * report["lattice"]
        report["generator"] = total

        discriminator_loss = ops.zeros(())
        if config.adversarial_at(resolution):
            assert discriminator is not None
            real = discriminator(seen_target)
            fake = discriminator(ops.stop_gradient(seen))
            discriminator_loss = terms.discriminator_real(
                real, config.label_smoothing
            ) + terms.discriminator_fake(fake)
            report["discriminator"] = discriminator_loss
            report["real_probability"] = ops.mean(real)
            report["fake_probability"] = ops.mean(fake)
            if config.gradient_penalty:
                # On the plain pictures' gradient: the translation only moves it about.
                slope = input_gradient(discriminator, seen_target)
                report["gradient_penalty"] = terms.gradient_penalty(slope)
                discriminator_loss += config.gradient_penalty * report["gradient_penalty"]
        return BlockLosses(total, discriminator_loss, report)
