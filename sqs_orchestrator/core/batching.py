"""Which entries travel together, and when: natural batching.

SQS bills and throttles by the call, so entries for one operation on one queue share a
*lane*. A full batch goes at once. A part-filled one goes when nothing of its lane is in
flight, or once its oldest entry has lingered long enough. So an idle lane adds no latency,
and in a busy one batches fill while the ones before them travel: the slower SQS answers,
the fuller they get.

A *patient* lane always lingers: for deletes, since nobody waits for them. An *ordered* lane
(FIFO queues) has one batch in flight, so that an entry that failed goes again before the
later ones of its group.

After a failure a lane pauses, and then one batch at a time finds out whether it works again:
a full lane must not greet a service that is down with sixteen calls after each pause.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .limits import BATCH_BYTES, BATCH_ENTRIES

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a lane batches. Durations in seconds."""

    linger: float
    patient: bool = False
    most_in_flight: int = 16
    """Batches of the lane in flight at once; 1 keeps its order."""
    max_entries: int = BATCH_ENTRIES
    max_bytes: int = BATCH_BYTES


class Lane(Generic[T]):
    """The entries of one operation on one queue that wait for their batch."""

    __slots__ = (
        "_bytes",
        "_in_flight",
        "_paused_until",
        "_troubled",
        "_waiting",
        "flushing",
        "policy",
    )

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.flushing = False
        """Send part-filled batches at once: no more company will come."""
        # Ordered by departure; a dictionary, since entries are withdrawn from the middle.
        self._waiting: OrderedDict[T, tuple[int, float]] = OrderedDict()
        self._bytes = 0
        self._in_flight = 0
        self._paused_until = float("-inf")
        self._troubled = False

    def __repr__(self) -> str:
        return f"<Lane {len(self._waiting)} waiting, {self._in_flight} in flight>"

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> list[T]:
        """The entries that wait, in the order of their departure."""
        return list(self._waiting)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is in flight."""
        return not self._waiting and not self._in_flight

    def add(self, entry: T, size: int, now: float) -> None:
        """Let *entry*, of *size* bytes, wait for company."""
        self._waiting[entry] = (size, now)
        self._bytes += size

    def withdraw(self, entry: T) -> bool:
        """Take *entry* out; false where it does not wait (any more)."""
        found = self._waiting.pop(entry, None)
        if found is None:
            return False
        self._bytes -= found[0]
        return True

    def put_back(self, entries: Iterable[tuple[T, int]], now: float) -> None:
        """Let entries of a failed batch wait again, in their order, before all others."""
        for entry, size in reversed(list(entries)):
            self._waiting[entry] = (size, now)
            self._waiting.move_to_end(entry, last=False)
            self._bytes += size

    def paused(self, now: float) -> bool:
        """Whether nothing is sent because of a failure a moment ago."""
        return now < self._paused_until

    def pause(self, until: float) -> None:
        """It does not work: send nothing before *until*, then one batch at a time."""
        self._paused_until = until
        self._troubled = True

    def resume(self) -> None:
        """It works (again)."""
        self._troubled = False

    def batch_ended(self) -> None:
        """A batch that `next_batch` gave has come back."""
        self._in_flight -= 1

    def next_batch(self, now: float) -> list[T] | None:
        """The entries to send now, counted as in flight; `None` where it is not yet time."""
        due = self.due()
        if due is None or due > now:
            return None
        batch: list[T] = []
        room = self.policy.max_bytes
        while self._waiting and len(batch) < self.policy.max_entries:
            entry, (size, _) = next(iter(self._waiting.items()))
            # An entry too large for any batch goes alone: SQS will say what it thinks of it.
            if size > room and batch:
                break
            del self._waiting[entry]
            self._bytes -= size
            room -= size
            batch.append(entry)
        self._in_flight += 1
        return batch

    def due(self) -> float | None:
        """When `next_batch` will have one, if nothing else happens; `None` where first
        something must: an entry, or the end of a batch in flight."""
        most_in_flight = 1 if self._troubled else self.policy.most_in_flight
        if not self._waiting or self._in_flight >= most_in_flight:
            return None
        full = len(self._waiting) >= self.policy.max_entries or self._bytes >= self.policy.max_bytes
        if full or self.flushing or not (self._in_flight or self.policy.patient):
            return self._paused_until
        _, since = next(iter(self._waiting.values()))
        return max(self._paused_until, since + self.policy.linger)
