import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features.alexnet import CHANNELS, SMALLEST, AlexNet
from facehal.weights import store
from facehal.weights.converters import alexnet as published


@pytest.mark.parametrize(
    ("side", "sizes"), [(128, (31, 15, 7, 7, 7)), (32, (7, 3, 1, 1, 1)), (31, (7, 3, 1, 1, 1))]
)
def test_sizes_of_the_taps(side: int, sizes: tuple[int, ...]) -> None:
    model = AlexNet(weights=None)
    taps = model(np.zeros((2, side, side, 3), np.float32), training=False)
    expected = [(2, n, n, c) for n, c in zip(sizes, CHANNELS, strict=True)]
    assert [tuple(tap.shape) for tap in taps] == expected
    assert not model.trainable_variables


def test_smallest_picture_is_as_stated() -> None:
    # One pixel less, and the second pool has nothing left to stand on.
    assert (SMALLEST + 4 - 11) // 4 + 1 == 7
    assert (SMALLEST - 1 + 4 - 11) // 4 + 1 == 6
    assert ((6 - 3) // 2 + 1 - 3) // 2 + 1 < 1


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="facehal weights get alexnet"):
        AlexNet()


@pytest.mark.parametrize("side", [31, 64, 101])
def test_equal_to_pytorch_with_the_same_weights(weights, side: int) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    pictures = np.random.default_rng(side).uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
    ours = AlexNet()(pictures, training=False)
    arrays = store.load("alexnet", published.SHAPES)
    x = torch.tensor(pictures).permute(0, 3, 1, 2)
    for number, (stride, pad) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1)), start=1):
        if number in (2, 3):
            x = torch.nn.functional.max_pool2d(x, 3, 2)
        kernel = torch.tensor(arrays[f"conv{number}.kernel_hwio"]).permute(3, 2, 0, 1)
        bias = torch.tensor(arrays[f"conv{number}.bias"])
        x = torch.relu(torch.nn.functional.conv2d(x, kernel, bias, stride, pad))
        theirs = x.permute(0, 2, 3, 1).numpy()
        # Measured: 6e-7 of the largest value.
        difference = np.abs(np.asarray(ours[number - 1]) - theirs).max() / theirs.max()
        assert difference < 1e-5, f"tap {number} at {side} pixels: {difference:.1e}"
