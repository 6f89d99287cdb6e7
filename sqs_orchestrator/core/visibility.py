"""When to extend the held messages, and which have been held for too long.

SQS hides a received message for the visibility timeout. When half of that is over, the worker
extends it by a whole one, so one lost call does no harm. It does so for every message that it
holds, also for those that wait for a place, until `max_extension` is over since the receive.

All messages of a poller have the same timeout. So a dictionary in order of insertion is also
in order of time, and the cost per message is the same however many are held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from .limits import BATCH_ENTRIES

T = TypeVar("T")

COMPANY = 0.3
"""A part of the timeout. Messages that are due within it fill up the batch of those due now."""


class ExtensionSchedule(Generic[T]):
    """The held messages, in the order in which they must be extended. Durations in seconds."""

    __slots__ = ("_due", "_since", "max_extension", "timeout")

    def __init__(self, timeout: float, max_extension: float) -> None:
        self.timeout = timeout
        self.max_extension = max_extension
        self._due: OrderedDict[T, float] = OrderedDict()
        self._since: OrderedDict[T, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<ExtensionSchedule of {len(self._since)}>"

    def __len__(self) -> int:
        return len(self._since)

    def hold(self, item: T, now: float) -> None:
        """*item* was received just now. Extend it from now on."""
        self._due[item] = now + self.timeout / 2
        self._since[item] = now

    def __contains__(self, item: T) -> bool:
        """Whether *item* is extended."""
        return item in self._since

    def renew(self, item: T, now: float) -> None:
        """*item* was received once more just now. If it is extended, its time begins anew."""
        if item in self._due:
            self._due[item] = now + self.timeout / 2
            self._due.move_to_end(item)

    def let_go(self, item: T) -> None:
        """Extend *item* no more. It becomes visible when its visibility timeout is over."""
        self._due.pop(item, None)
        self._since.pop(item, None)

    def hidden_until(self, item: T, now: float) -> float:
        """Until when *item* stays hidden if it is extended no more, as far as SQS does what it
        was asked; *now* if it is not extended."""
        due = self._due.get(item)
        return now if due is None else due + self.timeout / 2

    def to_extend(self, now: float) -> list[T]:
        """The items to extend now, each by a whole timeout."""
        until = now + self.timeout * COMPANY
        due: list[T] = []
        for item, at in self._due.items():
            # Items that are due soon only fill up a batch that has to go now.
            if at > now and (at > until or len(due) % BATCH_ENTRIES == 0):
                break
            due.append(item)
        for item in due:
            self._due[item] = now + self.timeout / 2
            self._due.move_to_end(item)
        return due

    def overdue(self, now: float) -> list[T]:
        """The items that were held for `max_extension`. They are extended no more, and each is
        returned once."""
        over: list[T] = []
        for item, since in self._since.items():
            if since + self.max_extension > now:
                break
            over.append(item)
        for item in over:
            self.let_go(item)
        return over

    def exposed(self, hidden_until: Callable[[T], float], now: float) -> int:
        """How many items are not hidden any more at *now*, by what SQS has confirmed."""
        return sum(hidden_until(item) <= now for item in self._due)

    def next_at(self) -> float | None:
        """When an item is next to be extended, or overdue; `None` if nothing is held."""
        if not self._since:
            return None
        _, since = next(iter(self._since.items()))
        at = since + self.max_extension
        if self._due:
            at = min(at, next(iter(self._due.values())))
        return at
