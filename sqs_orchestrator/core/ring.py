"""The ring: which requester deletes which abandoned reply queue. No leader, no messages.

Theory of operation
-------------------

A process that dies leaves its reply queue behind. Other processes find it, because the list
of queues with the prefix *is* the list of members. Sorted by name, this list is a ring. Each
live requester starts at its own place and walks over the queues that follow. It deletes
those that are idle. It stops at the first live queue whose owner sweeps too (a tag says so),
because that owner looks after the queues that come next. So exactly one living process looks
at each queue in each period, whoever has died. In a healthy fleet a sweep is one listing and
one read of tags.

*A live queue is never deleted.* Only SQS's clock decides whether a queue is idle. Right
before the deletion the tags are read again, and the queue must still be idle: two sweepers
may be at one queue, and its owner may have come back. The second decision goes by another
answer of SQS than the first, so one answer with a wrong time deletes nothing. A queue whose
name is not of the library's own form must also be empty. Where anything is unknown, the queue
stays.

*Our own name may be missing* from the listing, which is up to a minute old: we know our place
without it. A queue that is listed and already gone is skipped.

*Large fleets.* One call lists a thousand queues, so the members of a fleet of 100,000 cannot
all list the whole of it. Our names are random hex digits. So the names that begin with the
same few digits as ours, our *bucket*, are a fair sample of the fleet, and our nearest
successors are among them. The number of digits is such that the bucket fits into one page; it
follows from the size of the fleet that was seen last. The number of queues in the bucket,
times the number of buckets, is the size of the fleet. If no live sweeper comes after us in
our bucket, the walk goes on in the next buckets. After a few of those hardly anybody can be
alive, and listing all queues, page by page, is cheaper than listing the other buckets one by
one.

The names of some queues do not go on in hex digits (those of the Java client). Such queues
are in no bucket. Their place in the ring is the *seam*, after the last bucket and before the
first. One process per period crosses the seam, and lists all queues to find them.

*A sweep with much to do* starts with one call a second. The more idle queues it finds in a
row, the fewer sweepers can be alive, and the faster it goes.

How often a requester sweeps, and how much silence it forgives, is decided in `pacing`.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

from .limits import LIST_QUEUES_PAGE
from .names import is_own_form, queue_name_of
from .pacing import SWEEPS, TAG_CALLS
from .sweeping import Verdict, may_sweep, sweep_decision, verdict
from .wire import is_sweeping

FASTEST: Final = 0.2
SLOWEST: Final = 1.0
"""Seconds between two tag calls of one sweep, at least and at most."""


# -------------------------------------------------------------------- the actions


class List(NamedTuple):
    """List the queues whose names begin with *prefix*. Answer: `Listed`."""

    prefix: str
    limit: int | None


class Listed(NamedTuple):
    """The queues that were found, and whether they are all that there are."""

    urls: Sequence[str]
    complete: bool = True


class Saw(NamedTuple):
    """The fleet has about *fleet* queues: a fact for the pacer. Answer: nothing."""

    fleet: int


class Wait(NamedTuple):
    """Wait for so many seconds. Answer: nothing."""

    seconds: float


class ReadTags(NamedTuple):
    """Read the tags of a queue. Answer: `Tags`."""

    url: str


class Tags(NamedTuple):
    """The tags of a queue, and what is needed to judge them."""

    tags: Mapping[str, str] | None
    """`None` if the queue does not exist any more."""
    now_ms: int | None
    """Epoch milliseconds by SQS's clock; `None` if that is not known. Two answers of SQS show the
    time: the one before the tags were read, plus the time since then, and the answer with the
    tags. This is the earlier of the two. So a queue is not idle because an answer was slow,
    or because one showed a wrong time."""
    patience: float = 0.0
    """Seconds; a queue that was silent for no longer than this is not idle."""
    outage: float = 0.0
    """Seconds that a queue may be silent in addition to its retention."""


class ReadCounts(NamedTuple):
    """Find out whether SQS counts no message of any kind in the queue. Answer: a `bool`; false
    if it cannot be found out."""

    url: str


class ReadAge(NamedTuple):
    """Find out how long ago the queue was created. Answer: seconds by SQS's clock, never too
    many; `None` if it cannot be found out."""

    url: str


class Delete(NamedTuple):
    """Delete the queue, without any delay. Answer: whether this call deleted it."""

    url: str


Action: TypeAlias = List | Saw | Wait | ReadTags | ReadCounts | ReadAge | Delete

# The type of an answer depends on the action, which no annotation can express.
Plan: TypeAlias = Generator[Action, Any, list[str]]
"""Yields one action after another, and is sent the answer to each. Returns the URLs of the
queues that were deleted."""


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
        own: The name of our own queue; it has the library's own form.
        fleet: The size of the fleet that the last sweep saw.
        most: Look at no more queues than this; other sweepers do the rest.
        page: How many queues one listing call brings.
    """
    depth = _depth(fleet, page)
    while True:
        limit = page if depth < _HEX_DIGITS else None
        found: Listed = yield List(own[: len(prefix) + depth], limit)
        if found.complete or limit is None:
            break
        depth += 1
    bucket = in_order(prefix, found.urls)
    names = [name for name, _ in bucket]
    hexes = sum(_is_hex(prefix, name) for name in names)
    fleet = (hexes + (own not in names)) * 16**depth + (0 if depth else len(names) - hexes)
    yield Saw(fleet)

    looks = Looks(prefix, fleet, most)
    behind, before = _split(prefix, own, bucket)
    if not depth:
        yield from looks.over(behind + before)
        return looks.deleted
    # Queues in no bucket are left to the process that crosses the seam.
    visited = [own[: len(prefix) + depth]]
    ended = yield from looks.over(q for q in behind if _is_hex(prefix, q[0]))
    for near in _next_buckets(prefix, visited[0]):
        if ended:
            break
        found = yield List(near, None)
        visited.append(near)
        ended = yield from looks.over(
            q for q in in_order(prefix, found.urls) if _is_hex(prefix, q[0])
        )
    if not ended:
        found = yield List(prefix, None)
        whole = in_order(prefix, found.urls)
        yield Saw(len(whole) + all(name != own for name, _ in whole))
        behind, before = _split(prefix, own, whole)
        # Queues in the buckets that were visited are done, except those before us in our own.
        behind = [
            q for q in behind if not (q[0].startswith(tuple(visited)) and _is_hex(prefix, q[0]))
        ]
        yield from looks.over(behind + before)
    return looks.deleted


