"""Equation 6: every term by name, weights, and what a zero weight switches off."""

import keras
import numpy as np
import pytest
from keras import ops

from facehal.backend import value_and_gradients
from facehal.errors import WeightsError
from facehal.layers.translation import translated
from facehal.losses import terms
from facehal.models.base import detached
from facehal.models.cascade.config import LossConfig
from facehal.models.cascade.discriminator import Discriminator
from facehal.models.cascade.objective import Objective

random = np.random.default_rng(0)
TARGET = random.random((2, 32, 32, 3), np.float32)
OUTPUT = random.random((2, 32, 32, 3), np.float32)


def probability(pictures):
    """Stands for a discriminator: the mean of the picture."""
    return ops.mean(ops.convert_to_tensor(pictures), axis=(1, 2, 3))


def losses(config: LossConfig, size: int = 32):
    target, output = TARGET[:, :size, :size], OUTPUT[:, :size, :size]
    objective = Objective(config)
    result = objective(target, output, probability, probability)
    assert tuple(result.report) == objective.names(size)
    return result, {name: float(value) for name, value in result.report.items()}


@pytest.mark.core
def test_every_term_without_networks():
    config = LossConfig(perceptual=0.0, identity=0.0, adversarial=0.3, total_variation=1e-4)
    result, report = losses(config)
    real, fake = TARGET.mean((1, 2, 3)), OUTPUT.mean((1, 2, 3))
    across, down = np.diff(OUTPUT, axis=2), np.diff(OUTPUT, axis=1)
    expected = {
        "pixel": np.abs(TARGET - OUTPUT).mean(),
        "adversarial": ((fake - 1) ** 2).mean(),
        "total_variation": ((across**2).sum() + (down**2).sum()) / 2,
    }
    expected["generator"] = (
        expected["pixel"] + 0.3 * expected["adversarial"] + 1e-4 * expected["total_variation"]
    )
    expected["discriminator"] = ((real - 0.9) ** 2).mean() + (fake**2).mean()
    expected["real_probability"] = real.mean()
    expected["fake_probability"] = fake.mean()
    assert list(report) == list(expected)
    assert report == pytest.approx(expected, rel=1e-5)
    assert float(result.generator) == report["generator"]
    assert float(result.discriminator) == report["discriminator"]


@pytest.mark.core
def test_the_lattice_term_comes_in_at_32():
    base = {"perceptual": 0.0, "identity": 0.0, "adversarial": 0.0, "total_variation": 0.0}
    config = LossConfig(lattice=30.0, **base)
    _, report = losses(config)
    assert report["lattice"] == pytest.approx(float(terms.lattice(OUTPUT)), rel=1e-6)
    expected = report["pixel"] + 30 * report["lattice"]
    assert report["lattice"] > 0 and report["generator"] == pytest.approx(expected, rel=1e-6)
    assert list(losses(config, 16)[1]) == ["pixel", "generator"]


