import importlib.util
import sys
import types
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from keras import ops

from facehal.errors import WeightsError
from facehal.features.lpips import LPIPS, _unit
from facehal.weights import store
from facehal.weights.converters import alexnet

# NUMBERS of the authors' own code on their three example pictures, to the digits published there.
PUBLISHED = {"0.0": (0.405575, 0.083881), "0.1": (0.721881, 0.137566)}
PER_TAP = (
    (0.018167, 0.152386, 0.076088, 0.069909, 0.089025),
    (0.010489, 0.017649, 0.017247, 0.019479, 0.019017),
)
# Of the authors' package (lpips 0.1.4 from pip, PyTorch 2.13, float64, torchvision's AlexNet) on
# three crops of a public-domain portrait: `python -m pytest tests/features/test_lpips.py` with the
# extra `reference` computes them anew. Their own pictures are not ours to pass on.
ON_A_PORTRAIT = {"0.0": (0.191159, 0.025846), "0.1": (0.367921, 0.054247)}
PORTRAIT_PER_TAP = (
    (0.017210, 0.035966, 0.042524, 0.050788, 0.044671),
    (0.003901, 0.004950, 0.006006, 0.006118, 0.004871),
)

# Every test here needs the weights.
pytestmark = pytest.mark.usefixtures("weights")


@pytest.fixture(scope="module")
def lpips(weights: Path) -> LPIPS:
    return LPIPS()


@pytest.fixture(scope="module")
def examples(shared: Path) -> list[np.ndarray]:
    folder = shared / "weights/lpips/reference"
    pictures = [cv2.imread(str(folder / f"ex_{name}.png")) for name in ("ref", "p0", "p1")]
    return [p[None, :, :, ::-1].astype(np.float32) / 255 for p in pictures]


@pytest.fixture(scope="module")
def crops(astronaut: np.ndarray) -> list[np.ndarray]:
    """A face, its mirror image, and the same four pixels lower, (1, 256, 256, 3) in [0, 1]."""
    ref, low = astronaut[:256, 96:352], astronaut[4:260, 96:352]
    return [one[None].astype(np.float32) / 255 for one in (ref, ref[:, ::-1], low)]


def _random(n: int = 2, side: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, side, side, 3)).astype(np.float32)


