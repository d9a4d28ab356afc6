"""Loss curves as inline SVG: small, sharp, and readable on light and dark pages.

Colours come from the classes ``c0`` … ``c5`` and from ``currentColor``; :data:`STYLE` defines them.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 30  # margins around the plot
DECADES = 2  # a log axis reaches no further below its largest value
MARKERS = 15  # up to so many points each gets a dot: a single one is no line

# Okabe and Ito's colours, which stay apart for the colour-blind, a little darker on white.
STYLE = """
:root { --c0: #0072b2; --c1: #b97a00; --c2: #a8508a; --c3: #00795a; --c4: #c04f00; --c5: #5b5bd6; }
@media (prefers-color-scheme: dark) { :root {
  --c0: #56b4e9; --c1: #f0b020; --c2: #e093bd; --c3: #2fc79a; --c4: #ff8a3d; --c5: #a9a9ff; } }
figure.chart { margin: 0; display: flex; flex-direction: column; }
figure.chart figcaption { font-weight: 600; }
figure.chart .key { font-size: .8rem; line-height: 1.5; }
figure.chart .key span { white-space: nowrap; margin-right: .9em; }
figure.chart .key b { display: inline-block; width: 1.1em; height: 0; margin-right: .35em;
  vertical-align: middle; border-top: 3px solid currentColor; }
figure.chart svg { width: 100%; height: auto; margin-top: auto; }
figure.chart text { fill: currentColor; font-size: 10px; opacity: .75; }
figure.chart polyline { fill: none; stroke: currentColor; stroke-width: 1.8;
  stroke-linejoin: round; }
figure.chart circle { fill: currentColor; }
figure.chart .grid { stroke: currentColor; opacity: .15; }
figure.chart .bound { stroke: currentColor; opacity: .7; stroke-dasharray: 4 3; }
""" + "\n".join(f".c{n} {{ color: var(--c{n}); }}" for n in range(6))


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: stands in the key.
        points: (x, y) in order of x.
        colour: class of :data:`STYLE` (``c0`` … ``c5``); empty is the text's colour.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = ""


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    bound: tuple[float, str] | None = None,
    axis: str = "epoch",
) -> str:
    """One chart as an HTML figure: title, key with the last values, curves.

    Args:
        title: heading.
        lines: at least one with points; values that are not finite, and on a log axis those that
            are not positive, are left out.
        log: logarithmic y axis of at most ``DECADES``; what lies below stands in the key only,
            marked so.
        limits: of the y axis; by default those of the values.
        bound: a level to draw as a dashed line, and its name.
        axis: name of the x axis.
    """
    shown = [
        Line(one.name, [p for p in one.points if math.isfinite(p[1]) and (p[1] > 0 or not log)],
             one.colour)
        for one in lines
    ]  # fmt: skip
    shown = [one for one in shown if one.points]
    caption = f"<figcaption>{html.escape(title)}</figcaption>"
    if not shown:
        return f'<figure class="chart">{caption}<p>no values yet</p></figure>'
    xs = [x for one in shown for x, _ in one.points]
    ys = [y for one in shown for _, y in one.points] + ([bound[0]] if bound else [])
    if log:
        floor = max(ys) / 10**DECADES
        ys = [y for y in ys if y >= floor]
    ticks = _log_ticks(min(ys), max(ys)) if log else _ticks(*(limits or (min(ys), max(ys))))
    low, high = limits or (min(ticks[0], min(ys)), max(ticks[-1], max(ys)))
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        share = math.log(y / low) / math.log(high / low) if log else (y - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = []
    for y in ticks:
        if not low <= y <= high:
            continue
        parts.append(
            f'<path class="grid" d="M{LEFT} {up(y):.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 5}" y="{up(y) + 3.5:.1f}" text-anchor="end">{number(y)}</text>'
        )
    for x in _whole_ticks(min(xs), max(xs)):
        parts.append(
            f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{x}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 3}" text-anchor="middle">'
        f"{html.escape(axis)}</text>"
    )
    if bound:
        y, name = up(bound[0]), html.escape(bound[1])
        parts.append(
            f'<path class="bound" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{WIDTH - RIGHT}" y="{y - 4:.1f}" text-anchor="end">{name}</text>'
        )
    drawn_lines = set()
    for one in shown:
        drawn = [(across(x), up(y)) for x, y in one.points if low <= y <= high]
        if not drawn:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        dots = drawn if len(drawn) <= MARKERS else drawn[-1:]
        parts.append(f'<g class="{one.colour}"><polyline points="{path}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in dots]
        parts.append("</g>")
        drawn_lines.add(one.name)
    key = "".join(
        f'<span><b class="{one.colour}"></b>{html.escape(one.name)} {number(one.points[-1][1])}'
        f"{'' if one.name in drawn_lines else ' (below)'}</span>"
        for one in shown
    )
    head = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}"'
    return (
        f'<figure class="chart">{caption}<div class="key">{key}</div>'
        f"<svg {head}>{''.join(parts)}</svg></figure>"
    )


def number(value: float) -> str:
    """A value in three digits: 0.0312, 12.5, 2e-05."""
    return f"{value:.3g}"


def _ticks(low: float, high: float) -> list[float]:
    """Round values around low … high, steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        low, high = low - (abs(low) or 1) * 0.1, high + (abs(high) or 1) * 0.1
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around low … high, with 2 and 5 between them where those are few."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 6:
        return [10.0**n for n in range(first, last + 1, 2 if last - first > 12 else 1)]
    between = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [k * 10.0**n for n in range(first, max(last, first + 1) + 1) for k in between]
    start = max((n for n, t in enumerate(ticks) if t <= low * 1.001), default=0)
    stop = next((n for n, t in enumerate(ticks) if t >= high * 0.999), len(ticks) - 1)
    return ticks[start : max(stop, start + 1) + 1]


def _whole_ticks(low: float, high: float) -> list[int]:
    """At most about eight whole numbers from low to high."""
    step = next(
        n for power in range(9) for n in (10**power, 2 * 10**power, 5 * 10**power)
        if (high - low) / n <= 8
    )  # fmt: skip
    return list(range(math.ceil(low / step) * step, math.floor(high) + 1, step))
