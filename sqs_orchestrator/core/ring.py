"""Who deletes which abandoned reply queue, and how often: the ring, without leader or messages.

Theory of operation
-------------------

A process that dies leaves its reply queue behind. The others find it: the list of queues
with the prefix *is* the list of members. Sorted, it is a ring. Every live requester walks
from its own place over its successors, deletes those that are idle, and ends at the first
live one that sweeps too (a tag says so), since that one looks after what follows. So each
queue is looked at by exactly one living process per period, whoever has died, and in a
healthy fleet a sweep is one listing and one look.

*Never a live queue.* What is idle is decided by SQS's clock alone, and again from tags read
anew right before the deletion: two sweepers may be on one queue, and its owner may have come
back. The second look goes by another showing of the clock than the first, so that one answer
with a wrong time deletes nothing. A queue that is not of our own form must also be empty. Where
anything is unknown, the queue stays.

*Our own name may be missing* from the listing, which lags by up to a minute: we know our
place without it. A queue listed and gone is passed over.

*Large fleets.* A listing brings a thousand queues per call, so a fleet of 100,000 cannot be
listed by each of its members. Our names are random hex digits, so the names that share our
first few digits are a fair sample, in one call, and our nearest successors are among them;
the digits are as many as make it a page, by the size of the fleet last seen. The number in
that bucket, times the number of buckets, is the size of the fleet. Where the bucket ends
without a live sweeper, the walk goes on in the next ones; after a few of them hardly anybody
is left, and one listing of everything, page by page, is cheaper than the rest one by one.

Queues whose names do not go on in hex digits (the Java client's do) are in no bucket. Their
place is the seam, after the last bucket and before the first, for everybody: one process
crosses it per period, and lists everything to find them.

*The budget.* SQS allows an account 5 to 30 tag calls a second. Heartbeats are one call per
process and interval. Sweeps are one per *queue* and interval, however few processes survive,
since each queue is looked at by one of them; a second one before a deletion. So the intervals
grow with the fleet: `budget` gives heartbeats 4 calls a second and sweeps 3, which clearing
out a crashed fleet doubles: 10 in all. A sweep with much to do takes its time besides, at
most a call a second, until there is so much that few can have survived. The processes start
their sweeps at random, so the bursts of some fall into the pauses of others.

*Throttling.* A fleet that starts at once does not know its size yet, and others may use up the
account's calls. So whoever is throttled slows down with each try of a heartbeat (`Pacer`), and
comes back by a tenth with each that gets through at once. Thus a fleet finds the pace that is
allowed, without a word or a listing. Until it has, heartbeats are missing that say nothing
about their owners. So nobody looks at others while its own heartbeat waits; and whoever was
throttled lately, or knows the fleet to be large, is patient: it deletes only what was silent
for longer than all of a fleet's first heartbeats take to get through.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from .limits import LIST_QUEUES_PAGE
from .names import is_own_form, queue_name_of
from .sweeping import Verdict, may_sweep, sweep_decision, verdict
from .wire import is_sweeping

HEARTBEATS: Final = 4.0
"""Heartbeats of a whole fleet, per second."""

SWEEPS: Final = 3.0
"""Looks at tags by all the sweepers of a fleet, per second, while nothing is idle."""

TAG_CALLS: Final = HEARTBEATS + 2 * SWEEPS
"""Tag calls of a whole fleet, per second, at the worst."""

FASTEST: Final = 0.2
SLOWEST: Final = 1.0
"""Seconds between two tag calls of one sweep."""


# --------------------------------------------------------------------- the budget


class Pace(NamedTuple):
    """How often a process calls, in seconds."""

    heartbeat: float
    retention: float
    """How long after its last heartbeat a queue counts as idle."""
    sweep: float
    """Infinite where sweeping is off."""


def budget(
    fleet_size: int,
    heartbeat_interval: float,
    idle_retention: float,
    sweep_interval: float | None,
) -> Pace:
    """The pace that keeps a fleet of this size within its tag calls; never faster than the
    intervals given. The retention keeps its ratio to the heartbeat, so that as many
    heartbeats may fail as in a small fleet."""
    heartbeat = max(heartbeat_interval, fleet_size / HEARTBEATS)
    return Pace(
        heartbeat=heartbeat,
        retention=idle_retention * (heartbeat / heartbeat_interval),
        sweep=math.inf if sweep_interval is None else max(sweep_interval, fleet_size / SWEEPS),
    )


MOST_STRETCH: Final = 64.0
"""The most by which throttling slows a process down."""

SLOWER: Final = 1.25
FASTER: Final = 0.9
"""What a heartbeat that is throttled, and one that is not, make of the intervals. So about
three in ten are throttled where it is for long. Many more would be too many, and with many
fewer a fleet would stay far below what is allowed, for a few in the same second are chance."""

WARY: Final = 10
"""Heartbeats without a throttle until it counts as over."""

LARGE: Final = 240
"""A fleet of more than that does not fit into the budget with the default intervals."""

FORGIVEN: Final = 12
"""Retention periods, as configured, of a silence that throttling may explain."""


class Pacer:
    """The pace of one process: what was configured, stretched by the fleet last seen, and by
    the throttling that its own tag calls meet; and how patient that makes it with others."""

    __slots__ = ("_wary", "configured", "fleet", "late", "pace", "silence", "stretch")

    def __init__(
        self, heartbeat_interval: float, idle_retention: float, sweep_interval: float | None
    ) -> None:
        self.configured = budget(0, heartbeat_interval, idle_retention, sweep_interval)
        self.pace = self.configured
        """The pace for a fleet of the size last seen."""
        self.fleet: int | None = None
        """Queues with the prefix, as far as known."""
        self.stretch = 1.0
        """By how much throttling slows that down."""
        self.late = False
        """Whether our own heartbeat failed, for a passing reason, and is tried again."""
        self.silence = 0.0
        """Seconds between our last two heartbeats, where the second was late; else 0."""
        self._wary = 0

    def __repr__(self) -> str:
        return f"<Pacer for a fleet of {self.fleet}: {self.pace}>"

    def saw(self, fleet: int) -> None:
        """A sweep has seen *fleet* queues."""
        self.fleet = fleet
        base, before = self.configured, self.pace.heartbeat
        self.pace = budget(fleet, base.heartbeat, base.retention, base.sweep)
        # The size may well be why we were throttled.
        self.stretch = max(self.stretch / max(self.pace.heartbeat / before, 1.0), 1.0)

    @property
    def stretched(self) -> Pace:
        """The pace to keep. Nobody need sweep more seldom than that there is something to do."""
        pace, stretch = self.pace, self.stretch
        return Pace(
            heartbeat=pace.heartbeat * stretch,
            retention=pace.retention * stretch,
            sweep=pace.sweep * min(stretch, FORGIVEN),
        )

    @property
    def patience(self) -> float:
        """Seconds of silence that make no queue idle, whatever its tags say; 0 in a small
        fleet while all is well."""
        base = self.configured
        most = FORGIVEN * base.retention
        patience = self.silence * base.retention / base.heartbeat
        if self.fleet is not None and self.fleet > LARGE:
            patience = max(patience, min(self.pace.retention, most))
        return max(patience, most) if self._wary else patience

    def failed(self, silence: float, *, throttled: bool) -> None:
        """A heartbeat failed, *silence* seconds after the last one, and is tried again."""
        self.late = True
        if throttled:
            self.throttled()
            # As long as one of us waits, so long takes a round of all; twice that is enough.
            enough = min(2 * silence / self.pace.heartbeat, MOST_STRETCH)
            self.stretch = max(self.stretch, min(self.stretch * SLOWER, enough))

    def beaten(self, silence: float) -> None:
        """A heartbeat got through, *silence* seconds after the one before it."""
        self.silence = silence if self.late else 0.0
        if not self.late:
            self.stretch = max(self.stretch * FASTER, 1.0)
            self._wary = max(self._wary - 1, 0)
        self.late = False

    def throttled(self) -> None:
        """A tag call of ours was throttled."""
        self._wary = WARY


# -------------------------------------------------------------------- the actions


class List(NamedTuple):
    """List the queues whose names begin with *prefix*. Answer: `Listed`."""

    prefix: str
    limit: int | None


class Listed(NamedTuple):
    """Queues by prefix, and whether these are all."""

    urls: Sequence[str]
    complete: bool = True


class Saw(NamedTuple):
    """Take note that the fleet has about *fleet* queues. Answer: nothing."""

    fleet: int


class Wait(NamedTuple):
    """Let that many seconds pass. Answer: nothing."""

    seconds: float


class ReadTags(NamedTuple):
    """Read the tags of a queue. Answer: `Tags`."""

    url: str


class Tags(NamedTuple):
    """A queue's tags; `None` where it has vanished."""

    tags: Mapping[str, str] | None
    now_ms: int | None
    """Epoch milliseconds by SQS's clock: the earlier of what the last answer before showed, with
    what has passed since then, and of what the answer with the tags shows. So no queue is idle
    for an answer that took long to be seen, or for one that showed a wrong time. `None` where
    that clock is not known."""
    patience: float = 0.0
    """Seconds without a heartbeat that do not make it idle, whatever its tags say."""


