"""The latent vector: zeros are the network without it, its three parts of a batch, its training."""

import keras
import numpy as np
import pytest
from keras import ops

from facehal.backend import value_and_gradients
from facehal.errors import ConfigError
from facehal.layers.pyramid import pyramid
from facehal.models import from_dict, task_of
from facehal.models.cascade.cascade import Cascade
from facehal.models.cascade.folding import fold
from facehal.models.cascade.generator import Generator
from facehal.models.cascade.latent import SIDE, Encoder, latents, shares
from facehal.models.cascade.layers import Modulation
from facehal.models.cascade.task import DIVERGENCE
from facehal.models.saving import save_model
from facehal.training.phases import Trainer

pytestmark = pytest.mark.core

LATENT = 3
SIZES = (8, 16, 32)


def shaken(model: keras.Model) -> keras.Model:
    """Every weight and every statistic as training leaves it: nothing is 0 or 1."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        name = variable.path.rsplit("/", 1)[-1]
        if name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape).astype("float32"))
        elif name != "kernel" or "style" in variable.path:
            variable.assign(random.normal(0, 0.2, variable.shape).astype("float32"))
    return model


def cascade(latent: int = LATENT, **options) -> Cascade:
    keras.utils.set_random_seed(0)
    return shaken(Cascade(2, 8, resolutions=SIZES, latent=latent, name="cascade", **options))


@pytest.fixture(scope="module")
def model() -> Cascade:
    return cascade()


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    masks = np.zeros((3, 32, 32, 1), np.float32)
    masks[:, 9:25, 7:21] = 1
    return {"masked_faces": random.random((3, 32, 32, 3), np.float32) * masks, "masks": masks}


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((3, LATENT), np.float32)


def pictures(model: keras.Model, inputs, latent=None, training: bool = False):
    """``{size: pictures}`` in NumPy."""
    given = inputs if latent is None else {**inputs, "latent": latent}
    return {int(size): np.asarray(x) for size, x in model(given, training=training).items()}


def test_zeros_are_no_vector_and_the_network_without_one(model, inputs):
    """Bit for bit: the network without noise is among those with it."""
    none = pictures(model, inputs)
    zeros = pictures(model, inputs, np.zeros((3, LATENT), np.float32))
    plain = cascade(latent=0)
    for ours, theirs in zip(model.generators, plain.generators, strict=True):
        for layer in theirs.layers:
            layer.set_weights(ours.get_layer(layer.name).get_weights())
    for ours, theirs in zip(model.upscalers, plain.upscalers, strict=True):
        theirs.set_weights(ours.get_weights())
    without = pictures(plain, inputs)
    assert list(none) == list(zeros) == list(without) == list(SIZES)
    for size in SIZES:
        np.testing.assert_array_equal(zeros[size], none[size])
        np.testing.assert_allclose(without[size], none[size], rtol=0, atol=1e-6)


def test_what_it_adds_to_a_generator():
    """A matrix for the innermost layer and for every layer of the decoder but the last."""
    with_it, without = (Generator(32, 6, base=2, cap=8, latent=n) for n in (LATENT, 0))
    names = [layer.name for layer in with_it.layers if isinstance(layer, Modulation)]
    assert names == ["style_4", "style_8", "style_16"]
    assert [with_it.get_layer(name).kernel.shape for name in names] == [(LATENT, 16)] * 3
    assert with_it.count_params() - without.count_params() == 3 * LATENT * 16
    assert [tuple(x.shape) for x in with_it.inputs] == [(None, 32, 32, 6), (None, LATENT)]
    assert not any(isinstance(layer, Modulation) for layer in without.layers)


def test_modulation():
    """x (1 + factor) + offset, both linear in the vector."""
    random = np.random.default_rng(0)
    x = random.random((2, 4, 4, 5), np.float32)
    vector = random.standard_normal((2, LATENT), np.float32)
    layer = Modulation()
    y = np.asarray(layer([x, vector]))
    style = vector @ np.asarray(layer.kernel)
    factor, offset = style[:, None, None, :5], style[:, None, None, 5:]
    np.testing.assert_allclose(y, x * (1 + factor) + offset, rtol=1e-5, atol=1e-6)
    assert np.abs(y - x).max() > 0.01
    np.testing.assert_array_equal(np.asarray(layer([x, 0 * vector])), x)


def test_another_vector_changes_the_context_and_never_the_face(model, inputs, vectors):
    none = pictures(model, inputs)
    faces = pyramid(inputs["masked_faces"], SIZES)
    masks = pyramid(inputs["masks"], SIZES)
    for latent in (vectors, -vectors, 100 * vectors):
        for size, picture in pictures(model, inputs, latent).items():
            inside = np.asarray(masks[size])[..., 0] == 1
            assert inside.any() and not inside.all()
            np.testing.assert_array_equal(picture[inside], np.asarray(faces[size])[inside])
            for ours, theirs, face in zip(picture, none[size], inside, strict=True):
                assert np.abs(ours - theirs)[~face].max() > 1e-3
            assert picture.min() >= 0 and picture.max() <= 1 + 1e-6


def test_every_picture_has_a_vector_of_its_own(model, inputs, vectors):
    """In a batch each is what it is alone."""
    together = pictures(model, inputs, vectors)
    for index in range(3):
        one = {name: array[index : index + 1] for name, array in inputs.items()}
        alone = pictures(model, one, vectors[index : index + 1])
        for size in SIZES:
            np.testing.assert_allclose(alone[size][0], together[size][index], rtol=0, atol=1e-5)


def test_folded(model, inputs, vectors):
    folded = fold(model)
    assert folded.normalization == "none" and folded.latent == LATENT
    for latent in (None, vectors):
        before, after = pictures(model, inputs, latent), pictures(folded, inputs, latent)
        for size in SIZES:
            np.testing.assert_allclose(after[size], before[size], rtol=0, atol=1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_saved_and_loaded(half, inputs, vectors, tmp_path):
    """Vector and widths come along; float16 changes what it changes in any model."""
    model = cascade(widths=[[2, 8], [2, 12], [3, 8]])
    loaded = keras.models.load_model(save_model(model, tmp_path / "m.keras", half=half))
    assert isinstance(loaded, Cascade) and loaded.get_config() == model.get_config()
    assert (loaded.latent, loaded.widths) == (LATENT, ((2, 8), (2, 12), (3, 8)))
    for a, b in zip(loaded.variables, model.variables, strict=True):
        b = b.numpy().astype("float16").astype("float32") if half else b.numpy()
        np.testing.assert_array_equal(a.numpy(), b)
    for latent in (None, vectors):
        before, after = pictures(model, inputs, latent), pictures(loaded, inputs, latent)
        for size in SIZES:
            np.testing.assert_allclose(after[size], before[size], rtol=0, atol=5e-3 * half)
    a, b = pictures(loaded, inputs), pictures(loaded, inputs, vectors)
    assert np.abs(a[32] - b[32]).max() > 1e-2


def test_a_model_without_one_takes_no_notice(inputs, vectors):
    plain = cascade(latent=0)
    assert plain.latent == 0
    for a, b in zip(
        pictures(plain, inputs).values(), pictures(plain, inputs, vectors).values(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


# The encoder and the parts of a batch


@pytest.mark.parametrize(
    ("batch", "encoded", "parts"),
    [
        (4, True, (2, 1)),
        (4, False, (2, 0)),
        (7, True, (3, 1)),
        (8, True, (4, 2)),
        (9, False, (4, 0)),
    ],
)
def test_shares(batch, encoded, parts):
    assert shares(batch, encoded) == parts


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_too_small_to_be_shared(batch):
    with pytest.raises(ConfigError, match=f"4 faces or more, not {batch}"):
        shares(batch, True)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    keras.utils.set_random_seed(0)
    encoder = Encoder(LATENT, name="encoder")
    layer = encoder.get_layer("spread")  # zeros at first: every variance 1
    assert not np.asarray(layer.kernel).any()
    random = np.random.default_rng(0)
    layer.kernel.assign(random.normal(0, 0.05, layer.kernel.shape).astype("float32"))
    layer.bias.assign([-2.0, -0.5, 0.5])
    return encoder


@pytest.fixture(scope="module")
def seen() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, masks and noise of a batch of eight."""
    random = np.random.default_rng(3)
    masks = np.zeros((8, SIDE, SIDE, 1), np.float32)
    masks[:, 8:24, 8:24] = 1
    noise = random.standard_normal((8, LATENT), np.float32)
    return random.random((8, SIDE, SIDE, 3), np.float32), masks, noise


