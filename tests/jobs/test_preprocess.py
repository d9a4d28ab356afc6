import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from facehal.data.schema import COLUMNS, FACE_POINTS, PHOTO_POINTS
from facehal.errors import ConfigError, DataError
from facehal.faces.alignment import align
from facehal.faces.mask import hull_mask
from facehal.images import read_image, resize, write_png
from facehal.jobs import preprocess as job
from facehal.jobs.preprocess import preprocess

pytest.importorskip("dlib", reason="needs dlib")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    """Twelve sample photos of two subjects; not to be changed."""
    pytest.importorskip("skimage", reason="needs scikit-image (extra: portraits)")
    pytest.importorskip("matplotlib", reason="needs matplotlib (extra: portraits)")
    from facehal.data.samples import write_samples

    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, 12)
    return folder


@pytest.fixture(scope="module")
def prepared(samples, tmp_path_factory) -> Path:
    """The samples preprocessed in this process; not to be changed."""
    out = tmp_path_factory.mktemp("prepared")
    summary = preprocess(samples, out, workers=1, progress=False)
    assert (summary.photos, summary.ok, summary.failed) == (12, 12, 0)
    return out


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "manifest.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_of(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def run(raw: Path, out: Path, **options) -> job.Summary:
    return preprocess(raw, out, workers=1, progress=False, **options)


def points(row: dict[str, str], columns: list[str]) -> np.ndarray:
    return np.array([row[name] for name in columns], np.float32).reshape(68, 2)


def test_what_is_written(samples, prepared):
    rows = rows_of(prepared)
    assert list(rows[0]) == COLUMNS
    assert [row["file"] for row in rows] == sorted(
        p.relative_to(samples).as_posix() for p in samples.rglob("*.jpg")
    )
    assert sorted(files_of(prepared)) == sorted(
        [*[row["face"] for row in rows], "contact_sheet.png", "manifest.csv", "settings.json"]
    )
    for row in rows:
        assert row["face"] == f"faces/{row['file'].removesuffix('.jpg')}.png"
        assert row["subject"] == row["file"].split("/")[0]
        assert (row["status"], row["reason"], row["faces_found"]) == ("ok", "", "1")
        assert (row["width"], row["height"]) == ("250", "250")
        left, top, right, bottom = (int(row[side]) for side in ("left", "top", "right", "bottom"))
        assert 60 < right - left < 200 and 60 < bottom - top < 200


def test_face_and_points_belong_together(samples, prepared):
    """The face is what aligning the photo by the points in the manifest gives."""
    for row in rows_of(prepared)[::5]:
        face, aligned = align(read_image(samples / row["file"]), points(row, PHOTO_POINTS))
        np.testing.assert_allclose(points(row, FACE_POINTS), aligned, atol=0.01)
        written = read_image(prepared / row["face"]).astype(int)
        assert written.shape == (128, 128, 3)
        # The points are rounded to a thousandth of a pixel.
        assert np.abs(written - face).max() <= 2
        assert 0.15 < hull_mask(aligned).mean() < 0.6


def test_workers_do_not_matter(samples, prepared, tmp_path):
    summary = preprocess(samples, tmp_path, workers=2, progress=True)
    assert summary.ok == 12
    assert files_of(tmp_path) == files_of(prepared)


