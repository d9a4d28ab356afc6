"""Every term against PyTorch's own losses, and which network each gradient reaches."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import ops

from facehal.backend import Stepper, value_and_gradients
from facehal.errors import WeightsError
from facehal.layers.translation import translated
from facehal.models.base import detached
from facehal.models.edgeconnect import objective
from facehal.models.edgeconnect.config import LossConfig
from facehal.models.edgeconnect.networks import Discriminator

pytestmark = pytest.mark.core
SIDE = 32


class Squares:
    """Stands for a frozen network: three maps of the pictures."""

    name = "squares"

    def __call__(self, pictures):
        maps = [pictures, ops.square(pictures), pictures[:, ::2, ::2] * 3.0]
        return maps, maps[1:]


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    shape = (2, SIDE, SIDE)
    hole = np.ones((*shape, 1), np.float32)
    hole[:, 8:20, 8:20] = 0
    return {
        "pictures": random.random((*shape, 3), np.float32),
        "output": random.random((*shape, 3), np.float32),
        "grey": random.random((*shape, 1), np.float32),
        "edges": (random.random((*shape, 1)) < 0.2).astype(np.float32),
        "found": random.random((*shape, 1), np.float32),
        "hole": hole,
    }


def scalars(report) -> dict[str, float]:
    return {name: float(value) for name, value in report.items()}


def test_edge_losses_are_pytorchs(data):
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    keras.utils.set_random_seed(1)
    critic = Discriminator(2, 4)
    for layer in critic.layers:
        if hasattr(layer, "kernel"):  # N(0, 0.02) leaves maps that are next to nothing
            layer.kernel.assign(20 * layer.kernel.numpy())
    still = partial(critic.__call__, training=False)
    total, ours, report = objective.edge_losses(
        LossConfig(), data["grey"], data["edges"], data["found"], data["hole"], still, still
    )
    real, fake = (
        [torch.tensor(np.array(x)) for x in still(np.concatenate([data["grey"], data[k]], -1))]
        for k in ("edges", "found")
    )
    bce, l1 = torch.nn.BCELoss(), torch.nn.L1Loss()
    one, zero = torch.ones_like(real[-1]), torch.zeros_like(real[-1])
    said, lied = torch.sigmoid(real[-1]), torch.sigmoid(fake[-1])
    wanted = {
        "discriminator": (bce(said, one) + bce(lied, zero)) / 2,
        "adversarial": bce(lied, one),
        "matching": sum(l1(a, b) for a, b in zip(fake, real, strict=True)),
        "real_probability": said.mean(),
        "fake_probability": lied.mean(),
    }
    found = scalars(report)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(float(value), rel=1e-5), name  # achieved: 3e-7
    assert found["matching"] > 0.05
    both = float(wanted["adversarial"] + 10 * wanted["matching"])
    assert found["generator"] == float(total) == pytest.approx(both, rel=1e-5)
    assert float(ours) == found["discriminator"]
    assert tuple(sorted(found)) == tuple(sorted(objective.EDGE_TERMS))


def test_precision_and_recall(data):
    found = scalars(dict(zip("pr", objective.agreement(data["edges"], data["found"]), strict=True)))
    true, seen = data["edges"] > 0.5, data["found"] > 0.5
    assert found["p"] == pytest.approx((true & seen).sum() / seen.sum(), rel=1e-5)
    assert found["r"] == pytest.approx((true & seen).sum() / true.sum(), rel=1e-5)
    nothing = objective.agreement(0 * data["edges"], 0 * data["found"])
    assert [float(x) for x in nothing] == [0.0, 0.0]


def test_picture_losses_are_pytorchs(data):
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    critic = partial(Discriminator(3, 4).__call__, training=False)
    config = LossConfig()
    total, _, report = objective.picture_losses(
        config, Squares(), data["pictures"], data["output"], data["hole"], critic, critic
    )
    y, x, mask = (torch.tensor(data[n]).permute(0, 3, 1, 2) for n in ("pictures", "output", "hole"))
    l1 = torch.nn.L1Loss()

    def maps(picture):
        return [picture, picture**2, picture[:, :, ::2, ::2] * 3]

    def gram(f):
        n, channels, height, width = f.shape
        f = f.reshape(n, channels, height * width)
        return f.bmm(f.transpose(1, 2)) / (channels * height * width)

    pairs = zip(maps(x * mask)[1:], maps(y * mask)[1:], strict=True)
    logits = torch.tensor(np.array(critic(data["output"])[-1]))
    lied = torch.sigmoid(logits)
    wanted = {
        "pixel": l1(x, y) / mask.mean(),
        "content": sum(l1(a, b) for a, b in zip(maps(x), maps(y), strict=True)),
        "style": sum(l1(gram(a), gram(b)) for a, b in pairs),
        "adversarial": torch.nn.BCELoss()(lied, torch.ones_like(lied)),
    }
    found = scalars(report)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(float(value), rel=1e-5), name  # achieved: 2e-7
    weights = {"pixel": 1, "content": 0.1, "style": 250, "adversarial": 0.1}
    both = sum(float(value) * weights[name] for name, value in wanted.items())
    assert found["generator"] == float(total) == pytest.approx(both, rel=1e-5)
    assert set(found) == set(objective.picture_terms(config))


def test_a_term_without_weight_is_not_there(data):
    config = LossConfig(content=0.0, style=0.0)
    critic = partial(Discriminator(3, 4).__call__, training=False)
    arrays = (data["pictures"], data["output"], data["hole"])
    _, _, report = objective.picture_losses(config, None, *arrays, critic, critic)
    assert set(report) == set(objective.picture_terms(config))
    assert not {"content", "style"} & set(report)
    assert float(report["generator"]) == pytest.approx(
        float(report["pixel"]) + 0.1 * float(report["adversarial"]), rel=1e-6
    )


def test_features_see_pictures_moved(data):
    critic = partial(Discriminator(3, 4).__call__, training=False)
    arrays = (data["pictures"], data["output"], data["hole"])
    config = LossConfig(translation=3)

    def contents(step: int) -> float:
        _, _, report = objective.picture_losses(config, Squares(), *arrays, critic, critic, step)
        return float(report["content"])

    still, same, moved = contents(15), contents(15 + 16), contents(0)
    assert still == same != moved
    y, x = (translated(ops.convert_to_tensor(data[n]), 3, 0) for n in ("pictures", "output"))
    assert moved == pytest.approx(float(objective.content(Squares(), y, x)), rel=1e-5)


def gradients(function, variables, state) -> list[np.ndarray]:
    kept = [keras.Variable(np.zeros(v.shape, "float32"), trainable=False) for v in variables]

    def step(key, batch):
        _, _, found = value_and_gradients(lambda: (function(), None), variables, [*state, *kept])
        for variable, gradient in zip(kept, found, strict=True):
            variable.assign(gradient)

    stepper = Stepper(step, [*state, *kept], jit=False)
    before = [v.numpy() for v in state]
    with stepper.running():
        stepper(None, {"x": np.zeros(1, np.float32)})
    for variable, value in zip(state, before, strict=True):
        variable.assign(value)
    return [v.numpy() for v in kept]


def test_one_pass_gives_each_network_its_own_gradient(data):
    """That of the sum is, at the discriminator, of its loss alone, at the output, of the
    generator's."""
    critic = Discriminator(3, 4)
    output = keras.Variable(data["output"], name="output")
    state = [output, *critic.variables]

    def losses():
        arrays = (data["pictures"], output.value, data["hole"])
        critics = (partial(critic.__call__, training=True), detached(critic))
        return objective.picture_losses(LossConfig(), Squares(), *arrays, *critics)[:2]

    moved = [output, *critic.trainable_variables]
    both = gradients(lambda: sum(losses()), moved, state)
    ours = gradients(lambda: losses()[0], [output], state)
    theirs = gradients(lambda: losses()[1], critic.trainable_variables, state)
    for a, b in zip(both, [*ours, *theirs], strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_features_of_vgg19_need_a_file(tmp_path, monkeypatch):
    """Nothing takes its place silently."""
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="facehal weights get vgg19"):
        objective.Features("vgg19")


def test_features_of_alexnet(weights, data):
    features = objective.Features("alexnet")
    content, style = features(data["pictures"])
    assert [x.shape[-1] for x in content] == [64, 192, 384, 256, 256]
    assert [x.shape[-1] for x in style] == [192, 384, 256, 256]
    scaled = features.network(2 * data["pictures"] - 1)
    np.testing.assert_array_equal(np.asarray(content[0]), np.asarray(scaled[0]))


def test_features_of_vgg19_are_the_published_layers(data, monkeypatch):
    taps = []

    def slim(names):
        taps.extend(names)
        return lambda pictures, training: [pictures + n for n in range(len(names))]

    monkeypatch.setattr(objective, "Vgg19", slim)
    content, style = objective.Features("vgg19")(data["pictures"])
    assert taps[:5] == ["conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"]
    assert taps[5:] == ["conv2_2", "conv3_4", "conv4_4", "conv5_2"]
    np.testing.assert_array_equal(content[0], data["pictures"])  # as they are, in [0, 1]
    np.testing.assert_array_equal(style[0], data["pictures"] + 5)
