"""DeepFillv1 in PyTorch as its authors wrote it for TensorFlow 1, to prove ours against.

Independent of the package: the layers one by one, attention as a loop over pictures whose patches
are kernels of convolutions, transposed ones to put them down. Pictures are (n, c, h, w), blue
first, in [-1, 1]. Weights: name of a layer → (kernel (h, w, in, out), bias), float tensors.
"""

import torch
from torch.nn import functional as F

ATROUS = (("7_atrous", 2), ("8_atrous", 4), ("9_atrous", 8), ("10_atrous", 16))


def padded(x, kernel, stride=1, rate=1):
    """TensorFlow's "SAME": what is uneven comes below and on the right."""
    reach = rate * (kernel - 1) + 1
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def conv(x, weights, name, stride=1, rate=1, activation=F.elu):
    kernel, bias = weights[name]
    kernel = kernel.permute(3, 2, 0, 1)
    x = padded(x, kernel.shape[2], stride, rate)
    return activation(F.conv2d(x, kernel, bias, stride, dilation=rate))


def deconv(x, weights, name):
    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return conv(x, weights, name)


def nearest(x, size):
    """resize_nearest_neighbor with align_corners."""
    old = x.shape[2]
    rows = torch.tensor([int(i * (old - 1) / (size - 1) + 0.5) for i in range(size)])
    return x[:, :, rows][:, :, :, rows]


def attention(maps, mask):
    """contextual_attention(x, x, mask, 3, 1, rate=2), a picture after the other, each its mask."""
    size = maps.shape[2] // 2
    small, mask = nearest(maps, size), nearest(mask, size)
    outputs = []
    for raw, picture, hole in zip(maps.split(1), small.split(1), mask.split(1), strict=True):
        channels = raw.shape[1]
        count = size * size
        values = F.unfold(raw, 4, stride=2, padding=1)[0].T.reshape(count, channels, 4, 4)
        keys = F.unfold(picture, 3, padding=1)[0].T.reshape(count, channels, 3, 3)
        holes = F.unfold(hole, 3, padding=1)[0].mean(0)
        known = (holes == 0).to(raw.dtype).reshape(1, count, 1, 1)
        norms = keys.square().sum((1, 2, 3), keepdim=True).sqrt()
        scores = F.conv2d(picture, keys / norms.clamp(min=1e-4), padding=1)
        # Places × keys as a picture of one channel, convolved with the identity.
        identity = torch.eye(3, dtype=raw.dtype)[None, None]
        scores = scores.reshape(1, size, size, size, size).permute(0, 3, 4, 1, 2)
        scores = F.conv2d(scores.reshape(1, 1, count, count), identity, padding=1)
        scores = scores.reshape(1, size, size, size, size).permute(0, 2, 1, 4, 3)
        scores = F.conv2d(scores.reshape(1, 1, count, count), identity, padding=1)
        scores = scores.reshape(1, size, size, size, size).permute(0, 2, 1, 4, 3)
        scores = scores.reshape(1, size, size, count).permute(0, 3, 1, 2)
        weights = F.softmax(scores * known * 10.0, dim=1) * known
        outputs.append(F.conv_transpose2d(weights, values, stride=2, padding=1) / 4.0)
    return torch.cat(outputs)


def coarse(weights, x):
    x = conv(x, weights, "conv1")
    x = conv(x, weights, "conv2_downsample", stride=2)
    x = conv(x, weights, "conv3")
    x = conv(x, weights, "conv4_downsample", stride=2)
    x = conv(x, weights, "conv5")
    x = conv(x, weights, "conv6")
    for name, rate in ATROUS:
        x = conv(x, weights, f"conv{name}", rate=rate)
    x = conv(x, weights, "conv11")
    x = conv(x, weights, "conv12")
    x = deconv(x, weights, "conv13_upsample")
    x = conv(x, weights, "conv14")
    x = deconv(x, weights, "conv15_upsample")
    x = conv(x, weights, "conv16")
    return conv(x, weights, "conv17", activation=lambda y: y).clamp(-1, 1)


def refinement(weights, xnow, mask):
    x = conv(xnow, weights, "xconv1")
    x = conv(x, weights, "xconv2_downsample", stride=2)
    x = conv(x, weights, "xconv3")
    x = conv(x, weights, "xconv4_downsample", stride=2)
    x = conv(x, weights, "xconv5")
    x = conv(x, weights, "xconv6")
    for name, rate in ATROUS:
        x = conv(x, weights, f"xconv{name}", rate=rate)
    hallucinated = x
    x = conv(xnow, weights, "pmconv1")
    x = conv(x, weights, "pmconv2_downsample", stride=2)
    x = conv(x, weights, "pmconv3")
    x = conv(x, weights, "pmconv4_downsample", stride=2)
    x = conv(x, weights, "pmconv5")
    x = conv(x, weights, "pmconv6", activation=F.relu)
    x = attention(x, nearest(mask, x.shape[2]))
    x = conv(x, weights, "pmconv9")
    x = conv(x, weights, "pmconv10")
    x = torch.cat([hallucinated, x], 1)
    x = conv(x, weights, "allconv11")
    x = conv(x, weights, "allconv12")
    x = deconv(x, weights, "allconv13_upsample")
    x = conv(x, weights, "allconv14")
    x = deconv(x, weights, "allconv15_upsample")
    x = conv(x, weights, "allconv16")
    return conv(x, weights, "allconv17", activation=lambda y: y).clamp(-1, 1)


def painted(weights, incomplete, mask):
    """Both stages: the coarse and the refined picture."""
    ones = torch.ones_like(mask)
    first = coarse(weights, torch.cat([incomplete, ones, mask], 1))
    pasted = first * mask + incomplete * (1 - mask)
    return first, refinement(weights, torch.cat([pasted, ones, mask], 1), mask)


def critic(weights, x):
    for name in ("conv1", "conv2", "conv3", "conv4"):
        x = conv(x, weights, name, stride=2, activation=lambda y: F.leaky_relu(y, 0.2))
    kernel, bias = weights["score"]
    return x.permute(0, 2, 3, 1).flatten(1) @ kernel + bias
