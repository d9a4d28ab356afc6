"""Inference of the whole cascade: TensorFlow, JAX, ONNX Runtime and PyTorch by turns.

python benchmarks/inference.py
python benchmarks/inference.py --experiment standard --batches 1 --systems torch jax jax-folded

The network of an experiment with weights of chance: how long it takes does not depend on them.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import common

SYSTEMS = {
    "torch": "torch",  # eager, channels_last
    "torch-jit": "torch",  # traced, frozen, optimize_for_inference
    "torch-compile": "torch",  # torch.compile; needs a C++ compiler
    "onnxruntime": "onnxruntime",  # what `facehal export` writes, run as `engine="onnxruntime"`
    "tf-graph": "tensorflow",
    "tf-xla": "tensorflow",
    "tf-predict": "tensorflow",  # keras.Model.predict, NumPy in and out
    "tf-predict-on-batch": "tensorflow",  # keras.Model.predict_on_batch, likewise
    "jax": "jax",
}
# These also as they are trained, where that is something else; all others are folded there.
AS_TRAINED = ("torch", "tf-graph", "tf-xla", "jax")
FOLDED = "-folded"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", default="compact", metavar="NAME")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a burst")
    names = [*SYSTEMS, *(name + FOLDED for name in AS_TRAINED)]
    parser.add_argument("--systems", nargs="+", choices=names, default=names)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def inputs(options: argparse.Namespace, side: int, latent: int) -> dict:
    """What a call of the model takes; with a latent vector it is a variant for every face."""
    import keras_side
    import numpy as np

    faces, masks = keras_side.pictures(options.batch, side)
    masks = masks[..., None].astype(np.float32)
    x = {"masked_faces": faces.astype(np.float32) / 255 * masks, "masks": masks}
    if latent:
        random = np.random.default_rng(0)
        x["latent"] = random.standard_normal((options.batch, latent), np.float32)
    return x


def export(options: argparse.Namespace) -> None:
    """Writes the same cascade plain and folded, for Keras and for PyTorch, and its outputs."""
    import keras_side
    import numpy as np

    from facehal.models import load_config

    cascade = keras_side.untrained(load_config(options.experiment))
    x = inputs(options, cascade.resolutions[-1], cascade.latent)
    keras_side.shake(cascade, x)
    for name, model in (("plain", cascade), ("folded", cascade.folded())):
        model.save(options.folder / f"{name}.keras")
        np.savez(options.folder / f"{name}.npz", **keras_side.export_cascade(model))
    if "onnxruntime" in options.systems:
        from facehal.inference.export import export as export_model

        export_model(cascade, "onnx", options.folder / "model.onnx")
    outputs = cascade(x, training=False)
    np.save(options.folder / "outputs.npy", np.asarray(outputs[str(cascade.resolutions[-1])]))
    common.serve(lambda n: None, {"folds": cascade.normalization != "none"})


def form(name: str) -> str:
    return "plain" if name in AS_TRAINED else "folded"


def difference(options: argparse.Namespace, picture) -> dict:
    """Largest difference to the plain Keras cascade under TensorFlow, of pictures in [0, 1]."""
    import numpy as np

    wanted = np.load(options.folder / "outputs.npy")
    return {"difference": float(np.abs(np.asarray(picture) - wanted).max())}


def keras_worker(options: argparse.Namespace) -> None:
    import keras

    import facehal.models  # noqa: F401  registers the classes

    cascade = keras.models.load_model(options.folder / f"{form(options.worker)}.keras")
    largest = str(cascade.resolutions[-1])
    x = inputs(options, cascade.resolutions[-1], cascade.latent)
    if options.worker.startswith("jax"):
        import jax

        variables = [
            [v.value for v in group]
            for group in (cascade.trainable_variables, cascade.non_trainable_variables)
        ]
        step = jax.jit(
            lambda trained, fixed, x: cascade.stateless_call(trained, fixed, x, training=False)[0]
        )
        x = jax.device_put(x)

        def once():
            return jax.block_until_ready(step(*variables, x))

    elif "predict" in options.worker:

        def once():
            if "on-batch" in options.worker:
                return cascade.predict_on_batch(x)
            return cascade.predict(x, verbose=0, batch_size=options.batch)

    else:
        import tensorflow as tf

        x = {name: tf.constant(value) for name, value in x.items()}
        step = tf.function(
            lambda x: cascade(x, training=False), jit_compile="xla" in options.worker
        ).get_concrete_function(x)

        def once():
            return step(x)

    about = difference(options, once()[largest])
    common.serve(lambda n: [once() for _ in range(n)], about)


def onnx_worker(options: argparse.Namespace) -> None:
    from facehal.inference.onnx_engine import OnnxEngine

    engine = OnnxEngine(options.folder / "model.onnx")
    x = inputs(options, engine.resolutions[-1], engine.latent).values()

    def once():
        return engine.run(*x)

    about = difference(options, once()[engine.resolutions[-1]])
    common.serve(lambda n: [once() for _ in range(n)], about)


def torch_worker(options: argparse.Namespace) -> None:
    import numpy as np
    import torch
    from torch_twin import Cascade, native_padding

    torch.set_num_threads(common.cores())
    with np.load(options.folder / f"{form(options.worker)}.npz") as arrays:
        model = Cascade.carried(dict(arrays)).eval().to(memory_format=torch.channels_last)
    x = [
        torch.from_numpy(value).permute(0, 3, 1, 2)  # channels_last as it is
        if value.ndim == 4
        else torch.from_numpy(value)
        for value in inputs(options, model.resolutions[-1], model.latent).values()
    ]
    with torch.inference_mode():
        about = difference(options, model(*x)[-1].permute(0, 2, 3, 1))
        native_padding(model)
        if options.worker.endswith("jit"):
            model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, x)))
        elif options.worker.endswith("compile"):
            model = torch.compile(model)
        common.serve(lambda n: [model(*x) for _ in range(n)], about)


def backend(name: str) -> str:
    return SYSTEMS[name.removesuffix(FOLDED)]


def main() -> None:
    options = parse()
    if options.worker:
        if options.worker == "export":
            return export(options)
        work = {"torch": torch_worker, "onnxruntime": onnx_worker}
        return work.get(backend(options.worker), keras_worker)(options)
    for batch in options.batches:
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--folder", folder, "--batch", str(batch)]
            arguments += ["--experiment", options.experiment, "--systems", *options.systems]
            start = common.Worker(__file__, "export", "tensorflow", arguments)
            start.close()
            names = options.systems
            if not start.about["folds"]:  # nothing to fold: those two are one and the same
                names = [name for name in names if not name.endswith(FOLDED)]
            workers: list[common.Worker] = []
            with common.closing(workers):
                for name in names:
                    workers.append(common.Worker(__file__, name, backend(name), arguments))
                times = common.paired(workers, options.rounds, options.seconds)
        print(f"\nInference, {options.experiment}, batch {batch}")
        print(f"{common.machine()}; {options.rounds} rounds by turns\n")
        baseline = "torch" if "torch" in times else names[0]
        print(common.speed_table(times, baseline, "ms per batch", 1000.0))
        worst = max(workers, key=lambda worker: worker.about["difference"])
        print(
            f"\nLargest difference of a picture in [0, 1] to the plain TensorFlow cascade: "
            f"{worst.about['difference']:.1e} ({worst.name})"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
