"""Every term against a value computed in NumPy."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.data import astronaut

from facehal.errors import ConfigError
from facehal.images import resize
from facehal.losses import terms
from facehal.models import from_dict

pytestmark = pytest.mark.core

random = np.random.default_rng(0)
TARGET = random.random((3, 5, 4, 3), np.float32)
OUTPUT = random.random((3, 5, 4, 3), np.float32)
PROBABILITY = np.array([0.1, 0.5, 0.9], np.float32)


def value(tensor) -> float:
    assert tuple(tensor.shape) == ()
    return float(tensor)


def test_l1():
    assert value(terms.l1(TARGET, OUTPUT)) == pytest.approx(np.abs(TARGET - OUTPUT).mean())
    assert value(terms.l1(TARGET, TARGET)) == 0


def test_l2():
    assert value(terms.l2(TARGET, OUTPUT)) == pytest.approx(((TARGET - OUTPUT) ** 2).mean())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("l1", np.abs(TARGET - OUTPUT).mean()), ("l2", ((TARGET - OUTPUT) ** 2).mean())],
)
def test_pixel_terms_by_name(name, expected):
    """What an experiment asks for by ``loss.pixel``."""
    asked = from_dict({"loss": {"pixel": name}}).loss.pixel
    assert value(terms.PIXEL_TERMS[asked](TARGET, OUTPUT)) == pytest.approx(expected)


def test_other_pixel_terms_are_no_terms():
    with pytest.raises(ConfigError, match="pixel is one of l1, l2, not 'l3'"):
        from_dict({"loss": {"pixel": "l3"}})
    assert sorted(terms.PIXEL_TERMS) == ["l1", "l2"]


def test_adversarial():
    # ((1-.1)² + (1-.5)² + (1-.9)²) / 3
    assert value(terms.adversarial(PROBABILITY)) == pytest.approx((0.81 + 0.25 + 0.01) / 3)


def test_discriminator_real():
    # ((.9-.1)² + (.9-.5)² + 0) / 3: smoothed on the real side only
    assert value(terms.discriminator_real(PROBABILITY)) == pytest.approx((0.64 + 0.16) / 3)
    assert value(terms.discriminator_real(PROBABILITY, 1.0)) == pytest.approx(1.07 / 3)


def test_discriminator_fake():
    assert value(terms.discriminator_fake(PROBABILITY)) == pytest.approx((0.01 + 0.25 + 0.81) / 3)


def test_gradient_penalty():
    """Half the squared length of every picture's gradient, mean over the batch."""
    expected = np.mean([0.5 * np.linalg.norm(one.astype(float)) ** 2 for one in OUTPUT])
    assert value(terms.gradient_penalty(OUTPUT)) == pytest.approx(expected, rel=1e-5)
    assert value(terms.gradient_penalty(0 * OUTPUT)) == 0


def test_total_variation():
    expected = 0.0
    for picture in OUTPUT.astype(float):
        for y in range(5):
            for x in range(4):
                for c in range(3):
                    if x < 3:
                        expected += (picture[y, x + 1, c] - picture[y, x, c]) ** 2
                    if y < 4:
                        expected += (picture[y + 1, x, c] - picture[y, x, c]) ** 2
    assert value(terms.total_variation(OUTPUT)) == pytest.approx(expected / 3, rel=1e-5)


def test_lattice():
    """Against loops over tiles, with SciPy's filter."""
    random = np.random.default_rng(3)
    pictures = random.uniform(0, 1, (2, 64, 32, 3))
    line = np.array([1, 4, 6, 4, 1]) / 16
    total = 0.0
    for region in range(2):
        for c in range(3):
            found = np.zeros((8, 8))
            for picture in pictures[..., c]:
                fine = picture - ndimage.convolve(picture, np.outer(line, line))
                fine[:2] = fine[-2:] = fine[:, :2] = fine[:, -2:] = 0
                for y in range(32 * region, 32 * region + 32):
                    for x in range(32):
                        found[y % 8, x % 8] += fine[y, x] / (2 * 4 * 4)
            total += (found**2).mean() / (2 * 3)
    assert value(terms.lattice(pictures.astype(np.float32))) == pytest.approx(total, rel=1e-5)


def test_lattice_of_known_pictures():
    """A photograph has next to none, a hatch that stands still has, one that moves has not."""
    photo = resize(astronaut()[:256, 100:356], 128).astype(np.float32)[None] / 255
    y, x = np.mgrid[:128, :128]
    hatch = 0.03 * np.cos((y - x) * np.pi / 2)[None, ..., None].astype(np.float32)
    moved = np.concatenate([np.roll(hatch, n, 2) for n in range(4)])
    plain, still = (value(terms.lattice(one)) for one in (photo, photo + hatch))
    assert plain < 2e-4 < still - plain
    several = value(terms.lattice(np.repeat(photo, 4, 0) + moved))
    assert several == pytest.approx(plain, rel=1e-3)


def test_total_variation_of_known_pictures():
    assert value(terms.total_variation(np.full((2, 8, 8, 3), 0.3, np.float32))) == 0
    # One white pixel inside has four neighbours of the other value, in one channel.
    dot = np.zeros((1, 8, 8, 3), np.float32)
    dot[0, 4, 4, 0] = 1
    assert value(terms.total_variation(dot)) == 4
    # A sum over pixels, a mean over the batch.
    assert value(terms.total_variation(np.concatenate([dot, 0 * dot]))) == 2
