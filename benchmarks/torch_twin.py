"""The networks and the training step of facehal once more, in PyTorch, to compare with.

Modules bear the names of the Keras layers, so weights are carried across by name. Stride-2
convolutions pad like TensorFlow (on the right and below) while outputs are compared; PyTorch has no
such padding in its convolution, so for timing ``native_padding`` pads evenly, as its users do.
"""

import json
import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

CASIA_NET = (32, 64, 64, 128, 96, 192, 128, 256, 160, 320)


class Conv(nn.Module):
    """A convolution with TensorFlow's "same" padding."""

    def __init__(self, inputs: int, outputs: int, size=3, stride=1, dilation=1, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.size, self.stride, self.dilation = size, stride, dilation
        self.native = False

    def forward(self, x):
        reach = (self.size - 1) * self.dilation
        padding = reach // 2
        if self.stride > 1 and not self.native:
            pads = []
            for side in (x.shape[3], x.shape[2]):
                total = max(0, (math.ceil(side / self.stride) - 1) * self.stride + reach + 1 - side)
                pads += [total // 2, total - total // 2]
            x, padding = F.pad(x, pads), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation)


def native_padding(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, Conv):
            module.native = True
    return model


def norm(kind: str, channels: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def leaky(x):
    return F.leaky_relu(x, 0.2)


class Residual(nn.Module):
    def __init__(self, channels: int, kind: str):
        super().__init__()
        bias = kind == "none"
        self.conv1, self.norm1 = Conv(channels, channels, bias=bias), norm(kind, channels)
        self.conv2, self.norm2 = Conv(channels, channels, bias=bias), norm(kind, channels)

    def forward(self, x):
        y = leaky(self.norm1(self.conv1(x)))
        return leaky(self.norm2(self.conv2(y)) + x)


class Modulation(nn.Linear):
    """A factor and an offset for every channel, linear in the latent vector."""

    def __init__(self, channels: int, latent: int):
        super().__init__(latent, 2 * channels, bias=False)

    def forward(self, x, latent):
        factor, offset = super().forward(latent)[..., None, None].chunk(2, 1)
        return x * (1 + factor) + offset


class Generator(nn.Module):
    def __init__(self, resolution: int, inputs: int, base: int, cap: int, kind: str, latent: int):
        super().__init__()
        self.sizes = [resolution >> step for step in range(int(math.log2(resolution)) - 1)]
        width = {size: min(cap, base * 128 // size) for size in self.sizes}
        bias = kind == "none"

        def add(name, conv, channels):
            self.add_module(name, conv)
            self.add_module(f"{name}_norm", norm(kind, channels))

        channels = width[resolution]
        add("entry", Conv(inputs, channels, dilation=2, bias=bias), channels)
        for size in self.sizes[1:]:
            add(f"down_{size}", Conv(channels, width[size], stride=2, bias=bias), width[size])
            channels = width[size]
            self.add_module(f"residual_{size}", Residual(channels, kind))
        for size in reversed(self.sizes[:-1]):
            add(f"up_{size}", Conv(channels, 4 * width[size], bias=bias), width[size])
            channels = 2 * width[size]
        self.exit = Conv(channels, 3)
        for size in self.sizes[1:] if latent else ():
            self.add_module(f"style_{size}", Modulation(width[size], latent))

    def forward(self, x, latent=None):
        def modulated(x, size):
            return x if latent is None else self.get_submodule(f"style_{size}")(x, latent)

        def finish(x, name):
            return leaky(self.get_submodule(f"{name}_norm")(x))

        x = finish(self.entry(x), "entry")
        skips = {self.sizes[0]: x}
        for size in self.sizes[1:]:
            x = finish(self.get_submodule(f"down_{size}")(x), f"down_{size}")
            x = skips[size] = self.get_submodule(f"residual_{size}")(x)
        x = modulated(x, self.sizes[-1])
        for size in reversed(self.sizes[:-1]):
            x = F.pixel_shuffle(self.get_submodule(f"up_{size}")(x), 2)
            x = finish(x, f"up_{size}")
            if size < self.sizes[0]:
                x = modulated(x, size)
            x = torch.cat([x, skips[size]], 1)
        return torch.tanh(self.exit(x)) * 0.5 + 0.5


class Discriminator(nn.Module):
    def __init__(self, width: float, strides: str, kind: str):
        super().__init__()
        channels = 3
        self.names = []
        for index, filters in enumerate(CASIA_NET):
            name = f"conv{index // 2 + 1}{index % 2 + 1}"
            outputs = max(1, round(filters * width))
            pooled = strides == "pooled" and index % 2 == 1 and index < len(CASIA_NET) - 1
            bias = index == 0 or kind == "none"
            self.add_module(name, Conv(channels, outputs, stride=2 if pooled else 1, bias=bias))
            self.add_module(f"{name}_norm", norm(kind if index else "none", outputs))
            self.names.append(name)
            channels = outputs
        self.probability = Conv(channels, 1)

    def forward(self, x):
        for name in self.names:
            x = leaky(self.get_submodule(f"{name}_norm")(self.get_submodule(name)(x)))
        return torch.sigmoid(self.probability(x)).mean((1, 2, 3))


class Encoder(nn.Module):
    """Mean and logarithm of the variance of a latent vector, from a picture's context."""

    SIDE, WIDTHS, SMALLEST = 32, (32, 64, 128), 4

    def __init__(self, latent: int):
        super().__init__()
        for index, channels in enumerate(pairwise((4, *self.WIDTHS))):
            self.add_module(f"conv{index}", Conv(*channels, stride=2))
        values = self.WIDTHS[-1] * self.SMALLEST**2
        self.mean, self.spread = nn.Linear(values, latent), nn.Linear(values, latent)

    def forward(self, x):
        for index in range(len(self.WIDTHS)):
            x = leaky(self.get_submodule(f"conv{index}")(x))
        x = x.permute(0, 2, 3, 1).flatten(1)  # in memory it lies like this
        return self.mean(x), self.spread(x)


def pyramid(x, sizes):
    return [
        x
        if x.shape[2] == size
        else F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
        for size in sizes
    ]


class Cascade(nn.Module):
    """Takes and gives NCHW, in channels_last memory.

    The arguments are those of ``facehal.models.cascade.Cascade``, as its ``get_config`` has them.
    """

    def __init__(self, base, cap, normalization, resolutions, end_to_end, widths, latent, name=""):
        super().__init__()
        self.resolutions, self.end_to_end, self.latent = tuple(resolutions), end_to_end, latent
        widths = widths or [(base, cap)] * len(resolutions)
        self.generators = nn.ModuleList(
            Generator(size, 6 if index else 3, *widths[index], normalization, latent)
            for index, size in enumerate(resolutions)
        )
        self.upscalers = nn.ModuleList(
            nn.ModuleDict({"conv": Conv(3, 12)}) for _ in resolutions[:-1]
        )

    @classmethod
    def carried(cls, arrays: Mapping[str, np.ndarray]) -> "Cascade":
        """The cascade that ``keras_side.export_cascade`` wrote."""
        cascade = cls(**json.loads(str(arrays["shape"])))
        carry(cascade, arrays, "cascade")
        return cascade

    def forward(self, masked_faces, masks, latent=None):
        sizes = self.resolutions
        return self.hallucinate(pyramid(masked_faces, sizes), pyramid(masks, sizes), latent)

    def hallucinate(self, faces, masks, latent=None):
        if self.latent and latent is None:
            latent = torch.zeros(len(faces[0]), self.latent)
        outputs: list[torch.Tensor] = []
        for index, generator in enumerate(self.generators):
            x = faces[index]
            if index:
                previous = outputs[-1] if self.end_to_end else outputs[-1].detach()
                upscaled = F.pixel_shuffle(self.upscalers[index - 1]["conv"](previous), 2)
                x = torch.cat([x, upscaled], 1)
            outputs.append(faces[index] + (1 - masks[index]) * generator(x, latent))
        return outputs


class AlexNet(nn.Module):
    """LPIPS v0.0's trunk and heads; see facehal.features.alexnet."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 11, 4, 2)
        self.conv2 = nn.Conv2d(64, 192, 5, 1, 2)
        self.conv3 = nn.Conv2d(192, 384, 3, 1, 1)
        self.conv4 = nn.Conv2d(384, 256, 3, 1, 1)
        self.conv5 = nn.Conv2d(256, 256, 3, 1, 1)
        for index, channels in enumerate((64, 192, 384, 256, 256)):
            self.register_buffer(f"head{index}", torch.zeros(channels))

    def taps(self, x):
        x, taps = x * 2 - 1, []
        for index in range(1, 6):
            if index in (2, 3):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(self.get_submodule(f"conv{index}")(x))
            square = x.square().sum(1, keepdim=True).clamp_min(1e-20)
            taps.append(x / (square.sqrt() + 1e-10))
        return taps

    def forward(self, target, output):
        with torch.no_grad():
            wanted = self.taps(target)
        total = 0.0
        for index, (a, b) in enumerate(zip(wanted, self.taps(output), strict=True)):
            head = self.get_buffer(f"head{index}")[None, :, None, None]
            total = total + ((a - b).square() * head).sum(1).mean((1, 2))
        return total.mean()


class DlibResNet(nn.Module):
    """See facehal.features.dlib_resnet; ``crops``, matrices by name, cut dlib's chip."""

    def __init__(self, blocks, crops: Mapping[str, np.ndarray]):
        super().__init__()
        for name, matrix in crops.items():  # not persistent: they are nothing to load
            self.register_buffer(name, torch.from_numpy(matrix), persistent=False)
        self.stem = nn.Conv2d(3, 32, 7, 2)
        self.strides, channels = [stride for stride, _ in blocks], 32
        for index, (stride, filters) in enumerate(blocks):
            self.add_module(
                f"block{index}a", nn.Conv2d(channels, filters, 3, stride, int(stride == 1))
            )
            self.add_module(f"block{index}b", nn.Conv2d(filters, filters, 3, 1, 1))
            channels = filters
        self.descriptor = nn.Linear(channels, 128, bias=False)

    @staticmethod
    def fill(x, like):
        missing = [max(0, like.shape[axis] - x.shape[axis]) for axis in (1, 2, 3)]
        return F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else x

    def forward(self, pictures):
        side = pictures.shape[2]
        rows, columns = self.get_buffer(f"rows_{side}"), self.get_buffer(f"columns_{side}")
        x = torch.einsum("pi,ncij,qj->ncpq", rows, pictures, columns)
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2)
        for index, stride in enumerate(self.strides):
            shortcut = F.avg_pool2d(x, 2) if stride == 2 else x
            x = F.relu(self.get_submodule(f"block{index}a")(x))
            x = self.get_submodule(f"block{index}b")(x)
            x = F.relu(self.fill(x, shortcut) + self.fill(shortcut, x))
        return self.descriptor(x.mean((2, 3)))


# Keras's names of weights → PyTorch's
_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def carry(model: nn.Module, arrays: Mapping[str, np.ndarray], prefix: str) -> None:
    """Loads what :func:`export` in keras_side.py wrote; every weight must be there."""
    state = {}
    for name, value in arrays.items():
        if not name.startswith(prefix + "."):
            continue
        *parts, kind = name[len(prefix) + 1 :].split(".")
        if len(value.shape) == 4:
            value = value.transpose(3, 2, 0, 1)
        elif len(value.shape) == 2:
            value = value.T
        shuffled = parts and (parts[-1].startswith("up_") or parts[0] == "upscalers")
        if shuffled and not parts[-1].endswith("_norm"):
            # depth_to_space tiles the channels, pixel_shuffle interleaves them
            value = value.reshape(4, len(value) // 4, *value.shape[1:]).swapaxes(0, 1)
            value = value.reshape(-1, *value.shape[2:])
        key = ".".join([*parts, _NAMES.get(kind, kind)])
        state[key] = torch.from_numpy(np.ascontiguousarray(value))
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise SystemExit(f"{prefix}: not carried across: {missing[:3]} {unexpected[:3]}")


def translated(x, pixels: int, step: int):
    """Moved right and down, another way at every step; what comes in at the border is mirrored."""
    down, right = step // (pixels + 1) % (pixels + 1), step % (pixels + 1)
    if down:
        x = torch.cat([x[:, :, :down].flip(2), x[:, :, :-down]], 2)
    if right:
        x = torch.cat([x[..., :right].flip(3), x[..., :-right]], 3)
    return x


def lattice(x):
    """The mean fine detail of every pixel of a tile of 8×8, by regions of 32×32, squared."""
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 5, 5)
    fine = F.pad(x[..., 2:-2, 2:-2] - F.conv2d(x, kernel, groups=x.shape[1]), (2, 2, 2, 2))
    side = x.shape[-1] // 32
    return fine.reshape(-1, x.shape[1], side, 4, 8, side, 4, 8).mean((0, 3, 6)).square().mean()


class TrainingStep:
    """One Adam step of all blocks, with the losses of facehal.models.cascade.objective.

    Args:
        config: ``facehal.models.cascade.CascadeConfig``.
        arrays: weights by name, from :func:`keras_side.export_trainer`.
    """

    def __init__(self, config, arrays: Mapping[str, np.ndarray]):
        network, self.loss = config.network, config.loss
        self.cascade = Cascade.carried(arrays)
        self.resolutions = self.cascade.resolutions
        self.trained = tuple(arrays["trained"].tolist())
        known = len(self.resolutions) - len(self.trained)  # the blocks of network.start
        self.cascade.generators[:known].requires_grad_(False)
        self.cascade.upscalers[: max(0, known - 1)].requires_grad_(False)
        self.encoder = self.lpips = self.identity = None
        if "encoder.mean.kernel" in arrays:
            self.encoder = Encoder(network.latent)
            carry(self.encoder, arrays, "encoder")
        self.discriminators = nn.ModuleDict()
        for size in filter(self.loss.adversarial_at, self.trained):
            critic = Discriminator(
                network.discriminator_width, network.strides, network.discriminator_normalization
            )
            carry(critic, arrays, f"discriminator_{size}")
            self.discriminators[str(size)] = critic
        if self.loss.perceptual:
            self.lpips = AlexNet()
            carry(self.lpips, arrays, "alexnet")
            self.lpips.requires_grad_(False)
        if self.loss.identity:
            blocks = [tuple(row) for row in arrays["dlib_blocks"].tolist()]
            crops = {
                name.removeprefix("dlib_"): matrix
                for name, matrix in arrays.items()
                if name.startswith(("dlib_rows_", "dlib_columns_"))
            }
            self.identity = DlibResNet(blocks, crops)
            carry(self.identity, arrays, "dlib")
            self.identity.requires_grad_(False)
        ours = [self.cascade, *([self.encoder] if self.encoder else [])]
        for model in (*ours, self.discriminators, self.lpips, self.identity):
            if model is not None:
                model.to(memory_format=torch.channels_last)
        rates = config.training
        moved = [p for model in ours for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(
            [
                {"params": moved, "lr": rates.generator_rate},
                {"params": self.discriminators.parameters(), "lr": rates.discriminator_rate},
            ],
            betas=(rates.beta1, rates.beta2),
            eps=1e-7,
            fused=True,
        )
        self.average = None
        if rates.moving_average:
            averaging = get_ema_multi_avg_fn(rates.moving_average)
            self.average = AveragedModel(self.cascade, multi_avg_fn=averaging)
        self.done = 0

    def native(self) -> None:
        native_padding(self.cascade)
        native_padding(self.discriminators)
        if self.encoder is not None:
            native_padding(self.encoder)

    def latents(self, faces, masks, noise):
        """A batch's latent vectors, the encoder's divergence, and how many faces have an original.

        Of the first half they are zeros, of the next quarter the encoder's, the rest is noise.
        """
        plain = len(noise) // 2
        encoded = len(noise) // 4 if self.encoder is not None else 0
        zeros, part = torch.zeros_like(noise[:plain]), slice(plain, plain + encoded)
        if self.encoder is None:
            return torch.cat([zeros, noise[plain:]]), torch.zeros(()), plain
        (picture,), (mask,) = (pyramid(x[part], [Encoder.SIDE]) for x in (faces, masks))
        context = torch.cat([picture * (1 - mask), mask], 1)
        mean, spread = self.encoder(context.contiguous(memory_format=torch.channels_last))
        spread = spread.clamp(-10, 10)
        drawn = mean + (0.5 * spread).exp() * noise[part]
        nats = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1).mean()
        vectors = torch.cat([zeros, drawn, noise[plain + encoded :]])
        return vectors, nats, plain + encoded

    def losses(self, batch: Mapping[str, np.ndarray], step: int) -> torch.Tensor:
        """Sum over the blocks; a batch as ``facehal.data.pipeline`` gives it."""
        y = torch.from_numpy(batch["faces"]).permute(0, 3, 1, 2).float() / 255
        m = torch.from_numpy(batch["masks"])[:, None].float()
        y = y.contiguous(memory_format=torch.channels_last)
        total, vectors, compared = torch.zeros(()), None, None
        if self.cascade.latent:
            vectors, nats, compared = self.latents(y, m, torch.from_numpy(batch["noise"]))
            total = total + self.loss.divergence * nats
        masked, shares = pyramid(y * m, self.resolutions), pyramid(m, self.resolutions)
        outputs = self.cascade.hallucinate(masked, shares, vectors)
        targets = pyramid(y, self.resolutions)
        for size, target, output in zip(self.resolutions, targets, outputs, strict=True):
            if size in self.trained:
                total = total + self.block(size, target, output, step, compared)
        return total

    def block(self, size: int, target, output, step: int, compared: int | None):
        """What one block adds, its generator's part and its discriminator's."""
        loss = self.loss
        pixel = {"l1": F.l1_loss, "l2": F.mse_loss}[loss.pixel]
        total = pixel(output[:compared], target[:compared])
        real, seen = (translated(x, loss.translation, step) for x in (target, output))
        if loss.perceptual_at(size):
            total = total + loss.perceptual * self.lpips(real[:compared], seen[:compared])
        if loss.identity_at(size):
            with torch.no_grad():
                wanted = self.identity(target)
            total = total + loss.identity * F.mse_loss(self.identity(output), wanted)
        if loss.total_variation:
            right = (output[..., 1:] - output[..., :-1]).square().sum((1, 2, 3))
            down = (output[:, :, 1:] - output[:, :, :-1]).square().sum((1, 2, 3))
            total = total + loss.total_variation * (right + down).mean()
        if loss.lattice_at(size):
            total = total + loss.lattice * lattice(output)
        if loss.adversarial_at(size):
            total = total + self.adversarial(self.discriminators[str(size)], real, seen)
        return total

    def adversarial(self, critic: Discriminator, real, seen):
        """LSGAN for both sides, and R1 on the slope at the real pictures."""
        loss = self.loss
        critic.requires_grad_(False)
        total = loss.adversarial * (critic(seen) - 1).square().mean()
        critic.requires_grad_(True)
        if loss.gradient_penalty:
            real = real.detach().requires_grad_()
        probability = critic(real)
        total = total + (probability - loss.label_smoothing).square().mean()
        total = total + critic(seen.detach()).square().mean()
        if loss.gradient_penalty:
            (slope,) = torch.autograd.grad(probability.sum(), real, create_graph=True)
            penalty = 0.5 * slope.square().sum((1, 2, 3)).mean()
            total = total + loss.gradient_penalty * penalty
        return total

    def __call__(self, batch: Mapping[str, np.ndarray]) -> float:
        total = self.losses(batch, self.done)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.cascade)
        self.done += 1
        return float(total.detach())
