"""Jobs on a real Ray cluster of two nodes write what they write without it, whoever is killed."""

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from facehal.errors import ConfigError, DataError, ImageError
from facehal.jobs import on_ray
from facehal.jobs.augment import augment
from facehal.jobs.hallucinate import hallucinate
from facehal.jobs.mapping import each
from facehal.jobs.on_ray import Ray
from facehal.jobs.preprocess import preprocess
from facehal.jobs.records import Skipped

if any(importlib.util.find_spec(name) is None for name in ("ray", "onnx", "onnxruntime")):
    pytest.skip("needs ray and onnxruntime (extras: ray, export)", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("finds Ray's processes as Linux lists them", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parent))
from work import broken, doubled, killed, killed_once

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """Ray's own test utility: a head without a core and two nodes of one, with processes of their
    own."""
    ray = on_ray.import_ray()
    from ray.cluster_utils import Cluster

    settings = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(Path(__file__).parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        made = Cluster(initialize_head=True, head_node_args=settings | {"num_cpus": 0})
        for _ in range(2):
            made.add_node(**settings, num_cpus=1)
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def two(cluster) -> Iterator[Ray]:
    with Ray(cluster.address) as on:
        yield on


def workers() -> list[int]:
    """Process numbers of Ray's workers that are ours."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if b"_Worker" in name and str(ROOT).encode() in environment:
            found.append(int(process.name))
    return found


def kill_when(ready) -> threading.Thread:
    """Kills one of Ray's workers as soon as that is true."""

    def kill() -> None:
        while not ready():
            time.sleep(0.01)
        os.kill(workers()[0], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def contents(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_it_is_an_engine_like_the_others(two, tmp_path, capfd):
    assert two.workers == 2
    noted: list[int] = []
    with Skipped(tmp_path / "skipped.csv") as skipped:
        found = list(
            each(doubled, range(20), engine=two, together=3, journal=noted.extend, skipped=skipped)
        )
    assert {done.index: done.result for done in found} == {
        n: 2 * n for n in range(20) if n not in (7, 11)
    }
    assert sorted(noted) == sorted(done.result for done in found)
    said = capfd.readouterr()
    lines = said.err.replace("\r", "\n").splitlines()
    lines = [line for line in lines if line.strip() and "/20 [" not in line]
    assert sorted(lines) == ["skipped: 11: not a picture", "skipped: 7: not a picture"]
    assert said.out == ""
    assert list(each(doubled, [], engine=two, progress=False)) == []


def test_errors_are_the_works_own(two):
    with pytest.raises(ImageError, match=r"^7: not a picture$"):
        list(each(doubled, range(40), engine=two, progress=False))
    with pytest.raises(ZeroDivisionError):
        list(each(broken, range(9), engine=two, progress=False))


def test_a_killed_worker_loses_nothing(two, tmp_path, capfd):
    """Its piece is done by another; every row is noted once, and nothing is said."""
    (tmp_path / "kill").touch()
    noted: list[int] = []
    items = [(tmp_path, number) for number in range(60)]
    for _ in each(killed_once, items, engine=two, journal=noted.extend, progress=False):
        pass
    assert sorted(noted) == list(range(60))
    assert not (tmp_path / "kill").exists() and len(list(tmp_path.iterdir())) >= 2
    assert capfd.readouterr() == ("", "")


def test_a_piece_that_kills_every_worker(two, monkeypatch):
    monkeypatch.setattr(on_ray, "_RETRIES", 1)
    with pytest.raises(DataError, match=r"lost a worker for good \(.*\): run again, it goes on"):
        list(each(killed, range(12), engine=two, progress=False))


def test_preprocess(two, sample_data, tmp_path):
    """Also with a worker killed in the middle; a damaged photo fails as it does without Ray."""
    photos = shutil.copytree(sample_data.parent / "photos", tmp_path / "photos")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    alone, out = tmp_path / "alone", tmp_path / "out"
    preprocess(photos, alone, workers=1, progress=False)
    journal = out / "manifest.partial.csv"
    killing = kill_when(lambda: journal.is_file() and journal.read_bytes().count(b"\n") > 3)
    rows: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        unlink = Path.unlink

        def kept(path: Path, **options) -> None:
            if path == journal and path.is_file():
                rows.extend(path.read_bytes().splitlines())
            unlink(path, **options)

        patch.setattr(Path, "unlink", kept)
        summary = preprocess(photos, out, on=two, progress=False)
    killing.join(timeout=1)
    assert not killing.is_alive()
    assert (summary.photos, summary.failed) == (25, 1)
    assert contents(out) == contents(alone)
    assert sorted(rows) == sorted((out / "manifest.csv").read_bytes().splitlines())


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    from facehal.inference.export import export
    from facehal.models.cascade.cascade import Cascade

    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export(Cascade(2, 16, resolutions=(8, 16, 32), latent=3), "onnx", path, "model")
    return path


def test_augment(two, sample_data, exported, tmp_path):
    data = shutil.copytree(sample_data, tmp_path / "faces")
    damaged = data / pd.read_csv(data / "manifest.csv")["face"][5]
    damaged.write_bytes(b"no picture")
    options = {"variants": 2, "batch_size": 2, "progress": False}
    alone = augment(data, tmp_path / "alone", exported, workers=1, **options)
    pictures = tmp_path / "out/pictures"
    killing = kill_when(lambda: len(list(pictures.rglob("*.png"))) > 5)
    out = augment(data, tmp_path / "out", exported, on=two, **options)
    killing.join(timeout=1)
    assert not killing.is_alive()
    assert (alone.new, out.skipped, out.pictures) == (69, 1, 69)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    again = augment(data, tmp_path / "out", exported, on=two, **options)
    assert (again.new, again.skipped) == (0, 1)


def test_hallucinate(two, sample_data, exported, tmp_path):
    """The sheet, too, is that of the first photos, whoever was ready first."""
    from facehal.inference.hallucinator import portable

    photos = sorted((sample_data.parent / "photos").rglob("*.*"))
    photos = [photo for photo in photos if photo.suffix != ".csv"][:20]
    (tmp_path / "grey.png").write_bytes(b"no picture")
    photos.insert(3, tmp_path / "grey.png")
    model = portable(exported, threads=1)
    options = {"paste": True, "variants": 1, "progress": False}
    hallucinate(photos, tmp_path / "alone", model, **options)
    found = hallucinate(photos, tmp_path / "out", model, on=two, **options)
    assert (found.photos, found.pictures) == (len(photos), len(photos) - 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_what_is_not_there_is_said(two, tmp_path):
    with pytest.raises(DataError, match=r"gone: the machine \S+ of the Ray cluster does not see"):
        two.check(tmp_path, tmp_path / "gone")
    with pytest.raises(ConfigError, match="has no GPU for a worker"):
        Ray(gpus=1)  # of the cluster that this process is connected to
    with pytest.raises(ConfigError, match="has room for 1 to 2, not 3"):
        Ray(workers=3)
    assert Ray(workers=1).workers == 1


def lose_a_machine(cluster) -> None:
    for node in list(cluster.worker_nodes):
        with contextlib.suppress(ValueError):  # the one that this process is connected to
            cluster.remove_node(node)
            return
    raise AssertionError("no machine could be taken away")


def test_a_lost_machine(cluster, two, tmp_path):
    """Its worker's pieces are done on the other one. The last test: the machine stays away."""
    items = [(tmp_path, number) for number in range(150)]
    noted: list[int] = []
    for done in each(killed_once, items, engine=two, journal=noted.extend, progress=False):
        if done.index == 40:
            lose_a_machine(cluster)
    assert sorted(noted) == list(range(150))
