"""The bars that the library has to clear, and whether it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.benchmarks.contenders import (
    FLOOR,
    FLOOR_UVLOOP,
    OURS,
    OURS_SESSION,
    OURS_UVLOOP,
    SINGLE,
)
from tests.benchmarks.results import Results, Sample, Spread


@dataclass(frozen=True)
class Bar:
    """One bar."""

    what: str
    measured: Spread | None
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median clears it; `None` where nothing was measured."""
        if self.measured is None:
            return None
        above = self.at_least is None or self.measured.median >= self.at_least
        return above and (self.at_most is None or self.measured.median <= self.at_most)

    @property
    def limit(self) -> str:
        """The bar, in words."""
        if self.at_most == self.at_least:
            return f"{self.at_most:g}{self.unit}"
        low = "" if self.at_least is None else f"at least {self.at_least:g}{self.unit}"
        high = "" if self.at_most is None else f"at most {self.at_most:g}{self.unit}"
        return ", ".join(filter(None, (low, high)))


def _calls(sample: Sample) -> float:
    return sample.calls_each


def _cpu(sample: Sample) -> float:
    return sample.cpu


def _rate(sample: Sample) -> float:
    return sample.rate


def _latency(sample: Sample) -> float:
    return sample.latency


def bars(results: Results) -> Iterator[Bar]:
    """Every bar, with what was measured."""
    for at_a_time, most in ((1, 4.5), (10, 1.5), (1_000, 0.66)):
        spread = results.spread(asking(at_a_time), OURS, _calls)
        yield Bar(f"API calls per round trip, {at_a_time:,} at a time", spread, at_most=most)
    idle = results.apart.get("idle", {})
    for what, key, least, most in (
        ("idle requester: receive calls per hour", "ReceiveMessage", 0, 0),
        ("idle requester: heartbeats per minute", "heartbeats per minute", 0.95, 1.05),
        ("idle requester: listings per sweep", "listings per sweep", 1, 1),
    ):
        yield Bar(what, Spread.of([idle[key]] if key in idle else []), most, least)
    thousand = asking(1_000)
    for what, one, other, ceiling in (
        ("CPU per round trip, to the floor's", OURS, FLOOR, 0.5),
        ("the same, with uvloop", OURS_UVLOOP, FLOOR_UVLOOP, 0.5),
        ("the same, with a session brought", OURS_SESSION, FLOOR, 1.1),
    ):
        yield Bar(what, results.ratio(thousand, one, other, _cpu), at_most=ceiling, unit=" x")
    for what, one in (("asyncio", OURS), ("uvloop", OURS_UVLOOP)):
        on_one_core = results.spread(thousand, one, lambda sample: 1 / sample.cpu)
        yield Bar(f"round trips per second of CPU, {what}", on_one_core, at_least=2_900)
    lone = results.ratio(asking(1), OURS, FLOOR, _latency)
    yield Bar("latency of a lone request, to the floor's", lone, at_most=0.6, unit=" x")
    for what, other, floor in (
        ("one-way throughput, to the floor's", FLOOR, 2),
        ("one-way throughput, to one message per call", SINGLE, 10),
    ):
        yield Bar(what, results.ratio("one way", OURS, other, _rate), at_least=floor, unit=" x")
    memory = results.apart.get("memory", {})
    beyond = [memory["bytes beyond a task"]] if memory else []
    yield Bar("memory per pending request, beyond a task", Spread.of(beyond), 3_000, unit=" B")
    resolving = Spread.of(results.apart.get("resolving", {}).get("ratios", ()))
    yield Bar("CPU to resolve one of 10,000, to one of 10", resolving, 1.1, unit=" x")
    importing = results.apart.get("import", {})
    beyond = [importing["ours beyond aiobotocore"] / importing["aiobotocore"]] if importing else []
    yield Bar("CPU of the import, to aiobotocore's", Spread.of(beyond), at_most=0.2, unit=" x")


def asking(at_a_time: int) -> str:
    """The name of the scenario of so many concurrent requests."""
    return f"{at_a_time:,} at a time"