def moments(encoder, seen) -> tuple[np.ndarray, np.ndarray]:
    """Mean and logarithm of the variance of all eight."""
    faces, masks, _ = seen
    both = encoder(np.concatenate([faces * (1 - masks), masks], axis=-1))
    mean, log_variance = (np.asarray(x) for x in both)
    assert mean.shape == log_variance.shape == (8, LATENT)
    return mean, log_variance


def test_the_three_parts_of_a_batch(encoder, seen):
    """Four without a vector, two with the encoder's, two with normal numbers."""
    faces, masks, noise = (ops.convert_to_tensor(x) for x in seen)
    found = np.asarray(latents(encoder, faces, masks, noise)[0])
    mean, log_variance = moments(encoder, seen)
    assert found.shape == (8, LATENT) and not found[:4].any()
    drawn = mean[4:6] + np.exp(log_variance[4:6] / 2) * seen[2][4:6]
    np.testing.assert_allclose(found[4:6], drawn, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[6:], seen[2][6:])


def test_without_an_encoder_the_second_half_is_random(seen):
    faces, masks, noise = (ops.convert_to_tensor(x) for x in seen)
    found, nats = latents(None, faces, masks, noise)
    assert not np.asarray(found)[:4].any() and float(nats) == 0
    np.testing.assert_array_equal(np.asarray(found)[4:], seen[2][4:])


