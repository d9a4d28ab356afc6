"""Equation 6: every term by name, weights, and what a zero weight switches off."""

import keras
import numpy as np
import pytest
from keras import ops

from facehal.errors import WeightsError
from facehal.models.cascade.config import LossConfig
from facehal.models.cascade.objective import Objective, translated

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
