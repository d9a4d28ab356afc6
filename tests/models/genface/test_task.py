"""GenFace's training: losses as the authors' programs add them up, batches, stages, a short run."""

import keras
import numpy as np
import pytest
from keras import ops

from facehal.errors import WeightsError
from facehal.features.face_parser import FaceParser
from facehal.models import from_dict, task_of
from facehal.models.base import load_config
from facehal.models.genface.config import GenFaceConfig
from facehal.models.genface.task import moved, parsing_loss
from facehal.training.phases import Trainer

SIDE = 32
NETWORK = {"resolution": SIDE, "base": 4, "features": 32, "discriminator_base": 2}
PLAIN = {"pairs": False, "shift": 0, "rotation": 0, "stretch": False}


def task(loss=None, **training):
    values = {"model": "genface", "network": NETWORK, "loss": loss or {}}
    return task_of(from_dict({**values, "training": {**PLAIN, **training}}))


@pytest.fixture(scope="module")
def batch(sample_faces) -> dict[str, np.ndarray]:
    """Six faces at 32 pixels."""
    faces, masks = (array[:6] for array in sample_faces)
    faces = faces.reshape(6, SIDE, 4, SIDE, 4, 3).mean((2, 4)).round().astype(np.uint8)
    return {"faces": faces, "masks": masks[:, 2::4, 2::4].copy()}


def gradient(function, x: np.ndarray) -> np.ndarray:
    """Of a scalar function by an array."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x, unconnected_gradients="zero").numpy()
    import jax

    return np.asarray(jax.jit(jax.grad(function))(x))


# -- Losses


@pytest.fixture
def judged(batch, monkeypatch):
    """A second stage whose network paints what the test says, and a prepared batch."""
    keras.utils.set_random_seed(0)
    one = task()
    system = one.build(1, None, 0)
    for network in (system.local, system.whole):  # far from an even guess
        for variable in network.trainable_variables:
            variable.assign(4.0 * variable.value)
    prepared = one.prepare(batch, 0)
    targets = 2.0 * batch["faces"].astype(np.float32) / 255 - 1
    masks = batch["masks"][..., None].astype(np.float32)
    painted = np.random.default_rng(0).uniform(-1, 1, targets.shape).astype(np.float32)

    def paint(values) -> None:
        monkeypatch.setattr(system, "pictures", lambda batch: (targets, values, masks))

    return system, prepared, targets, painted, masks, paint


def test_gradients_are_stacked_as_the_authors_do(judged):
    """``gradstack.m``: sign of the difference, 300 times the local gradient inside the square, 300
    times the global one everywhere, the painted face too (achieved: 3e-7 of the largest)."""
    system, prepared, targets, painted, masks, paint = judged
    count, values = len(targets), 3 * SIDE**2
    pasted = targets * masks + painted * (1 - masks)

    def realness(network):
        return lambda x: ops.sum(-ops.log(ops.sigmoid(network(x)))) / count

    whole = gradient(realness(system.whole), pasted)
    local = np.zeros_like(pasted)
    for index, (row, column) in enumerate(prepared["corners"]):
        rows, columns = slice(row, row + SIDE // 2), slice(column, column + SIDE // 2)
        square = pasted[index : index + 1, rows, columns]
        local[index, rows, columns] = gradient(realness(system.local), square)[0]
    wanted = np.sign(painted - targets) / count + 300 * whole + 300 * local * (1 - masks)

    def loss(x):
        paint(x)
        return system.generator(prepared, 0)[0]

    found = gradient(loss, painted) * values
    apart = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"stacked gradients {apart:.1e} apart")
    assert min(np.abs(300 * whole).max(), np.abs(300 * local).max()) > 0.01 / count
    assert apart < 1e-5


def test_terms_are_the_authors(judged):
    """``GFC_L1_loss.m``, ``GFC_BCE_loss1.m`` and ``…2.m``, and what is reported of them."""
    system, prepared, targets, painted, masks, paint = judged
    paint(painted)
    pasted = targets * masks + painted * (1 - masks)
    squares = [
        np.stack(
            [
                x[index, row : row + SIDE // 2, column : column + SIDE // 2]
                for index, (row, column) in enumerate(prepared["corners"])
            ]
        )
        for x in (targets, pasted)
    ]

    def probability(network, x):
        return 1 / (1 + np.exp(-np.asarray(network(x), np.float64)))

    (local_real, local_fake), (real, fake) = (
        [probability(network, x) for x in pair]
        for network, pair in ((system.local, squares), (system.whole, (targets, pasted)))
    )
    total, report = system.generator(prepared, 0)
    sums = np.abs(painted - targets).sum(axis=(1, 2, 3)).mean()
    sums += 300 * -np.log(local_fake).mean() + 300 * -np.log(fake).mean()
    assert float(total) == pytest.approx(sums / (3 * SIDE**2), rel=1e-4)
    assert list(report) == [f"32/{n}" for n in ("pixel", "local", "whole", "generator")]
    assert float(report["32/local"]) == pytest.approx(-np.log(local_fake).mean(), rel=1e-4)
    assert float(report["32/generator"]) == float(total)
    judging, report = system.discriminators(prepared, 0)
    crossed = [
        np.concatenate([-np.log(a), -np.log(1 - b)]).mean()  # half of the batch is real
        for a, b in ((local_real, local_fake), (real, fake))
    ]
    assert float(judging) == pytest.approx(sum(crossed), rel=1e-4)
    wanted = (local_real.mean() + real.mean()) / 2
    assert float(report["32/real_probability"]) == pytest.approx(wanted, rel=1e-4)


def test_the_parsing_term(shaken):
    """Cross-entropy by the parser's own labels of the original (``GFC_Softmax_loss.m``)."""
    parser = shaken(FaceParser(None, side=32, base=2))
    random = np.random.default_rng(0)
    targets, pasted = random.uniform(-1, 1, (2, 2, 32, 32, 3)).astype(np.float32)
    truth, logits = (parser.predict_on_batch((x + 1) / 2) for x in (targets, pasted))
    labels = truth.argmax(axis=-1)
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    picked = np.take_along_axis(shares, labels[..., None], axis=-1)
    found = float(parsing_loss(parser, targets, pasted))
    assert found == pytest.approx(-np.log(picked).mean(), rel=1e-4)
    slope = gradient(lambda x: parsing_loss(parser, targets, x), pasted)
    assert np.abs(slope).max() > 0
    slope = gradient(lambda x: parsing_loss(parser, x, pasted), targets)  # labels have none
    assert not slope.any()


