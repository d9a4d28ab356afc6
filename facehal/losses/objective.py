"""Equation 6: the weighted sum of all terms for one block, every term by name."""

from dataclasses import dataclass

from keras import ops

from facehal.config import LossConfig
from facehal.losses import terms
from facehal.losses.identity import IdentityLoss
from facehal.losses.perceptual import LPIPS


@dataclass(frozen=True)
class BlockLosses:
    """What one block contributes to a step.

    Attributes:
        generator: scalar; the weighted sum of equation 6.
        discriminator: scalar; real plus fake mini-batch.
        report: every term by name, unweighted, plus the two sums and the discriminator's mean
            probabilities.
    """

    generator: object
    discriminator: object
    report: dict


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
        self.lpips = LPIPS(config.lpips_version) if config.perceptual else None
        self.identity = IdentityLoss(config.identity_network) if config.identity else None

    def names(self, resolution: int) -> tuple[str, ...]:
        """The keys of :attr:`BlockLosses.report` at this resolution, in order."""
        names = ["pixel"]
        if self._perceptual_at(resolution):
            names.append("perceptual")
        if self.adversarial_at(resolution):
            names.append("adversarial")
        if self._identity_at(resolution):
            names.append("identity")
        if self.config.total_variation:
            names.append("total_variation")
        names.append("generator")
        if self.adversarial_at(resolution):
            names += ["discriminator", "real_probability", "fake_probability"]
        return tuple(names)

    def _perceptual_at(self, resolution: int) -> bool:
        return self.lpips is not None and resolution >= self.config.perceptual_from

    def _identity_at(self, resolution: int) -> bool:
        return self.identity is not None and resolution >= self.config.identity_from

    def adversarial_at(self, resolution: int) -> bool:
        """Whether blocks of this resolution need a discriminator."""
        return bool(self.config.adversarial) and resolution >= self.config.adversarial_from

    def __call__(self, target, output, discriminator, detached_discriminator) -> BlockLosses:
        """The losses of one block.

        Args:
            target: real pictures, (n, N, N, 3) in [0, 1].
            output: hallucinated pictures with the original face pixels, the same shape.
            discriminator: pictures → (n,) probabilities, with gradient to its variables.
            detached_discriminator: the same without gradient to its variables.
        """
        config = self.config
        resolution = target.shape[1]
        report = {"pixel": terms.PIXEL_TERMS[config.pixel](target, output)}
        total = report["pixel"]
        if self.lpips is not None and resolution >= config.perceptual_from:
            report["perceptual"] = ops.mean(self.lpips(target, output))
            total += config.perceptual * report["perceptual"]
        if self.adversarial_at(resolution):
            report["adversarial"] = terms.adversarial(detached_discriminator(output))
            total += config.adversarial * report["adversarial"]
        if self.identity is not None and resolution >= config.identity_from:
            report["identity"] = self.identity(target, output)
            total += config.identity * report["identity"]
        if config.total_variation:
            report["total_variation"] = terms.total_variation(output)
            total += config.total_variation * report["total_variation"]
        report["generator"] = total

        discriminator_loss = ops.zeros(())
        if self.adversarial_at(resolution):
            real = discriminator(target)
            fake = discriminator(ops.stop_gradient(output))
            discriminator_loss = terms.discriminator_real(
                real, config.label_smoothing
            ) + terms.discriminator_fake(fake)
            report["discriminator"] = discriminator_loss
            report["real_probability"] = ops.mean(real)
            report["fake_probability"] = ops.mean(fake)
        return BlockLosses(total, discriminator_loss, report)