def test_second_run_does_nothing_and_changes_nothing(samples, prepared, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("faces/**/*.png")}
    summary = run(samples, out)
    assert (summary.reused, summary.ok) == (12, 12) and "earlier run" in str(summary)
    assert files_of(out) == files_of(prepared)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_only_what_changed_is_redone(samples, prepared, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(samples, raw)
    shutil.copytree(prepared, out)
    files = sorted(raw.rglob("*.jpg"))
    shutil.copy(files[1], files[0])  # changed
    files[2].unlink()  # gone
    shutil.copy(files[3], raw / "new.jpg")
    (out / "faces" / files[4].relative_to(raw).with_suffix(".png")).unlink()  # lost
    summary = run(raw, out)
    assert (summary.photos, summary.ok, summary.reused) == (12, 12, 9)
    fresh = tmp_path / "fresh"
    run(raw, fresh)
    assert files_of(out) == files_of(fresh)


def test_other_landmarks_redo_everything(samples, prepared, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    summary = run(samples, out, landmarks=prepared / "manifest.csv")
    assert summary.reused == 0


@pytest.mark.parametrize("size", [64, 256])
def test_another_size_redoes_everything(samples, prepared, tmp_path, size):
    """The same faces and the same points in the photo, scaled: no trace of 128 is left."""
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    assert json.loads((out / "settings.json").read_text())["size"] == 128
    summary = run(samples, out, size=size)
    assert (summary.ok, summary.reused) == (12, 0)
    assert json.loads((out / "settings.json").read_text())["size"] == size
    for row, at_128 in zip(rows_of(out), rows_of(prepared), strict=True):
        face = read_image(out / row["face"])
        assert face.shape == (size, size, 3)
        np.testing.assert_array_equal(points(row, PHOTO_POINTS), points(at_128, PHOTO_POINTS))
        photo = read_image(samples / row["file"])
        expected, aligned = align(photo, points(row, PHOTO_POINTS), size)
        np.testing.assert_allclose(points(row, FACE_POINTS), aligned, atol=0.01)
        assert np.abs(face.astype(int) - expected).max() <= 2  # the points are rounded
    fresh = tmp_path / "fresh"
    run(samples, fresh, size=size)
    assert files_of(out) == files_of(fresh)
    assert run(samples, out, size=size).reused == 12
    run(samples, out)
    assert files_of(out) == files_of(prepared)


def test_a_larger_size_leaves_out_what_would_be_enlarged(samples, prepared, tmp_path):
    """Those faces go, also where an earlier run had them."""
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    summary = run(samples, out, size=1024)
    assert summary.ok == 0 and summary.reasons == {"the eyes are less than 128 pixels apart": 12}
    assert sorted(files_of(out)) == ["manifest.csv", "settings.json"]


def test_a_size_without_a_block(samples, tmp_path):
    for size in (7, 0, -64):
        with pytest.raises(ConfigError, match=f"size must be at least 8, not {size}"):
            run(samples, tmp_path / "out", size=size)
    assert not (tmp_path / "out").exists()


def test_size_from_the_command_line(samples, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "facehal", "preprocess", samples, tmp_path, "--size", "64"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "12 of 12 photos" in done.stdout, done.stderr
    assert json.loads((tmp_path / "settings.json").read_text())["size"] == 64
    assert read_image(tmp_path / rows_of(tmp_path)[0]["face"]).shape == (64, 64, 3)


@pytest.mark.parametrize("name", ["../x.png", "/x.png", r"faces\..\..\x.png", "linked/x.png"])
@pytest.mark.parametrize("table", ["manifest.csv", "manifest.partial.csv"])
@pytest.mark.parametrize("size", [128, 64])
def test_a_manifest_that_names_files_outside_is_refused(
    samples, prepared, tmp_path, name, table, size
):
    """Faces of earlier runs are deleted where they are not wanted any more: only ours may be."""
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    write_png(tmp_path / "x.png", np.zeros((8, 8, 3), np.uint8))
    try:
        (out / "linked").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    text = (out / "manifest.csv").read_text()
    face = rows_of(out)[3]["face"]
    (out / table).write_text(text.replace(face, name))
    before = files_of(tmp_path)
    with pytest.raises(DataError, match="is no face of this folder") as caught:
        run(samples, out, size=size)
    assert repr(name) in str(caught.value) and table in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_of(tmp_path) == before  # nothing was deleted or written


def test_landmarks_from_elsewhere_need_no_dlib(samples, prepared, tmp_path):
    code = (
        "import sys\n"
        "sys.modules['dlib'] = None\n"
        "from facehal.jobs.preprocess import preprocess\n"
        f"s = preprocess({str(samples)!r}, {str(tmp_path / 'out')!r}, workers=1, progress=False,"
        f" landmarks={str(prepared / 'manifest.csv')!r})\n"
        "assert s.ok == 12, s"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for row in rows_of(prepared):
        one, other = (read_image(out / row["face"]) for out in (prepared, tmp_path / "out"))
        assert np.abs(one.astype(int) - other).max() <= 2


def test_unusable_landmarks(samples, prepared, tmp_path):
    table = tmp_path / "points.csv"
    header = ",".join(["file", *PHOTO_POINTS])
    cases = {
        "file,px0\na.jpg,1\n": "py0 is missing",
        header + "\n": "no landmarks",
        header + "\na.jpg" + ",x" * 136 + "\n": "line 2",
        header + "\na.jpg,1,2\n": "line 2",
        header + "\na.jpg" + ",nan" * 136 + "\n": "line 2",
        header + "\na.jpg" + ",1" * 136 + "\n": None,
    }
    for text, message in cases.items():
        table.write_text(text)
        if message:
            with pytest.raises(DataError, match=message) as caught:
                run(samples, tmp_path / "out", landmarks=table)
            assert "\n" not in str(caught.value)
        else:
            summary = run(samples, tmp_path / "out", landmarks=table)
            assert summary.reasons == {"no points for this photo in the landmarks file": 12}
    with pytest.raises(DataError, match="No such file"):
        run(samples, tmp_path / "out", landmarks=tmp_path / "missing.csv")


def test_bad_photos_are_counted_and_the_job_goes_on(samples, astronaut, tmp_path):
    raw = tmp_path / "raw"
    good = next(samples.rglob("*.jpg"))
    data = good.read_bytes()
    (raw / "bad").mkdir(parents=True)
    (raw / "bad/text.jpg").write_text("no picture")
    (raw / "bad/empty.png").write_bytes(b"")
    (raw / "bad/cut.jpg").write_bytes(data[: len(data) // 2])
    write_png(raw / "bad/wall.png", np.full((200, 200, 3), 140, np.uint8))
    write_png(raw / "bad/tiny.png", resize(astronaut, 20))
    write_png(raw / "bad/far.png", resize(astronaut, 180))
    several = np.concatenate([resize(astronaut, 360)[:, 60:], resize(astronaut, 360)], axis=1)
    write_png(raw / "several.png", several)
    shutil.copy(good, raw / "good.jpg")
    grey = cv2.cvtColor(read_image(good), cv2.COLOR_RGB2GRAY)
    write_png(raw / "grey.png", grey)
    cv2.imwrite(str(raw / "deep.png"), cv2.imread(str(good)).astype(np.uint16) * 257)
    cv2.imwrite(str(raw / "alpha.png"), np.dstack([cv2.imread(str(good)), np.full_like(grey, 255)]))
    (raw / "notes.txt").write_text("not looked at")

    summary = run(raw, tmp_path / "out")
    assert (summary.photos, summary.ok, summary.failed, summary.several_faces) == (11, 5, 6, 1)
    assert summary.reasons == {
        "not a picture that can be read": 1,
        "the file is empty": 1,
        "the picture is cut short": 1,
        "no face found": 1,
        "the photo is smaller than 32 pixels": 1,
        "the eyes are less than 16 pixels apart": 1,
    }
    for line in ("5 of 11 photos", "1 failed: no face found", "1 had several faces"):
        assert line in str(summary)
    rows = {row["file"]: row for row in rows_of(tmp_path / "out")}
    assert rows["several.png"]["faces_found"] == "2" and rows["several.png"]["subject"] == ""
    assert all(rows[name]["face"] == "" for name in rows if name.startswith("bad/"))
    # The same photo in four forms.
    plain = points(rows["good.jpg"], PHOTO_POINTS)
    for name in ("deep.png", "alpha.png"):
        np.testing.assert_array_equal(points(rows[name], PHOTO_POINTS), plain)
    assert np.abs(points(rows["grey.png"], PHOTO_POINTS) - plain).mean() < 1.5
    assert run(raw, tmp_path / "out").reused == 11


def test_photos_of_the_same_name_do_not_overwrite_each_other(samples, tmp_path):
    raw = tmp_path / "raw"
    one, two = sorted(samples.rglob("*.jpg"))[:2]
    raw.mkdir()
    shutil.copy(one, raw / "a.jpg")
    write_png(raw / "a.png", read_image(two))
    shutil.copy(one, raw / "b.c.jpg")
    run(raw, tmp_path / "out")
    faces = {row["file"]: row["face"] for row in rows_of(tmp_path / "out")}
    assert faces == {
        "a.jpg": "faces/a.jpg.png",
        "a.png": "faces/a.png.png",
        "b.c.jpg": "faces/b.c.png",
    }
    images = [read_image(tmp_path / "out" / face) for face in faces.values()]
    assert (images[0] != images[1]).any() and (images[0] == images[2]).all()


def test_face_names_are_unique_whatever_the_photos_are_called():
    files = sorted(["a.jpg", "A.png", "a.jpg.png", "x/a.jpg", "a.jpg.webp", "b.png", "b_.png"])
    names = job._face_names(files)
    assert len({name.lower() for name in names}) == len(files)
    assert names[files.index("x/a.jpg")] == "faces/x/a.png"


def test_subjects_of_a_manifest_beside_the_photos(samples, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(samples / "Grace_Hopper", raw / "deep" / "Grace_Hopper")
    names = sorted(p.name for p in (raw / "deep" / "Grace_Hopper").iterdir())
    (raw / "manifest.csv").write_text(f"file,subject\ndeep/Grace_Hopper/{names[0]},Admiral\n")
    run(raw, tmp_path / "out")
    subjects = [row["subject"] for row in rows_of(tmp_path / "out")]
    assert subjects == ["Admiral"] + ["Grace_Hopper"] * (len(names) - 1)


def test_results_inside_the_photos_folder(samples, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(samples / "Grace_Hopper", raw)
    assert run(raw, raw / "out").photos == 6
    assert run(raw, raw / "out").photos == 6
    for wrong in (raw, raw / ".." / "raw"):
        with pytest.raises(DataError, match="overwrite"):
            run(raw, wrong)


def test_unusable_folders(samples, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        run(tmp_path / "missing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        run(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        run(samples, tmp_path / "file" / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "faces").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        run(samples, tmp_path / "out")


def test_workers_must_be_at_least_one(samples, tmp_path):
    for workers in (0, -1):
        with pytest.raises(ConfigError, match="at least 1"):
            preprocess(samples, tmp_path / "out", workers=workers, progress=False)


@pytest.mark.skipif(os.name != "posix", reason="spawns a script")
def test_script_without_main_guard_is_told(samples, tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "from facehal.jobs.preprocess import preprocess\n"
        f"preprocess({str(samples)!r}, {str(tmp_path / 'out')!r}, workers=2, progress=False)\n"
    )
    process = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode != 0
    # Not the last line: Python's own resource tracker may warn after it.
    lines = process.stderr.splitlines()
    assert any(line.startswith("facehal.errors.DataError: a worker") for line in lines)


def test_torn_journal_is_mended(samples, prepared, tmp_path):
    """What a killed run leaves: no manifest, a journal whose last line is torn."""
    shutil.copytree(prepared, tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.csv"
    text = manifest.read_text()
    (tmp_path / "out" / "manifest.partial.csv").write_text(text[: len(text) // 2])
    manifest.unlink()
    summary = run(samples, tmp_path / "out")
    assert summary.reused == 5  # of twelve lines, half of the sixth is lost
    assert files_of(tmp_path / "out") == files_of(prepared)


JOB = """
import sys
from facehal.jobs import preprocess as job
if __name__ == "__main__":
    job.preprocess(sys.argv[1], sys.argv[2], workers=2, progress=False)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills with signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_job_goes_on_where_it_was(samples, tmp_path, how):
    raw = tmp_path / "raw"
    for copy in range(8):
        shutil.copytree(samples, raw / f"{copy:02d}")
    (tmp_path / "job.py").write_text(JOB)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "job.py", raw, out],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,  # a group of its own, so that Ctrl-C can reach all of it
        # A shell's background jobs ignore Ctrl-C, and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = out / "manifest.partial.csv"
    deadline = time.monotonic() + 60
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.kill()
    assert process.wait(timeout=30) != 0
    # The workers must end, too: they hold the pipe's other end.
    _, stderr = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert stderr.count("Traceback") == 1 and "KeyboardInterrupt" in stderr
    assert not (out / "manifest.csv").exists()
    kept = journal.read_bytes().count(b"\n") - 1

    summary = run(raw, out)
    assert (summary.photos, summary.ok) == (96, 96)
    assert 16 <= summary.reused <= kept and summary.reused < 96
    assert not journal.exists()
    assert not [p for p in out.rglob("*.tmp")]
