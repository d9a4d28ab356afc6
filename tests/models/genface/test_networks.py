"""GenFace's networks against the authors' layer list, and against the same in PyTorch."""

import keras
import numpy as np
import pytest

from facehal.features.face_parser import FaceParser
from facehal.models import from_dict, task_of
from facehal.models.genface.networks import Completion, Discriminator

pytestmark = pytest.mark.core


def test_parameters_are_the_published_ones():
    """137.07 M, 7.16 M and 7.13 M; the prototxt files' layers counted by hand."""
    encoder = 9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256)
    encoder += 9 * 3 * 256 * 256 + 2 * 32 + 2 * 64 + 2 * 128 + 4 * 256
    code = 2 * 16384 * 4096 + 4096 + 16384
    decoder = 9 * (256 * 64 + 2 * 64 * 64 + 64 * 128) + 3 * 64 + 128  # 3_4 … 3_1
    decoder += 9 * (128 * 64 + 64 * 64) + 2 * 64 + 9 * (64 * 64 + 64 * 32) + 64 + 32
    decoder += 9 * 2 * 32 * 32 + 2 * 32 + 9 * 32 * 3 + 3
    assert Completion().count_params() == encoder + code + decoder == 137_071_331

    def judging(*widths: int) -> int:
        pairs = zip((3, *widths), widths, strict=False)
        convolutions = sum(9 * before * n + 16 * n * n + 2 * n for before, n in pairs)
        return convolutions + 16 * widths[-1] + 1

    whole, local = Discriminator(128, 32), Discriminator(64, 64)
    assert whole.count_params() == judging(32, 64, 128, 256, 512) == 7_164_705
    assert local.count_params() == judging(64, 128, 256, 512) == 7_130_689


def test_parameters_of_the_compact_size():
    config = from_dict({"model": "genface", "size": "compact"})
    system = task_of(config).build(1, None, 0)
    assert [n.count_params() for n in system.networks] == [3_863_347, 447_889, 449_865]


def test_parameters_of_the_parser():
    """VGG-19's convolutions are 20,024,384."""
    assert FaceParser(None, side=32).count_params() == 20_024_384 + 3_930_187 == 23_954_571


def layer(torch, ours):
    """A layer of Keras in PyTorch, with its weights."""
    kernel, bias = map(np.asarray, ours.get_weights())
    if kernel.ndim == 2:
        made, kernel = torch.nn.Linear(*kernel.shape), kernel.T
    else:
        size, _, inputs, outputs = kernel.shape
        made = torch.nn.Conv2d(inputs, outputs, size, ours.strides[0], padding=1)
        kernel = kernel.transpose(3, 2, 0, 1)
    with torch.no_grad():
        made.weight.copy_(torch.tensor(np.ascontiguousarray(kernel)))
        made.bias.copy_(torch.tensor(bias))
    return made


def theirs(pictures: np.ndarray, torch):
    return torch.tensor(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))


def ours(tensor) -> np.ndarray:
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    random = np.random.default_rng(0)
    return random.uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)


