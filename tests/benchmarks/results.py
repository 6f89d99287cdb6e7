"""What was measured, and what is made of it: medians, ratios within a round, their spread."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sample:
    """One run of one contender."""

    scenario: str
    contender: str
    round: int
    count: int
    """Round trips, or one-way messages."""
    seconds: float
    median_latency: float | None = None
    p99_latency: float | None = None
    requester_cpu: float = 0.0
    worker_cpu: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.count / self.seconds

    @property
    def cpu(self) -> float:
        """Seconds of CPU per message, both sides together."""
        return (self.requester_cpu + self.worker_cpu) / self.count

    @property
    def calls_each(self) -> float:
        """API calls per message."""
        return sum(self.calls.values()) / self.count

    @property
    def latency(self) -> float:
        """The median latency, in seconds."""
        assert self.median_latency is not None
        return self.median_latency


Measure = Callable[[Sample], float]


@dataclass(frozen=True)
class Spread:
    """The median of some figures, and the least and the largest of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Iterable[float]) -> Spread | None:
        """The spread of *figures*; `None` where there are none."""
        each = list(figures)
        return cls(statistics.median(each), min(each), max(each)) if each else None


@dataclass
class Results:
    """All that one run of the benchmark found."""

    facts: dict[str, Any]
    """The server, the machine, the versions, how it was called."""
    samples: list[Sample] = field(default_factory=list)
    apart: dict[str, Any] = field(default_factory=dict)
    """Figures of one process alone: memory, import, idle."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Contenders that were not measured, and why."""

    def of(self, scenario: str, contender: str) -> list[Sample]:
        """The samples of a contender in a scenario."""
        return [
            sample
            for sample in self.samples
            if (sample.scenario, sample.contender) == (scenario, contender)
        ]

    def scenarios(self) -> list[str]:
        """What was measured, in its order."""
        return list(dict.fromkeys(sample.scenario for sample in self.samples))

    def contenders(self, scenario: str) -> list[str]:
        """Who was measured in a scenario, in their order."""
        return list(
            dict.fromkeys(each.contender for each in self.samples if each.scenario == scenario)
        )

    def spread(self, scenario: str, contender: str, measure: Measure) -> Spread | None:
        """A figure's spread over the rounds."""
        return Spread.of(measure(sample) for sample in self.of(scenario, contender))

    def ratio(self, scenario: str, one: str, other: str, measure: Measure) -> Spread | None:
        """The spread of the ratio that a figure of *one* has to that of *other* in the same
        round. A round takes moments, so what slows the machine down slows both."""
        others = {sample.round: sample for sample in self.of(scenario, other)}
        return Spread.of(
            measure(sample) / measure(others[sample.round])
            for sample in self.of(scenario, one)
            if sample.round in others
        )
