"""A family of another kind: phases by turns, a gradient of a gradient, two optimizers.

Achieved on TensorFlow and JAX (CPU, one thread): after a stop and a resume history and model are
equal to the bit; the two backends' losses of six steps lie 2e-6 apart.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from facehal.backend import Stepper, input_gradient, value_and_gradients
from facehal.training.phases import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from toy import NOISE, ToyConfig, ToyTask

ROOT = Path(__file__).resolve().parents[2]
# Of the whole family the JAX half runs beside TensorFlow, in `test_both_backends_agree`.
core = pytest.mark.core


def batches(count: int) -> list[dict[str, np.ndarray]]:
    """Reddish pictures."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        faces = random.integers(0, 60, (16, 8, 8, 3)).astype(np.uint8)
        faces[..., 0] += 180
        noise = random.standard_normal((16, NOISE)).astype(np.float32)
        found.append({"faces": faces, "masks": faces[..., 0] % 2, "noise": noise})
    return found


def trainer(**training) -> Trainer:
    keras.utils.set_random_seed(0)
    config = ToyConfig.from_dict({"model": "toy", "training": training})
    return Trainer(ToyTask(config).build(0, None, 0))


def values(networks) -> list[list[np.ndarray]]:
    return [[v.numpy() for v in network.variables] for network in networks]


def moved(before, after) -> list[bool]:
    return [
        any(not np.array_equal(a, b) for a, b in zip(x, y, strict=True))
        for x, y in zip(before, after, strict=True)
    ]


@core
def test_the_generator_comes_at_every_third_step():
    toy = trainer()
    state = values(toy.system.networks)
    for step, batch in enumerate(batches(7)):
        found = toy.fit([batch])
        now = values(toy.system.networks)
        comes = (step + 1) % 3 == 0
        assert moved(state, now) == [comes, True]  # painter, critic
        assert ("generator" in found) == comes and "critic" in found
        state = now
    counters = [u.optimizer.iterations.numpy() for p in toy.system.phases for u in p.updates]
    assert [int(n) for n in counters] == [7, 2] and int(toy.steps.numpy()) == 7


@core
def test_means_count_the_steps_that_came():
    """Of three steps the generator's loss is that of the third, not a third of it."""
    one, three = trainer(), trainer()
    each = [one.fit([batch]) for batch in batches(3)]
    found = three.fit(batches(3))
    assert found["generator"] == pytest.approx(each[2]["generator"], rel=1e-4)
    assert found["critic"] == pytest.approx(np.mean([x["critic"] for x in each]), rel=1e-4)


@core
def test_totals_say_how_often_a_phase_came():
    """So that an epoch of several stretches has the mean over all its generator steps."""
    toy = trainer()
    found = toy.fit(batches(7))
    totals = toy.totals()
    assert {name: count for name, (_, count) in totals.items()} == {
        "critic": 7,
        "distance": 7,
        "penalty": 7,
        "generator": 2,
    }
    assert all(found[name] == total / count for name, (total, count) in totals.items())
    toy.fit(batches(1))
    assert "generator" not in toy.totals()


@core
def test_it_learns():
    """The painter comes to the colour of the pictures, and the penalty holds the critic's slope."""
    toy = trainer()
    noise = np.random.default_rng(1).standard_normal((64, NOISE)).astype(np.float32)

    def apart() -> float:
        colour = ops.convert_to_numpy(toy.system.model.colours(noise)).mean(axis=0)
        return float(np.abs(colour - np.array([210, 30, 30]) / 255).max())

    before = apart()
    logs = toy.fit(batches(300))
    assert apart() < 0.5 * before
    assert logs["penalty"] < 0.2


@core
def test_a_gradient_of_a_gradient():
    """d/dw of |d/dx (w·x²)|² = d/dw 4 w² x² = 8 w x² (achieved: exact)."""
    weight = keras.Variable(np.array([1.5, -0.5], "float32"))
    x = np.array([[0.3, 2.0]], "float32")
    found = keras.Variable(np.zeros(2, "float32"), trainable=False)

    def penalty():
        slope = input_gradient(lambda v: ops.sum(weight.value * ops.square(v), axis=1), inputs[0])
        return ops.sum(ops.square(slope)), None

    def step(key, batch):
        inputs[0] = batch["x"]
        _, _, (gradient,) = value_and_gradients(penalty, [weight], [weight, found])
        found.assign(gradient)

    inputs = [None]
    stepper = Stepper(step, [weight, found], jit=False)
    with stepper.running():
        stepper(None, {"x": x})
    np.testing.assert_allclose(found.numpy(), (8 * weight.numpy() * x**2)[0], rtol=1e-6)


