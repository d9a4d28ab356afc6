"""Names and addresses; the bucket is one in memory. Against S3: `tests/jobs/test_buckets.py`."""

import pickle
import sys
import threading
from pathlib import Path

import pytest

from facehal.data.faceset import FaceSet
from facehal.errors import DataError, FacehalError
from facehal.files import replacing, write_bytes, write_text
from facehal.images import list_images, read_image, write_png
from facehal.jobs.records import PartedJournal, Skipped, read_journal, remove_journal
from facehal.places import Address, between, here, is_address, modified, overlapped, path_of, place


@pytest.fixture
def bucket(request) -> Path:
    pytest.importorskip("fsspec", reason="needs fsspec (extra: buckets)")
    return place(f"memory://bucket/{request.node.name}")


def test_names_of_this_machine_stay_paths(tmp_path):
    for name in ("C:/photos", "C:\\photos", "a:b", "photos/s3:/x", str(tmp_path)):
        assert place(name) == Path(name) == path_of(name)
        assert isinstance(place(Path(name)), Path)
    assert not is_address(place(tmp_path))


def test_an_address_through_path_is_the_same(bucket):
    name = str(bucket)
    assert is_address(bucket) and name.startswith("memory://bucket/")
    assert place(name + "/") == place(Path(name)) == place(bucket) == path_of(bucket) == bucket
    assert pickle.loads(pickle.dumps(bucket)) == bucket
    photo = bucket / "a/one.two.JPG"
    assert (photo.name, photo.stem, photo.suffix) == ("one.two.JPG", "one.two", ".JPG")
    assert photo.parent == bucket / "a" and photo.with_name("x") == bucket / "a" / "x"
    assert photo.relative_to(bucket).as_posix() == "a/one.two.JPG"
    assert photo.is_relative_to(bucket) and not (bucket / "ab").is_relative_to(bucket / "a")
    # As paths are sorted, not as texts: "-" comes before "/".
    assert sorted([bucket / "a-b", bucket / "a" / "c"]) == [bucket / "a" / "c", bucket / "a-b"]


def test_who_knows_no_addresses_says_so():
    for use in (FaceSet.open, read_image, list_images, lambda path: write_text(path, "")):
        for path in ("s3://bucket/photos", Path("s3://bucket/photos")):
            with pytest.raises(DataError, match=r"^s3:/.*bucket.photos: an address, which prepro"):
                use(path)


def test_what_is_missing_or_unknown(monkeypatch):
    with pytest.raises(DataError, match=r"^file:///photos: name the folder itself"):
        place("file:///photos")
    pytest.importorskip("fsspec", reason="needs fsspec (extra: buckets)")
    with pytest.raises(DataError, match=r"^xyz://bucket: .*xyz"):
        place("xyz://bucket")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(
        FacehalError, match=r"^s3://bucket needs .* pip install 'facehal\[buckets\]'"
    ):
        place("s3://bucket")


def test_reading_and_writing(bucket, tmp_path, astronaut):
    write_bytes(bucket / "a/b.txt", b"b")
    file = bucket / "a/b.txt"
    assert file.read_bytes() == b"b" and file.read_text("utf-8") == "b"
    assert file.exists() and file.is_file() and not file.is_dir()
    assert bucket.is_dir() and (bucket / "a").exists() and not (bucket / "c").exists()
    earlier = modified(file)
    write_png(bucket / "c.png", astronaut)
    assert earlier <= modified(bucket / "c.png")
    assert (read_image(bucket / "c.png") == astronaut).all()
    write_bytes(bucket / ".hidden/d.png", b"hidden")
    write_png(tmp_path / "z.png", astronaut)
    assert list_images([bucket, tmp_path]) == [tmp_path / "z.png", bucket / "c.png"]
    with replacing(bucket / "e.csv") as part:
        part.write_bytes(b"whole")
    with pytest.raises(KeyError), replacing(bucket / "e.csv") as part:
        part.write_bytes(b"ha")
        raise KeyError
    with here(bucket / "e.csv") as copy:
        assert isinstance(copy, Path) and copy.name == "e.csv" and copy.read_bytes() == b"whole"
    assert not copy.exists()
    with here(tmp_path) as same:
        assert same is tmp_path
    (bucket / "e.csv").unlink()
    (bucket / "e.csv").unlink(missing_ok=True)
    for missing in (Path.unlink, Path.read_bytes, modified):
        with pytest.raises(FileNotFoundError) as error:
            getattr(Address, missing.__name__)(bucket / "e.csv")
        assert error.value.strerror == "No such file or directory"
    with Skipped(bucket / "skipped.csv", say=False) as skipped:
        skipped.add("x", DataError("bad"))
    assert (bucket / "skipped.csv").read_bytes() == b"file,reason\r\nx,bad\r\n"


def test_the_way_from_one_folder_to_another(bucket, tmp_path):
    assert between(bucket / "made", bucket / "faces") == "../faces"
    assert between(bucket, place("memory://other/faces")) == "memory://other/faces"
    assert between(tmp_path, bucket) == str(bucket)
    assert between(bucket, tmp_path) == tmp_path.resolve().as_posix()
    assert between(tmp_path / "made", tmp_path / "faces") == "../faces"


def test_requests_wait_together():
    with overlapped(waits=False) as mapped:
        assert mapped is map
    here, there = threading.Event(), threading.Event()

    def meet(mine: threading.Event, other: threading.Event, number: int) -> int:
        mine.set()
        assert other.wait(5)  # for what comes behind it
        return number

    with overlapped(waits=True) as mapped:
        assert list(mapped(meet, (here, there), (there, here), (1, 2))) == [1, 2]


def test_a_journal_in_parts(bucket, monkeypatch):
    monkeypatch.setattr("facehal.jobs.records.PART_ROWS", 3)
    path, columns = bucket / "manifest.partial.csv", ["file", "x"]
    rows = [{"file": f"{n},\n", "x": str(n)} for n in range(13)]
    journal = PartedJournal(path, columns, rows[:2])
    journal.note(rows[2:4])
    assert list(read_journal(path, columns)) == rows[:2]  # these two may be lost
    journal.note(rows[4:5])
    assert list(read_journal(path, columns)) == rows[:5]
    # The next process begins with them, in a single file.
    with PartedJournal(path, columns, rows[:5]) as journal:
        assert len((bucket / "manifest.partial").files()) == 1
        for row in rows[5:]:
            journal.note([row])
        assert list(read_journal(path, columns)) == rows[:11]
    assert list(read_journal(path, columns)) == rows
    monkeypatch.setattr("facehal.jobs.records.PART_SECONDS", 0)
    with PartedJournal(path, columns) as journal:
        assert list(read_journal(path, columns)) == []
        journal.note(rows[:1])
        assert list(read_journal(path, columns)) == rows[:1]
    remove_journal(path)
    assert (bucket / "manifest.partial").files() == []