class ReadCounts(NamedTuple):
    """See whether SQS counts no message of any kind in the queue. Answer: a `bool`, false
    where it cannot be seen."""

    url: str


class Delete(NamedTuple):
    """Delete the queue, at once. Answer: whether that deleted it."""

    url: str


Action: TypeAlias = List | Saw | Wait | ReadTags | ReadCounts | Delete

# What is sent in depends on the action that came out, which no annotation can say.
Plan: TypeAlias = Generator[Action, Any, list[str]]
"""Actions to carry out one after another, each answer sent back in. Returns the URLs of the
queues that it deleted."""


# ----------------------------------------------------------------------- the ring


def walk(
    prefix: str,
    own: str,
    *,
    fleet: int | None = None,
    most: int | None = None,
    page: int = LIST_QUEUES_PAGE,
) -> Plan:
    """One sweep by the live requester whose queue is named *own*.

    Args:
        prefix: The prefix that the fleet shares.
        own: The name of our own queue, of our own form.
        fleet: The size of the fleet, as the last sweep saw it.
        most: Look at no more queues than that, where somebody else will do the rest.
        page: How many queues one listing brings.
    """
    depth = _depth(fleet, page)
    while True:
        limit = page if depth < _HEX_DIGITS else None
        found: Listed = yield List(own[: len(prefix) + depth], limit)
        if found.complete or limit is None:
            break
        depth += 1
    bucket = _ring(prefix, found.urls)
    names = [name for name, _ in bucket]
    hexes = sum(_is_hex(prefix, name) for name in names)
    fleet = (hexes + (own not in names)) * 16**depth + (0 if depth else len(names) - hexes)
    yield Saw(fleet)

    looks = _Looks(prefix, fleet, most)
    behind, before = _split(prefix, own, bucket)
    if not depth:
        yield from looks.over(behind + before)
        return looks.deleted
    # Those of no bucket are left to whoever crosses the seam.
    visited = [own[: len(prefix) + depth]]
    ended = yield from looks.over(q for q in behind if _is_hex(prefix, q[0]))
    for near in _next_buckets(prefix, visited[0]):
        if ended:
            break
        found = yield List(near, None)
        visited.append(near)
        ended = yield from looks.over(q for q in _ring(prefix, found.urls) if _is_hex(prefix, q[0]))
    if not ended:
        found = yield List(prefix, None)
        whole = _ring(prefix, found.urls)
        yield Saw(len(whole) + all(name != own for name, _ in whole))
        behind, before = _split(prefix, own, whole)
        # Of those visited, what comes before us in our own bucket is still to do.
        behind = [
            q for q in behind if not (q[0].startswith(tuple(visited)) and _is_hex(prefix, q[0]))
        ]
        yield from looks.over(behind + before)
    return looks.deleted


