"""Whole or not at all, and what is refused. A two-layer model is enough: nothing here is a face."""

import resource
from contextlib import contextmanager

import keras
import numpy as np
import pytest

from facehal.errors import TrainingError
from facehal.layers.optimizers import JoinedAdam
from facehal.models.task import Phase, System, Update
from facehal.training import checkpoints
from facehal.training.phases import Trainer


def network(seed: int, units: int = 64, moving_average: bool = True) -> Trainer:
    """With two optimizers and their slots; 64 units are some 300 kB."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((256,)), keras.layers.Dense(units)])
    kernel, bias = model.trainable_variables
    updates = [Update(keras.optimizers.Adam(), [kernel]), Update(JoinedAdam(), [bias])]
    phase = Phase("all", lambda batch, step: (0.0, {}), updates, ("loss",))
    trainer = Trainer(System(model, [model], [phase], "loss", 0.9 if moving_average else 0.0))
    random = np.random.default_rng(seed)
    for variable in [v for name in ("optimizer", "average") for v in trainer.groups[name]]:
        if variable.shape:
            variable.assign(random.random(variable.shape))
    return trainer


def values(trainer: Trainer) -> list[np.ndarray]:
    return [v.numpy() for v in trainer.variables]


@contextmanager
def full_disk(size: int):
    """Writing beyond ``size`` bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_everything_comes_back(tmp_path):
    model, other = network(0), network(1)
    state = {"partial": {"8/pixel": 0.1 + 0.2}, "data_sha256": "ab"}
    path = checkpoints.save(model, tmp_path / "checkpoints", 7, state)
    assert path.name == "step_00000007.npz"
    assert checkpoints.restore(other, path) == {**state, "step": 7}  # floats to the last bit
    for a, b in zip(values(model), values(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_newest_two_stay(tmp_path):
    model = network(0)
    assert checkpoints.latest(tmp_path) is None
    for step in (5, 10, 150):
        checkpoints.save(model, tmp_path, step, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000010.npz", "step_00000150.npz"]
    assert checkpoints.latest(tmp_path).name == "step_00000150.npz"


def test_full_disk_leaves_the_old_one(tmp_path):
    model = network(0)
    old = checkpoints.save(model, tmp_path, 1, {})
    content = old.read_bytes()
    assert len(content) > 100_000
    with full_disk(50_000), pytest.raises(TrainingError) as caught:
        checkpoints.save(network(1), tmp_path, 2, {})
    message = str(caught.value)
    assert "step_00000002.npz: checkpoint not written (File too large)" in message
    assert "\n" not in message
    assert [p.name for p in tmp_path.iterdir()] == [old.name] and old.read_bytes() == content


def test_a_half_written_file_is_no_checkpoint(tmp_path):
    """What a kill in the middle of writing leaves behind."""
    old = checkpoints.save(network(0), tmp_path, 1, {})
    (tmp_path / "step_00000002.tmp").write_bytes(old.read_bytes()[:1000])
    assert checkpoints.latest(tmp_path) == old


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(TrainingError, match="checkpoint not written"):
        checkpoints.save(network(0), tmp_path / "checkpoints", 1, {})


def test_what_is_not_finite_is_not_kept(tmp_path):
    model = network(0)
    old = checkpoints.save(model, tmp_path, 1, {})
    model.system.model.layers[0].bias.assign(np.full(64, np.nan))
    with pytest.raises(checkpoints.NotFinite, match=r"bias$"):
        checkpoints.save(model, tmp_path, 2, {})
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: b"", "empty"),
        (lambda data: b"no checkpoint", "another kind of file"),
        (lambda data: data[:5000] + b"\xff" * 200 + data[5200:], "flipped bytes"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_damaged(tmp_path, damage, reason):
    model = network(0)
    path = checkpoints.save(model, tmp_path, 1, {})
    path.write_bytes(damage(path.read_bytes()))
    before = values(model)
    with pytest.raises(TrainingError) as caught:
        checkpoints.restore(model, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    for a, b in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_npz_of_something_else(tmp_path):
    np.savez(tmp_path / "step_00000001.npz", x=1)
    with pytest.raises(TrainingError, match="not a checkpoint"):
        checkpoints.restore(network(0), tmp_path / "step_00000001.npz")
    with pytest.raises(TrainingError, match="not a checkpoint"):
        checkpoints.read_state(tmp_path / "step_00000001.npz")


def test_the_state_alone(tmp_path):
    state = {"stage": 2, "partial": {"8/pixel": 0.5}}
    path = checkpoints.save(network(0), tmp_path, 7, state)
    assert checkpoints.read_state(path) == {**state, "step": 7}
    assert checkpoints.restore(network(1), path) == {**state, "step": 7}


@pytest.mark.parametrize("other", [{"units": 65}, {"moving_average": False}])
def test_of_another_network(tmp_path, other):
    path = checkpoints.save(network(0), tmp_path, 1, {})
    with pytest.raises(TrainingError, match="belongs to other networks"):
        checkpoints.restore(network(0, **other), path)
