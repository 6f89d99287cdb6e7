"""The figures in the README and the documentation: written by `--pages`, never by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.bars import asking, bars
from tests.benchmarks.contenders import FLOOR, JAVA, OURS, OURS_UVLOOP, SINGLE, SYNCHRONOUS
from tests.benchmarks.plots import NAMES
from tests.benchmarks.programs import ROOT
from tests.benchmarks.report import facts, figure, spread
from tests.benchmarks.results import Measure, Results
from tests.benchmarks.scenarios import CONCURRENT

PAGE: Final = ROOT / "docs" / "explanation" / "benchmark.md"
README: Final = ROOT / "README.md"

BEGIN: Final = "<!-- benchmark: begin; written by `nox -s benchmark -- --pages` -->\n"
END: Final = "<!-- benchmark: end -->"

_SHORT: Final = (OURS, OURS_UVLOOP, FLOOR, SINGLE, SYNCHRONOUS, JAVA)

_TITLES: Final = {
    **{asking(each): f"{each:,} requests at a time" for each in CONCURRENT},
    asking(1): "One request after another",
    "one way": "One-way messages, 1,000 at a time, until the last is handled",
    "backlog": "A worker drains a backlog",
    "processes": "More processes, 1,000 requests at a time",
}


def write(results: Results) -> Iterator[Path]:
    """Put what was measured into the pages that show it."""
    for path, text in ((PAGE, _page(results)), (README, _readme(results))):
        old = path.read_text("utf-8")
        before, after = old.index(BEGIN) + len(BEGIN), old.index(END)
        path.write_text(f"{old[:before]}\n{text}\n\n{old[after:]}", "utf-8")
        yield path


def _page(results: Results) -> str:
    verdicts = {True: "met", False: "**missed**", None: "not measured"}
    rows = [
        [
            bar.what,
            bar.limit,
            "" if bar.measured is None else spread(bar.measured, bar.unit),
            verdicts[bar.met],
        ]
        for bar in bars(results)
    ]
    parts = [
        facts(results),
        "## The bars",
        _table(["", "bar", "measured", ""], rows),
        "## All figures",
        *(part for name, title in _TITLES.items() for part in _scenario(results, name, title)),
    ]
    return "\n\n".join(parts)


def _scenario(results: Results, name: str, title: str) -> Iterator[str]:
    contenders = results.contenders(name)
    if not contenders:
        return
    against = FLOOR if FLOOR in contenders else OURS
    rows = []
    for contender in contenders:
        has_latency = results.of(name, contender)[0].median_latency is not None
        rows.append(
            [
                NAMES.get(contender, contender.replace(OURS, "this library")),
                figure(results.spread(name, contender, lambda each: each.rate), "{:,.0f}"),
                figure(
                    results.spread(name, contender, lambda each: each.latency * 1000)
                    if has_latency
                    else None,
                    "{:,.1f}",
                ),
                figure(results.spread(name, contender, lambda each: each.calls_each), "{:.2f}"),
                figure(results.spread(name, contender, lambda each: each.cpu * 1000), "{:.2f}"),
                spread(results.ratio(name, contender, against, lambda each: each.cpu)),
            ]
        )
    yield f"### {title}"
    whose = "the floor's" if against == FLOOR else "one of each"
    heads = ["", "per second", "latency, ms", "API calls", "CPU, ms", f"CPU, to {whose}"]
    yield _table(heads, rows)


def _readme(results: Results) -> str:
    alone, many = asking(1), asking(1_000)
    shown: Sequence[tuple[str, str, str, Measure]] = (
        ("1,000 at a time: per second", "{:,.0f}", many, lambda each: each.rate),
        ("API calls", "{:.2f}", many, lambda each: each.calls_each),
        ("CPU, ms", "{:.2f}", many, lambda each: each.cpu * 1000),
        ("alone: ms", "{:.1f}", alone, lambda each: each.latency * 1000),
        ("API calls", "{:.1f}", alone, lambda each: each.calls_each),
    )
    rows = [
        [
            NAMES[one],
            *(figure(results.spread(where, one, of), form) for _, form, where, of in shown),
        ]
        for one in _SHORT
        if one in results.contenders(many)
    ]
    return _table(["", *(head for head, *_ in shown)], rows) + "\n\n" + facts(results)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