def _gradients(function, *arguments: np.ndarray) -> list[np.ndarray]:
    """Gradients of a scalar function by every argument, compiled as a training step is."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(*tensors)
            return tape.gradient(value, tensors, unconnected_gradients="zero")

        return [g.numpy() for g in step(*map(tf.constant, arguments))]
    jax = pytest.importorskip("jax")
    step = jax.jit(jax.grad(function, argnums=tuple(range(len(arguments)))))
    return [np.asarray(g) for g in step(*arguments)]


@pytest.mark.parametrize("version", ["0.0", "0.1"])
@pytest.mark.parametrize(("pictures", "known"), [("examples", PUBLISHED), ("crops", ON_A_PORTRAIT)])
def test_equal_to_the_authors_numbers(version: str, pictures: str, known, request) -> None:
    ref, p0, p1 = request.getfixturevalue(pictures)
    loss = LPIPS(version)
    distances = np.asarray(loss(np.concatenate([ref, ref]), np.concatenate([p0, p1])))
    # Achieved: 6e-7 on both backends, which is the rounding of the published digits.
    np.testing.assert_allclose(distances, known[version], atol=2e-6)


@pytest.mark.parametrize(
    ("pictures", "known"), [("examples", PER_TAP), ("crops", PORTRAIT_PER_TAP)]
)
def test_equal_to_the_authors_numbers_per_tap(lpips: LPIPS, pictures: str, known, request) -> None:
    ref, *others = (lpips.features(p) for p in request.getfixturevalue(pictures))
    for other, published in zip(others, known, strict=True):
        taps = [float(ops.squeeze(tap)) for tap in lpips.per_tap(ref, other)]
        # Achieved: 5e-7.
        np.testing.assert_allclose(taps, published, atol=2e-6)
        assert float(ops.squeeze(lpips.distance(ref, other))) == pytest.approx(sum(taps), abs=1e-6)


@pytest.mark.parametrize("version", ["0.0", "0.1"])
@pytest.mark.parametrize("side", [32, 64, 128])
def test_equal_to_the_authors_package(version: str, side: int, monkeypatch) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    reference = _reference_lpips(torch, version, monkeypatch)
    a, b = _random(3, side, 1), _random(3, side, 2)
    b[1] = np.clip(a[1] * 0.7 + 0.1, 0, 1)
    scaled = (torch.tensor(x * 2 - 1).permute(0, 3, 1, 2) for x in (a, b))
    with torch.no_grad():
        theirs = reference(*scaled).squeeze().numpy()
    # Achieved: 5e-7.
    np.testing.assert_allclose(np.asarray(LPIPS(version)(a, b)), theirs, atol=1e-5)


@pytest.mark.parametrize("version", ["0.0", "0.1"])
def test_the_numbers_on_the_portrait_are_the_authors(version: str, crops, monkeypatch) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    reference = _reference_lpips(torch, version, monkeypatch).double()
    ref, *others = (torch.tensor(x).double().permute(0, 3, 1, 2) * 2 - 1 for x in crops)
    with torch.no_grad():
        theirs = [float(reference(ref, other)) for other in others]
    np.testing.assert_allclose(theirs, ON_A_PORTRAIT[version], atol=1e-6)


def _reference_lpips(torch, version: str, monkeypatch):
    """The authors' LPIPS; the trunk, which it would download, is PyTorch's layers and our file."""
    arrays = store.load("alexnet", alexnet.SHAPES)
    layers: list = []
    for number, (stride, pad) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1)), start=1):
        if number in (2, 3):
            layers.append(torch.nn.MaxPool2d(3, 2))
        kernel = torch.tensor(arrays[f"conv{number}.kernel_hwio"]).permute(3, 2, 0, 1)
        layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], stride, pad)
        layer.weight.data, layer.bias.data = kernel, torch.tensor(arrays[f"conv{number}.bias"])
        layers += [layer, torch.nn.ReLU()]
    if importlib.util.find_spec("torchvision") is None:
        module = types.ModuleType("torchvision")
        module.models = None
        monkeypatch.setitem(sys.modules, "torchvision", module)
    package = pytest.importorskip("lpips", reason="needs the pip package lpips (extra: reference)")
    trunk = types.SimpleNamespace(features=torch.nn.Sequential(*layers))
    models = types.SimpleNamespace(alexnet=lambda pretrained: trunk)
    monkeypatch.setattr(package.pretrained_networks, "tv", models)
    return package.LPIPS(net="alex", version=version, verbose=False)


def test_equal_pictures_are_at_distance_zero(lpips: LPIPS) -> None:
    np.testing.assert_array_equal(np.asarray(lpips(_random(), _random())), 0)


def test_features_can_be_computed_once(lpips: LPIPS) -> None:
    a, b = _random(3, 40, 1), _random(3, 40, 2)
    split = lpips.distance(lpips.features(a), lpips.features(b))
    np.testing.assert_allclose(np.asarray(split), np.asarray(lpips(a, b)), rtol=1e-5)
    for tap in lpips.features(a):
        lengths = np.linalg.norm(np.asarray(tap), axis=-1)
        assert np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0))


def test_gradient_flows_to_the_prediction_only(lpips: LPIPS) -> None:
    target, output = _random(2, 32, 1), _random(2, 32, 2)
    by_target, by_output = _gradients(lambda t, o: ops.sum(lpips(t, o)), target, output)
    np.testing.assert_array_equal(by_target, 0)
    # Against a difference quotient along the gradient itself.
    direction = by_output / np.linalg.norm(by_output)
    step = 0.02
    up, down = (np.asarray(lpips(target, output + s * direction)).sum() for s in (step, -step))
    assert (up - down) / (2 * step) == pytest.approx(np.linalg.norm(by_output), rel=0.05)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_gradient_of_flat_pictures_is_finite(lpips: LPIPS, value: float) -> None:
    flat = np.full((1, 32, 32, 3), value, np.float32)
    for target in (flat, _random(1, 32)):
        gradients = _gradients(lambda t, o: ops.sum(lpips(t, o)), target, flat)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_gradient_where_no_feature_is_active_is_finite(lpips: LPIPS) -> None:
    """Unit length of an all-zero position: the published formula's gradient is 0/0 there."""
    zero = np.zeros((1, 2, 2, 64), np.float32)
    (gradient,) = _gradients(lambda tap: ops.sum(_unit(tap)), zero)
    assert np.isfinite(gradient).all()


def test_too_small_or_wrong_pictures_are_one_line(lpips: LPIPS) -> None:
    assert np.asarray(lpips(_random(1, 31), _random(1, 31, 1))).shape == (1,)
    for bad, reason in (
        (_random(1, 30), "31x31 pixels or more"),
        (_random(1, 32)[0], "not"),
        (_random(1, 32)[..., :1], "RGB"),
    ):
        with pytest.raises(ValueError, match=reason) as caught:
            lpips(bad, bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="same height and width"):
        lpips(_random(1, 64), _random(1, 96))
    with pytest.raises(ValueError, match="version"):
        LPIPS("0.2")


def test_no_variable_is_trainable_and_float32_under_mixed_precision() -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        loss = LPIPS()
        assert not loss.network.trainable_variables
        distance = loss(_random(), _random(seed=1))
    finally:
        keras.config.set_dtype_policy(policy)
    assert keras.backend.standardize_dtype(distance.dtype) == "float32"
    np.testing.assert_allclose(
        np.asarray(distance), np.asarray(LPIPS()(_random(), _random(seed=1))), rtol=1e-5
    )


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="facehal weights get"):
        LPIPS()