@pytest.mark.core
def test_l2_and_smoothing():
    base = {"perceptual": 0.0, "identity": 0.0, "total_variation": 0.0}
    _, report = losses(LossConfig(pixel="l2", label_smoothing=1.0, **base))
    assert report["pixel"] == pytest.approx(((TARGET - OUTPUT) ** 2).mean(), rel=1e-5)
    real, fake = TARGET.mean((1, 2, 3)), OUTPUT.mean((1, 2, 3))
    expected = ((real - 1) ** 2).mean() + (fake**2).mean()
    assert report["discriminator"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.core
def test_zero_weights_drop_terms():
    config = LossConfig(perceptual=0.0, identity=0.0, adversarial=0.0, total_variation=0.0)
    result, report = losses(config)
    assert list(report) == ["pixel", "generator"]
    assert report["pixel"] == report["generator"]
    assert float(result.discriminator) == 0


@pytest.mark.core
def test_adversarial_from():
    config = LossConfig(perceptual=0.0, identity=0.0, adversarial_from=16)
    assert "discriminator" not in losses(config, 8)[1]
    assert "discriminator" in losses(config, 16)[1]


def test_zero_weights_need_no_files(monkeypatch):
    """The networks of a dropped term are not even asked for; those of the others are."""
    from facehal.weights import store

    def absent(name, *_):
        raise WeightsError(f"{name}: not here")

    monkeypatch.setattr(store, "load", absent)
    Objective(LossConfig(perceptual=0.0, identity=0.0))
    with pytest.raises(WeightsError, match="not here"):
        Objective(LossConfig(perceptual=1.0, identity=0.0))
    with pytest.raises(WeightsError, match="not here"):
        Objective(LossConfig(perceptual=0.0, identity=10.0))


def test_perceptual_and_identity():
    """The real networks where their files are here: present from their resolution on, weighted."""
    try:
        config = LossConfig(identity_network="dlib_resnet", perceptual=2.0, identity_from=16)
        objective = Objective(config)
    except WeightsError as error:
        pytest.skip(f"needs the weights of LPIPS and dlib's network: {error}")
    assert "perceptual" not in objective.names(16) and "identity" in objective.names(16)
    assert "identity" not in objective.names(8)
    report = {
        k: float(v) for k, v in objective(TARGET, OUTPUT, probability, probability).report.items()
    }
    assert tuple(report) == objective.names(32)
    assert report["perceptual"] == pytest.approx(
        float(np.mean(objective.lpips(TARGET, OUTPUT))), rel=1e-5
    )
    expected = (
        report["pixel"]
        + 2.0 * report["perceptual"]
        + 0.1 * report["adversarial"]
        + 10.0 * report["identity"]
        + 1e-6 * report["total_variation"]
    )
    assert report["generator"] == pytest.approx(expected, rel=1e-5)
    assert report["perceptual"] > 0.05 and report["identity"] > 0
    same = objective(TARGET, TARGET, probability, probability).report
    assert float(same["perceptual"]) == float(same["identity"]) == float(same["pixel"]) == 0


@pytest.mark.core
def test_compared():
    """Of the rest of a batch only what needs no original counts."""
    config = LossConfig(perceptual=0.0, identity=0.0, total_variation=1e-4)
    objective = Objective(config)
    white = OUTPUT.copy()
    white[1] = 1.0

    def report(output, compared):
        result = objective(TARGET, output, probability, probability, compared=compared)
        return {name: float(value) for name, value in result.report.items()}

    ours, others = report(OUTPUT, 1), report(white, 1)
    assert ours["pixel"] == others["pixel"] == pytest.approx(np.abs(TARGET - OUTPUT)[0].mean())
    for name in ("adversarial", "total_variation", "discriminator", "fake_probability"):
        assert ours[name] != others[name] and ours[name] == report(OUTPUT, None)[name]
    assert report(OUTPUT, None)["pixel"] == report(OUTPUT, 2)["pixel"] != ours["pixel"]


def in_numpy(weights: list[np.ndarray], pictures: np.ndarray) -> np.ndarray:
    """A discriminator without normalisation and strides, in float64: (n, h, w, 3) → (n,)."""
    x = pictures.astype(float)
    height, width = x.shape[1:3]
    pairs = list(zip(weights[::2], weights[1::2], strict=True))
    for index, (kernel, bias) in enumerate(pairs):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = bias + sum(
            padded[:, i : i + height, j : j + width] @ kernel[i, j]
            for i in range(3)
            for j in range(3)
        )
        if index < len(pairs) - 1:
            x = np.where(x > 0, x, 0.2 * x)
    return (1 / (1 + np.exp(-x))).mean((1, 2, 3))


def penalty_in_numpy(weights: list[np.ndarray], pictures: np.ndarray, by: float = 1e-5) -> float:
    """R1 by differences: every value of every picture a little up and a little down."""
    total = 0.0
    for picture in pictures.astype(float):
        moves = by * np.eye(picture.size).reshape(-1, *picture.shape)
        up, down = (in_numpy(weights, picture + sign * moves) for sign in (1, -1))
        total += 0.5 * (((up - down) / (2 * by)) ** 2).sum()
    return total / len(pictures)


@pytest.mark.core
def test_gradient_penalty():
    """R1 and its own gradient by the weights, against differences in float64."""
    keras.utils.set_random_seed(0)
    network = Discriminator(8, width=0.0625, strides="none", normalization="none")
    random = np.random.default_rng(1)
    for variable in network.variables:
        if len(variable.shape) == 1:
            variable.assign(random.normal(0, 0.1, variable.shape).astype("float32"))
    target, output = (ops.convert_to_tensor(x[:, :8, :8]) for x in (TARGET, OUTPUT))
    config = LossConfig(perceptual=0.0, identity=0.0, gradient_penalty=3.0)
    objective = Objective(config)
    assert objective.names(8)[-1] == "gradient_penalty"

    def losses():
        return objective(target, output, network, detached(network))

    weights = [w.astype(float) for w in network.get_weights()]
    pictures = TARGET[:, :8, :8]
    real, fake = in_numpy(weights, pictures), in_numpy(weights, OUTPUT[:, :8, :8])
    penalty = penalty_in_numpy(weights, pictures)
    result = losses()
    assert tuple(result.report) == objective.names(8)
    assert float(result.report["real_probability"]) == pytest.approx(real.mean(), rel=1e-4)
    assert penalty > 1e-4
    assert float(result.report["gradient_penalty"]) == pytest.approx(penalty, rel=1e-3)
    plain = ((real - 0.9) ** 2).mean() + (fake**2).mean()
    assert float(result.report["discriminator"]) == pytest.approx(plain, rel=1e-4)
    assert float(result.discriminator) == pytest.approx(plain + 3.0 * penalty, rel=1e-4)

    variables = network.trainable_variables
    _, _, found = value_and_gradients(
        lambda: (losses().report["gradient_penalty"], ()), variables, network.variables
    )
    kernels = [
        (index, ops.convert_to_numpy(g))
        for index, (g, v) in enumerate(zip(found, variables, strict=True))
        if len(v.shape) == 4
    ]
    assert len(kernels) == 11 and all(np.abs(g).max() > 0 for _, g in kernels)
    for index, gradient in (kernels[0], kernels[5], kernels[10]):
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        values = []
        for sign in (1, -1):
            moved = [w.copy() for w in weights]
            moved[index][place] += sign * 1e-4
            values.append(penalty_in_numpy(moved, pictures))
        expected = (values[0] - values[1]) / 2e-4
        assert float(gradient[place]) == pytest.approx(expected, rel=0.02), index


@pytest.mark.core
def test_translation_is_a_move_and_walks_through_all():
    """NumPy's symmetric padding and slicing, over one whole walk; the gradient is the move back."""
    pictures = np.random.default_rng(3).random((2, 8, 8, 3)).astype("float32")
    padded = np.pad(pictures, ((0, 0), (2, 0), (2, 0), (0, 0)), mode="symmetric")
    seen = set()
    for step in range(9, 18):
        down, right = divmod(step % 9, 3)
        expected = padded[:, 2 - down : 10 - down, 2 - right : 10 - right]
        moved = keras.ops.convert_to_numpy(translated(pictures, 2, step))
        np.testing.assert_array_equal(moved, expected)
        np.testing.assert_array_equal(moved[:, down:, right:], pictures[:, : 8 - down, : 8 - right])
        seen.add(moved.tobytes())
    assert len(seen) == 9
