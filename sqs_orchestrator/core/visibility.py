"""Which held messages must be extended, and which have been held for too long.

A received message is hidden for the visibility timeout. Half-way through, it is extended by
another; so one lost call does no harm. That goes on for every message held, waiting ones
included, until `max_extension` after it was received.

All messages of a poller have the same timeout, so dictionaries in order of insertion are in
order of time as well: holding and letting go cost the same however many are held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from .limits import BATCH_ENTRIES

T = TypeVar("T")

COMPANY = 0.3
"""Extensions due within this part of the timeout fill the batches of those that are due now."""


class ExtensionSchedule(Generic[T]):
    """The messages held, by when their visibility must be extended. Durations in seconds."""

    __slots__ = ("_due", "_since", "max_extension", "timeout")

    def __init__(self, timeout: float, max_extension: float) -> None:
        self.timeout = timeout
        self.max_extension = max_extension
        self._due: OrderedDict[T, float] = OrderedDict()
        self._since: OrderedDict[T, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Keeper of {len(self._since)}>"

    def __len__(self) -> int:
        return len(self._since)

    def hold(self, item: T, now: float) -> None:
        """Keep *item*, just received, hidden from now on."""
        self._due[item] = now + self.timeout / 2
        self._since[item] = now

    def __contains__(self, item: T) -> bool:
        """Whether *item* is kept."""
        return item in self._since

    def renew(self, item: T, now: float) -> None:
        """*item*, if it is kept, was received once more, and is hidden from now on."""
        if item in self._due:
            self._due[item] = now + self.timeout / 2
            self._due.move_to_end(item)

    def let_go(self, item: T) -> None:
        """Keep it no longer; it comes back when its visibility runs out."""
        self._due.pop(item, None)
        self._since.pop(item, None)

    def hidden_until(self, item: T, now: float) -> float:
        """Until when *item* stays hidden if it is extended no more, by what was asked of
        SQS; *now* for one that is not kept."""
        due = self._due.get(item)
        return now if due is None else due + self.timeout / 2

    def to_extend(self, now: float) -> list[T]:
        """The items to extend now, by the whole timeout."""
        until = now + self.timeout * COMPANY
        due: list[T] = []
        for item, at in self._due.items():
            # Nothing is due before there is one that cannot wait: then company fills its batch.
            if at > now and (at > until or len(due) % BATCH_ENTRIES == 0):
                break
            due.append(item)
        for item in due:
            self._due[item] = now + self.timeout / 2
            self._due.move_to_end(item)
        return due

    def overdue(self, now: float) -> list[T]:
        """The items held for `max_extension`, which are extended no more. Given once."""
        over: list[T] = []
        for item, since in self._since.items():
            if since + self.max_extension > now:
                break
            over.append(item)
        for item in over:
            self.let_go(item)
        return over

    def exposed(self, hidden_until: Callable[[T], float], now: float) -> int:
        """How many of the items kept were hidden until before *now*, by what SQS confirmed."""
        return sum(hidden_until(item) <= now for item in self._due)

    def next_at(self) -> float | None:
        """When there is something to extend, or overdue, if nothing else happens."""
        if not self._since:
            return None
        _, since = next(iter(self._since.items()))
        at = since + self.max_extension
        if self._due:
            at = min(at, next(iter(self._due.values())))
        return at