def everything(prefix: str, *, dry_run: bool = False) -> Plan:
    """A sweep by somebody who is not in the ring: every queue with the prefix."""
    found: Listed = yield List(prefix, None)
    looks = _Looks(prefix, None, None, dry_run=dry_run)
    for queue in _ring(prefix, found.urls):
        yield from looks.at(queue)
    return looks.deleted


class _Looks:
    """The looks at other queues during one sweep."""

    __slots__ = ("_calls", "_dry_run", "_fleet", "_most", "_prefix", "deleted")

    def __init__(
        self, prefix: str, fleet: int | None, most: int | None, *, dry_run: bool = False
    ) -> None:
        self.deleted: list[str] = []
        self._prefix = prefix
        self._fleet = fleet
        self._most = most
        self._dry_run = dry_run
        self._calls = 0

    def over(self, queues: Iterator[_Queue] | Sequence[_Queue]) -> Generator[Action, Any, bool]:
        """Look at one after another; true when the sweep is over."""
        for queue in queues:
            if self._most is not None and self._calls >= self._most:
                return True
            if (yield from self.at(queue)):
                return True
        return False

    def at(self, queue: _Queue) -> Generator[Action, Any, bool]:
        """Look at one, and delete it if it is idle; true where it is live and sweeps."""
        name, url = queue
        seen = yield from self._read(url)
        if not _is_idle(seen):
            return _is_sweeper(seen)
        empty = False
        if not is_own_form(self._prefix, name):
            empty = yield ReadCounts(url)
        if sweep_decision(self._prefix, name, "idle", empty) == "keep":
            return False
        if self._dry_run:
            self.deleted.append(url)
            return False
        seen = yield from self._read(url)
        if not _is_idle(seen):
            return _is_sweeper(seen)
        if (yield Delete(url)):
            self.deleted.append(url)
        return False

    def _read(self, url: str) -> Generator[Action, Any, Tags]:
        if self._calls:
            yield Wait(self._pause())
        self._calls += 1
        seen: Tags = yield ReadTags(url)
        return seen

    def _pause(self) -> float:
        if self._fleet is None:
            return 1 / TAG_CALLS
        # So many queues without a live sweeper: at most fleet/calls processes do the same.
        return min(max(FASTEST, self._fleet / (SWEEPS * self._calls)), SLOWEST)


