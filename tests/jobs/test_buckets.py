"""Jobs on a bucket write what they write into a folder: s3fs against a server on this machine."""

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from facehal import places
from facehal.errors import DataError, FacehalError, ImageError, StorageError
from facehal.images import list_images
from facehal.inference.hallucinator import portable
from facehal.jobs import preprocess as preprocess_module
from facehal.jobs.augment import augment
from facehal.jobs.hallucinate import find_photos, hallucinate
from facehal.jobs.on_ray import Ray
from facehal.jobs.preprocess import preprocess
from facehal.places import Address, place

NEEDED = ("s3fs", "moto", "flask", "flask_cors", "onnxruntime")
if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
    pytest.skip(f"needs {', '.join(missing)} (extra: test)", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]


class Bucket:
    """A bucket on a server of this process; the server's memory outlives a stop."""

    def __init__(self) -> None:
        import s3fs

        self.port = 0
        self.start()
        options = {"endpoint_url": self.address, "key": "a", "secret": "b"}
        self.files = s3fs.S3FileSystem(use_listings_cache=False, **options)
        self.files.mkdir("bucket")

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()
        self.address = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop()

    def contents(self, folder: str) -> dict[str, bytes]:
        names = self.files.find(f"bucket/{folder}")
        start = len(f"bucket/{folder}/")
        return {name[start:]: self.files.cat_file(name) for name in names}


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch:
        made = Bucket()
        patch.setenv("AWS_ENDPOINT_URL", made.address)
        patch.setenv("AWS_ACCESS_KEY_ID", "a")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield made
        made.stop()


@pytest.fixture(scope="module")
def photos(bucket, sample_data, tmp_path_factory) -> Path:
    """Twelve photos and a damaged one, which are in the bucket, too."""
    folder = tmp_path_factory.mktemp("bucket") / "photos"
    for photo in list_images(sample_data.parent / "photos")[::2]:
        target = folder / photo.relative_to(sample_data.parent / "photos")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, target)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    (folder / ".hidden.jpg").write_bytes(b"not a photo of the job")
    bucket.files.put(str(folder), "bucket/photos", recursive=True)
    return folder


@pytest.fixture(scope="module")
def faces(photos) -> Path:
    out = photos.with_name("faces")
    preprocess(photos, out, workers=1, progress=False)
    return out


@pytest.fixture(scope="module")
def subjects(bucket, sample_data) -> Path:
    """Prepared faces, each with a subject, that are in the bucket, too."""
    bucket.files.put(str(sample_data), "bucket/subjects", recursive=True)
    return sample_data


