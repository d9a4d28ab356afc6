"""Fixtures that every test file may use."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facehal.weights import store

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference weights and faces beside the project; absent, tests skip."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the reference folder ../shared, which is not here")
    return folder


@pytest.fixture
def record_property(record_property):
    """pytest's own, with plain numbers: NumPy's do not travel between the processes of a run."""

    def record(name: str, value: object) -> None:
        record_property(name, np.asarray(value, np.float64).tolist())

    return record


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """Public-domain portrait of Eileen Collins: (512, 512, 3) uint8 RGB."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image (extra: portraits)")
    return data.astronaut()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the published AlexNet and LPIPS alone: the user's own, else of ../shared."""
    given = ROOT.parent / "shared/weights/lpips"
    files = {"alexnet": "alexnet_owt_features_hwio.npz", "lpips": "lpips_lin_alex.npz"}
    here = {
        row.entry.name: row.path or given / files[row.entry.name]
        for row in store.status()
        if row.entry.name in files
    }
    for name, path in here.items():
        if not path.is_file():
            pytest.skip(f"needs the published weights: facehal weights get {name}")
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEHAL_WEIGHTS", str(folder))
        for name, path in here.items():
            store.import_file(name, path)  # which looks whether they are the published ones
        yield folder


# Building and tracing a trainer takes longer than all the rest: the tests share what follows.


@pytest.fixture(scope="session")
def tiny_config():
    """Blocks 8 and 16 of the tiny size; no term that needs a weight file."""
    from facehal.models import from_dict

    return from_dict(
        {
            "size": "tiny",
            "network": {"resolutions": [8, 16]},
            "loss": {"perceptual": 0, "identity": 0},
            "training": {
                "batch_size": 8,
                "generator_rate": 2e-3,
                "discriminator_rate": 4e-3,
                "mirror": False,
            },
        }
    )


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory) -> Path:
    """A folder that `preprocess` wrote: 24 faces of two people. Not to be changed."""
    pytest.importorskip("skimage.data", reason="needs scikit-image (extra: portraits)")
    from facehal.data.samples import write_samples
    from facehal.jobs.preprocess import preprocess

    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder / "photos", 24)
    preprocess(folder / "photos", folder / "faces", workers=1, progress=False)
    return folder / "faces"


@pytest.fixture(scope="session")
def augmented_data(sample_data, tmp_path_factory) -> Path:
    """A folder as augment writes it of `sample_data`: of every face the best picture and two
    variants, each of one colour, (row, variant, 0). Not to be changed."""
    from facehal.data.faceset import FaceSet
    from facehal.images import write_png

    out, faces = tmp_path_factory.mktemp("augmented") / "made", FaceSet.open(sample_data).frame
    lines = ["file,subject,label,synthetic,variant,split"]
    for variant in (-1, 0, 1, 2):
        for row, (face, subject) in enumerate(zip(faces["face"], faces["subject"], strict=True)):
            name = f"{os.path.relpath(sample_data, out)}/{face}"
            if variant >= 0:
                stem = Path(face).stem + (f"_v{variant}" if variant else "")
                name = f"pictures/{subject}/{stem}.png"
                write_png(out / name, np.full((128, 128, 3), (row, variant, 0), np.uint8))
            lines.append(f"{name},{subject},0,{int(variant >= 0)},{max(variant, 0)},train")
    (out / "images.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = json.dumps({"data": str(sample_data.resolve())})
    (out / "augment.json").write_text(about, encoding="utf-8")
    return out


@pytest.fixture(scope="session")
def sample_faces(sample_data) -> tuple[np.ndarray, np.ndarray]:
    """Its faces (n, 128, 128, 3) and masks (n, 128, 128), uint8."""
    from facehal.data.faceset import load_faces

    faces, masks, _ = load_faces(sample_data)
    assert len(faces) >= 20
    return faces, masks


@pytest.fixture(scope="session")
def eight(sample_faces, tiny_config):
    """Eight of them at 16×16, as batches of all eight."""
    from facehal.data.pipeline import Loaded, Pipeline

    faces, masks = (array[:8] for array in sample_faces)
    faces = faces.reshape(8, 16, 8, 16, 8, 3).mean((2, 4)).round().astype(np.uint8)
    return Pipeline(Loaded(faces, masks[:, 4::8, 4::8].copy()), 8, mirror=False)


@pytest.fixture(scope="session")
def _built(tiny_config):
    import keras

    from facehal.models import task_of
    from facehal.training.phases import Trainer

    keras.utils.set_random_seed(0)
    trainer = Trainer(task_of(tiny_config).build(0, None, 0))
    return trainer, [(v, v.numpy()) for v in trainer.variables]


@pytest.fixture
def trainer(_built):
    """A compiled trainer of `tiny_config`, seed 0, as if nothing had trained it."""
    trainer, start = _built
    for variable, value in start:
        variable.assign(value)
    return trainer
