import numpy as np

from facehal.layers.landmarks import PARTNERS, mirrored


def test_partners_are_mutual_and_the_middle_keeps_its_place():
    assert sorted(PARTNERS) == list(range(68))
    assert (PARTNERS[PARTNERS] == np.arange(68)).all()
    alone = [i for i in range(68) if PARTNERS[i] == i]
    assert alone == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]


def test_partners_of_iBUG_300_W():
    """Chin to chin, brow to brow, outer corners of the eyes, corners of the mouth."""
    pairs = {0: 16, 7: 9, 17: 26, 21: 22, 31: 35, 36: 45, 39: 42, 40: 47, 41: 46}
    pairs |= {48: 54, 50: 52, 55: 59, 56: 58, 60: 64, 61: 63, 65: 67}
    assert all(PARTNERS[one] == other for one, other in pairs.items())


def test_mirrored():
    points = np.random.default_rng(0).uniform(0, 127, (2, 68, 2)).astype(np.float32)
    before = points.copy()
    found = mirrored(points, 128)
    assert found.dtype == np.float32 and found.shape == points.shape
    np.testing.assert_array_equal(found[1, 36], [127 - points[1, 45, 0], points[1, 45, 1]])
    np.testing.assert_array_equal(found[0, 30], [127 - points[0, 30, 0], points[0, 30, 1]])
    np.testing.assert_allclose(mirrored(found, 128), points, atol=1e-5)
    np.testing.assert_array_equal(points, before)
