import gc
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from facehal.data.augmentation import NUMBERS, changed
from facehal.data.faceset import FaceSet
from facehal.data.pipeline import Abreast, Loaded, Pipeline, open_pipeline, prefetched
from facehal.errors import ConfigError, DataError
from facehal.faces.mask import hull_masks
from facehal.images import write_png

N, S = 22, 6


@pytest.fixture(scope="module")
def arrays():
    """Faces that carry their number; the mask marks the left half, so that a flip shows."""
    faces = np.zeros((N, S, S, 3), np.uint8)
    faces[..., 0] = np.arange(N)[:, None, None]
    faces[..., 1] = np.arange(S)  # column number
    masks = np.zeros((N, S, S), np.uint8)
    masks[:, :, : S // 2] = 1
    return faces, masks


def numbers(batch) -> list[int]:
    return batch["faces"][:, 0, 0, 0].tolist()


def equal(a, b) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in ("faces", "masks"))


def test_the_same_in_any_order(arrays):
    pipeline, other = Pipeline(Loaded(*arrays), 4, seed=3), Pipeline(Loaded(*arrays), 4, seed=3)
    forward = [pipeline.batch(step) for step in range(12)]
    backward = [other.batch(step) for step in reversed(range(12))][::-1]
    assert all(equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert equal(pipeline.batch(7), forward[7])
    assert forward[0]["faces"].dtype == forward[0]["masks"].dtype == np.uint8


def test_seeds_and_epochs_differ(arrays):
    pipeline = Pipeline(Loaded(*arrays), 4, seed=3)
    steps = pipeline.steps_per_epoch
    assert steps == 5  # 22 faces: the last two are left out
    epochs = [
        [n for s in range(steps) for n in numbers(pipeline.batch(e * steps + s))] for e in (0, 1)
    ]
    assert epochs[0] != epochs[1]
    assert all(len(epoch) == len(set(epoch)) == 20 for epoch in epochs)
    assert set(epochs[0]) != set(epochs[1])  # what one epoch leaves out comes in another
    assert numbers(Pipeline(Loaded(*arrays), 4, seed=4).batch(0)) != numbers(pipeline.batch(0))


def test_mirroring(arrays):
    faces, masks = arrays
    pipeline = Pipeline(Loaded(*arrays), 4, seed=0)
    flipped = []
    for step in range(40):
        batch = pipeline.batch(step)
        for number, face, mask in zip(numbers(batch), batch["faces"], batch["masks"], strict=True):
            flip = bool(face[0, 0, 1])
            flipped.append(flip)
            way = slice(None, None, -1 if flip else 1)
            assert np.array_equal(face, faces[number][:, way])
            assert np.array_equal(mask, masks[number][:, way])
    assert 0.35 < np.mean(flipped) < 0.65


def test_mirroring_leaves_the_data_alone(arrays):
    faces, masks = (array.copy() for array in arrays)
    pipeline = Pipeline(Loaded(faces, masks), 4)
    for step in range(10):
        pipeline.batch(step)["faces"][:] = 0
    assert np.array_equal(faces, arrays[0]) and np.array_equal(masks, arrays[1])


def test_without_mirroring(arrays):
    pipeline = Pipeline(Loaded(*arrays), 4, mirror=False)
    assert not any(pipeline.batch(step)["faces"][:, 0, 0, 1].any() for step in range(10))


def test_fewer_faces_than_a_batch(arrays):
    pipeline = Pipeline(Loaded(arrays[0][:3], arrays[1][:3]), 10)
    assert (pipeline.batch_size, pipeline.steps_per_epoch) == (3, 1)
    assert sorted(numbers(pipeline.batch(5))) == [0, 1, 2]


def test_nothing_to_train_on(arrays):
    faces, masks = arrays
    with pytest.raises(DataError, match="nothing to train on"):
        Loaded(faces[:0], masks[:0])
    with pytest.raises(DataError, match="nothing to train on"):
        Loaded(faces, masks[:-1])
    with pytest.raises(DataError, match="nothing to train on"):
        Loaded(faces, masks[:, :, :-1])


@pytest.fixture(scope="module")
def streamed(sample_data) -> FaceSet:
    return FaceSet.open(sample_data)


@pytest.fixture(scope="module")
def loaded(streamed) -> Loaded:
    return Loaded(*streamed.load(), streamed.labels, streamed.sha256, streamed.landmarks)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]) for name in a
    )