def test_completion_is_the_same_in_pytorch(pictures, shaken):
    """Achieved: 3e-7 of the largest value."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    F = torch.nn.functional
    keras.utils.set_random_seed(0)
    network = shaken(Completion(32, base=4, features=24))

    def apply(name, x):
        return F.relu(layer(torch, network.get_layer(name))(x))

    x, indices = theirs(pictures, torch), []
    for level, count in enumerate((2, 2, 2, 4)):
        for number in range(count):
            x = apply(f"conv{level}_{number + 1}", x)
        x, places = F.max_pool2d(x, 2, return_indices=True)
        indices.append(places)
    shape = x.shape
    assert shape[1:] == (32, 2, 2)
    x = x.permute(0, 2, 3, 1).flatten(1)  # ours reads maps channels last
    x = apply("defc3", apply("fc3", x)).reshape(3, 2, 2, 32).permute(0, 3, 1, 2)
    for level, count in ((3, 4), (2, 2), (1, 2), (0, 2)):
        x = F.max_unpool2d(x, indices.pop(), 2)
        for number in range(count, 0, -1):
            x = apply(f"conv_decode{level}_{number}", x)
    wanted = ours(layer(torch, network.get_layer("reconstruction"))(x))
    found = network.predict_on_batch(pictures)
    assert np.abs(wanted).max() > 0.1
    apart = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"completion {apart:.1e} apart")
    assert apart < 1e-5


def test_discriminator_is_the_same_in_pytorch(pictures, shaken):
    """Achieved: 3e-7 of the largest value."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    network = shaken(Discriminator(32, base=4))
    x = theirs(pictures, torch)
    for level in range(3):
        for number in (1, 2):
            x = layer(torch, network.get_layer(f"conv{level}_{number}"))(x)
            x = torch.nn.functional.leaky_relu(x, 0.2)
    assert x.shape[2:] == (4, 4)
    kernel, bias = network.get_layer("conv5").get_weights()  # a 4×4 convolution without padding
    kernel = kernel.reshape(4, 4, -1, 1).transpose(3, 2, 0, 1)
    x = torch.nn.functional.conv2d(x, torch.tensor(kernel), torch.tensor(bias))
    wanted = x.detach().numpy()[:, 0, 0, 0]
    found = network.predict_on_batch(pictures)
    assert found.shape == (3,)
    apart = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"discriminator {apart:.1e} apart")
    assert apart < 1e-5


def test_parser_is_the_same_in_pytorch(pictures, shaken):
    """Achieved: 6e-8 of the largest logit; dropout is off."""
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    F = torch.nn.functional
    parser = shaken(FaceParser(None, side=32, base=4))

    def apply(name, x):
        return F.relu(layer(torch, parser.get_layer(name))(x))

    x, indices = theirs(pictures, torch), []
    for stage, count in enumerate((2, 2, 4, 4, 4), start=1):
        for number in range(count):
            x = apply(f"conv{stage}_{number + 1}", x)
        x, places = F.max_pool2d(x, 2, return_indices=True)
        indices.append(places)
    for stage in (5, 4, 3, 2, 1):
        x = apply(f"conv_decode{stage}", F.max_unpool2d(x, indices.pop(), 2))
    wanted = ours(layer(torch, parser.get_layer("conv_decode0"))(x))
    found = parser.predict_on_batch((pictures + 1) / 2)  # it stretches to [-1, 1]
    assert found.shape == (3, 32, 32, 11)
    apart = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"parser {apart:.1e} apart")
    assert apart < 1e-5


def test_initial_weights():
    """Caffe's fillers: MSRA by the mean of inputs and outputs, and normal ones."""
    keras.utils.set_random_seed(0)
    network = Completion(16, base=16, features=64)
    kernel, bias = network.get_layer("conv3_1").get_weights()  # 64 to 128 channels
    assert kernel.std() == pytest.approx((2 / (9 * 96)) ** 0.5, rel=0.02) and not bias.any()
    assert abs(kernel.mean()) < 1e-3
    kernel = network.get_layer("fc3").get_weights()[0]  # 128 to 64
    assert kernel.std() == pytest.approx((2 / 96) ** 0.5, rel=0.03)
    kernel = network.get_layer("reconstruction").get_weights()[0]
    assert kernel.std() == pytest.approx(1e-3, rel=0.1)
    one, other = (network.get_layer(f"conv3_{n}").get_weights()[0] for n in (2, 3))
    assert (one != other).any()
    kernel = Discriminator(16, 16).get_layer("conv1_2").get_weights()[0]
    assert kernel.std() == pytest.approx(0.02, rel=0.02)
    keras.utils.set_random_seed(0)
    again = Completion(16, base=16, features=64)
    np.testing.assert_array_equal(again.get_layer("conv3_2").get_weights()[0], one)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        Completion(40)
    with pytest.raises(ValueError, match="power of two"):
        Discriminator(48, 4)