def _is_idle(seen: Tags) -> bool:
    return _says(seen) == "idle"


def _is_sweeper(seen: Tags) -> bool:
    return _says(seen) == "live" and seen.tags is not None and is_sweeping(seen.tags)


def _says(seen: Tags) -> Verdict | None:
    """What the tags say; `None` where that is not known."""
    if seen.tags is None or seen.now_ms is None:
        return None
    return verdict(seen.tags, seen.now_ms, seen.patience)


# ------------------------------------------------------------------ order and buckets

_Queue: TypeAlias = tuple[str, str]
"""A name and a URL."""

_HEX_DIGITS: Final = 8
"""So many digits after the prefix make a name one for the buckets, whatever follows."""

NEAR: Final = 8
"""Buckets after the own one to go on in."""

_HEX: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)


def _is_hex(prefix: str, name: str) -> bool:
    return _HEX.match(name, len(prefix)) is not None


def _order(prefix: str, name: str) -> tuple[bool, str]:
    return not _is_hex(prefix, name), name


def _ring(prefix: str, urls: Sequence[str]) -> list[_Queue]:
    """The queues that may be swept, in the order of the ring: at its end those that are in
    no bucket, so that they have the same place whether or not there are buckets."""
    queues = ((queue_name_of(url), url) for url in urls)
    return sorted(
        (queue for queue in queues if may_sweep(prefix, queue[0])),
        key=lambda queue: _order(prefix, queue[0]),
    )


def _depth(fleet: int | None, page: int) -> int:
    """How many digits narrow the listing of such a fleet to a page with room to spare."""
    depth = 0
    if fleet is not None and fleet >= page:
        while fleet / 16**depth > page / 2 and depth < _HEX_DIGITS:
            depth += 1
    return depth


def _split(prefix: str, own: str, queues: list[_Queue]) -> tuple[list[_Queue], list[_Queue]]:
    """Of *queues* in the order of the ring, those after our own place, and those before it."""
    place = bisect.bisect_left(queues, _order(prefix, own), key=lambda q: _order(prefix, q[0]))
    return [q for q in queues[place:] if q[0] != own], queues[:place]


def _next_buckets(prefix: str, bucket: str) -> Iterator[str]:
    """The few buckets after this one, up to the seam."""
    width = len(bucket) - len(prefix)
    first = int(bucket[len(prefix) :], 16) + 1
    for number in range(first, min(first + NEAR, 16**width)):
        yield f"{prefix}{number:0{width}x}"