def test_the_draws_of_a_seed_stay():
    """Written down when the first version drew them; another order breaks old runs' resume."""
    faces = np.zeros((9, 2, 2, 3), np.uint8)
    faces[..., 0], faces[:, :, 1, 1] = np.arange(9)[:, None, None], 1
    pipeline = Pipeline(Loaded(faces, faces[..., 1]), 3, seed=5)
    batches = [pipeline.batch(step)["faces"] for step in range(4)]
    assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [
        [1, 4, 2],
        [3, 0, 7],
        [5, 6, 8],
        [5, 6, 2],
    ]
    assert [batch[:, 0, 0, 1].tolist() for batch in batches] == [
        [1, 1, 1],
        [1, 1, 0],
        [0, 1, 1],
        [0, 0, 1],
    ]


@pytest.mark.parametrize("more", [{"augmentation": 0.8}, {"landmarks": True}])
@pytest.mark.parametrize("side", [None, 64, 16])
def test_streamed_and_in_memory_are_bit_equal(sample_data, side, more):
    options = {"side": side, "seed": 2, "labels": True, "noise": 7, **more}
    memory = open_pipeline(sample_data, 5, **options)
    files = open_pipeline(sample_data, 5, memory=0, **options)
    assert isinstance(memory.source, Loaded) and isinstance(files.source, FaceSet)
    assert memory.source.sha256 == files.source.sha256
    for step in (6, 0, 3, 1):
        batch = memory.batch(step)
        assert same(batch, files.batch(step))
        assert batch["faces"].shape == (5, side or 128, side or 128, 3)
        assert batch["masks"].shape == (5, side or 128, side or 128)
        assert set(np.unique(batch["masks"])) == {0, 1}


def test_memory_bound(sample_data, streamed):
    need = len(streamed) * 64 * 64 * 4
    assert isinstance(open_pipeline(streamed, 4, side=64, memory=need).source, Loaded)
    assert open_pipeline(streamed, 4, side=64, memory=need - 1).source is streamed
    assert isinstance(open_pipeline(sample_data, 4).source, Loaded)


def test_labels_and_noise(streamed):
    pipeline = Pipeline(streamed, 6, mirror=False, labels=True, noise=40, seed=1)
    whole, _ = streamed.load()
    batch = pipeline.batch(5)
    for face, label in zip(batch["faces"], batch["labels"], strict=True):
        row = next(i for i in range(len(whole)) if np.array_equal(whole[i], face))
        assert streamed.subjects[label] == streamed.frame["subject"][row]
    noise = batch["noise"]
    assert noise.shape == (6, 40) and noise.dtype == np.float32
    assert abs(noise.mean()) < 0.3 and 0.8 < noise.std() < 1.2
    assert np.array_equal(noise, pipeline.batch(5)["noise"])
    assert not np.array_equal(noise, pipeline.batch(6)["noise"])
    other = Pipeline(streamed, 6, noise=40, seed=2)
    assert not np.array_equal(noise, other.batch(5)["noise"])
    assert set(Pipeline(streamed, 6).batch(0)) == {"faces", "masks"}


@pytest.mark.parametrize("side", [128, 64])
def test_landmarks_stay_on_their_faces(streamed, side):
    """Their hull, drawn anew, is the mask, mirrored and shrunk faces' too."""
    pipeline = Pipeline(streamed, 12, side=side, landmarks=True, seed=3)
    plain = Pipeline(streamed, 12, side=side, seed=3)
    for step in (0, 3):
        batch = pipeline.batch(step)
        assert same({k: batch[k] for k in ("faces", "masks")}, plain.batch(step))
        points = batch["landmarks"]
        assert points.shape == (12, 68, 2) and points.dtype == np.float32
        apart = hull_masks(points, side) != batch["masks"]
        # Drawn at another size a hull's edge is another; mirrored, it rounds the other way.
        assert apart.mean() < (0.002 if side == 128 else 0.015)


def test_mirrored_landmarks_change_places(streamed):
    """The right eye is on the left of the picture, whether the face is mirrored or not."""
    random = np.random.default_rng((1, 0))
    order, flip = random.permutation(24), random.random(24) < 0.5
    points = Pipeline(streamed, 24, landmarks=True, seed=1).batch(0)["landmarks"]
    assert 0 < flip.sum() < 24
    assert (points[:, 36:42, 0].mean(1) < points[:, 42:48, 0].mean(1)).all()
    for point, row, turned in zip(points, order, flip, strict=True):
        original = streamed.landmarks[row]
        if turned:
            np.testing.assert_allclose(point[36], [127 - original[45, 0], original[45, 1]], 1e-5)
            np.testing.assert_allclose(point[8], [127 - original[8, 0], original[8, 1]], 1e-5)
        else:
            np.testing.assert_array_equal(point, original)


