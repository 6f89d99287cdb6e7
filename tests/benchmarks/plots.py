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
    OURS_UVLOOP: "#2f7de1",
    OURS_SESSION: "#2f7de1",
    FLOOR: "#c9760a",
    FLOOR_UVLOOP: "#c9760a",
    SINGLE: "#d1495b",
    SYNCHRONOUS: "#8a8f98",
    JAVA: "#1b9e8a",
}

_ALTERNATIVES: Final = (OURS, FLOOR, JAVA, SYNCHRONOUS, SINGLE)
"""Whom curves compare: more of them lie on one another. The tables have all."""

# A page may show a drawing as wide as a telephone, half its size. There it asks for larger letters,
# which all have room. It brings its own paper, since whoever switches a page to dark does not tell
# every browser's drawings of it.
_WIDTH: Final = 720
_NARROW: Final = 520
_MARGIN: Final = 20
_LINE: Final = 30
_STYLE: Final = f"""<style>
text {{ font: 15px system-ui, sans-serif; fill: #24292f }}
.title {{ font-weight: 600; font-size: 18px }}
.under {{ fill: #57606a }}
.paper {{ fill: #fff }}
.axis {{ stroke: #8a8f98; fill: none }}
.grid {{ stroke: #8a8f98; stroke-opacity: .3 }}
@media (max-width: {_NARROW}px) {{ text {{ font-size: 23px }} .title {{ font-size: 26px }} }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6e8eb }} .under {{ fill: #a5abb3 }} .paper {{ fill: #1e2129 }}
}}
</style>"""

# The points of a curve, by its place: told apart without colours, too.
_MARKS: Final = (
    "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
    "m-5 -5h10v10h-10z",
    "m0 -7l6 11h-12z",
    "m0 -7l7 7l-7 7l-7 -7z",
    "m-6 -4h12l-6 11z",
)


def draw(results: Results, directory: Path) -> Iterator[Path]:
    """Draw all plots that there are figures for."""
    directory.mkdir(parents=True, exist_ok=True)
    facts = results.facts
    # The server's name and version, and not where it came from.
    under = [
        f"{facts['server'].partition(',')[0]}, Python {facts['python']}",
        str(facts["machine"]),
    ]
    thousand = ["1,000 requests at a time", *under]
    plots = {
        "rate": _bars(
            results,
            "Round trips per second",
            thousand,
            _ALTERNATIVES,
            lambda sample: sample.rate,
            "{:,.0f}",
        ),
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
        "processes": _over_processes(results, thousand),
        "cpu": _bars(
            results,
            "CPU per round trip, both sides, ms",
            thousand,
            tuple(NAMES),
            lambda sample: sample.cpu * 1000,
            "{:.2f}",
        ),
    }
    for name, svg in plots.items():
        if svg is not None:
            path = directory / f"benchmark-{name}.svg"
            path.write_text(svg, "utf-8")
            yield path


# --------------------------------------------------------------------------- curves


class _Curve(NamedTuple):
    name: str
    colour: str
    points: Sequence[tuple[int, Spread]]


def _curves(
    results: Results,
    title: str,
    under: Sequence[str],
    measure: Measure,
    *,
    limit: tuple[float, str] | None = None,
) -> str | None:
    """Curves over the number of concurrent requests."""
    curves = []
    for contender in _ALTERNATIVES:
        points = [
            (at_a_time, spread)
            for at_a_time in CONCURRENT
            if (spread := results.spread(asking(at_a_time), contender, measure)) is not None
        ]
        if points:
            curves.append(_Curve(NAMES[contender], _COLOURS[contender], points))
    return _chart(title, under, curves, CONCURRENT, "requests at a time", limit)


def _over_processes(results: Results, under: Sequence[str]) -> str | None:
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
        "Requesters and workers on one queue",
        under,
        curves,
        tuple(SCALED),
        "processes on each side",
    )


