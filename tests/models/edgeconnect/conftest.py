"""EdgeConnect in PyTorch, written independently, with the names of the authors' files."""

import types

import numpy as np
import pytest


@pytest.fixture(scope="session")
def reference() -> types.SimpleNamespace:
    """``generator``, ``discriminator``, and ``run``, which takes and gives (n, h, w, c) arrays."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    nn = torch.nn

    def maybe(layer, spectral):
        return nn.utils.spectral_norm(layer) if spectral else layer

    class Block(nn.Module):
        def __init__(self, channels, spectral):
            super().__init__()

            def convolution(dilation):
                layer = nn.Conv2d(channels, channels, 3, dilation=dilation, bias=not spectral)
                return nn.ReflectionPad2d(dilation), maybe(layer, spectral)

            self.conv_block = nn.Sequential(
                *convolution(2),
                nn.InstanceNorm2d(channels),
                nn.ReLU(),
                *convolution(1),
                nn.InstanceNorm2d(channels),
            )

        def forward(self, x):
            return x + self.conv_block(x)

    class Generator(nn.Module):
        def __init__(self, inputs, outputs, width, blocks, spectral):
            super().__init__()

            def finished(layer):
                return maybe(layer, spectral), nn.InstanceNorm2d(layer.out_channels), nn.ReLU()

            self.encoder = nn.Sequential(
                nn.ReflectionPad2d(3),
                *finished(nn.Conv2d(inputs, width, 7)),
                *finished(nn.Conv2d(width, 2 * width, 4, 2, 1)),
                *finished(nn.Conv2d(2 * width, 4 * width, 4, 2, 1)),
            )
            self.middle = nn.Sequential(*(Block(4 * width, spectral) for _ in range(blocks)))
            self.decoder = nn.Sequential(
                *finished(nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1)),
                *finished(nn.ConvTranspose2d(2 * width, width, 4, 2, 1)),
                nn.ReflectionPad2d(3),
                nn.Conv2d(width, outputs, 7),
            )

        def forward(self, x):
            x = self.decoder(self.middle(self.encoder(x)))
            return torch.sigmoid(x) if x.shape[1] == 1 else (torch.tanh(x) + 1) / 2

    class Discriminator(nn.Module):
        def __init__(self, inputs, width):
            super().__init__()
            ends = (inputs, width, 2 * width, 4 * width, 8 * width, 1)
            for number, stride in enumerate((2, 2, 2, 1, 1), start=1):
                layer = nn.Conv2d(*ends[number - 1 : number + 1], 4, stride, 1, bias=False)
                setattr(self, f"conv{number}", nn.Sequential(nn.utils.spectral_norm(layer)))

        def forward(self, x):
            maps = []
            for number in range(1, 6):
                x = getattr(self, f"conv{number}")(x)
                x = nn.functional.leaky_relu(x, 0.2) if number < 5 else x
                maps.append(x)
            return maps

    def random(network, seed):
        """Weights as alive as trained ones, and singular vectors that have come near."""
        torch.manual_seed(seed)
        for parameter in network.parameters():
            scale = 0.1 if parameter.ndim == 1 else 0.5 * parameter[0].numel() ** -0.5
            nn.init.normal_(parameter, 0.0, scale)
        channels = next(p for p in network.parameters() if p.ndim == 4).shape[1]
        network.train()
        with torch.no_grad():
            for _ in range(3):
                network(torch.zeros(1, channels, 32, 32))
        return network.eval()

    def run(network, pictures):
        with torch.no_grad():
            found = network(torch.tensor(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))))
        maps = found if isinstance(found, list) else [found]
        maps = [x.permute(0, 2, 3, 1).numpy() for x in maps]
        return maps if isinstance(found, list) else maps[0]

    return types.SimpleNamespace(
        torch=torch,
        generator=lambda *a, seed=0: random(Generator(*a), seed),
        discriminator=lambda *a, seed=0: random(Discriminator(*a), seed),
        run=run,
    )
