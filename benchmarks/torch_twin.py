"""The networks and the training step of facehal once more, in PyTorch, to compare with.

Modules bear the names of the Keras layers, so weights are carried across by name. Stride-2
convolutions pad like TensorFlow (on the right and below) while outputs are compared; PyTorch has no
such padding in its convolution, so for timing ``native_padding`` pads evenly, as its users do.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

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


class Generator(nn.Module):
    def __init__(self, resolution: int, inputs: int, base: int, cap: int, kind: str):
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

    def forward(self, x):
        def finish(x, name):
            return leaky(self.get_submodule(f"{name}_norm")(x))

        x = finish(self.entry(x), "entry")
        skips = {self.sizes[0]: x}
        for size in self.sizes[1:]:
            x = finish(self.get_submodule(f"down_{size}")(x), f"down_{size}")
            x = skips[size] = self.get_submodule(f"residual_{size}")(x)
        for size in reversed(self.sizes[:-1]):
            x = F.pixel_shuffle(self.get_submodule(f"up_{size}")(x), 2)
            x = torch.cat([finish(x, f"up_{size}"), skips[size]], 1)
        return torch.tanh(self.exit(x)) * 0.5 + 0.5


class Discriminator(nn.Module):
    def __init__(self, width: float, strides: str):
        super().__init__()
        channels = 3
        self.names = []
        for index, filters in enumerate(CASIA_NET):
            name = f"conv{index // 2 + 1}{index % 2 + 1}"
            outputs = max(1, round(filters * width))
            pooled = strides == "pooled" and index % 2 == 1 and index < len(CASIA_NET) - 1
            conv = Conv(channels, outputs, stride=2 if pooled else 1, bias=index == 0)
            self.add_module(name, conv)
            self.add_module(f"{name}_norm", norm("batch" if index else "none", outputs))
            self.names.append(name)
            channels = outputs
        self.probability = Conv(channels, 1)

    def forward(self, x):
        for name in self.names:
            x = leaky(self.get_submodule(f"{name}_norm")(self.get_submodule(name)(x)))
        return torch.sigmoid(self.probability(x)).mean((1, 2, 3))


def pyramid(x, sizes):
    return [
        x
        if x.shape[2] == size
        else F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
        for size in sizes
    ]


class Cascade(nn.Module):
    """Takes and gives NCHW, in channels_last memory."""

    def __init__(self, base: int, cap: int, normalization: str, resolutions, end_to_end=False):
        super().__init__()
        self.resolutions, self.end_to_end = tuple(resolutions), end_to_end
        self.generators = nn.ModuleList(
            Generator(size, 6 if index else 3, base, cap, normalization)
            for index, size in enumerate(resolutions)
        )
        self.upscalers = nn.ModuleList(
            nn.ModuleDict({"conv": Conv(3, 12)}) for _ in resolutions[:-1]
        )

    def forward(self, masked_faces, masks):
        sizes = self.resolutions
        return self.hallucinate(pyramid(masked_faces, sizes), pyramid(masks, sizes))

    def hallucinate(self, faces, masks):
        outputs: list[torch.Tensor] = []
        for index, generator in enumerate(self.generators):
            x = faces[index]
            if index:
                previous = outputs[-1] if self.end_to_end else outputs[-1].detach()
                upscaled = F.pixel_shuffle(self.upscalers[index - 1]["conv"](previous), 2)
                x = torch.cat([x, upscaled], 1)
            outputs.append(faces[index] + (1 - masks[index]) * generator(x))
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
    """See facehal.features.dlib_resnet; ``rows`` and ``columns`` cut dlib's chip."""

    def __init__(self, blocks, rows: np.ndarray, columns: np.ndarray):
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("columns", torch.from_numpy(columns))
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
        x = torch.einsum("pi,ncij,qj->ncpq", self.rows, pictures, self.columns)
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
    missing = [name for name in missing if not name.endswith(("num_batches_tracked", *_BUFFERS))]
    if missing or unexpected:
        raise SystemExit(f"{prefix}: not carried across: {missing[:3]} {unexpected[:3]}")