def test_the_encoder_does_not_see_the_face(encoder, seen):
    faces, masks, noise = (ops.convert_to_tensor(x) for x in seen)
    other = ops.convert_to_tensor(seen[0] * (1 - seen[1]) + 0.5 * seen[1])
    (a, nats), (b, others) = (latents(encoder, x, masks, noise) for x in (faces, other))
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert float(nats) == float(others)


def test_divergence(encoder, seen):
    """By drawing: the mean of log q(z) - log p(z) over z from q; and PyTorch's where it is here."""
    faces, masks, noise = (ops.convert_to_tensor(x) for x in seen)
    nats = float(latents(encoder, faces, masks, noise)[1])
    mean, log_variance = (x[4:6].astype(float) for x in moments(encoder, seen))
    drawn = np.random.default_rng(0).standard_normal((400_000, 1, LATENT))
    z = mean + np.exp(log_variance / 2) * drawn
    ratios = ((z**2 - drawn**2 - log_variance) / 2).sum(-1).mean(-1)
    error = ratios.std() / np.sqrt(len(ratios))
    assert nats > 0.5 and error < 0.01
    assert nats == pytest.approx(ratios.mean(), abs=5 * error)


def test_divergence_is_pytorchs(encoder, seen):
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    faces, masks, noise = (ops.convert_to_tensor(x) for x in seen)
    nats = float(latents(encoder, faces, masks, noise)[1])
    mean, log_variance = (torch.tensor(x[4:6].copy()) for x in moments(encoder, seen))
    normal = torch.distributions.Normal
    between = torch.distributions.kl_divergence(
        normal(mean, torch.exp(log_variance / 2)), normal(0.0, 1.0)
    )
    assert nats == pytest.approx(float(between.sum(-1).mean()), rel=1e-5)


def test_a_normal_encoder_has_no_divergence(seen):
    encoder = Encoder(LATENT)
    for name in ("mean", "spread"):
        layer = encoder.get_layer(name)
        layer.set_weights([np.zeros(w.shape) for w in layer.get_weights()])
    faces, masks, noise = (ops.convert_to_tensor(x) for x in seen)
    found, nats = latents(encoder, faces, masks, noise)
    assert float(nats) == 0
    np.testing.assert_array_equal(np.asarray(found)[4:], seen[2][4:])


def test_encoder_round_trip(encoder, seen, tmp_path):
    encoder.save(tmp_path / "e.keras")
    loaded = keras.models.load_model(tmp_path / "e.keras")
    assert isinstance(loaded, Encoder) and loaded.get_config() == encoder.get_config()
    for a, b in zip(moments(encoder, seen), moments(loaded, seen), strict=True):
        np.testing.assert_array_equal(a, b)


# Training. Without normalisation no picture of a batch reaches another one's outputs: what a part
# of a batch does is seen exactly.


@pytest.fixture(scope="module")
def trained_task():
    """Blocks 8 and 16, with R1."""
    config = from_dict(
        {
            "size": "tiny",
            "network": {
                "resolutions": [8, 16],
                "cap": 8,
                "latent": LATENT,
                "normalization": "none",
                "discriminator_normalization": "none",
                "discriminator_width": 0.0625,
            },
            "loss": {"perceptual": 0, "identity": 0, "gradient_penalty": 0.5, "divergence": 0.01},
            "training": {"batch_size": 8, "generator_rate": 2e-3, "discriminator_rate": 4e-3},
        }
    )
    return task_of(config)


@pytest.fixture(scope="module")
def trained(trained_task) -> Trainer:
    """Its compiled trainer. The weights are a test's own to change."""
    assert trained_task.noise == LATENT and trained_task.encoded
    keras.utils.set_random_seed(0)
    trainer = Trainer(trained_task.build(0, None, 0))
    assert trainer.system.names == trained_task.columns
    return trainer


@pytest.fixture(scope="module")
def batch(eight) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(4).standard_normal((8, LATENT), np.float32)
    return {**eight.batch(0), "noise": noise}


def test_fewer_faces_than_parts(trained_task, batch):
    """As a folder of three faces gives them: one line before the step, not TensorFlow's twenty."""
    assert trained_task.prepare(batch, 0) is batch
    with pytest.raises(ConfigError, match="4 faces or more, not 3"):
        trained_task.prepare({name: array[:3] for name, array in batch.items()}, 0)