def contents(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def killed_when(ready: Callable[[], bool], code: str) -> None:
    """Runs Python in a process of its own and kills it as soon as that is true."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
        while process.poll() is None and not ready():
            time.sleep(0.01)
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        os.kill(process.pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)


def test_preprocess(bucket, faces):
    """Killed in the middle, and then to the end: as in a folder, and nothing is left over."""
    code = """
from facehal.jobs import records
from facehal.jobs.preprocess import preprocess
records.PART_ROWS = 2
preprocess("s3://bucket/photos", "s3://bucket/faces", workers=1, progress=False)
"""
    killed_when(lambda: len(bucket.files.find("bucket/faces/manifest.partial")) > 2, code)
    there = bucket.contents("faces")
    assert len(there) > 6 and "settings.json" in there and "manifest.csv" not in there
    with pytest.raises(
        DataError, match=r"s3://bucket/faces/manifest\.csv: .*interrupted: run it ag"
    ):
        augment("s3://bucket/faces", "s3://bucket/none", progress=False)
    summary = preprocess("s3://bucket/photos", "s3://bucket/faces", workers=1, progress=False)
    assert (summary.photos, summary.failed) == (13, 1)
    assert 4 <= summary.reused < 13
    assert bucket.contents("faces") == contents(faces)
    # Another size begins anew.
    preprocess("s3://bucket/photos", "s3://bucket/faces", size=64, workers=1, progress=False)
    small = bucket.contents("faces")
    assert small.keys() == contents(faces).keys()
    assert b'"size": 64' in small["settings.json"]


def test_from_a_bucket_into_a_folder_and_back(bucket, photos, faces, tmp_path):
    preprocess(Path("s3://bucket/photos"), tmp_path / "faces", workers=2, progress=False)
    assert contents(tmp_path / "faces") == contents(faces)
    points = "s3://bucket/photos/points.csv"
    bucket.files.put(str(faces / "manifest.csv"), "bucket/photos/points.csv")
    options: dict[str, Any] = {"workers": 1, "landmarks": points, "progress": False}
    assert preprocess(photos, "s3://bucket/given", **options).ok == 12
    assert bucket.contents("given").keys() == contents(faces).keys()


def test_augment(bucket, subjects, tmp_path):
    """Killed in the middle; then only what is missing, or older than its face, is made."""
    options: dict[str, Any] = {"engine": "onnxruntime", "variants": 1, "progress": False}
    augment(subjects, tmp_path / "made", workers=1, **options)
    code = """
from facehal.jobs.augment import augment
augment("s3://bucket/subjects", "s3://bucket/made", engine="onnxruntime", variants=1, workers=1,
        batch_size=4, progress=False)
"""
    killed_when(lambda: len(bucket.files.find("bucket/made/pictures")) > 8, code)
    found = augment("s3://bucket/subjects", "s3://bucket/made", workers=1, **options)
    assert found.pictures == 48 and 0 < found.new < 41
    made, alone = bucket.contents("made"), contents(tmp_path / "made")
    about = made.pop("augment.json"), alone.pop("augment.json")
    assert b'"s3://bucket/subjects"' in about[0]
    # The real faces lie where they lie: the way to them is another one in this test.
    far = os.path.relpath(subjects, tmp_path / "made").encode()
    assert alone.pop("images.csv").replace(far, b"../subjects") == made.pop("images.csv")
    assert made == alone

    one, other = [name for name in made if name.endswith("_v1.png")][:2]
    bucket.files.rm_file(f"bucket/made/{one}")
    face = f"bucket/subjects/faces/{other.removeprefix('pictures/').replace('_v1', '')}"
    time.sleep(1.1)  # S3 counts in seconds
    bucket.files.pipe_file(face, bucket.files.cat_file(face))
    found = augment("s3://bucket/subjects", "s3://bucket/made", workers=1, **options)
    assert found.new == 3
    assert made.items() <= bucket.contents("made").items()
    with pytest.raises(DataError, match="holds pictures of other faces"):
        augment(subjects, "s3://bucket/made", workers=1, **options)


def test_hallucinate(bucket, photos, tmp_path):
    model = portable("compact", engine="onnxruntime").load()
    options: dict[str, Any] = {"paste": True, "variants": 1, "progress": False}
    hallucinate(find_photos([photos], tmp_path / "out"), tmp_path / "out", model, **options)
    # Through `Path`, as the command line does it; what was written there is no photo of the next.
    here, out = Path("s3://bucket/photos"), Path("s3://bucket/photos/out")
    files = find_photos([here], out)
    found = hallucinate(files, out, model, **options)
    assert find_photos([here], out) == files and len(list_images(place(here))) > len(files)
    assert (found.photos, found.pictures) == (13, 12)
    made, alone = bucket.contents("photos/out"), contents(tmp_path / "out")
    skipped = made.pop("skipped.csv").decode(), alone.pop("skipped.csv").decode()
    assert skipped[0] == skipped[1].replace(str(photos), "s3://bucket/photos")
    assert made == alone
    bucket.files.rm("bucket/photos/out", recursive=True)


def test_a_lost_connection(bucket, faces, monkeypatch):
    """The job ends with one line, blames no photo for it, and goes on later."""
    prepare, calls = preprocess_module.prepare, itertools.count(1)

    def lost(*args: Any, **options: Any) -> Any:
        if next(calls) == 9:  # in threads: no two get the same number
            bucket.stop()
        return prepare(*args, **options)

    monkeypatch.setattr(preprocess_module, "prepare", lost)
    monkeypatch.setattr("facehal.jobs.records.PART_ROWS", 2)
    folders = "s3://bucket/photos", "s3://bucket/lost"
    try:
        with pytest.raises(StorageError, match=r"^s3://bucket/lost/.*: no way to it \(.*\); look"):
            preprocess(*folders, workers=1, progress=False)
    finally:
        bucket.start()
    summary = preprocess(*folders, workers=1, progress=False)
    assert (summary.failed, next(calls) - 1) == (1, 9 + 13 - summary.reused)
    assert summary.reused >= 6
    assert bucket.contents("lost") == contents(faces)


def forget() -> None:
    """What this process knows of buckets: credentials are looked for once."""
    import s3fs

    places._file_system.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


def test_what_is_not_there_is_said(bucket, photos, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="s3://none/photos: no such folder of photos"):
        preprocess("s3://none/photos", tmp_path, progress=False)
    with pytest.raises(DataError, match=r"s3://none/out: cannot be written: .*bucket does not exi"):
        preprocess("s3://bucket/photos", "s3://none/out", progress=False)
    with pytest.raises(FacehalError, match=r"s3://bucket/none\.jpg: no such file or folder"):
        find_photos([Path("s3://bucket/none.jpg")], tmp_path)
    with pytest.raises(ImageError, match="s3://bucket/none: no such file or folder"):
        find_photos([Path("s3://bucket/none")], tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    forget()
    with pytest.raises(StorageError, match=r"^s3://bucket/photos: no way to it \(.*credentials"):
        preprocess("s3://bucket/photos", tmp_path, progress=False)
    forget()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray (extra: ray)")
def test_on_ray(bucket, faces, subjects, tmp_path, monkeypatch):
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    options: dict[str, Any] = {"engine": "onnxruntime", "limit": 6, "progress": False}
    with Ray(workers=2) as on:
        preprocess("s3://bucket/photos", "s3://bucket/on_ray", on=on, progress=False)
        augment("s3://bucket/subjects", "s3://bucket/six", on=on, batch_size=2, **options)
        with pytest.raises(DataError, match=r"the machine .* of the Ray cluster: xyz://b: "):
            on.check(tmp_path, Address("xyz://b"))
    assert bucket.contents("on_ray") == contents(faces)
    augment(subjects, tmp_path / "six", workers=1, **options)
    made, alone = bucket.contents("six"), contents(tmp_path / "six")
    for one in (made, alone):
        del one["augment.json"], one["images.csv"]
    assert made == alone