def test_a_parser_that_is_not_here(tmp_path):
    one = task({"parser": str(tmp_path / "Model_parsing.caffemodel")})
    assert "32/parsing" in one.columns and "32/parsing" not in task().columns
    one.build(0, None, 0)  # the reconstruction needs none
    with pytest.raises(WeightsError, match=r"Model_parsing\.caffemodel: cannot be read"):
        one.build(1, None, 0)


def test_training_with_a_parser(batch, monkeypatch):
    """Another column, another term of the sum, and the parser stays as it is."""
    picture = keras.Input((SIDE, SIDE, 3))
    parser = keras.Model(picture, keras.layers.Conv2D(11, 3, padding="same")(picture))
    parser.trainable = False
    monkeypatch.setattr("facehal.models.genface.task.FaceParser", lambda file, side: parser)
    before = parser.get_weights()
    one = task({"parser": "x.caffemodel", "parsing": 30})
    trainer = Trainer(one.build(1, None, 0))
    found = trainer.fit([one.prepare(batch, 0)])
    assert sorted(found) == sorted(one.columns)
    total = found["32/pixel"] + 300 * (found["32/local"] + found["32/whole"]) / (3 * SIDE**2)
    assert found["32/generator"] == pytest.approx(total + 10 * found["32/parsing"], rel=1e-4)
    for old, new in zip(before, parser.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# -- Batches


def test_batches(batch):
    one = task()
    first, again, other = (one.prepare(batch, step) for step in (7, 7, 8))
    assert sorted(first) == ["corners", "faces", "fill", "masks"]
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert (first["fill"] != other["fill"]).any() and (first["corners"] != other["corners"]).any()
    noise = first["fill"]
    assert noise.shape == (6, SIDE, SIDE, 3) and noise.dtype == np.float32
    assert -1 <= noise.min() < -0.99 and 0.99 < noise.max() <= 1 and abs(noise.mean()) < 0.01
    assert first["corners"].shape == (6, 2) and first["corners"].max() <= SIDE // 2
    np.testing.assert_array_equal(first["faces"], batch["faces"])


def test_pairs_are_faces_and_their_mirror_images(batch):
    found = task(pairs=True).prepare(batch, 0)
    assert all(len(values) == 12 for values in found.values())
    for name in ("faces", "masks"):
        np.testing.assert_array_equal(found[name][:6], batch[name])
        np.testing.assert_array_equal(found[name][6:], batch[name][:, :, ::-1])
    assert (found["fill"][:6] != found["fill"][6:, :, ::-1]).any()


def test_faces_are_moved_with_their_masks(batch):
    class Fixed:
        def __init__(self, *draws):
            self.draws = draws

        def uniform(self, low, high, count):
            return np.array(self.draws)

    faces, masks = batch["faces"], batch["masks"]
    found = moved(faces, masks, Fixed(1, -0.5, 0), shift=0.25, rotation=5)  # 8 right, 4 up
    for array, outside, values in zip(found, (127, 0), (faces, masks), strict=True):
        np.testing.assert_array_equal(array[:, :-4, 8:], values[:, 4:, :-8])
        assert (array[:, :, :8] == outside).all() and (array[:, -4:] == outside).all()
    turned, _ = moved(faces, masks, Fixed(0, 0, 1), shift=0, rotation=90)  # about the first pixel
    assert (turned[:, 1:, 1:] == 127).all()
    np.testing.assert_array_equal(turned[:, 0, 0], faces[:, 0, 0])
    draws = np.random.default_rng(0)
    one, other = (moved(faces, masks, draws, 0.05, 5.0)[0] for _ in range(2))
    assert (one != other).any() and np.abs(one.astype(int) - faces).mean() < 60


def test_pictures_are_stretched_by_their_own_values(batch):
    system = task(stretch=True).build(0, None, 0)
    prepared = task().prepare({**batch, "faces": batch["faces"] // 2 + 40}, 0)
    targets, _, _ = system.pictures(prepared)
    targets = np.asarray(targets)
    np.testing.assert_allclose(targets.min(axis=(1, 2, 3)), -1, atol=1e-6)
    np.testing.assert_allclose(targets.max(axis=(1, 2, 3)), 1, atol=1e-6)
    flat = task().prepare({**batch, "faces": np.full_like(batch["faces"], 9)}, 0)
    assert (np.asarray(system.pictures(flat)[0]) == -1).all()


def test_the_network_sees_noise_in_the_hole(batch):
    """And nothing of the photo there; at inference always the same noise."""
    model = task().build(0, None, 0).model
    seen = []
    network, model.network = model.network, lambda x, training: seen.append(np.asarray(x)) or x
    faces = batch["faces"].astype(np.float32) / 255
    masks = batch["masks"][..., None].astype(np.float32)
    inputs = ({SIDE: faces * masks}, {SIDE: masks})
    model.hallucinate(*inputs)
    model.hallucinate(*inputs)
    model.network = network
    np.testing.assert_array_equal(*seen)
    known = batch["masks"] == 1
    np.testing.assert_allclose(seen[0][known], 2 * faces[known] - 1, atol=1e-6)
    pattern = np.broadcast_to(model.pattern, faces.shape)
    np.testing.assert_array_equal(seen[0][~known], pattern[~known])
    assert abs(pattern.mean()) < 0.05 and pattern.std() == pytest.approx(3**-0.5, abs=0.02)
    assert (type(model)(SIDE, 4, 32, seed=1).pattern != model.pattern).any()


# -- Stages


def test_training_lowers_the_loss_and_the_second_stage_begins_from_the_first(batch):
    keras.utils.set_random_seed(0)
    one = task(generator_rate=1e-3)
    trainer = Trainer(one.build(0, None, 0))
    losses = [trainer.fit([one.prepare(batch, step)]) for step in range(80)]
    assert list(losses[0]) == ["32/pixel", "32/generator"]
    assert losses[-1]["32/pixel"] < 0.88 * losses[0]["32/pixel"]

    first = trainer.system.model
    keras.utils.set_random_seed(1)
    second = Trainer(one.build(1, first, 0))
    model = second.system.model
    assert model is not first
    for ours, theirs in zip(model.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    before = second.fit([one.prepare(batch, 100)])
    assert before["32/pixel"] < 0.9 * losses[0]["32/pixel"]
    assert before["32/discriminator"] == pytest.approx(2 * np.log(2), rel=0.01)
    after = [second.fit([one.prepare(batch, step)]) for step in range(101, 121)]
    assert sorted(after[-1]) == sorted(one.columns)
    assert after[-1]["32/discriminator"] < before["32/discriminator"]
    probabilities = [after[-1][f"32/{n}_probability"] for n in ("real", "fake")]
    assert probabilities[0] > probabilities[1]
    assert all(np.isfinite(list(row.values())).all() for row in after)


# -- Experiments


def test_experiments():
    published, compact = load_config("genface"), load_config("genface_compact")
    assert published == GenFaceConfig()
    assert (compact.size, compact.network.base, compact.network.features) == ("compact", 16, 192)
    stages = task_of(compact).stages
    assert [stage.name for stage in stages] == ["reconstruction", "adversarial"]
    assert stages[1].epochs == compact.training.epochs


@pytest.mark.parametrize("side", [8, 48, 100, "128"])
def test_sizes_that_do_not_fit_are_refused(side):
    with pytest.raises(Exception, match="resolution is a power of two from 16"):
        from_dict({"model": "genface", "network": {"resolution": side}})