def test_augmented_anew_every_step(loaded):
    """After mirroring; another step changes the same faces otherwise; nothing else is touched."""
    options = {"seed": 4, "labels": True, "noise": 3}
    plain = Pipeline(loaded, 24, **options)
    pipeline = Pipeline(loaded, 24, augmentation=0.6, **options)
    for step in (2, 0, 1):
        batch, before = pipeline.batch(step), plain.batch(step)
        assert same(batch, pipeline.batch(step))
        assert np.array_equal(batch["labels"], before["labels"])
        assert np.array_equal(batch["noise"], before["noise"])
        numbers = np.random.default_rng((4, step, 2)).random((24, NUMBERS))
        faces, masks = changed(before["faces"], before["masks"], numbers, 0.6)
        assert np.array_equal(batch["faces"], faces) and np.array_equal(batch["masks"], masks)
        assert all((faces[i] != before["faces"][i]).any() for i in range(24))
    other = Pipeline(loaded, 24, augmentation=0.6, **{**options, "seed": 5})
    assert not np.array_equal(other.batch(0)["faces"], pipeline.batch(0)["faces"])


@pytest.mark.parametrize("more", [{"augmentation": 1.0}, {"landmarks": True}])
def test_shards_together_are_the_batch(loaded, more):
    options = {"seed": 3, "labels": True, "noise": 5, "side": 32, **more}
    whole = Pipeline(loaded, 6, **options)
    shards = [Pipeline(loaded, 6, shard=(index, 3), **options) for index in range(3)]
    for step in (0, 5, 9):
        parts = [shard.batch(step) for shard in shards]
        assert all(len(part["faces"]) == 2 for part in parts)
        together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        assert same(together, whole.batch(step))
    assert all(shard.steps_per_epoch == whole.steps_per_epoch for shard in shards)


def test_what_a_pipeline_refuses(loaded):
    for options, error, words in [
        ({"batch_size": 4, "shard": (0, 3)}, ConfigError, "cannot be shared by 3"),
        ({"batch_size": 4, "shard": (2, 2)}, ConfigError, "no shard 2 of 2"),
        ({"batch_size": 0}, ConfigError, "batch of 0"),
        ({"batch_size": 4, "augmentation": 1.5}, ConfigError, "augmentation of 1.5"),
        ({"batch_size": 4, "augmentation": 0.1, "landmarks": True}, ConfigError, "do not follow"),
        ({"batch_size": 4, "side": 48}, DataError, "128x128 cannot be shrunk to 48x48"),
        ({"batch_size": 4, "side": 256}, DataError, "cannot be shrunk"),
        ({"batch_size": 4, "side": 0}, DataError, "cannot be shrunk"),
    ]:
        with pytest.raises(error, match=words):
            Pipeline(loaded, **options)
    with pytest.raises(DataError, match="24 of 24 faces have no subject"):
        Pipeline(Loaded(loaded.faces, loaded.masks), 4, labels=True)
    with pytest.raises(DataError, match="24 faces without landmarks"):
        Pipeline(Loaded(loaded.faces, loaded.masks), 4, landmarks=True)
    with pytest.raises(DataError, match="landmarks of shape"):
        Loaded(loaded.faces, loaded.masks, landmarks=loaded.landmarks[1:])
    with pytest.raises(DataError, match="labels of shape"):
        Loaded(loaded.faces, loaded.masks, loaded.labels[1:])
    with pytest.raises(DataError, match="nothing to train on"):
        Loaded(loaded.faces[:0], loaded.masks[:0])


def test_a_batch_is_the_callers_own(loaded):
    before = loaded.faces.copy(), loaded.masks.copy()
    pipeline = Pipeline(loaded, 4)
    for step in range(6):
        batch = pipeline.batch(step)
        batch["faces"][:], batch["masks"][:] = 0, 9
    assert np.array_equal(loaded.faces, before[0]) and np.array_equal(loaded.masks, before[1])


@pytest.fixture
def copy(sample_data, tmp_path) -> Path:
    return Path(shutil.copytree(sample_data, tmp_path / "copy"))


def files_of(pipeline: Pipeline, step: int) -> list[str]:
    order = np.random.default_rng((pipeline.seed, 0)).permutation(len(pipeline.source))
    rows = order[step * pipeline.batch_size : (step + 1) * pipeline.batch_size]
    return pipeline.source.frame["face"].iloc[rows].tolist()


def test_the_first_batch_needs_its_own_files_alone(copy):
    """What is not needed yet may be missing; it is named when its batch comes."""
    pipeline = open_pipeline(copy, 4, memory=0)
    expected = pipeline.batch(0)
    for step in range(1, pipeline.steps_per_epoch):
        for name in files_of(pipeline, step):
            (copy / name).unlink()
    again = open_pipeline(copy, 4, memory=0)
    assert same(again.batch(0), expected)
    with pytest.raises(DataError, match=r"\.png: No such file.*preprocess") as caught:
        again.batch(1)
    assert any(name in str(caught.value) for name in files_of(again, 1))