def everything(prefix: str, *, dry_run: bool = False) -> Plan:
    """A sweep by somebody who has no place in the ring: it looks at every queue."""
    found: Listed = yield List(prefix, None)
    looks = Looks(prefix, None, None, dry_run=dry_run)
    for queue in in_order(prefix, found.urls):
        yield from looks.at(queue)
    return looks.deleted


class Looks:
    """The reading of tags, and the deletions, of one sweep."""

    __slots__ = ("_calls", "_fleet", "_most", "_prefix", "deleted", "dry_run")

    legacy: ClassVar = False
    """Whether the queues of `python-sqs-client` are looked at, too."""

    def __init__(
        self, prefix: str, fleet: int | None, most: int | None, *, dry_run: bool = False
    ) -> None:
        self.deleted: list[str] = []
        self._prefix = prefix
        self._fleet = fleet
        self._most = most
        self.dry_run = dry_run
        self._calls = 0

    def over(self, queues: Iterator[Queue] | Sequence[Queue]) -> Generator[Action, Any, bool]:
        """Look at one queue after another. True if the sweep is over."""
        for queue in queues:
            if self._most is not None and self._calls >= self._most:
                return True
            if (yield from self.at(queue)):
                return True
        return False

    def at(self, queue: Queue) -> Generator[Action, Any, bool]:
        """Look at one queue, and delete it if it is idle. True if it is live and its owner
        sweeps."""
        name, url = queue
        seen = yield from self.read(url)
        if self.says(seen) != "idle":
            return self._is_sweeper(seen)
        empty = False
        if not is_own_form(self._prefix, name):
            empty = yield ReadCounts(url)
        if sweep_decision(self._prefix, name, "idle", empty) == "keep":
            return False
        if self.dry_run:
            self.deleted.append(url)
            return False
        seen = yield from self.read(url)
        if self.says(seen) != "idle":
            return self._is_sweeper(seen)
        if (yield Delete(url)):
            self.deleted.append(url)
        return False

    def read(self, url: str) -> Generator[Action, Any, Tags]:
        """Read the tags of a queue, a while after those before."""
        if self._calls:
            yield Wait(self._pause())
        self._calls += 1
        seen: Tags = yield ReadTags(url)
        return seen

    def says(self, seen: Tags) -> Verdict | None:
        """The verdict on the tags; `None` if there are none, or the time is not known."""
        if seen.tags is None or seen.now_ms is None:
            return None
        return verdict(seen.tags, seen.now_ms, seen.patience, seen.outage, legacy=self.legacy)

    def _is_sweeper(self, seen: Tags) -> bool:
        return self.says(seen) == "live" and seen.tags is not None and is_sweeping(seen.tags)

    def _pause(self) -> float:
        if self._fleet is None:
            return 1 / TAG_CALLS
        # So many calls, and no live sweeper met: about fleet/calls sweepers are alive, and they
        # share the calls of the budget.
        return min(max(FASTEST, self._fleet / (SWEEPS * self._calls)), SLOWEST)


# ------------------------------------------------------------------ order and buckets

Queue: TypeAlias = tuple[str, str]
"""The name and the URL of a queue."""

_HEX_DIGITS: Final = 8
"""A name is in a bucket if so many hex digits follow the prefix."""

NEAR: Final = 8
"""The walk goes on in at most so many buckets after its own."""

_HEX: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)


def _is_hex(prefix: str, name: str) -> bool:
    return _HEX.match(name, len(prefix)) is not None


def _order(prefix: str, name: str) -> tuple[bool, str]:
    return not _is_hex(prefix, name), name


def in_order(prefix: str, urls: Sequence[str]) -> list[Queue]:
    """The queues that may be swept, in the order of the ring. Queues in no bucket come last, so
    that their place is the same whether or not buckets are used."""
    queues = ((queue_name_of(url), url) for url in urls)
    return sorted(
        (queue for queue in queues if may_sweep(prefix, queue[0])),
        key=lambda queue: _order(prefix, queue[0]),
    )


def _depth(fleet: int | None, page: int) -> int:
    """How many digits after the prefix make the listing fit into half a page."""
    depth = 0
    if fleet is not None and fleet >= page:
        while fleet / 16**depth > page / 2 and depth < _HEX_DIGITS:
            depth += 1
    return depth


def _split(prefix: str, own: str, queues: list[Queue]) -> tuple[list[Queue], list[Queue]]:
    """The *queues* after our own place in the ring, and those before it."""
    place = bisect.bisect_left(queues, _order(prefix, own), key=lambda q: _order(prefix, q[0]))
    return [q for q in queues[place:] if q[0] != own], queues[:place]


def _next_buckets(prefix: str, bucket: str) -> Iterator[str]:
    """The next few buckets after *bucket*, up to the seam."""
    width = len(bucket) - len(prefix)
    first = int(bucket[len(prefix) :], 16) + 1
    for number in range(first, min(first + NEAR, 16**width)):
        yield f"{prefix}{number:0{width}x}"