_BUFFERS = ("rows", "columns")


class TrainingStep:
    """One Adam step of all blocks, with the losses of facehal.models.cascade.objective.

    Args:
        config: ``facehal.config.Config``.
        arrays: weights by name, from :func:`keras_side.export`.
    """

    def __init__(self, config, arrays: Mapping[str, np.ndarray]):
        network, self.loss = config.network, config.loss
        self.resolutions = network.resolutions
        self.cascade = Cascade(
            network.base, network.cap, network.normalization, self.resolutions, network.end_to_end
        )
        carry(self.cascade, arrays, "cascade")
        self.discriminators = nn.ModuleDict()
        for size in self.resolutions:
            if self.loss.adversarial and size >= self.loss.adversarial_from:
                critic = Discriminator(network.discriminator_width, network.strides)
                carry(critic, arrays, f"discriminator_{size}")
                self.discriminators[str(size)] = critic
        self.lpips = self.identity = None
        if self.loss.perceptual:
            self.lpips = AlexNet()
            carry(self.lpips, arrays, "alexnet")
            self.lpips.requires_grad_(False)
        if self.loss.identity:
            blocks = [tuple(row) for row in arrays["dlib_blocks"].tolist()]
            self.identity = DlibResNet(blocks, arrays["dlib_rows"], arrays["dlib_columns"])
            carry(self.identity, arrays, "dlib")
            self.identity.requires_grad_(False)
        for model in (self.cascade, self.discriminators, self.lpips, self.identity):
            if model is not None:
                model.to(memory_format=torch.channels_last)
        rates = config.training
        self.optimizer = torch.optim.Adam(
            [
                {"params": self.cascade.parameters(), "lr": rates.generator_rate},
                {"params": self.discriminators.parameters(), "lr": rates.discriminator_rate},
            ],
            betas=(rates.beta1, rates.beta2),
            eps=1e-7,
            fused=True,
        )

    def native(self) -> None:
        native_padding(self.cascade)
        native_padding(self.discriminators)

    def losses(self, faces: np.ndarray, masks: np.ndarray) -> torch.Tensor:
        """Sum over the blocks; faces (n, S, S, 3) and masks (n, S, S), both uint8."""
        loss = self.loss
        y = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255
        m = torch.from_numpy(masks)[:, None].float()
        y = y.contiguous(memory_format=torch.channels_last)
        masked, shares = pyramid(y * m, self.resolutions), pyramid(m, self.resolutions)
        targets = pyramid(y, self.resolutions)
        total = torch.zeros(())
        for size, target, output in zip(
            self.resolutions, targets, self.cascade.hallucinate(masked, shares), strict=True
        ):
            total = total + F.l1_loss(output, target)
            if self.lpips is not None and size >= loss.perceptual_from:
                total = total + loss.perceptual * self.lpips(target, output)
            if self.identity is not None and size >= loss.identity_from:
                with torch.no_grad():
                    wanted = self.identity(target)
                total = total + loss.identity * F.mse_loss(self.identity(output), wanted)
            if loss.total_variation:
                right = (output[..., 1:] - output[..., :-1]).square().sum((1, 2, 3))
                down = (output[:, :, 1:] - output[:, :, :-1]).square().sum((1, 2, 3))
                total = total + loss.total_variation * (right + down).mean()
            if str(size) in self.discriminators:
                critic = self.discriminators[str(size)]
                critic.requires_grad_(False)
                total = total + loss.adversarial * (critic(output) - 1).square().mean()
                critic.requires_grad_(True)
                total = total + (critic(target) - loss.label_smoothing).square().mean()
                total = total + critic(output.detach()).square().mean()
        return total

    def __call__(self, faces: np.ndarray, masks: np.ndarray) -> float:
        total = self.losses(faces, masks)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        return float(total.detach())
