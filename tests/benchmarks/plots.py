"""The plots of the documentation, as SVG: plain text that a diff can show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from tests.benchmarks.bars import asking
from tests.benchmarks.contenders import (
    FLOOR,
    FLOOR_UVLOOP,
    JAVA,
    OURS,
    OURS_SESSION,
    OURS_UVLOOP,
    SCALED,
    SINGLE,
    SYNCHRONOUS,
)
from tests.benchmarks.results import Measure, Results, Spread
from tests.benchmarks.scenarios import CONCURRENT

NAMES: Final = {
    OURS: "this library",
    OURS_UVLOOP: "this library, uvloop",
    OURS_SESSION: "this library, your own session",
    FLOOR: "the floor: aiobotocore, perfect batches",
    FLOOR_UVLOOP: "the floor, uvloop",
    SINGLE: "aiobotocore, one message per call",
    SYNCHRONOUS: "the synchronous package's way",
    JAVA: "AWS's Java client, warm",
}

# Told apart by those who see few colours, on light paper and on dark.
_COLOURS: Final = {
    OURS: "#2f7de1",
    OURS_UVLOOP: "#7b5bd6",
    OURS_SESSION: "#1b9e8a",
    FLOOR: "#e08a1e",
    FLOOR_UVLOOP: "#b8860b",
    SINGLE: "#d1495b",
    SYNCHRONOUS: "#8a8f98",
    JAVA: "#7a4a2b",
}

_WIDTH: Final = 720
_STYLE: Final = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px }
.axis { stroke: #8a8f98; stroke-width: 1 }
.grid { stroke: #8a8f98; stroke-opacity: .25 }
@media (prefers-color-scheme: dark) { text { fill: #e6e8eb } }
</style>"""


def draw(results: Results, directory: Path) -> Iterator[Path]:
    """Draw all plots that there are figures for."""
    directory.mkdir(parents=True, exist_ok=True)
    under = _under(results)
    plots = {
        "concurrency": _curves(
            results, "Round trips per second", under, lambda sample: sample.rate
        ),
        "calls": _curves(
            results,
            "API calls per round trip, both sides",
            under,
            lambda sample: sample.calls_each,
            limit=(0.6, "0.6: perfect batches of ten"),
        ),
        "processes": _over_processes(results, under),
        "cpu": _bars(
            results,
            "Client CPU per round trip, ms, both sides, 1,000 requests at a time",
            under,
            lambda sample: sample.cpu * 1000,
        ),
    }
    for name, svg in plots.items():
        if svg is not None:
            path = directory / f"benchmark-{name}.svg"
            path.write_text(svg, "utf-8")
            yield path


def _under(results: Results) -> str:
    facts = results.facts
    return f"{facts['server'].partition(',')[0]} on {facts['machine']}, Python {facts['python']}"


# --------------------------------------------------------------------------- curves


class _Curve(NamedTuple):
    name: str
    colour: str
    points: Sequence[tuple[int, Spread]]


def _curves(
    results: Results,
    title: str,
    under: str,
    measure: Measure,
    *,
    limit: tuple[float, str] | None = None,
) -> str | None:
    """Curves over the number of concurrent requests."""
    curves = []
    for contender, name in NAMES.items():
        points = [
            (at_a_time, spread)
            for at_a_time in CONCURRENT
            if (spread := results.spread(asking(at_a_time), contender, measure)) is not None
        ]
        if points:
            curves.append(_Curve(name, _COLOURS[contender], points))
    return _chart(title, under, curves, CONCURRENT, "requests at a time", limit)


def _over_processes(results: Results, under: str) -> str | None:
    """Curves over the number of processes, which tell what bends them: where a second of CPU
    does as much with more of them, it is the cores that are missing."""
    curves = []
    for name, colour, measure in (
        ("round trips per second", _COLOURS[OURS], lambda sample: sample.rate),
        ("round trips per second of client CPU", _COLOURS[FLOOR], lambda sample: 1 / sample.cpu),
    ):
        points = [
            (each, spread)
            for each, contender in SCALED.items()
            if (spread := results.spread("processes", contender, measure)) is not None
        ]
        if points:
            curves.append(_Curve(name, colour, points))
    return _chart(
        "Requesters and workers on one queue, 1,000 requests at a time",
        under,
        curves,
        tuple(SCALED),
        "processes on each side",
    )


