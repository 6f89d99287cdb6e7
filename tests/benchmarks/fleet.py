"""Fleets of up to 100,000 requesters, simulated: `python -m tests.benchmarks.fleet`.

Each simulated process has the library's own `Pacer` and walks the library's own ring
(`core.ring`). Only SQS is made up: queues and their tags, calls that take 20 ms, a listing
that is up to date. Part of a fleet crashes at once; then it is counted what the survivors call,
and how long it takes until the last queue of the dead is gone.

Where a fleet and its survivors are large, only those of a stretch of the ring sweep, and what
they call is scaled up: what is left in another stretch is no business of theirs. The last queue
of the dead is then the last of that stretch. `--whole` lets all of them sweep, which takes
minutes: its means differ by a few per cent, and its busiest minute is one minute.

The chances are drawn from a seed, so each run finds the same. `--write` puts the table into the
page on scaling.
"""

from __future__ import annotations

import argparse
import bisect
import functools
import heapq
import itertools
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sqs_orchestrator.core import pacing, ring, wire
from sqs_orchestrator.core.limits import LIST_QUEUES_PAGE
from sqs_orchestrator.core.names import DEFAULT_PREFIX, queue_name_of
from sqs_orchestrator.requester.heartbeat import JITTER
from tests.benchmarks.report import table

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "scaling.md"

FLEETS: Final = (10, 1_000, 10_000, 100_000)
CRASHES: Final = (0.01, 0.5, 0.999)

HEARTBEAT: Final = 60.0
RETENTION: Final = 300.0
SWEEP: Final = 300.0
"""The library's own defaults, in seconds."""

CALL: Final = 0.02
"""Seconds that a call takes."""

MOST_SWEEPERS: Final = 20_000
"""More are not simulated: a stretch of the ring stands for all."""

_STRETCH: Final = 16
"""Such a stretch is one of so many."""

_EPOCH: Final = 1_800_000_000.0
_PREFIX: Final = DEFAULT_PREFIX
_BASE: Final = "https://sqs.eu-west-1.amazonaws.com/123456789012/"

_TAGGING: Final = frozenset({"TagQueue", "ListQueueTags"})


@dataclass(frozen=True)
class Outcome:
    """What became of one fleet."""

    requesters: int
    crashed: int
    minutes: float
    """Simulated, from when the first queue was idle until the end of the minute in which the
    last was gone; or, with none crashed, as long as was watched."""
    retention: float
    """Seconds after its last heartbeat in which a queue became idle."""
    half_after: float
    """Seconds from the crash until half of the queues of the dead were gone."""
    all_after: float
    """Until the last of them was gone."""
    tag_calls: float
    """Tag calls per second of the whole fleet, in the mean."""
    most_tag_calls: float
    """In the busiest minute; where a stretch was simulated, in as much time as gives as many
    calls."""
    listings: float
    """ListQueues calls per second, pages counted one by one, in the mean."""
    wronged: int
    """Queues of the living that were deleted."""


class _Process:
    """A living requester."""

    __slots__ = ("name", "pacer", "plan", "sweeps")

    def __init__(self, name: str, fleet: int, *, sweeps: bool) -> None:
        self.name = name
        self.sweeps = sweeps
        self.plan: ring.Plan | None = None
        self.pacer = pacing.Pacer(HEARTBEAT, RETENTION, SWEEP)
        self.pacer.saw(fleet)


