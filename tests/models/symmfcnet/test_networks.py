"""The networks' sizes, and the whole model against an independent form in PyTorch.

Achieved against PyTorch (CPU, float32) with the same random weights and statistics, on TensorFlow
and JAX: 2e-6 in inference; in training 3e-6 without and 3e-5 with statistics of the batch.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from facehal.models.symmfcnet import networks
from facehal.models.symmfcnet.config import SymmFCNetConfig

sys.path.insert(0, str(Path(__file__).parent))
from small import SIDE, model

pytestmark = pytest.mark.core


def trained_values(network: keras.Model) -> int:
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


@pytest.fixture
def zeros(monkeypatch):
    """Networks of zeros: drawing a hundred million numbers takes half a minute."""
    monkeypatch.setattr(networks.Normal, "__call__", lambda _, shape, dtype=None: ops.zeros(shape))


def test_compact_sizes(record_property):
    """5.2 M together: 1.92, 0.66 and 2.62 M."""
    size = SymmFCNetConfig.from_dict({"size": "compact"}).network
    side, kind = size.resolution, size.normalization
    found = [
        networks.flow_network(side, size.flow_base, size.flow_cap, False),
        networks.light_network(side, size.light_base, size.light_cap, kind),
        networks.reconstruction_network(
            side, size.reconstruction_base, size.reconstruction_cap, kind
        ),
    ]
    counts = [trained_values(network) for network in found]
    assert counts == [1_922_562, 657_027, 2_619_139]
    assert [round(count / 1e6, 2) for count in counts] == [1.92, 0.66, 2.62]
    assert round(sum(counts) / 1e6, 1) == 5.2
    # A quarter of the width of DeepFillv1's: 5x5 kernels to 16, 32, 64 and 64 channels, 8x8 left.
    judge = networks.discriminator(side, size.discriminator_base)
    assert (
        trained_values(judge) == 25 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 64) + 176 + 8 * 8 * 64 + 1
    )


def test_published_sizes(zeros):
    """GFRNet's WarpNet at 256 pixels and 122.98 M; at 128 89 + 42 + 42 M."""
    size = SymmFCNetConfig().network
    flow = networks.flow_network(size.resolution, size.flow_base, size.flow_cap, False)
    assert trained_values(flow) == 122_980_866
    flow = networks.flow_network(128, size.flow_base, size.flow_cap, False)
    assert round(trained_values(flow) / 1e6) == 89
    light = networks.light_network(128, size.light_base, size.light_cap, "batch")
    assert round(trained_values(light) / 1e6) == 42
    widths = networks.channels(256, size.reconstruction_base, size.reconstruction_cap)
    assert widths == (64, 128, 256, 512, 512, 512, 512, 512)
    assert networks.channels(256, 64, 1024) == (64, 128, 256, 512, 1024, 1024, 1024, 1024)


def test_six_skips_at_128():
    network = networks.reconstruction_network(128, 1, 2, "none")
    assert sum(layer.name.startswith("skip") for layer in network.layers) == 6
    picture, features = network.outputs
    assert tuple(picture.shape) == (None, 128, 128, 3) and features.shape[1:3] == (32, 32)


# -- The same in PyTorch, written from the description and not from the code under test.


def torch_hourglass(torch, network: keras.Model, x, training: bool, skips: bool):
    """Output before its activation, and the decoder's features at a quarter of the side."""
    f = torch.nn.functional

    def weights(name: str):
        kernel, bias = (torch.tensor(w) for w in network.get_layer(name).get_weights())
        return kernel.permute(3, 2, 0, 1), bias  # for both kinds: (out, in, …) and (in, out, …)

    def norm(y, name: str):
        if f"{name}_norm" not in [layer.name for layer in network.layers]:
            return y
        gamma, beta, mean, variance = map(
            torch.tensor, network.get_layer(f"{name}_norm").get_weights()
        )
        return f.batch_norm(
            y, mean, variance, gamma, beta, training=training, momentum=0.1, eps=1e-5
        )

    levels = sum(
        layer.name.startswith("down") and layer.name[4:].isdigit() for layer in network.layers
    )
    side, kept, features = x.shape[-1], [], None
    for level in range(levels):
        y = f.conv2d(x, *weights(f"down{level}"), stride=2, padding=1)
        if level == levels - 1:
            x = torch.relu(y)
        else:
            x = f.leaky_relu(y if level == 0 else norm(y, f"down{level}"), 0.2)
            kept.append(x)
    for level in reversed(range(levels)):
        x = f.conv_transpose2d(x, *weights(f"up{level}"), stride=2, padding=1)
        if level:
            x = torch.relu(norm(x, f"up{level}"))
            if 4 * x.shape[-1] == side:
                features = x
            if skips:
                x = torch.cat([x, kept[level - 1]], dim=1)
    return x, features


