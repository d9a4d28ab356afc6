"""The three stages: who moves, what goes on from one to the next, losses that fall."""

import keras
import numpy as np
import pytest
from keras import ops

from facehal.data.pipeline import Loaded, Pipeline
from facehal.errors import ConfigError, WeightsError
from facehal.models import from_dict, load_config, task_of
from facehal.models.edgeconnect.canny import canny, grey
from facehal.models.edgeconnect.config import EdgeConnectConfig
from facehal.models.edgeconnect.model import EdgeConnect, hole_of
from facehal.training.phases import Trainer
from facehal.training.run import Run

SIDE = 32
STAGES = ["edges", "pictures", "joint"]


def configuration(**changes):
    values = {
        "model": "edgeconnect",
        "network": {
            "resolution": SIDE,
            "width": 8,
            "blocks": 1,
            "discriminator_width": 4,
            "sigma": 1.0,
        },
        "loss": {"content": 0, "style": 0},
        "training": {"batch_size": 4, "generator_rate": 2e-3, "discriminator_rate": 2e-4},
    }
    for section, more in changes.items():
        values[section] = {**values[section], **more}
    return from_dict(values)


@pytest.fixture(scope="module")
def pipeline(sample_faces):
    faces, masks = (array[:4] for array in sample_faces)
    step = faces.shape[1] // SIDE
    faces = faces.reshape(4, SIDE, step, SIDE, step, 3).mean(axis=(2, 4)).round()
    masks = masks[:, step // 2 :: step, step // 2 :: step].copy()
    return Pipeline(Loaded(faces.astype(np.uint8), masks), 4, mirror=False)


def values(network) -> list[np.ndarray]:
    return [v.numpy() for v in network.variables]


def moved(before, after) -> bool:
    return any((a != b).any() for a, b in zip(before, after, strict=True))


class Stage:
    """A stage's training on four faces, each of whose steps is compiled once."""

    def __init__(self, task, index, previous, pipeline):
        keras.utils.set_random_seed(index)
        trainer = Trainer(task.build(index, previous, 100))
        self.model, self.critic = trainer.system.networks
        networks = (self.model.edges, self.model.pictures, self.critic)
        self.before = [values(network) for network in networks]
        batch = pipeline.batch(0)
        self.first = trainer.fit([batch])
        self.names = trainer.system.names
        trainer.fit([batch] * 40)
        self.last = trainer.fit([batch] * 3)
        self.after = [values(network) for network in networks]


@pytest.fixture(scope="module")
def stages(pipeline) -> dict[str, Stage]:
    task, previous, found = task_of(configuration()), None, {}
    assert [stage.name for stage in task.stages] == STAGES
    for index, name in enumerate(STAGES):
        found[name] = Stage(task, index, previous, pipeline)
        assert set(found[name].names) <= set(task.columns)
        previous = found[name].model
    return found


def test_each_stage_trains_its_networks(stages):
    """And leaves the other generator alone; the third stage goes on with the second's critic."""
    for name, stage in stages.items():
        trained = [moved(a, b) for a, b in zip(stage.before, stage.after, strict=True)]
        assert trained == [name == "edges", name != "edges", True], name
        assert set(stage.first) == set(stage.names)
        assert np.isfinite(list(stage.last.values())).all()
    edges, pictures, joint = stages.values()
    for before, after in ((edges, pictures), (pictures, joint)):
        assert not any(moved(a, b) for a, b in zip(before.after[:2], after.before[:2], strict=True))
    assert not moved(pictures.after[2], joint.before[2])


def test_losses_fall(stages):
    """Four faces by heart; the third stage begins where the second ended."""
    pixel = f"{SIDE}/pixel"
    edges, pictures, joint = stages.values()
    assert edges.last["edges/matching"] < 0.7 * edges.first["edges/matching"]
    assert pictures.last[pixel] < 0.5 * pictures.first[pixel]
    assert joint.first[pixel] < 0.7 * pictures.first[pixel]
    assert joint.last[pixel] < joint.first[pixel]


def test_pictures_are_painted_by_the_edges_of_their_stage(pipeline, monkeypatch):
    """True ones, in the hole too; then the edge generator's in the hole, true ones around it."""
    task, batch = task_of(configuration()), pipeline.batch(0)
    faces = batch["faces"].astype("float32") / 255
    hole = 1.0 - batch["masks"].astype("float32")[..., None]
    true = np.asarray(canny(grey(faces), np.ones_like(hole), 1.0))
    seen = {}

    def watched(self, pictures, edges, hole, training=False):
        seen["pictures"], seen["edges"] = pictures, edges
        return ops.ones_like(pictures) * 0.5

    monkeypatch.setattr(EdgeConnect, "painted_by", watched)
    for index in (1, 2):
        system = task.build(index, None, 10)
        tensors = {name: ops.convert_to_tensor(array) for name, array in batch.items()}
        system.picture_loss(tensors, 0)
        np.testing.assert_allclose(np.asarray(seen["pictures"]), faces, atol=1e-6)
        found = np.asarray(seen["edges"])
        if index == 1:
            np.testing.assert_array_equal(found, true)
            continue
        light = np.asarray(grey(faces))
        generated = np.asarray(system.model.completed_edges(light, true, hole))
        np.testing.assert_allclose(found, np.where(hole == 1, generated, true), atol=1e-6)
        assert generated.min() > 0 and generated.max() < 1


def test_edge_generator_sees_nothing_of_the_hole(pipeline):
    """Another hole's contents change neither edges nor pictures."""
    model = EdgeConnect(SIDE, 4, 1, 1.0)
    batch, random = pipeline.batch(0), np.random.default_rng(0)
    faces = batch["faces"].astype("float32") / 255
    masks = batch["masks"].astype("float32")[..., None]
    other = np.where(masks == 1, faces, random.random(faces.shape, np.float32))
    inside = np.asarray(canny(grey(faces), masks, 1.0))
    np.testing.assert_array_equal(np.asarray(canny(grey(other), masks, 1.0)), inside)
    found = [
        np.asarray(model.completed_edges(np.asarray(grey(one)), inside, np.asarray(hole_of(masks))))
        for one in (faces, other)
    ]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_in_bfloat16_weights_and_losses_are_float32(pipeline):
    task = task_of(configuration(training={"precision": "bfloat16"}))
    batch = {name: ops.convert_to_tensor(array) for name, array in pipeline.batch(0).items()}
    for index in (0, 2):
        system = task.build(index, None, 10)
        total, report = system.phases[0].loss(batch, 0)
        for value in (total, *report.values()):
            assert keras.backend.standardize_dtype(value.dtype) == "float32"
            assert np.isfinite(float(value))
        assert {v.dtype for network in system.networks for v in network.variables} == {"float32"}
        inner = system.model.edges.get_layer("block_0_a").compute_dtype
        assert inner == "bfloat16"


def test_a_stage_of_true_edges_may_be_left_out():
    task = task_of(configuration(training={"picture_epochs": 0, "epochs": 2}))
    assert [(stage.name, stage.epochs) for stage in task.stages] == [("edges", 40), ("joint", 2)]
    assert f"{SIDE}/pixel" in task.build(1, None, 1).names


def test_an_epoch_may_be_so_many_steps(sample_data, tmp_path):
    """Of 24 faces in batches of 4 it would be 6."""
    batches = []
    for steps, epoch in ((0, 6), (5, 5)):
        training = {"edge_epochs": 2, "picture_epochs": 0, "epochs": 1, "epoch_steps": steps}
        run = Run(configuration(training=training), sample_data, tmp_path / str(steps))
        assert (run.stage_steps, run.total_steps) == (2 * epoch, 3 * epoch)
        batches.append(run.pipeline.batch(7)["faces"])
    assert batches[0].shape == (4, SIDE, SIDE, 3)
    np.testing.assert_array_equal(*batches)


def test_settings_that_cannot_be():
    small = {"network": {"resolution": 24}, "loss": {"features": "alexnet", "content": 1.0}}
    for given, message in (
        ({"network": {"resolution": 36}}, "multiple of 8, not 36"),
        (small, "features alexnet need 31 pixels"),
        ({"training": {"edge_epochs": 0}}, "edge_epochs cannot be 0"),
        ({"loss": {"features": "vgg16"}}, "features is one of vgg19, alexnet"),
    ):
        with pytest.raises(ConfigError, match=message):
            configuration(**given)


def test_missing_features_are_one_line_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    task = task_of(configuration(loss={"style": 250.0}))
    task.build(0, None, 10)  # the edge generator needs none
    with pytest.raises(WeightsError, match="facehal weights get vgg19"):
        task.build(1, None, 10)


def test_published_settings():
    """config.yml.example of knazeri/edge-connect."""
    config = load_config("edgeconnect")
    assert config == EdgeConnectConfig()
    training, loss, network = config.training, config.loss, config.network
    assert (training.batch_size, training.generator_rate, training.beta1) == (8, 1e-4, 0.0)
    assert training.discriminator_rate == pytest.approx(0.1 * training.generator_rate)
    assert (loss.pixel, loss.matching, loss.style, loss.content) == (1.0, 10.0, 250.0, 0.1)
    assert (loss.adversarial, loss.features, network.sigma) == (0.1, "vgg19", 2.0)
    compact = load_config("edgeconnect_compact")
    assert (compact.network.resolution, compact.network.sigma) == (128, 1.0)
    assert [stage.epochs for stage in task_of(compact).stages] == [6, 3, 9]


def test_page_shows_every_column():
    task = task_of(configuration(loss={"content": 0.1, "style": 250.0}))
    charts = [chart for group in task.page().charts.values() for chart in group]
    assert {line.column for chart in charts for line in chart.lines} == set(task.columns)
    factors = {line.name: line.factor for chart in charts for line in chart.lines}
    assert factors["style"] == 250.0 and factors["matching"] == 10.0
