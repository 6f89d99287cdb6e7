"""The figures in the pages are those that the library has."""

from __future__ import annotations

import inspect
import re

import pytest

from sqs_orchestrator import ReplyQueue
from tests.benchmarks import fleet

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