class Simulation:
    """One fleet from the moment of the crash, which is 0."""

    def __init__(
        self, requesters: int, part: float, *, seed: int = 1, most_sweepers: float = MOST_SWEEPERS
    ) -> None:
        self.random = random.Random(seed)
        names = sorted(f"{_PREFIX}{self.random.getrandbits(128):032x}" for _ in range(requesters))
        crashed = min(max(round(requesters * part), 1), requesters - 1) if part else 0
        self.dead = set(self.random.sample(names, crashed))
        self.requesters = requesters
        self.names = names
        self.scale = 1
        self.pace = pacing.budget(requesters, HEARTBEAT, RETENTION, SWEEP)
        # A healthy fleet is long past its start: heartbeats and sweeps are spread out.
        self.now = self.pace.retention - self.pace.heartbeat if crashed else 0.0
        self.beats: dict[str, tuple[float, float]] = {}
        self.calls: Counter[str] = Counter()
        self.minutes: Counter[int] = Counter()
        self.gone: list[float] = []
        self.wronged = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._people(most_sweepers)

    def _people(self, most_sweepers: float) -> None:
        living = [name for name in self.names if name not in self.dead]
        stretched = len(living) > most_sweepers
        sweepers: Sequence[str] = living
        self.awaited = len(self.dead)
        if stretched:
            self.scale = _STRETCH
            begin, end = f"{_PREFIX}1", f"{_PREFIX}2"
            first, last = bisect.bisect(living, begin), bisect.bisect(living, end)
            # Those right before it look after its first queues.
            sweepers = living[max(first - len(living) // 256, 0) : last]
            self.awaited = sum(begin <= name < end for name in self.dead)
            self._inside: Callable[[str], bool] = lambda name: begin <= name < end
        else:
            self._inside = lambda name: True
        sweeping = set(sweepers)
        for name in self.names:
            spread = self.random.random() * self.pace.heartbeat
            beaten = -spread if name in self.dead else self.now - spread
            self.beats[name] = beaten, self.pace.retention
            if name not in self.dead:
                process = _Process(name, self.requesters, sweeps=name in sweeping)
                self._later(beaten + self._jittered(self.pace.heartbeat), self._beat, process)
                if process.sweeps:
                    begins = self.now + self.random.random() * self.pace.sweep
                    self._later(begins, self._sweep, process)

    # ------------------------------------------------------------------ what happens

    def run(self, seconds: float | None = None) -> Outcome:
        """Until the last queue of the dead is gone, and to the end of that minute; or until
        *seconds* have passed."""
        began = self.now
        window = 60 * self.scale
        until = math.inf if seconds is None else began + seconds
        while True:
            if seconds is None and until == math.inf and len(self.gone) == self.awaited:
                until = began + math.ceil((self.now - began) / window) * window
            when, _, happen = heapq.heappop(self._events)
            if when > until:
                break
            self.now = when
            happen()
        taken = until - began
        busiest = max((self.minutes[minute] for minute in range(int(taken // window))), default=0)
        return Outcome(
            requesters=self.requesters,
            crashed=len(self.dead),
            minutes=taken / 60,
            retention=self.pace.retention,
            half_after=self.gone[len(self.gone) // 2] if self.gone else 0.0,
            all_after=self.gone[-1] if self.gone else 0.0,
            tag_calls=sum(self.calls[name] for name in _TAGGING) / taken,
            most_tag_calls=busiest / window,
            listings=self.calls["ListQueues"] / taken,
            wronged=self.wronged,
        )

    def _later(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        def happen() -> None:
            what(*arguments)

        heapq.heappush(self._events, (when, next(self._order), happen))

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 - JITTER + 2 * JITTER * self.random.random())

    def _call(self, operation: str, process: _Process, count: int = 1) -> None:
        # Of the sweepers right before the stretch, only what they do in it is its business.
        scale = self.scale if operation != "TagQueue" else 1
        if scale > 1 and not self._inside(process.name):
            return
        self.calls[operation] += count * scale
        if operation in _TAGGING:
            began = self.pace.retention - self.pace.heartbeat if self.dead else 0.0
            self.minutes[int((self.now - began) // (60 * self.scale))] += count * scale

    def _beat(self, process: _Process) -> None:
        if process.name not in self.beats:
            return
        pace = process.pacer.pace
        self._call("TagQueue", process)
        self.beats[process.name] = self.now, pace.retention
        self._later(self.now + self._jittered(pace.heartbeat), self._beat, process)

    def _sweep(self, process: _Process) -> None:
        process.plan = ring.walk(_PREFIX, process.name, fleet=process.pacer.fleet)
        self._go_on(process, None)

    def _go_on(self, process: _Process, answer: Any) -> None:
        """Carry out the plan up to the next action that takes time."""
        assert process.plan is not None
        while True:
            try:
                action = process.plan.send(answer)
            except StopIteration:
                again = self.now + self._jittered(process.pacer.pace.sweep)
                self._later(again, self._sweep, process)
                return
            takes = CALL
            match action:
                case ring.Saw(fleet):
                    process.pacer.saw(fleet)
                    answer = None
                    continue
                case ring.Wait(seconds):
                    answer, takes = None, seconds
                case ring.List(prefix, limit):
                    answer = self._list(prefix, limit)
                    pages = max(1, -(-len(answer.urls) // LIST_QUEUES_PAGE))
                    self._call("ListQueues", process, pages)
                    takes *= pages
                case ring.ReadTags(url):
                    self._call("ListQueueTags", process)
                    answer = self._tags(url)
                case ring.Delete(url):
                    self._call("DeleteQueue", process)
                    answer = self._delete(url)
                case ring.ReadCounts():
                    raise AssertionError("all queues here are of the library's own form")
            self._later(self.now + takes, self._go_on, process, answer)
            return

    # --------------------------------------------------------------------------- SQS

    def _list(self, prefix: str, limit: int | None) -> ring.Listed:
        first = bisect.bisect_left(self.names, prefix)
        last = bisect.bisect_left(self.names, f"{prefix}~")
        complete = limit is None or last - first <= limit
        if not complete:
            assert limit is not None
            last = first + limit
        return ring.Listed([_BASE + name for name in self.names[first:last]], complete)

    def _tags(self, url: str) -> ring.Tags:
        now_ms = int((_EPOCH + self.now) * 1000)
        found = self.beats.get(queue_name_of(url))
        if found is None:
            return ring.Tags(None, now_ms)
        beaten, retention = found
        tags = wire.reply_queue_tags(now=_EPOCH + beaten, retention=retention, sweeping=True)
        return ring.Tags(tags, now_ms)

    def _delete(self, url: str) -> bool:
        name = queue_name_of(url)
        if self.beats.pop(name, None) is None:
            return False
        del self.names[bisect.bisect_left(self.names, name)]
        if name not in self.dead:
            self.wronged += 1
        elif self._inside(name):
            self.gone.append(self.now)
        return True


@functools.cache
def simulate(requesters: int, part: float, most_sweepers: float = MOST_SWEEPERS) -> Outcome:
    """A fleet of which *part* crashes at once; with none, as long as every process sweeps
    twice, at least an hour."""
    simulation = Simulation(requesters, part, most_sweepers=most_sweepers)
    return simulation.run(None if part else max(3600.0, 2 * simulation.pace.sweep))


def outcomes(fleets: Sequence[int], *, whole: bool = False) -> Iterator[tuple[float, Outcome]]:
    """All fleets, healthy and after each crash."""
    for requesters in fleets:
        for part in (0.0, *CRASHES):
            yield part, simulate(requesters, part, math.inf if whole else MOST_SWEEPERS)


def _row(part: float, outcome: Outcome) -> list[str]:
    crash = f"{part:.1%} ({outcome.crashed:,})".replace(".0%", "%") if part else "none"
    return [
        f"{outcome.requesters:,}",
        crash,
        f"{outcome.tag_calls:.2f}",
        f"{outcome.most_tag_calls:.2f}",
        f"{outcome.listings:.3f}",
        _duration(outcome.retention),
        _duration(outcome.half_after) if outcome.crashed else "",
        _duration(outcome.all_after) if outcome.crashed else "",
        f"{outcome.wronged}",
    ]


_HEADS: Final = (
    "requesters",
    "crashed",
    "tag calls/s",
    "busiest min",
    "listings/s",
    "idle after",
    "half gone",
    "all gone",
    "wrong",
)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


_SHOWN: Final = (
    "requesters",
    "crashed at once",
    "tag calls per second",
    "in the busiest minute",
    "listings per second",
    "idle after",
    "half gone after",
    "all gone after",
)


def page_row(part: float, outcome: Outcome) -> str:
    """A row of the table in the page; it has no column for those that were wronged."""
    return f"| {' | '.join(_row(part, outcome)[:-1])} |".replace("|  ", "| ")


def write(rows: Sequence[str]) -> None:
    """Put the table into the page, in place of the one before."""
    text = PAGE.read_text("utf-8")
    head = f"| {' | '.join(_SHOWN)} |\n{'|---' * len(_SHOWN)}|\n"
    begin = text.index(head)
    end = text.index("\n\n", begin)
    PAGE.write_text(text[:begin] + head + "\n".join(rows) + text[end:], "utf-8")


def main(arguments: Sequence[str]) -> int:
    """Simulate, and print a table; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.fleet", description="Simulate fleets of requesters."
    )
    parser.add_argument("--fleets", nargs="+", type=int, default=FLEETS, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--whole", action="store_true", help="let every survivor sweep")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    options = parser.parse_args(arguments)
    if options.write and tuple(options.fleets) != FLEETS:
        parser.error("the page shows all fleets")
    rows, shown, found = [], [], []
    for part, outcome in outcomes(options.fleets, whole=options.whole):
        rows.append(_row(part, outcome))
        shown.append(page_row(part, outcome))
        found.append({"part": part, **asdict(outcome)})
        print(".", end="", flush=True)
    title = (
        "\nFleets that share a prefix; times count from the crash, calls from when the first"
        " queue is idle until the last is gone"
    )
    print(table(title, _HEADS, rows))
    if options.write:
        write(shown)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 1 if any(outcome["wronged"] for outcome in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
