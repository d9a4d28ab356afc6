"""Encoder and decoders: their sizes, and the same numbers as an independent PyTorch form."""

import keras
import numpy as np
import pytest

from facehal.models import from_dict, task_of
from facehal.models.deepfake.networks import build_decoder, build_encoder

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("size", "encoder", "decoder"),
    [("default", 69_662_976, 6_199_747), ("compact", 3_835_392, 388_723)],
)
def test_parameters(size, encoder, decoder):
    """COMPARATORS.md: 69.66 M + 6.20 M for each; compact 3.84 M + .39 M."""
    config = from_dict({"model": "deepfake", "size": size})
    model = task_of(config).build(0, None, 0).model
    assert model.encoder.count_params() == encoder
    assert model.source_decoder.count_params() == model.target_decoder.count_params() == decoder
    assert model.resolutions == (128,) and model.encoder.output_shape == (
        *(None, 8, 8),
        4 * config.network.width,
    )


def test_networks_are_those_of_an_independent_form(record_property):
    """Achieved: 4e-7 (the code, relative to its largest value), 2e-7 (pictures)."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    functional = torch.nn.functional
    crop, width, dense = 32, 6, 10
    keras.utils.set_random_seed(0)
    encoder, decoder = build_encoder(crop, width, dense), build_decoder(crop, width, "decoder")
    random = np.random.default_rng(0)
    for network in (encoder, decoder):
        for weight in network.weights:
            if weight.name == "bias":
                weight.assign(0.1 * random.standard_normal(weight.shape))

    def arrays(network, name):
        kernel, bias = network.get_layer(name).get_weights()
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        return torch.tensor(kernel.transpose(axes).copy()), torch.tensor(bias)

    def leaky(x):
        return torch.where(x > 0, x, 0.1 * x)

    def doubled(x, network, name):
        x = leaky(functional.conv2d(x, *arrays(network, f"{name}_convolution"), padding=1))
        n, channels, height, width = x.shape
        x = x.reshape(n, 2, 2, channels // 4, height, width)  # row, column, channel
        return x.permute(0, 3, 4, 1, 5, 2).reshape(n, channels // 4, 2 * height, 2 * width)

    pictures = random.random((3, crop, crop, 3), np.float32)
    x = torch.tensor(pictures.transpose(0, 3, 1, 2).copy())
    for number in range(1, 5):
        # TensorFlow pads an even side by one pixel before and two behind.
        x = functional.pad(x, (1, 2, 1, 2))
        x = leaky(functional.conv2d(x, *arrays(encoder, f"convolution{number}"), stride=2))
    shape = x.shape
    x = x.permute(0, 2, 3, 1).reshape(len(x), -1)
    for name in ("dense1", "dense2"):
        x = functional.linear(x, *arrays(encoder, name))
    x = x.reshape(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
    code = doubled(x, encoder, "up")
    x = code
    for name in ("up1", "up2", "up3"):
        x = doubled(x, decoder, name)
    made = torch.sigmoid(functional.conv2d(x, *arrays(decoder, "picture"), padding=2))

    ours = encoder.predict_on_batch(pictures)
    theirs = code.permute(0, 2, 3, 1).numpy()
    apart = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    between = decoder.predict_on_batch(ours) - made.permute(0, 2, 3, 1).numpy()
    record_property("code_apart", apart)
    print(f"code {apart:.1e} apart, pictures {np.abs(between).max():.1e}")
    assert apart < 2e-6 and np.abs(between).max() < 1e-6