def _chart(
    title: str,
    under: Sequence[str],
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
    # Room for its words, too.
    figures += [limit[0] * 0.7] if limit else []
    low, high = _decade(min(figures), math.floor), _decade(max(figures), math.ceil)
    left, right, top = 105, _WIDTH - 50, _below(under)
    bottom = top + 320

    def x(number: float) -> float:
        first, last = math.log10(ticks[0]), math.log10(ticks[-1])
        return left + 15 + (right - left - 15) * (math.log10(number) - first) / (last - first)

    def y(figure: float) -> float:
        part = (math.log10(figure) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return bottom - (bottom - top) * part

    parts = []
    for line in _lines(low, high):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y(line):.1f}" y2="{y(line):.1f}"/>'
        )
        parts.append(_text(left - 10, y(line) + 6, f"{line:,g}", anchor="end"))
    parts += [_text(x(tick), bottom + 28, f"{tick:,}", anchor="middle") for tick in ticks]
    parts.append(_text((left + right) / 2, bottom + 60, below, anchor="middle", kind="under"))
    parts.append(f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>')
    if limit:
        figure, words = limit
        parts.append(
            f'<line class="axis" stroke-dasharray="4 4" x1="{left}" x2="{right}"'
            f' y1="{y(figure):.1f}" y2="{y(figure):.1f}"/>'
        )
        parts.append(_text(right, y(figure) + 24, words, anchor="end", kind="under"))
    # The first is drawn last, so that no other hides it.
    for number, (name, colour, points) in reversed(list(enumerate(curves))):
        mark = _MARKS[number % len(_MARKS)]
        path = "L".join(f"{x(at):.1f} {y(spread.median):.1f}" for at, spread in points)
        parts.append(f'<path fill="none" stroke="{colour}" stroke-width="2.5" d="M{path}"/>')
        for at, spread in points:
            shown = f"{name}, {at:,} {below}: {_short(spread)}"
            reach = f"M{x(at):.1f} {y(spread.least):.1f}V{y(spread.most):.1f}"
            parts.append(
                f'<path stroke="{colour}" d="{reach}"/>'
                f'<path fill="{colour}" d="M{x(at):.1f} {y(spread.median):.1f}{mark}">'
                f"<title>{escape(shown)}</title></path>"
            )
        at_y = bottom + 100 + number * _LINE
        parts.append(
            f'<path stroke="{colour}" stroke-width="2.5" d="M{_MARGIN} {at_y - 7}h36"/>'
            f'<path fill="{colour}" d="M{_MARGIN + 18} {at_y - 7}{mark}"/>'
        )
        parts.append(_text(_MARGIN + 46, at_y, name))
    return _svg(bottom + 85 + len(curves) * _LINE, title, under, parts)


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


def _bars(
    results: Results,
    title: str,
    under: Sequence[str],
    contenders: Sequence[str],
    measure: Measure,
    form: str,
) -> str | None:
    """A bar for each contender at a thousand requests at a time."""
    rows = [
        (contender, spread)
        for contender in contenders
        if (spread := results.spread(asking(1_000), contender, measure)) is not None
    ]
    if not rows:
        return None
    most = max(spread.median for _, spread in rows)
    top, step = _below(under), 62
    parts = []
    for number, (contender, spread) in enumerate(rows):
        at = top + number * step
        length = (_WIDTH - 2 * _MARGIN - 100) * spread.median / most
        colour = _COLOURS[contender]
        parts.append(_text(_MARGIN, at + 16, NAMES[contender]))
        parts.append(
            f'<rect fill="{colour}" x="{_MARGIN}" y="{at + 25}" width="{length:.1f}" height="22">'
            f"<title>{escape(_short(spread))}</title></rect>"
        )
        parts.append(_text(_MARGIN + length + 10, at + 43, form.format(spread.median)))
    return _svg(top + len(rows) * step, title, under, parts)


def _short(spread: Spread) -> str:
    median, least, most = (
        f"{each:,.0f}" if each >= 100 else f"{each:.3g}"
        for each in (spread.median, spread.least, spread.most)
    )
    return f"{median} ({least} to {most})"


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        + (f' class="{kind}"' if kind else "")
        + f">{escape(text)}</text>"
    )


def _below(under: Sequence[str]) -> int:
    """Where there is room below the title and what stands under it."""
    return 60 + len(under) * _LINE


def _svg(height: float, title: str, under: Sequence[str], parts: Sequence[str]) -> str:
    box = f"0 0 {_WIDTH} {height:.0f}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img"',
        f'aria-label="{escape(title)}">',
        _STYLE,
        '<rect class="paper" width="100%" height="100%"/>',
        _text(_MARGIN, 30, title, kind="title"),
        *(_text(_MARGIN, 58 + n * _LINE, line, kind="under") for n, line in enumerate(under)),
    ]
    return "\n".join([*head, *parts, "</svg>\n"])