def report_of(trainer: Trainer, batch) -> dict[str, float]:
    _, report = trainer.system.loss(batch, trainer.steps.value)
    return {name: float(value) for name, value in report.items()}


def gradients(loss, variables, trainer: Trainer) -> list[np.ndarray]:
    """Of a scalar; an absent one is zero."""
    found = value_and_gradients(lambda: (loss(), ()), variables, trainer.variables)[2]
    return [
        np.zeros(v.shape) if g is None else ops.convert_to_numpy(g)
        for g, v in zip(found, variables, strict=True)
    ]


def test_what_is_reported(trained, batch):
    report = report_of(trained, batch)
    assert tuple(report) == trained.system.names
    assert tuple(report)[-1] == DIVERGENCE == "encoder/divergence"
    assert report[DIVERGENCE] > 0 and report["8/gradient_penalty"] > 0
    total, _ = trained.system.loss(batch, trained.steps.value)
    parts = [
        report[f"{size}/{name}"] for size in (8, 16) for name in ("generator", "discriminator")
    ]
    penalties = 0.5 * (report["8/gradient_penalty"] + report["16/gradient_penalty"])
    expected = sum(parts) + penalties + 0.01 * report[DIVERGENCE]
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_which_part_of_the_noise_counts(trained, batch):
    """None of the first part's; the second's tells in the pixel term, the third's does not, for
    its pictures are compared with no original."""
    report = report_of(trained, batch)
    pixel, adversarial = ("8/pixel", "16/pixel"), ("8/adversarial", "16/adversarial")
    for part, changed, same in (
        (slice(0, 4), (), tuple(report)),
        (slice(4, 6), (*pixel, *adversarial), (DIVERGENCE, "8/real_probability")),
        (slice(6, 8), adversarial, (*pixel, DIVERGENCE, "8/real_probability")),
    ):
        noise = batch["noise"].copy()
        noise[part] += 1.0
        other = report_of(trained, {**batch, "noise": noise})
        assert all(other[name] == report[name] for name in same)
        assert all(other[name] != report[name] for name in changed)


def test_the_encoder_learns_from_the_second_part_alone(trained, batch):
    system = trained.system
    weights = system.encoder.trainable_variables

    def difference(part: slice):
        targets, outputs, _ = system.pictures(batch, training=True)
        return ops.mean(ops.abs(targets[16] - outputs[16])[part])

    for part, learns in ((slice(0, 4), False), (slice(4, 6), True), (slice(6, 8), False)):
        found = gradients(lambda part=part: difference(part), weights, trained)
        assert all(g.any() for g in found[-4:]) if learns else not any(g.any() for g in found)


def test_the_modulation_learns_from_parts_with_a_vector(trained, batch):
    system = trained.system
    kernels = [v for v in system.model.trainable_variables if "style" in v.path]
    assert len(kernels) == 1 + 2

    def difference(part: slice):
        targets, outputs, _ = system.pictures(batch, training=True)
        return sum(ops.mean(ops.abs(targets[n] - outputs[n])[part]) for n in (8, 16))

    for part, learns in ((slice(0, 4), False), (slice(4, 6), True), (slice(6, 8), True)):
        found = gradients(lambda part=part: difference(part), kernels, trained)
        assert all(g.any() == learns for g in found)


def test_a_step_trains_every_network(trained, batch):
    """Adam's first step moves each by its rate: 2e-3, 4e-3, 4e-3 and the encoder's 2e-3."""
    networks = trained.system.networks
    assert networks[-1] is trained.system.encoder
    start = [v.numpy() for v in trained.variables]
    before = [[v.numpy() for v in network.trainable_variables] for network in networks]
    found = trained.fit([batch])
    assert sorted(found) == sorted(trained.system.names)
    assert all(np.isfinite(value) for value in found.values())
    for network, values, rate in zip(networks, before, [2e-3, 4e-3, 4e-3, 2e-3], strict=True):
        for value, variable in zip(values, network.trainable_variables, strict=True):
            moved = float(np.abs(variable.numpy() - value).max())
            assert moved == pytest.approx(rate, rel=0.05), variable.path
    for variable, value in zip(trained.variables, start, strict=True):
        variable.assign(value)
    assert trained.fit([batch]) == found
    for variable, value in zip(trained.variables, start, strict=True):
        variable.assign(value)


def test_it_learns(trained, batch):
    """Twenty steps on the same faces: the pictures come nearer."""
    losses = [trained.fit([batch]) for _ in range(20)]
    for size in (8, 16):
        assert losses[-1][f"{size}/pixel"] < 0.97 * losses[0][f"{size}/pixel"]