@pytest.mark.parametrize("damage", ["cut", "missing", "size"])
def test_a_damaged_file_in_the_middle_of_a_run(copy, damage):
    pipeline = open_pipeline(copy, 4, memory=0)
    name = files_of(pipeline, 3)[2]
    if damage == "missing":
        (copy / name).unlink()
    elif damage == "cut":
        (copy / name).write_bytes((copy / name).read_bytes()[:500])
    else:
        write_png(copy / name, np.zeros((64, 64, 3), np.uint8))
    steps = []
    with pytest.raises(DataError) as caught:
        for step, _ in prefetched(pipeline, 0, 6):
            steps.append(step)
    assert steps == [0, 1, 2]
    message = str(caught.value)
    assert name in message and "\n" not in message and "preprocess the photos again" in message
    assert not preparing()


def preparing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("ahead", [1, 4, 50])
def test_prefetched_is_the_same(streamed, ahead):
    pipeline = Pipeline(streamed, 5, seed=1, noise=3)
    found = list(prefetched(pipeline, 3, 12, ahead))
    assert [step for step, _ in found] == list(range(3, 12))
    assert all(same(batch, pipeline.batch(step)) for step, batch in found)
    assert not preparing()
    assert list(prefetched(pipeline, 3, 3)) == []
    with pytest.raises(ConfigError, match="one is the least"):
        next(prefetched(pipeline, 0, 3, ahead=0))


def test_prefetched_works_ahead_and_no_further(loaded):
    asked: list[int] = []

    class Noted(Pipeline):
        def batch(self, step):
            asked.append(step)
            return super().batch(step)

    batches = prefetched(Noted(loaded, 4), 0, 100, ahead=3)
    for step in range(5):
        assert next(batches)[0] == step
        until = time.monotonic() + 10
        while len(asked) < step + 4 and time.monotonic() < until:
            time.sleep(0.001)
        assert sorted(asked) == list(range(step + 4))
    batches.close()
    assert not preparing()


def test_prefetched_left_early(loaded):
    pipeline = Pipeline(loaded, 4)
    for step, _ in prefetched(pipeline, 0, 1000):
        if step == 2:
            break
    gc.collect()
    assert not preparing()
    batches = prefetched(pipeline, 0, 1000)
    next(batches)
    assert preparing()
    batches.close()
    assert not preparing()
    prefetched(pipeline, 0, 1000)  # never begun
    assert not preparing()


def test_errors_keep_their_type(loaded):
    class Odd(Exception):
        pass

    class Broken(Loaded):
        def read(self, rows):
            raise Odd("as it is")

    with pytest.raises(Odd, match="as it is"):
        next(prefetched(Pipeline(Broken(loaded.faces, loaded.masks), 4), 0, 5))
    assert not preparing()


def test_many_threads_see_the_same_batches(loaded):
    """They cross epochs at different times and share what is drawn for one."""
    pipeline = Pipeline(loaded, 5, seed=9)
    expected = [Pipeline(loaded, 5, seed=9).batch(step) for step in range(16)]
    steps = [(i * 7) % 16 for i in range(400)]
    with ThreadPoolExecutor(8) as pool:
        for step, batch in zip(steps, pool.map(pipeline.batch, steps), strict=True):
            assert same(batch, expected[step])


def test_sets_abreast(arrays):
    """Every batch has as many faces of each; the smaller set begins anew when it is through."""
    faces, masks = arrays
    sets = [Loaded(faces[rows], masks[rows]) for rows in (slice(0, 15), slice(15, 22))]
    pipelines = [Pipeline(one, 3, seed=seed) for seed, one in enumerate(sets)]
    both = Abreast(pipelines)
    assert (both.batch_size, both.steps_per_epoch) == (3, 5)
    assert Abreast(pipelines, steps=40).steps_per_epoch == 40
    seen: list[list[int]] = [[], []]
    for step in range(10):
        batch = both.batch(step)
        assert equal(batch, both.batch(step)) and batch["masks"].shape == (6, S, S)
        for found, rows, one in zip(seen, (slice(3), slice(3, 6)), pipelines, strict=True):
            part = {name: values[rows] for name, values in batch.items()}
            assert equal(part, one.batch(step))
            found += numbers(part)
    assert set(seen[0]) == set(range(15)) and set(seen[1]) == set(range(15, 22))
    assert all(len(set(seen[1][start : start + 6])) == 6 for start in range(0, 30, 6))
    with pytest.raises(ConfigError, match=r"batches of \[2, 3\] faces"):
        Abreast([pipelines[0], Pipeline(sets[1], 2)])
    with pytest.raises(ConfigError, match=r"batches of \[\] faces"):
        Abreast([])
