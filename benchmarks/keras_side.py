"""The Keras half of the benchmarks: an experiment, invented faces, its steps, weights by name."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import common
import keras
import numpy as np

from facehal.backend import Stepper, resolve_jit
from facehal.config import Experiment
from facehal.data.pipeline import Abreast, Batch, Loaded, Pipeline, prefetched
from facehal.models import Task, from_dict, load_config, task_of
from facehal.models.cascade import Cascade
from facehal.training.phases import Trainer

SCHEDULE = 1_000_000  # steps: the rates of an experiment with decay are computed, but do not fall


def experiment(options: argparse.Namespace) -> Experiment:
    """The experiment that the options of :func:`common.experiment_options` describe."""
    plain = load_config(options.experiment).to_dict()
    if options.batch:
        plain["training"]["batch_size"] = options.batch
    for part in options.without:
        plain.setdefault(common.PARTS[part], {})[part] = 0
    return from_dict(plain, source=options.experiment)


def parts(config: Experiment) -> dict[str, float]:
    """Those of :data:`common.PARTS` that the experiment has, with their weights."""
    plain = config.to_dict()
    found = {part: plain.get(section, {}).get(part) for part, section in common.PARTS.items()}
    if not found["adversarial"]:
        found["gradient_penalty"] = 0  # of discriminators that are not there
    return {part: weight for part, weight in found.items() if weight}


def described(config: Experiment) -> str:
    """What is trained, in a line: family, size, batch, and the parts with their weights."""
    words = [f"{part} {weight:g}" for part, weight in parts(config).items()]
    head = f"{config.model}, size {config.size}, batch {config.training.batch_size}, "
    return head + f"{config.training.precision}; {', '.join(words) or 'pixels alone'}"


def untrained(config: Experiment) -> Cascade:
    """The generators of an experiment without its losses, from seed 0."""
    if config.model != "cascaded":
        raise SystemExit(f"this benchmark is of cascades; {config.model} is another family")
    keras.utils.set_random_seed(0)
    return task_of(config).network(0, None)


def pictures(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random pictures and an ellipse as mask, uint8."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    faces = coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    y, x = np.mgrid[:side, :side] / side - 0.5
    mask = ((x / 0.3) ** 2 + (y / 0.4) ** 2 < 1).astype(np.uint8)
    return faces, np.repeat(mask[None], count, axis=0)


class Input:
    """Batches of invented faces, the way that a run reads and prepares them: all systems get the
    same ones, the noise of the latent vectors too."""

    def __init__(self, task: Task):
        training = task.config.training
        faces = Loaded(*pictures(10 * training.batch_size, task.side))
        pipelines = [
            Pipeline(
                faces,
                training.batch_size,
                mirror=training.mirror,
                seed=seed,
                noise=task.noise,
                augmentation=task.augmentation,
            )
            for seed in range(max(1, len(task.roles)))
        ]
        self.task = task
        self.pipeline = Abreast(pipelines) if task.roles else pipelines[0]

    def batch(self, step: int) -> Batch:
        return self.task.prepare(self.pipeline.batch(step), step)

    def stream(self, count: int) -> Iterator[Batch]:
        """So many batches, prepared beside the steps on those before."""
        for _, batch in prefetched(self, 0, count):
            yield batch


def trainer(task: Task, stage: int = 0, jit_compile: bool | str = "auto") -> Trainer:
    """What trains a stage of an experiment, as a run makes it, from seed 0."""
    keras.utils.set_random_seed(0)
    system = task.build(stage, None, SCHEDULE)
    task.begin(system.model, lambda role, count: pictures(count, task.side))
    return Trainer(system, jit_compile)


def first_loss(trained: Trainer, batch: Batch, step: int, jit_compile: bool | str) -> float:
    """What the first phase would lower if it came to this batch at this step."""
    value = keras.Variable(0.0, trainable=False)
    loss = trained.system.phases[0].loss

    def measure(key: None, batch: Batch) -> None:
        value.assign(loss(batch, step)[0])

    stepper = Stepper(measure, [*trained.variables, value], resolve_jit(jit_compile))
    with stepper.running():
        stepper(None, batch)
        return float(stepper.read(value))


def save_weights(trained: Trainer, folder: Path) -> None:
    """All networks of a system, for :func:`load_weights` on any backend."""
    for index, network in enumerate(trained.system.networks):
        network.save_weights(folder / f"{index}.weights.h5")


def load_weights(trained: Trainer, folder: Path) -> None:
    for index, network in enumerate(trained.system.networks):
        network.load_weights(folder / f"{index}.weights.h5")


def shake(cascade: keras.Model, inputs: dict) -> None:
    """Normalises with other numbers than 0 and 1, as after training, so that comparing means much.

    Factors and offsets are drawn, the statistics are those of the inputs.
    """
    random = np.random.default_rng(1)
    norms = [
        layer
        for layer in cascade._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in norms:
        layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape).astype("float32"))
        layer.beta.assign(random.normal(0, 0.3, layer.beta.shape).astype("float32"))
        usual, layer.momentum = layer.momentum, 0.0
    cascade(inputs, training=True)
    for layer in norms:
        layer.momentum = usual


def refuse_without_twin(config: Experiment) -> None:
    """Ends the program where torch_twin.py lacks something that the experiment has."""
    lacking = ""
    if config.model != "cascaded":
        lacking = f"model {config.model}"
    elif config.loss.identity and config.loss.identity_network != "dlib_resnet":
        lacking = f"{config.loss.identity_network} (--without identity)"
    elif config.loss.perceptual and config.loss.lpips_version != "0.0":
        lacking = f"LPIPS {config.loss.lpips_version} (--without perceptual)"
    elif config.training.precision != "float32":
        lacking = config.training.precision
    if lacking:
        raise SystemExit(f"the PyTorch twin has no {lacking}: leave torch out of --systems")


def export(prefix: str, network: keras.Model) -> dict[str, np.ndarray]:
    """{prefix.layer.weight: array} of a functional model."""
    arrays = {}
    for layer in network.layers:
        for variable in layer.weights:
            inner = variable.path.split("/")
            inner = inner[len(inner) - 1 - inner[::-1].index(layer.name) :]
            arrays[".".join([prefix, *inner])] = np.asarray(variable.numpy())
    return arrays


def export_cascade(cascade: Cascade) -> dict[str, np.ndarray]:
    """All generators and upscalers, and of what shape they are."""
    arrays = {"shape": np.array(json.dumps(cascade.get_config()))}
    for index, generator in enumerate(cascade.generators):
        arrays |= export(f"cascade.generators.{index}", generator)
    for index, upscaler in enumerate(cascade.upscalers):
        for variable in upscaler.weights:
            kind = variable.path.rsplit("/", 1)[-1]
            arrays[f"cascade.upscalers.{index}.conv.{kind}"] = np.asarray(variable.numpy())
    return arrays


def export_trainer(trained: Trainer) -> dict[str, np.ndarray]:
    """Everything that a training step of a cascade needs."""
    system = trained.system
    arrays = export_cascade(system.model)
    arrays["trained"] = np.array(system.trained)
    for network in system.discriminators:
        arrays |= export(network.name, network)
    if system.encoder is not None:
        arrays |= export("encoder", system.encoder)
    if system.objective.lpips is not None:
        arrays |= export("alexnet", system.objective.lpips.network)
        for index, head in enumerate(system.objective.lpips.heads):
            arrays[f"alexnet.head{index}"] = np.asarray(head).reshape(-1)
    if system.objective.identity is not None:
        from facehal.features import dlib_resnet
        from facehal.weights.converters.dlib_resnet import BLOCKS

        network = dlib_resnet.DlibResNet()
        arrays |= export("dlib", network)
        arrays["dlib_blocks"] = np.array(BLOCKS)
        left, top, side = dlib_resnet.CROP
        for size in filter(system.objective.config.identity_at, system.trained):
            arrays[f"dlib_rows_{size}"] = dlib_resnet._resampling(size, top, side)
            arrays[f"dlib_columns_{size}"] = dlib_resnet._resampling(size, left, side)
    return arrays