def torch_model(torch, net, face, mask, noise, training: bool):
    """Grid, stage I's picture, both halves' hole, RecNet's pictures and features, NCHW."""
    hole = 1 - mask
    picture = face + hole * noise
    mirrored, mirrored_hole = picture.flip(3), hole.flip(3)
    x = torch.cat([picture, mirrored, hole, mirrored_hole], 1)
    start = torch.zeros(())
    if net.flow_kind == "displacement":
        line = torch.atanh(torch.linspace(-1, 1, SIDE) * (1 - 1 / SIDE))
        start = torch.stack(torch.meshgrid(line, line, indexing="xy"))
    grid = torch.tanh(torch_hourglass(torch, net.flow, x, training, skips=False)[0] + start)
    places = grid.permute(0, 2, 3, 1)

    def read(values):
        return torch.nn.functional.grid_sample(values, places, align_corners=True)

    warped, known = read(mirrored), read(mask.flip(3))
    x = torch.cat([picture, mirrored, warped, hole, 1 - known], 1)
    ratio = 2.5 * torch.sigmoid(torch_hourglass(torch, net.light, x, training, skips=True)[0])
    one = hole * known
    first = picture * (1 - one) + ratio * warped * one
    x = torch.cat([first, hole, 1 - known], 1)
    x = torch.cat([x, x.flip(3)], 0)
    found, features = torch_hourglass(torch, net.reconstruction, x, training, skips=True)
    return grid, first, hole - one, torch.sigmoid(found), features


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("kind", "flow"), [("batch", "absolute"), ("none", "displacement")])
def test_as_in_pytorch(training, kind, flow, record_property):
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    net = model(normalization=kind, flow_kind=flow)
    random = np.random.default_rng(1)
    for variable in net.variables:
        positive = "gamma" in variable.path or "variance" in variable.path
        low, high = (0.5, 1.5) if positive else (-0.15, 0.15)
        variable.assign(random.uniform(low, high, variable.shape).astype("float32"))
    if flow == "absolute":  # let it reach beyond the face
        kernel = net.flow.get_layer("up0").kernel
        kernel.assign(kernel * 8)
    picture, noise = random.random((2, 3, SIDE, SIDE, 3), np.float32)
    mask = np.zeros((3, SIDE, SIDE, 1), np.float32)
    mask[0, 3:13, 4:12], mask[1, 2:14, 6:13], mask[2, 4:12, 1:11] = 1, 1, 1
    face = picture * mask
    given = [torch.tensor(array.transpose(0, 3, 1, 2)) for array in (face, mask, noise)]
    theirs = torch_model(torch, net, *given, training)

    warped = net.warp(face, mask, noise, training=training)
    pictures, features = net.reconstruct(warped, training=training, mirrored=True)
    ours = [warped.grid, warped.picture, warped.both, pictures, features]
    apart = []
    for a, b in zip(ours, theirs, strict=True):
        a, b = ops.convert_to_numpy(a), b.detach().numpy().transpose(0, 2, 3, 1)
        assert a.shape == b.shape and b.std() > 1e-3
        apart.append(float(np.abs(a - b).max()))
    record_property("apart", apart)
    print(f"{kind}, training {training}: apart {max(apart):.1e}")
    # Statistics of twelve values, as in the innermost layers, make much of the last bit.
    assert max(apart) < (2e-4 if training and kind == "batch" else 2e-5)
