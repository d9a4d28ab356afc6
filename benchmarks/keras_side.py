"""The Keras half of the comparison with PyTorch: configuration, inputs, and weights by name."""

import argparse

import keras
import numpy as np

from facehal.data.pipeline import Loaded, Pipeline, prefetched
from facehal.models import from_dict, task_of
from facehal.models.cascade.config import CascadeConfig
from facehal.training.phases import Trainer


def configuration(options: argparse.Namespace) -> CascadeConfig:
    """The named size with the paper's losses; the identity term only if asked for.

    dlib's network stands in for VGG-Face, at 128 pixels alone, as in experiments/compact.yaml.
    """
    loss = {"identity": 100.0 if options.identity else 0.0, "identity_network": "dlib_resnet"}
    loss["identity_from"] = 128
    if options.no_perceptual:
        loss["perceptual"] = 0.0
    return from_dict({"size": options.size, "loss": loss}, source="benchmark")


def batch(count: int, side: int) -> dict[str, np.ndarray]:
    """Smooth random pictures and an ellipse as mask, uint8."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    faces = coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    y, x = np.mgrid[:side, :side] / side - 0.5
    mask = ((x / 0.3) ** 2 + (y / 0.4) ** 2 < 1).astype(np.uint8)
    return {"faces": faces, "masks": np.repeat(mask[None], count, axis=0)}


def trainer(config: CascadeConfig, stage: int = 0, jit_compile: bool | str = "auto") -> Trainer:
    """What trains a stage of an experiment, as a run makes it, from seed 0."""
    keras.utils.set_random_seed(0)
    return Trainer(task_of(config).build(stage, None, 0), jit_compile)


def steps(trained: Trainer, inputs: dict[str, np.ndarray], size: int, count: int) -> None:
    """So many steps, the way that a run takes them."""
    pipeline = Pipeline(Loaded(inputs["faces"], inputs["masks"]), size)
    trained.fit(batch for _, batch in prefetched(pipeline, 0, count))


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


def export(prefix: str, network: keras.Model) -> dict[str, np.ndarray]:
    """{prefix.layer.weight: array} of a functional model."""
    arrays = {}
    for layer in network.layers:
        for variable in layer.weights:
            inner = variable.path.split("/")
            inner = inner[len(inner) - 1 - inner[::-1].index(layer.name) :]
            arrays[".".join([prefix, *inner])] = np.asarray(variable.numpy())
    return arrays


def export_cascade(cascade) -> dict[str, np.ndarray]:
    """All generators and upscalers."""
    arrays = {}
    for index, generator in enumerate(cascade.generators):
        arrays |= export(f"cascade.generators.{index}", generator)
    for index, upscaler in enumerate(cascade.upscalers):
        for variable in upscaler.weights:
            kind = variable.path.rsplit("/", 1)[-1]
            arrays[f"cascade.upscalers.{index}.conv.{kind}"] = np.asarray(variable.numpy())
    return arrays


def export_trainer(trained: Trainer) -> dict[str, np.ndarray]:
    """Everything that a training step needs."""
    system = trained.system
    arrays = export_cascade(system.model)
    for network in system.discriminators:
        arrays |= export(network.name, network)
    if system.objective.lpips is not None:
        arrays |= export("alexnet", system.objective.lpips.network)
        for index, head in enumerate(system.objective.lpips.heads):
            arrays[f"alexnet.head{index}"] = np.asarray(head).reshape(-1)
    if system.objective.identity is not None:
        from facehal.features import dlib_resnet
        from facehal.weights.converters.dlib_resnet import BLOCKS

        network = dlib_resnet.DlibResNet()
        arrays |= export("dlib", network)
        left, top, side = dlib_resnet.CROP
        largest = system.resolutions[-1]
        arrays["dlib_rows"] = dlib_resnet._resampling(largest, top, side)
        arrays["dlib_columns"] = dlib_resnet._resampling(largest, left, side)
        arrays["dlib_blocks"] = np.array(BLOCKS)
    return arrays