OTHER = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from test_family import batches, trainer
from facehal.training.phases import Trainer
import numpy as np
toy = trainer(moving_average=0.5)
with np.load(sys.argv[3]) as state:
    for index, variable in enumerate(toy.variables):
        variable.assign(state[str(index)])
print(json.dumps([toy.fit([batch]) for batch in batches(6)]))
"""


def test_both_backends_agree(tmp_path, record_property):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow, the reference, starts the other backend")
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs JAX (extra: jax)")
    toy = trainer(moving_average=0.5)
    np.savez(tmp_path / "state.npz", **{str(i): v.numpy() for i, v in enumerate(toy.variables)})
    ours = [toy.fit([batch]) for batch in batches(6)]
    done = subprocess.run(
        [sys.executable, "-c", OTHER, Path(__file__).parent, ROOT, tmp_path / "state.npz"],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert [sorted(x) for x in ours] == [sorted(x) for x in theirs]
    apart = max(abs(a[n] - b[n]) for a, b in zip(ours, theirs, strict=True) for n in a)
    record_property("losses_apart", apart)
    print(f"losses of six steps apart {apart:.1e}")
    assert apart < 1e-4


# -- Adding it to the package: one folder and one line of the registry.


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the package with the toy in a folder of its own, and in the registry."""
    root = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "facehal", root / "facehal")  # with what is compiled of it
    folder = root / "facehal" / "models" / "toy"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("toy.py"), folder / "__init__.py")
    registry = root / "facehal" / "models" / "base.py"
    text = registry.read_text(encoding="utf-8")
    start = 'FOLDERS = (\n    "cascade",'
    assert text.count(start) == 1
    registry.write_text(text.replace(start, f'{start} "toy",'), encoding="utf-8")
    (root / "toy.yaml").write_text(
        "model: toy\ntraining: {epochs: 6, batch_size: 5, checkpoint_steps: 2, "
        "moving_average: 0.5, preview_faces: 0}\n"
    )
    return root


def facehal(house: Path, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "facehal", *map(str, words)],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house), **threads},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 or not check, done.stderr[-2000:]
    return done


def weights(house: Path, folder: Path) -> list[bytes]:
    code = (
        "import sys, keras, facehal.models\n"
        "for v in keras.models.load_model(sys.argv[1]).variables: print(v.numpy().tobytes().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder / "model.keras"],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [bytes.fromhex(line) for line in done.stdout.split()]


def test_a_family_is_a_folder_and_a_line(house, sample_data, tmp_path, rows_of):
    """It trains from the command line, stops and resumes to the bit, and has its page."""
    common = ("--data", sample_data, "--config", house / "toy.yaml", "--limit", 20)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    facehal(house, "train", "toy", *common, "--out", whole)
    facehal(house, "train", "toy", *common, "--out", stopped, "--max-minutes", 0)
    names = [path.name for path in (stopped / "checkpoints").iterdir()]
    assert names == ["step_00000002.npz"] and not (stopped / "history.csv").exists()
    facehal(house, "train", "toy", *common, "--out", stopped, "--resume")
    ours, theirs = rows_of(stopped), rows_of(whole)
    assert list(ours[0]) == [
        *("epoch", "step", "seconds"),
        *("critic", "distance", "penalty", "generator"),
    ]
    for row in (*ours, *theirs):
        del row["seconds"]
    assert len(ours) == 6 and ours == theirs
    assert weights(house, stopped) == weights(house, whole) != []
    page = (whole / "report.html").read_text()
    assert "Toy" in page and "Finished: 6 of 6 epochs" in page and "Critic" in page


def test_its_settings_are_its_own(house, sample_data, tmp_path):
    """The cascade's names mean nothing to it, and the other way round."""
    wrong = {
        "model: toy\ntraining: {generator_rate: 1}": "unknown name 'generator_rate'",
        "model: toy\nloss: {pixel: l1}": "unknown section 'loss'",
        "training: {penalty: 1}": "unknown name 'penalty'",
        "model: tory": "model is one of cascaded, progan, toy",
    }
    files = []
    for number, text in enumerate(wrong):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(text + "\n")
    code = (
        "import sys\nfrom facehal.models import load_config\nfor name in sys.argv[1:]:\n"
        "    try: load_config(name)\n    except Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *files],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house)},
        capture_output=True,
        text=True,
        check=True,
    )
    for line, message in zip(done.stdout.splitlines(), wrong.values(), strict=True):
        assert message in line
    out = ("--data", sample_data, "--out", tmp_path / "run", "--config", files[0])
    done = facehal(house, "train", "toy", *out, check=False)
    assert (
        done.returncode == 1 and wrong["model: toy\ntraining: {generator_rate: 1}"] in done.stderr
    )
    assert len(done.stderr.strip().splitlines()) == 1
