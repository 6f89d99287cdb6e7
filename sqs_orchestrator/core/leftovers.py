"""What `python-sqs-client`, the synchronous package, leaves behind, and when it may be deleted.

Theory of operation
-------------------

A process of that package that asks for replies has a reply queue, and a FIFO queue by which the
sweepers of all processes with the same prefix share their work. It makes the reply queue
first, with a heartbeat in its tags, and deletes it last. The sweepers' queue it leaves behind,
and both if it is killed.

*A reply queue* is idle when its heartbeat is older than `sweeping.LEGACY_SILENCE`, and is deleted
if it is empty, too.

*A sweepers' queue* tells nothing of those who use it. But each of them has a reply queue with the
prefix. So the queue is deleted if a listing shows no reply queue with the prefix, except
those that this sweep has deleted. A listing may be a minute old, and the reply queue is as
old as the sweepers' queue at least: so the listing counts once that queue is older than the
listing may be. That queue must be empty, too, and have no tags, since the package gives it none.

A process that begins with an old prefix, in that very minute and beside no other, cannot be
seen. Its prefix must be one that was used before: the package's README makes a new one for
each process.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from .names import prefix_of_legacy_sweeper, queue_name_of
from .ring import (
    Action,
    Delete,
    List,
    Listed,
    Looks,
    Plan,
    Queue,
    ReadAge,
    ReadCounts,
    Tags,
    Wait,
    in_order,
)
from .wire import parse_legacy_heartbeat

LISTED: Final = 60.0
"""Seconds after which a queue that was created is in every listing."""


def everything(prefix: str, *, dry_run: bool = False) -> Plan:
    """`ring.everything`, and what the synchronous package has left behind."""
    found: Listed = yield List(prefix, None)
    looks = _Looks(prefix, dry_run=dry_run)
    for queue in in_order(prefix, found.urls):
        yield from looks.at(queue)
    for url in sorted(found.urls):
        name = queue_name_of(url)
        owners = prefix_of_legacy_sweeper(name)
        if owners and not looks.used(owners, found.urls):
            yield from looks.at_sweepers((name, url), owners)
    return looks.deleted


class _Looks(Looks):
    """Knows which of the queues that it has looked at have an owner of that package."""

    __slots__ = ("_ownerless",)

    legacy = True

    def __init__(self, prefix: str, *, dry_run: bool) -> None:
        super().__init__(prefix, None, None, dry_run=dry_run)
        self._ownerless: set[str] = set()

    def read(self, url: str) -> Generator[Action, Any, Tags]:
        seen = yield from super().read(url)
        if seen.tags is None or parse_legacy_heartbeat(seen.tags) is None:
            self._ownerless.add(url)
        return seen

    def used(self, prefix: str, urls: Sequence[str]) -> bool:
        """Whether one of *urls* may be the reply queue of a process with *prefix*."""
        known = self._ownerless.union(self.deleted)
        return any(
            name.startswith(prefix) and prefix_of_legacy_sweeper(name) is None
            for name in (queue_name_of(url) for url in urls if url not in known)
        )

    def at_sweepers(self, queue: Queue, owners: str) -> Generator[Action, Any, None]:
        """Look at a queue of sweepers, and delete it if nobody with the prefix *owners* is
        left."""
        _, url = queue
        age: float | None = yield ReadAge(url)
        if age is None:
            return
        if age < LISTED and not self.dry_run:
            yield Wait(LISTED - age)
        found: Listed = yield List(owners, None)
        if self.used(owners, found.urls):
            return
        seen = yield from super().read(url)
        if seen.tags != {} or not (yield ReadCounts(url)):
            return
        if self.dry_run or (yield Delete(url)):
            self.deleted.append(url)
