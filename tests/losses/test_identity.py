import keras
import numpy as np
import pytest
from keras import ops

from facehal.errors import WeightsError
from facehal.features.descriptors import Describer
from facehal.features.dlib_resnet import aligned_chip
from facehal.features.vgg_face import VggFace
from facehal.losses.identity import IdentityLoss, identity_network


@pytest.fixture(scope="module")
def dlib_loss() -> IdentityLoss:
    return IdentityLoss("dlib_resnet")


@pytest.fixture(scope="module")
def faces(astronaut) -> np.ndarray:
    """Two faces of 64 pixels: an aligned one and its mirror image with other colours."""
    face = np.asarray(ops.image.resize(astronaut[None, 10:210, 120:320] / 255.0, (64, 64)))
    return np.concatenate([face, face[:, :, ::-1] ** 1.5]).astype(np.float32)


def _gradients(function, *arguments: np.ndarray) -> list[np.ndarray]:
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


def test_equation_4_by_hand() -> None:
    """With the mean colour as descriptor, everything can be counted in NumPy."""
    network = Describer("mean", 3, lambda images: ops.mean(images, axis=(1, 2)))
    a, b = np.random.default_rng(0).uniform(0, 1, (2, 5, 6, 6, 3)).astype(np.float32)
    total = 0.0
    for n in range(5):
        for i in range(3):
            total += (b[n, :, :, i].mean() - a[n, :, :, i].mean()) ** 2
    assert float(IdentityLoss(network)(a, b)) == pytest.approx(total / (5 * 3), rel=1e-5)


def test_dlib_loss_is_the_mean_over_batch_and_features(dlib_loss, faces) -> None:
    network = dlib_loss.network
    assert (network.name, network.size) == ("dlib_resnet", 128)
    target, output = (np.asarray(network(x)) for x in (faces, faces[::-1].copy()))
    assert target.shape == (2, 128)
    expected = ((output - target) ** 2).sum() / (2 * 128)
    assert float(dlib_loss(faces, faces[::-1].copy())) == pytest.approx(expected, rel=1e-4)
    assert float(dlib_loss.distance(target, output)) == pytest.approx(expected, rel=1e-4)
    assert float(dlib_loss(faces, faces)) == pytest.approx(0, abs=1e-9)


def test_scale_that_the_docstring_states(dlib_loss, faces) -> None:
    descriptors = np.asarray(dlib_loss.network(faces))
    assert np.all(np.abs(np.linalg.norm(descriptors, axis=1) - 1.4) < 0.2)


@pytest.mark.parametrize("size", [8, 16, 32, 128])
def test_every_block_size_has_a_gradient_to_the_prediction_only(dlib_loss, size: int) -> None:
    random = np.random.default_rng(size)
    target, output = random.uniform(0, 1, (2, 2, size, size, 3)).astype(np.float32)
    by_target, by_output = _gradients(dlib_loss, target, output)
    np.testing.assert_array_equal(by_target, 0)
    assert np.isfinite(by_output).all()
    assert np.abs(by_output).max() > 0
    # What dlib's chip does not show has no say.
    np.testing.assert_array_equal(by_output[:, : size // 8], 0)


def test_gradient_equals_the_difference_quotient(dlib_loss, faces) -> None:
    target, output = faces[:1], faces[1:]
    _, gradient = _gradients(dlib_loss, target, output)
    direction, step = gradient / np.linalg.norm(gradient), 0.01
    up, down = (float(dlib_loss(target, output + s * direction)) for s in (step, -step))
    assert (up - down) / (2 * step) == pytest.approx(np.linalg.norm(gradient), rel=0.05)


def test_nothing_is_trainable_and_all_is_float32_under_mixed_precision(dlib_loss, faces) -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        descriptor = identity_network("dlib_resnet")(faces)
        assert keras.backend.standardize_dtype(descriptor.dtype) == "float32"
        chip = aligned_chip(faces)
        assert keras.backend.standardize_dtype(chip.dtype) == "float32"
        vgg = VggFace(weights=None, channels=(2,) * 5, features=2)
        assert keras.backend.standardize_dtype(vgg(faces, training=False).dtype) == "float32"
        assert {layer.compute_dtype for layer in vgg.layers[1:]} == {"float32"}
        assert not vgg.trainable_variables
    finally:
        keras.config.set_dtype_policy(policy)
    expected = np.asarray(dlib_loss.network(faces))
    np.testing.assert_allclose(np.asarray(descriptor), expected, atol=1e-5)


def test_unknown_and_missing_networks(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="vgg_face"):
        identity_network("vggface")
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="facehal weights import vgg_face FILE"):
        IdentityLoss("vgg_face")
