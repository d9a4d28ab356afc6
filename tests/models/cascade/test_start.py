"""Blocks added to a trained cascade: those of ``network.start`` stay, the new ones are trained."""

import keras
import numpy as np
import pytest
import yaml

from facehal.errors import ConfigError, FacehalError
from facehal.models import from_dict, task_of
from facehal.models.cascade.cascade import Cascade
from facehal.models.cascade.progan import ProGAN
from facehal.training.phases import Trainer

pytestmark = pytest.mark.core

LATENT = 2
TERMS = (
    *("pixel", "adversarial", "total_variation", "generator"),
    *("discriminator", "real_probability", "fake_probability"),
)


def write(folder, latent: int = LATENT, **options) -> str:
    """A cascade of blocks 8 and 16 whose weights and statistics are those of none that is new."""
    keras.utils.set_random_seed(3)
    model = Cascade(1, 8, resolutions=(8, 16), latent=latent, **options)
    random = np.random.default_rng(0)
    for variable in model.non_trainable_variables:
        variable.assign(random.uniform(0.5, 1.5, variable.shape).astype("float32"))
    model.save(folder / "start.keras")
    return str(folder / "start.keras")


def configuration(start: str, **network):
    return from_dict(
        {
            "size": "tiny",
            "network": {
                "base": 2,
                "cap": 12,
                "discriminator_width": 0.0625,
                "latent": LATENT,
                "start": start,
                **network,
            },
            "loss": {"perceptual": 0, "identity": 0},
            "training": {
                "batch_size": 6,
                "generator_rate": 2e-3,
                "discriminator_rate": 4e-3,
                "moving_average": 0.9,
            },
        }
    )


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> str:
    return write(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def trainer(start) -> Trainer:
    """Of blocks 8 and 16 of `start` and a new block 32, after three steps."""
    task = task_of(configuration(start))
    keras.utils.set_random_seed(0)
    trainer = Trainer(task.build(0, None, 0))
    assert trainer.system.names == task.columns == tuple(f"32/{term}" for term in TERMS)
    trainer.before = [v.numpy() for v in trainer.system.model.variables]
    trainer.found = [trainer.fit([faces(step)]) for step in range(3)]
    return trainer


def faces(step: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(step)
    masks = np.zeros((6, 32, 32), np.uint8)
    masks[:, 9:25, 7:21] = 1
    return {
        "faces": random.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8),
        "masks": masks,
        "noise": random.standard_normal((6, LATENT), np.float32),
    }


def old_and_new(model: Cascade):
    """Layers that came from the start, layers that did not."""
    return [*model.generators[:2], model.upscalers[0]], [model.generators[2], model.upscalers[1]]


def test_old_blocks_stay_bit_for_bit(trainer, start):
    """Weights and the statistics of normalisation, whatever the steps; their widths, too."""
    old, _ = old_and_new(trainer.system.model)
    theirs = keras.models.load_model(start)
    for ours, one in zip(old, [*theirs.generators, theirs.upscalers[0]], strict=True):
        assert not ours.trainable_variables and ours.count_params() == one.count_params()
        for a, b in zip(ours.get_weights(), one.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert trainer.system.model.widths == ((1, 8), (1, 8), (2, 12))


def test_new_blocks_are_trained(trainer):
    model = trainer.system.model
    _, new = old_and_new(model)
    before = {v.path: value for v, value in zip(model.variables, trainer.before, strict=True)}
    for layer in new:
        assert layer.trainable_variables
        for variable in layer.variables:  # statistics, too
            assert not np.array_equal(variable.numpy(), before[variable.path]), variable.path
    (discriminator,) = trainer.system.discriminators
    assert discriminator.resolution == 32
    assert trainer.system.encoder is None  # the meaning of the vector is settled
    ours = [v.path for layer in new for v in layer.trainable_variables]
    assert sorted(v.path for v in trainer.system.phases[0].updates[0].variables) == sorted(ours)


def test_what_is_reported(trainer):
    for found in trainer.found:
        assert sorted(found) == sorted(f"32/{term}" for term in TERMS)
        assert all(np.isfinite(value) for value in found.values())


def test_the_old_pictures_come_out_of_the_whole(trainer, start):
    """In the published model, too, which has the moving average of the new block."""
    batch = faces(9)
    masks = batch["masks"][..., None].astype("float32")
    inputs = {"masked_faces": batch["faces"] / np.float32(255) * masks, "masks": masks}
    inputs["latent"] = batch["noise"]
    averaged = Cascade.from_config(trainer.system.model.get_config())
    trainer.copy_average_to(averaged)
    theirs = keras.models.load_model(start).predict_on_batch(inputs)
    for model in (trainer.system.model, averaged):
        ours = model.predict_on_batch(inputs)
        for size in ("8", "16"):
            np.testing.assert_allclose(ours[size], theirs[size], rtol=0, atol=1e-6)
    ours, theirs = (
        one.generators[2].get_layer("entry").kernel.numpy()
        for one in (averaged, trainer.system.model)
    )
    assert 1e-4 < np.abs(ours - theirs).max() < 1e-2


def test_widths_of_the_new_blocks(start):
    """The start's blocks keep theirs, whatever the configuration says of them."""
    config = configuration(start, widths=[[5, 5], [5, 5], [3, 6]])
    model = task_of(config).network(0, None)
    assert model.widths == ((1, 8), (1, 8), (3, 6))
    assert [g.trainable for g in model.generators] == [False, False, True]
    assert [u.trainable for u in model.upscalers] == [False, True]


def test_a_start_without_a_vector(tmp_path):
    task = task_of(configuration(write(tmp_path, latent=0), latent=0))
    assert task.noise == 0 and task.columns == tuple(f"32/{term}" for term in TERMS)
    system = task.build(0, None, 0)
    assert system.encoder is None and len(system.networks) == 2
    batch = faces(0)
    del batch["noise"]
    assert tuple(system.loss(batch, 0)[1]) == system.names


def test_the_page_shows_the_new_blocks_alone(start):
    page = task_of(configuration(start)).page()
    assert list(page.charts) == ["32×32"]
    assert "blocks 8 to 32" in page.title


def test_refused(start, tmp_path):
    """One clear line each, before anything is trained."""
    progan = tmp_path / "progan.keras"
    ProGAN(8, base=1, cap=8).save(progan)
    (tmp_path / "text.keras").write_text("no model")
    for kind, name, network, message in (
        (FacehalError, tmp_path / "absent.keras", {}, "neither a model's file nor a shipped"),
        (FacehalError, tmp_path / "text.keras", {}, "not a saved model"),
        (ConfigError, progan, {}, "holds a ProGAN; start is a trained cascade"),
        (ConfigError, start, {"latent": 3}, "start has latent 2; the new blocks have 3"),
        (ConfigError, start, {"normalization": "none"}, "start has normalization batch"),
        (ConfigError, start, {"resolutions": [8, 16]}, "start has blocks up to 16"),
        (ConfigError, start, {"resolutions": [8]}, "resolutions end at 8; name more"),
    ):
        with pytest.raises(kind, match=message) as caught:
            task_of(configuration(str(name), **network))
        line = str(caught.value)
        assert line.startswith(f"{name}: ") and "\n" not in line


def test_it_is_stored(start):
    config = configuration(start)
    assert from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config
