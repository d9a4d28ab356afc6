import numpy as np
import pytest

from facehal.data.pipeline import Pairs, Stretch
from facehal.errors import DataError

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
    pairs, other = Pairs(*arrays, 4, seed=3), Pairs(*arrays, 4, seed=3)
    forward = [pairs.batch(step) for step in range(12)]
    backward = [other.batch(step) for step in reversed(range(12))][::-1]
    assert all(equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert equal(pairs.batch(7), forward[7])
    assert forward[0]["faces"].dtype == forward[0]["masks"].dtype == np.uint8


def test_seeds_and_epochs_differ(arrays):
    pairs = Pairs(*arrays, 4, seed=3)
    steps = pairs.steps_per_epoch
    assert steps == 5  # 22 faces: the last two are left out
    epochs = [
        [n for s in range(steps) for n in numbers(pairs.batch(e * steps + s))] for e in (0, 1)
    ]
    assert epochs[0] != epochs[1]
    assert all(len(epoch) == len(set(epoch)) == 20 for epoch in epochs)
    assert set(epochs[0]) != set(epochs[1])  # what one epoch leaves out comes in another
    assert numbers(Pairs(*arrays, 4, seed=4).batch(0)) != numbers(pairs.batch(0))


def test_mirroring(arrays):
    faces, masks = arrays
    pairs = Pairs(*arrays, 4, seed=0)
    flipped = []
    for step in range(40):
        batch = pairs.batch(step)
        for number, face, mask in zip(numbers(batch), batch["faces"], batch["masks"], strict=True):
            flip = bool(face[0, 0, 1])
            flipped.append(flip)
            way = slice(None, None, -1 if flip else 1)
            assert np.array_equal(face, faces[number][:, way])
            assert np.array_equal(mask, masks[number][:, way])
    assert 0.35 < np.mean(flipped) < 0.65


def test_mirroring_leaves_the_data_alone(arrays):
    faces, masks = (array.copy() for array in arrays)
    pairs = Pairs(faces, masks, 4)
    for step in range(10):
        pairs.batch(step)["faces"][:] = 0
    assert np.array_equal(faces, arrays[0]) and np.array_equal(masks, arrays[1])


def test_without_mirroring(arrays):
    pairs = Pairs(*arrays, 4, mirror=False)
    assert not any(pairs.batch(step)["faces"][:, 0, 0, 1].any() for step in range(10))


def test_fewer_faces_than_a_batch(arrays):
    pairs = Pairs(arrays[0][:3], arrays[1][:3], 10)
    assert (pairs.batch_size, pairs.steps_per_epoch) == (3, 1)
    assert sorted(numbers(pairs.batch(5))) == [0, 1, 2]


def test_stretch(arrays):
    pairs = Pairs(*arrays, 4)
    stretch = Stretch(pairs, 3, 8)
    assert len(stretch) == 5
    assert all(equal(stretch[i][0], pairs.batch(3 + i)) for i in range(5))


def test_nothing_to_train_on(arrays):
    faces, masks = arrays
    with pytest.raises(DataError, match="nothing to train on"):
        Pairs(faces[:0], masks[:0], 4)
    with pytest.raises(DataError, match="nothing to train on"):
        Pairs(faces, masks[:-1], 4)
    with pytest.raises(DataError, match="nothing to train on"):
        Pairs(faces, masks[:, :, :-1], 4)


@pytest.mark.core
def test_what_fit_gets_are_the_same_batches():
    faces = np.random.default_rng(1).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
    stretch = Stretch(Pairs(faces, faces[..., 0] % 2, 2, seed=4), 2, 7)
    source = stretch.source()
    batches = [stretch[i] for i in range(5)]
    given = [source[i] for i in range(5)] if source is stretch else list(source)
    assert len(source) == len(given) == 5
    for (theirs,), (ours,) in zip(given, batches, strict=True):
        for name in ("faces", "masks"):
            np.testing.assert_array_equal(np.asarray(theirs[name]), ours[name])


def test_what_fit_gets_leaves_malloc_alone():
    """A generator dataset sets the trim threshold to 128 KB: a fifth of a step's time."""
    tf = pytest.importorskip("tensorflow")
    faces = np.zeros((4, 8, 8, 3), "uint8")
    source = Stretch(Pairs(faces, faces[..., 0], 2), 0, 2).source()
    if not isinstance(source, tf.data.Dataset):
        pytest.skip("only TensorFlow gets a dataset")
    graph = tf.raw_ops.DatasetToGraphV2(input_dataset=tf.data.experimental.to_variant(source))
    names = [node.op for node in tf.compat.v1.GraphDef.FromString(graph.numpy()).node]
    assert "RangeDataset" in names and "GeneratorDataset" not in names
