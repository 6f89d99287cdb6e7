"""The figures in the pages are those that the library has."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from sqs_orchestrator import ReplyQueue
from tests.benchmarks import fleet, pages
from tests.benchmarks.__main__ import PUBLISHED, load

PAGE = fleet.PAGE.read_text("utf-8")

PRICE = re.compile(r"^\|[^|]+\| (?P<calls>[\d.]+) \| \$(?P<dollars>[\d.]+) \|$", re.MULTILINE)


@pytest.mark.parametrize("part", [0.0, *fleet.CRASHES])
@pytest.mark.parametrize("requesters", fleet.FLEETS[:2])
def test_page_shows_what_the_simulation_finds(requesters: int, part: float) -> None:
    assert fleet.page_row(part, fleet.simulate(requesters, part)) in PAGE.splitlines()


def test_page_shows_every_fleet_that_is_simulated() -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("|")]
    for requesters in fleet.FLEETS:
        assert rows.count(f"{requesters:,}") == 1 + len(fleet.CRASHES)


def test_fleet_is_simulated_with_the_defaults_of_the_library() -> None:
    of = inspect.signature(ReplyQueue).parameters
    names = ("heartbeat_interval", "idle_retention", "sweep_interval")
    simulated = (fleet.HEARTBEAT, fleet.RETENTION, fleet.SWEEP)
    assert tuple(of[name].default for name in names) == simulated


def test_prices_of_round_trips_are_those_of_their_calls() -> None:
    begin, end = PAGE.index("prices: begin"), PAGE.index("prices: end")
    rows = list(PRICE.finditer(PAGE[begin:end]))
    assert len(rows) == 7
    for row in rows:
        assert f"{float(row['calls']) * 0.40:.2f}" == row["dollars"]


# --------------------------------------------------------------------- the benchmark


def table(text: str) -> dict[str, list[str]]:
    """The cells of the table that begins *text*, by what the first one says."""
    lines = text[text.index("|") :].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in rows}


def generated(page: Path) -> str:
    """What the benchmark wrote into a page."""
    return page.read_text("utf-8").partition(pages.BEGIN)[2].partition(pages.END)[0]


def test_readme_has_the_figures_of_the_page() -> None:
    page, readme = generated(pages.PAGE), generated(pages.README)
    many = table(page.partition("### 1,000 requests at a time\n")[2])
    alone = table(page.partition("### One request after another\n")[2])
    shown = table(readme)
    assert len(shown) == 6
    for who, (rate, calls, cpu, latency, calls_alone) in shown.items():
        assert [rate, calls, cpu] == [many[who][0], many[who][2], many[who][3]], who
        assert latency == alone[who][1], who
        assert calls_alone == f"{float(alone[who][2]):.1f}", who
    (facts,) = re.findall(r"^Server: .*\nPython .*$", page, re.MULTILINE)
    assert facts in readme


@pytest.mark.skipif(not PUBLISHED.exists(), reason="nothing was published by `--pages` yet")
def test_pages_have_the_figures_that_were_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {name: getattr(pages, name) for name in ("PAGE", "README")}
    for name, page in published.items():
        monkeypatch.setattr(pages, name, tmp_path / name)
        (tmp_path / name).write_text(page.read_text("utf-8"), "utf-8")
    list(pages.write(load(PUBLISHED)))
    for name, page in published.items():
        assert (tmp_path / name).read_text("utf-8") == page.read_text("utf-8")
