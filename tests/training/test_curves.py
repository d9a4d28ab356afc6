import math
import xml.etree.ElementTree as ET

import pytest

from facehal.training.curves import HEIGHT, LEFT, RIGHT, WIDTH, Line, chart


def parsed(figure: str) -> ET.Element:
    return ET.fromstring(figure)  # well-formed, or an error


def curve(figure: str, number: int = 0) -> list[tuple[float, float]]:
    lines = parsed(figure).findall(".//polyline")
    points = lines[number].get("points").split()
    return [tuple(map(float, point.split(","))) for point in points]


def texts(figure: str) -> list[str]:
    return [element.text for element in parsed(figure).findall(".//text")]


def test_linear_axis():
    """Equal steps are equally far apart; limits lie at the edges of the plot."""
    drawn = curve(chart("a", [Line("l", [(1, 0.0), (2, 0.5), (3, 1.0)])], limits=(0, 1)))
    (x1, y1), (x2, y2), (x3, y3) = drawn
    assert (x1, x3) == (LEFT, WIDTH - RIGHT) and x2 - x1 == pytest.approx(x3 - x2)
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.11) and 0 < y3 < y2 < y1 < HEIGHT


def test_log_axis():
    """Equal ratios are equally far apart; the axis names powers of ten."""
    figure = chart("a", [Line("l", [(1, 0.01), (2, 0.02), (3, 0.5), (4, 1.0)])], log=True)
    heights = [y for _, y in curve(figure)]
    assert heights[0] - heights[1] == pytest.approx(heights[2] - heights[3], abs=0.11)
    assert {"0.01", "0.1", "1"} <= set(texts(figure))


def test_what_lies_far_below_stands_in_the_key_only():
    lines = [Line("high", [(1, 1.0), (2, 0.9)]), Line("low", [(1, 1e-6), (2, 2e-6)])]
    figure = chart("a", lines, log=True)
    assert len(parsed(figure).findall(".//polyline")) == 1
    assert [s[0].tail for s in parsed(figure).findall(".//span")] == [
        "high 0.9",
        "low 2e-06 (below)",
    ]


def test_one_epoch_is_a_dot():
    figure = chart("a", [Line("l", [(1, 0.25)], "c0")], log=True)
    assert len(parsed(figure).findall(".//circle")) == 1 and "1" in texts(figure)


def test_equal_values_and_values_that_are_no_numbers():
    figure = chart("a", [Line("l", [(1, 0.5), (2, math.nan), (3, 0.5)])])
    assert len(curve(figure)) == 2 and "nan" not in figure
    assert "no values yet" in chart("a", [Line("l", [(1, 0.0)])], log=True)
    assert "no values yet" in chart("a", [])


def test_bound():
    """Drawn inside the plot, though all values lie above it."""
    figure = chart("a", [Line("l", [(1, 0.4), (9, 0.3)])], log=True, bound=(0.02, "bound"))
    (path,) = parsed(figure).findall(".//path[@class='bound']")
    level = float(path.get("d").split("H")[0].split()[1])
    assert max(y for _, y in curve(figure)) < level < HEIGHT and "bound" in texts(figure)


@pytest.mark.parametrize("last", [1, 2, 7, 50, 250, 1000])
def test_epochs_are_whole_and_few(last):
    figure = chart("a", [Line("l", [(n, 1.0 / n) for n in range(1, last + 1)])], limits=(0, 1))
    named = [text for text in texts(figure) if text.isdigit() and int(text) > 1]
    assert len(named) <= 9 and all(int(text) <= last for text in named)


def test_text_is_escaped():
    assert parsed(chart("<&>", [Line('"<', [(1, 1.0)])], axis="<")) is not None
