"""Stages, who moves in them and by which term; a short training; both backends step by step.

Achieved: the losses of three steps end to end lie 5e-7 apart on TensorFlow and JAX (CPU).
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from facehal.errors import ConfigError
from facehal.models import task_of
from facehal.models.symmfcnet.task import JOINT, RECONSTRUCTION, WARPING
from facehal.training.phases import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from small import SIDE, batches, configuration

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.core

TERMS = {
    WARPING: ("landmark", "smoothness", "illumination", "generator"),
    RECONSTRUCTION: ("reconstruction", "symmetry", "adversarial", "generator"),
}
JUDGED = ("discriminator", "real", "fake")


def trainer(stage: int, previous=None, **options) -> Trainer:
    keras.utils.set_random_seed(0)
    return Trainer(task_of(configuration(**options)).build(stage, previous, 100))


def networks(system) -> dict[str, keras.Model]:
    model = system.model
    found = {"flow": model.flow, "light": model.light, "reconstruction": model.reconstruction}
    found["discriminator"] = system.discriminator
    return {name: network for name, network in found.items() if network is not None}


def moved(system, before) -> set[str]:
    return {
        name
        for name, network in networks(system).items()
        if any((a != b.numpy()).any() for a, b in zip(before[name], network.variables, strict=True))
    }


def state(system) -> dict[str, list[np.ndarray]]:
    return {n: [v.numpy() for v in one.variables] for n, one in networks(system).items()}


def test_who_moves_and_what_is_reported():
    """Statistics of normalisation belong to a network: in stage II the others' stay, too."""
    config = configuration()
    everything = {"flow", "light", "reconstruction", "discriminator"}
    whole = {*TERMS[WARPING], *TERMS[RECONSTRUCTION], *JUDGED}
    for stage, movers, terms in (
        (WARPING, {"flow", "light"}, TERMS[WARPING]),
        (RECONSTRUCTION, {"reconstruction", "discriminator"}, (*TERMS[RECONSTRUCTION], *JUDGED)),
        (JOINT, everything, whole),
    ):
        one = trainer(stage)
        before = state(one.system)
        logs = one.fit(batches(config, 1))
        assert moved(one.system, before) == movers
        assert set(logs) == {f"{SIDE}/{name}" for name in terms} == set(one.system.names)
        assert set(logs) <= set(task_of(config).columns)


def test_stages_hand_on_their_networks():
    first = trainer(WARPING)
    first.fit(batches(configuration(), 2))
    second = trainer(RECONSTRUCTION, first.system.model)
    second.fit(batches(configuration(), 2))
    third = trainer(JOINT, second.system.model)
    for name, ours, theirs in (
        ("flow", second, first),
        ("light", third, first),
        ("reconstruction", third, second),
    ):
        values = [networks(one.system)[name].get_weights() for one in (ours, theirs)]
        for a, b in zip(*values, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_flow_does_not_please_the_light():
    """In stage I FlowNet moves the same whatever illumination weighs."""
    flows = []
    for weight in (1.0, 50.0):
        one = trainer(WARPING, loss={"illumination": weight})
        one.fit(batches(configuration(), 2))
        flows.append(one.system.model.flow.get_weights())
    for a, b in zip(*flows, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_end_to_end_the_picture_moves_the_flow():
    """With nothing but the reconstruction: its gradient comes through stage I's picture."""
    loss = {"landmark": 0, "smoothness": 0, "symmetry": 0, "adversarial": 0}
    one = trainer(JOINT, loss=loss, network={"flow": "displacement"})
    before = state(one.system)
    logs = one.fit(batches(configuration(), 2))
    assert {"flow", "light", "reconstruction"} == moved(one.system, before)
    assert set(logs) == {f"{SIDE}/{n}" for n in ("illumination", "reconstruction", "generator")}
    last = one.system.model.flow.get_layer("up0")
    assert (last.kernel.numpy() != 0).any()  # which it began with


def falls(one: Trainer, config, terms: tuple[str, ...], bound: float) -> None:
    first = one.fit(batches(config, 3))
    one.fit(batches(config, 30))
    last = one.fit(batches(config, 3))
    for term in terms:
        name = f"{SIDE}/{term}"
        print(f"{term} from {first[name]:.4f} to {last[name]:.4f}")
        assert last[name] < bound * first[name]


def test_every_stage_learns():
    """What a stage is for falls on four faces: landmarks and relighting, then the picture."""
    options = {"network": {"flow": "displacement"}, "generator_rate": 2e-3}
    config, model = configuration(**options), None
    for stage, terms, bound in (
        (WARPING, ("landmark", "illumination"), 0.8),
        (RECONSTRUCTION, ("reconstruction",), 0.8),
        (JOINT, ("reconstruction",), 0.95),
    ):
        one = trainer(stage, model, **options)
        falls(one, config, terms, bound)
        model = one.system.model


def test_an_absolute_flow_learns():
    falls(trainer(WARPING), configuration(), ("landmark", "smoothness", "illumination"), 0.8)


def test_a_displacement_begins_with_none():
    """Every pixel at its own place, up to the half pixel that tanh leaves at the border."""
    one = trainer(WARPING, network={"flow": "displacement"})
    logs = one.fit(batches(configuration(), 1))
    assert logs[f"{SIDE}/smoothness"] < 1e-3
    assert trainer(WARPING).fit(batches(configuration(), 1))[f"{SIDE}/smoothness"] > 0


def test_what_a_step_needs_follows_from_its_number():
    config = configuration()
    one, again = batches(config, 3), batches(config, 3)
    for a, b in zip(one, again, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
    assert (one[0]["fill"] != one[1]["fill"]).mean() > 0.9
    other = batches(configuration(seed=1), 1)
    assert (one[0]["fill"] != other[0]["fill"]).mean() > 0.9
    middle = one[0]["counterparts"][:, 30]
    np.testing.assert_allclose(middle[:, 0], SIDE - 1 - one[0]["landmarks"][:, 30, 0])


def test_what_a_configuration_refuses():
    for network, words in (
        ({"resolution": 96}, "power of two from 16"),
        ({"resolution": 8}, "power of two from 16"),
        ({"flow": "none"}, "flow is one of absolute, displacement"),
    ):
        with pytest.raises(ConfigError, match=words):
            configuration(network=network)
    for term in ("illumination", "reconstruction"):
        with pytest.raises(ConfigError, match=f"{term} cannot be 0"):
            configuration(loss={term: 0})


OTHER = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from test_training import JOINT, batches, configuration, trainer
import numpy as np
one = trainer(JOINT)
with np.load(sys.argv[3]) as state:
    for index, variable in enumerate(one.variables):
        variable.assign(state[str(index)])
print(json.dumps([one.fit([batch]) for batch in batches(configuration(), 3)]))
"""


def test_both_backends_agree(tmp_path, record_property):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow, the reference, starts the other backend")
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs JAX (extra: jax)")
    one = trainer(JOINT)  # which has the terms of all stages
    np.savez(tmp_path / "state.npz", **{str(i): v.numpy() for i, v in enumerate(one.variables)})
    ours = [one.fit([batch]) for batch in batches(configuration(), 3)]
    done = subprocess.run(
        [sys.executable, "-c", OTHER, Path(__file__).parent, ROOT, tmp_path / "state.npz"],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert [sorted(x) for x in ours] == [sorted(x) for x in theirs]
    apart = max(abs(a[n] - b[n]) for a, b in zip(ours, theirs, strict=True) for n in a)
    record_property("losses_apart", apart)
    print(f"losses of three steps apart {apart:.1e}")
    assert apart < 1e-4
