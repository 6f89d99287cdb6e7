"""The tables that a run prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.benchmarks.bars import Bar, bars
from tests.benchmarks.contenders import FLOOR, OURS
from tests.benchmarks.results import Measure, Results, Spread


def report(results: Results) -> str:
    """All of it."""
    parts = [facts(results)]
    parts += [_scenario(results, name) for name in results.scenarios()]
    parts += [_apart(results), _bars(list(bars(results)))]
    return "\n\n".join(filter(None, parts))


def facts(results: Results) -> str:
    """What was measured on what."""
    known = results.facts
    packages = ", ".join(f"{name} {version}" for name, version in known["packages"].items())
    load = f"load {known['load before']:.1f} before and {known.get('load after', 0):.1f} after"
    rounds = f"{known['rounds']} rounds: medians, and least to most."
    lines = [
        f"Server: {known['server']}. Machine: {known['machine']}; {load}.",
        f"Python {known['python']}, {packages}. {rounds}",
    ]
    lines += [f"Left out: {name}: {why}" for name, why in results.left_out.items()]
    return "\n".join(lines)


def _scenario(results: Results, name: str) -> str:
    contenders = results.contenders(name)
    against = FLOOR if FLOOR in contenders else OURS
    rows = [
        [
            contender,
            figure(results.spread(name, contender, lambda sample: sample.rate), "{:,.0f}"),
            figure(
                results.spread(name, contender, lambda sample: sample.latency * 1000)
                if results.of(name, contender)[0].median_latency is not None
                else None,
                "{:,.1f}",
            ),
            figure(results.spread(name, contender, lambda sample: sample.calls_each), "{:.2f}"),
            figure(results.spread(name, contender, lambda sample: sample.cpu * 1000), "{:.2f}"),
            *(spread(results.ratio(name, contender, against, measure)) for measure in _COMPARED),
        ]
        for contender in contenders
    ]
    heads = ["", "per second", "latency ms", "calls", "CPU ms"]
    heads += [f"{what} / {against}'s" for what in ("rate", "CPU")]
    return table(f"{name} (calls and CPU of both sides, per message or round trip)", heads, rows)


_COMPARED: Sequence[Measure] = (lambda sample: sample.rate, lambda sample: sample.cpu)


def _apart(results: Results) -> str:
    lines = []
    for what, found in results.apart.items():
        lines.append(what)
        for key, value in found.items():
            shown = f"{value:,.4g}" if isinstance(value, int | float) else value
            lines.append(f"  {key}: {shown}")
    return "\n".join(lines)


def _bars(found: Iterable[Bar]) -> str:
    rows = []
    for bar in found:
        verdict = {True: "met", False: "MISSED", None: "not measured"}[bar.met]
        measured = "" if bar.measured is None else spread(bar.measured, bar.unit)
        rows.append([bar.what, bar.limit, measured, verdict])
    return table("Bars", ["", "bar", "measured", ""], rows)


def figure(found: Spread | None, form: str) -> str:
    """The median alone."""
    return "" if found is None else form.format(found.median)


def spread(found: Spread | None, unit: str = "") -> str:
    """The median, and the least and the most."""
    if found is None:
        return ""
    if found.least == found.most:
        return f"{_short(found.median)}{unit}"
    return f"{_short(found.median)}{unit} ({_short(found.least)} to {_short(found.most)})"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    return "\n".join([title, line(heads), *map(line, rows)])