def _chart(
    title: str,
    under: str,
    curves: Sequence[_Curve],
    ticks: Sequence[int],
    below: str,
    limit: tuple[float, str] | None = None,
) -> str | None:
    """Curves, both axes logarithmic."""
    if not curves:
        return None
    figures = [
        figure
        for curve in curves
        for _, spread in curve.points
        for figure in (spread.least, spread.most)
    ]
    figures += [limit[0]] if limit else []
    low, high = _decade(min(figures), math.floor), _decade(max(figures), math.ceil)
    left, right, top, bottom = 60, _WIDTH - 20, 60, 340

    def x(number: float) -> float:
        first, last = math.log10(ticks[0]), math.log10(ticks[-1])
        return left + 10 + (right - left - 20) * (math.log10(number) - first) / (last - first)

    def y(figure: float) -> float:
        part = (math.log10(figure) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return bottom - (bottom - top) * part

    parts = []
    for line in _lines(low, high):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y(line):.1f}" y2="{y(line):.1f}"/>'
        )
        parts.append(_text(left - 8, y(line) + 4, f"{line:,g}", anchor="end"))
    parts += [_text(x(tick), bottom + 20, f"{tick:,}", anchor="middle") for tick in ticks]
    parts.append(_text((left + right) / 2, bottom + 40, below, anchor="middle"))
    parts.append(f'<path class="axis" fill="none" d="M{left} {top}V{bottom}H{right}"/>')
    if limit:
        figure, words = limit
        parts.append(
            f'<line class="axis" stroke-dasharray="4 4" x1="{left}" x2="{right}"'
            f' y1="{y(figure):.1f}" y2="{y(figure):.1f}"/>'
        )
        parts.append(_text(left + 8, y(figure) - 6, words))
    # The first is drawn last, so that no other hides it.
    for number, (name, colour, points) in reversed(list(enumerate(curves))):
        path = "L".join(f"{x(at):.1f} {y(spread.median):.1f}" for at, spread in points)
        parts.append(f'<path fill="none" stroke="{colour}" stroke-width="2" d="M{path}"/>')
        for at, spread in points:
            shown = f"{name}, {at:,} {below}: {_short(spread)}"
            reach = f"M{x(at):.1f} {y(spread.least):.1f}V{y(spread.most):.1f}"
            parts.append(
                f'<path stroke="{colour}" d="{reach}"/>'
                f'<circle fill="{colour}" cx="{x(at):.1f}" cy="{y(spread.median):.1f}" r="3.5">'
                f"<title>{escape(shown)}</title></circle>"
            )
        row, column = divmod(number, 2)
        at_x, at_y = left + column * 330, bottom + 70 + row * 20
        parts.append(f'<rect fill="{colour}" x="{at_x}" y="{at_y - 10}" width="12" height="12"/>')
        parts.append(_text(at_x + 18, at_y, name))
    height = bottom + 80 + (len(curves) + 1) // 2 * 20
    return _svg(height, title, under, parts)


def _decade(figure: float, rounding: Callable[[float], int]) -> float:
    """The nearest 1, 2 or 5 below or above."""
    steps = [digit * 10.0**power for power in range(-4, 8) for digit in (1, 2, 5)]
    if rounding is math.floor:
        return max(step for step in steps if step <= figure)
    return min(step for step in steps if step >= figure)


def _lines(low: float, high: float) -> list[float]:
    steps = [digit * 10.0**power for power in range(-4, 8) for digit in (1, 2, 5)]
    return [step for step in steps if low <= step <= high]


# ----------------------------------------------------------------------------- bars


def _bars(results: Results, title: str, under: str, measure: Measure) -> str | None:
    """A bar for each contender at a thousand requests at a time."""
    rows = [
        (contender, spread)
        for contender in NAMES
        if (spread := results.spread(asking(1_000), contender, measure)) is not None
    ]
    if not rows:
        return None
    most = max(spread.median for _, spread in rows)
    left, top, step = 270, 60, 28
    parts = []
    for number, (contender, spread) in enumerate(rows):
        at = top + number * step
        length = (_WIDTH - left - 70) * spread.median / most
        parts.append(_text(left - 10, at + 14, NAMES[contender], anchor="end"))
        parts.append(
            f'<rect fill="{_COLOURS[contender]}" x="{left}" y="{at}" width="{length:.1f}"'
            f' height="18"><title>{escape(_short(spread))}</title></rect>'
        )
        parts.append(_text(left + length + 8, at + 14, f"{spread.median:.2f}"))
    return _svg(top + len(rows) * step + 15, title, under, parts)


def _short(spread: Spread) -> str:
    return f"{spread.median:,.3g} ({spread.least:,.3g} to {spread.most:,.3g})"


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        + (f' class="{kind}"' if kind else "")
        + f">{escape(text)}</text>"
    )


def _svg(height: float, title: str, under: str, parts: Sequence[str]) -> str:
    box = f"0 0 {_WIDTH} {height:.0f}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img"',
        f'aria-label="{escape(title)}">',
        _STYLE,
        _text(20, 24, title, kind="title"),
        _text(20, 44, under),
    ]
    return "\n".join([*head, *parts, "</svg>\n"])
