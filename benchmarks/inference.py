"""Inference of the whole cascade: TensorFlow, JAX, ONNX Runtime and PyTorch by turns.

python benchmarks/inference.py
python benchmarks/inference.py --size standard --batches 1 --systems torch jax jax-folded
"""

import argparse
import sys
import tempfile
from pathlib import Path

import common

SYSTEMS = {
    "torch": "torch",  # eager, channels_last
    "torch-folded": "torch",
    "torch-folded-jit": "torch",  # traced, frozen, optimize_for_inference
    "torch-folded-compile": "torch",  # torch.compile; needs a C++ compiler
    "onnxruntime": "onnxruntime",  # what `facehal export` writes, run as `engine="onnxruntime"`
    "tf-graph": "tensorflow",
    "tf-graph-folded": "tensorflow",
    "tf-xla": "tensorflow",
    "tf-xla-folded": "tensorflow",
    "tf-predict-folded": "tensorflow",  # keras.Model.predict, NumPy in and out
    "tf-predict-on-batch-folded": "tensorflow",  # keras.Model.predict_on_batch, likewise
    "jax": "jax",
    "jax-folded": "jax",
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="compact", help="tiny, compact, standard or paper")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a burst")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def inputs(options: argparse.Namespace, side: int) -> dict:
    import keras_side
    import numpy as np

    x = keras_side.batch(options.batch, side)
    masks = x["masks"][..., None].astype(np.float32)
    return {"masked_faces": x["faces"].astype(np.float32) / 255 * masks, "masks": masks}


def export(options: argparse.Namespace) -> None:
    """Writes the same cascade plain and folded, for Keras and for PyTorch, and its outputs."""
    import keras
    import keras_side
    import numpy as np

    from facehal.models import from_dict
    from facehal.models.cascade.cascade import Cascade
    from facehal.models.cascade.folding import fold

    network = from_dict({"size": options.size}).network
    keras.utils.set_random_seed(0)
    cascade = Cascade(network.base, network.cap, "batch", network.resolutions)
    x = inputs(options, network.resolutions[-1])
    keras_side.shake(cascade, x)
    for name, model in (("plain", cascade), ("folded", fold(cascade))):
        model.save(options.folder / f"{name}.keras")
        np.savez(options.folder / f"{name}.npz", **keras_side.export_cascade(model))
    if "onnxruntime" in options.systems:
        from facehal.inference.export import export as export_model

        export_model(cascade, "onnx", options.folder / "model.onnx")
    outputs = cascade(x, training=False)
    np.save(options.folder / "outputs.npy", np.asarray(outputs[str(network.resolutions[-1])]))
    common.serve(lambda n: None)


def difference(options: argparse.Namespace, picture) -> dict:
    """Largest difference to the plain Keras cascade under TensorFlow, of pictures in [0, 1]."""
    import numpy as np

    wanted = np.load(options.folder / "outputs.npy")
    return {"difference": float(np.abs(np.asarray(picture) - wanted).max())}


def keras_worker(options: argparse.Namespace) -> None:
    import keras

    import facehal  # noqa: F401  registers the classes

    form = "folded" if options.worker.endswith("folded") else "plain"
    cascade = keras.models.load_model(options.folder / f"{form}.keras")
    largest = str(cascade.resolutions[-1])
    x = inputs(options, cascade.resolutions[-1])
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
    x = inputs(options, engine.resolutions[-1])

    def once():
        return engine.run(**x)

    about = difference(options, once()[engine.resolutions[-1]])
    common.serve(lambda n: [once() for _ in range(n)], about)


def torch_worker(options: argparse.Namespace) -> None:
    import numpy as np
    import torch
    from torch_twin import Cascade, carry, native_padding

    from facehal.models import from_dict

    torch.set_num_threads(common.cores())
    network = from_dict({"size": options.size}).network
    folded = "folded" in options.worker
    model = Cascade(
        network.base, network.cap, "none" if folded else "batch", network.resolutions
    ).eval()
    with np.load(options.folder / f"{'folded' if folded else 'plain'}.npz") as arrays:
        carry(model, dict(arrays), "cascade")
    model = model.to(memory_format=torch.channels_last)
    x = [
        torch.from_numpy(value).permute(0, 3, 1, 2)  # channels_last as it is
        for value in inputs(options, network.resolutions[-1]).values()
    ]
    with torch.inference_mode():
        about = difference(options, model(*x)[-1].permute(0, 2, 3, 1))
        native_padding(model)
        if options.worker.endswith("jit"):
            model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, x)))
        elif options.worker.endswith("compile"):
            model = torch.compile(model)
        common.serve(lambda n: [model(*x) for _ in range(n)], about)


def main() -> None:
    options = parse()
    if options.worker:
        if options.worker == "export":
            return export(options)
        work = {"torch": torch_worker, "onnxruntime": onnx_worker}
        return work.get(SYSTEMS[options.worker], keras_worker)(options)
    for batch in options.batches:
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--folder", folder, "--batch", str(batch), "--size", options.size]
            arguments += ["--systems", *options.systems]
            common.Worker(__file__, "export", "tensorflow", arguments).close()
            workers: list[common.Worker] = []
            with common.closing(workers):
                for name in options.systems:
                    workers.append(common.Worker(__file__, name, SYSTEMS[name], arguments))
                times = common.paired(workers, options.rounds, options.seconds)
        print(f"\nInference, cascade {options.size}, batch {batch}")
        print(f"{common.machine()}; {options.rounds} rounds by turns\n")
        baseline = "torch" if "torch" in times else options.systems[0]
        print(common.speed_table(times, baseline, "ms per batch", 1000.0))
        worst = max(workers, key=lambda worker: worker.about["difference"])
        print(
            f"\nLargest difference of a picture in [0, 1] to the plain TensorFlow cascade: "
            f"{worst.about['difference']:.1e} ({worst.name})"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
