"""Two devices give the numbers of one, on both backends; CPUs stand in for GPUs."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from facehal.errors import TrainingError
from facehal.models.cascade.config import CascadeConfig
from facehal.training.cluster import Devices, available

ROOT = Path(__file__).resolve().parents[2]

# The number of CPUs is fixed when the backend starts: a process of its own.
SCRIPT = """
import sys
import keras
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from facehal.models import load_config
from facehal.training.run import Run
config, data, folder, devices, resume = sys.argv[1:]
run = Run(
    load_config(config), data, folder, devices=int(devices), limit=16, progress=False,
    resume=bool(resume),
)
run.fit()
if int(devices) > 1 and keras.backend.backend() == "tensorflow":
    for variable in run.trainer.variables:
        first, second = variable.value.values
        equal = (first.numpy() == second.numpy()).all()
        assert equal or variable.path.startswith("loss")  # sums over a share each
"""


@pytest.mark.core
def test_two_devices_train_like_one(sample_data, tiny_config: CascadeConfig, tmp_path):
    """Batch normalisation, both networks and the moving average included; then a resume."""
    plain = tiny_config.to_dict()
    plain["training"] |= {"moving_average": 0.9, "epochs": 2, "preview_faces": 3}
    losses = {}
    # A step is compiled anew in every process, which on JAX takes long: no resume there.
    resumed = [1, 2] if keras.backend.backend() == "tensorflow" else [2]
    for devices, stops in ((1, [2]), (2, resumed)):
        folder = tmp_path / f"on_{devices}"
        for epochs in stops:
            plain["training"]["epochs"] = epochs
            (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
            resume = "resume" if epochs > stops[0] else ""
            script = (sys.executable, "-c", SCRIPT, tmp_path / "config.yaml", sample_data, folder)
            done = subprocess.run(
                [*script, str(devices), resume],
                cwd=ROOT,
                env={
                    **os.environ,
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                    # TensorFlow 2.17's oneDNN rounds half a batch otherwise than a whole one, which
                    # Adam's first steps make 1e-2 in the second epoch; without it 2e-3.
                    "TF_ENABLE_ONEDNN_OPTS": "0",
                    "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
                },
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert done.returncode == 0, done.stderr
        with open(folder / "history.csv", encoding="utf-8") as file:
            losses[devices] = [
                np.array([float(value) for name, value in row.items() if "/" in name])
                for row in csv.DictReader(file)
            ]
    assert len(losses[1]) == len(losses[2]) == 2 and len(losses[1][0]) == 14
    apart = [np.abs(one / two - 1).max() for one, two in zip(losses[1], losses[2], strict=True)]
    # Achieved: 6e-6 and 2e-4 (Adam's first steps amplify rounding) on TensorFlow.
    assert apart[0] < 1e-4 and apart[1] < 5e-3, apart


def test_impossible_numbers_of_devices():
    there = len(available())
    with pytest.raises(TrainingError, match=f"{there + 1} devices asked for, but") as caught:
        Devices(there + 1, 8)
    assert "\n" not in str(caught.value)
    assert Devices(1, 7).count == 1


def test_a_batch_that_cannot_be_shared(monkeypatch):
    monkeypatch.setattr("facehal.training.cluster.available", lambda: ["CPU:0", "CPU:1"])
    with pytest.raises(TrainingError, match="a batch of 9 cannot be shared out evenly among 2"):
        Devices(2, 9)
