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

A batch that is refused as a whole, for its size or for one of its entries, goes again in
*parts*, down to single entries, so that each gets a verdict of its own. What that shows of the
size that a queue takes is kept for a while.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from .limits import BATCH_BYTES, BATCH_ENTRIES, FORMER_BATCH_BYTES

T = TypeVar("T")

LIMIT_KEPT: Final = 600.0
"""Seconds for which the size of batches that a queue was seen to refuse is kept to. After that
a full batch shows whether it still does: one refused call in ten minutes, if so."""

MOST_LIMITS: Final = 1000
"""Queues of which that is kept."""


class Policy(NamedTuple):
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
        "_paused_until",
        "_troubled",
        "flushing",
        "in_flight",
        "max_bytes",
        "policy",
        "waiting",
    )

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.max_bytes = policy.max_bytes
        """Bytes in one batch: the policy's, or fewer where the queue takes fewer."""
        self.flushing = False
        """Send part-filled batches at once: no more company will come."""
        # A dictionary, since entries are withdrawn from the middle.
        self.waiting: OrderedDict[T, tuple[int, float]] = OrderedDict()
        """The entries that wait, in the order of their departure: size, and since when."""
        self.in_flight = 0
        """Batches that have not come back. Whoever sends them counts them down."""
        self._bytes = 0
        self._paused_until = float("-inf")
        self._troubled = False

    def __repr__(self) -> str:
        return f"<Lane {len(self.waiting)} waiting, {self.in_flight} in flight>"

    def add(self, entry: T, size: int, now: float) -> bool:
        """Let *entry*, of *size* bytes, wait for company. True where it may change when the next
        batch leaves: it is the first, or fills one."""
        waiting = self.waiting
        waiting[entry] = (size, now)
        self._bytes += size
        return (
            len(waiting) == 1
            or len(waiting) >= self.policy.max_entries
            or self._bytes >= self.max_bytes
            or self.flushing
        )

    def withdraw(self, entry: T) -> bool:
        """Take *entry* out; false where it does not wait (any more)."""
        found = self.waiting.pop(entry, None)
        if found is None:
            return False
        self._bytes -= found[0]
        return True

    def put_back(self, entries: Iterable[tuple[T, int]], now: float) -> None:
        """Let entries of a failed batch wait again, in their order, before all others."""
        for entry, size in reversed(list(entries)):
            self.waiting[entry] = (size, now)
            self.waiting.move_to_end(entry, last=False)
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

    def departures(self, now: float) -> tuple[list[list[T]], float | None]:
        """The batches to send now, which count as in flight from here on; and when the next one
        is due, as `due` says it."""
        batches: list[list[T]] = []
        waiting = self.waiting
        while waiting:
            due = self.due()
            if due is None or due > now:
                return batches, due
            batch: list[T] = []
            room = self.max_bytes
            while waiting and len(batch) < self.policy.max_entries:
                entry, (size, _) = next(iter(waiting.items()))
                # An entry too large for any batch goes alone: SQS will say what it thinks of it.
                if size > room and batch:
                    break
                del waiting[entry]
                self._bytes -= size
                room -= size
                batch.append(entry)
            self.in_flight += 1
            batches.append(batch)
        return batches, None

    def due(self) -> float | None:
        """When a batch leaves, if nothing else happens; `None` where first something must: an
        entry, or the end of a batch in flight."""
        most_in_flight = 1 if self._troubled else self.policy.most_in_flight
        if not self.waiting or self.in_flight >= most_in_flight:
            return None
        full = len(self.waiting) >= self.policy.max_entries or self._bytes >= self.max_bytes
        if full or self.flushing or not (self.in_flight or self.policy.patient):
            return self._paused_until
        _, since = next(iter(self.waiting.values()))
        return max(self._paused_until, since + self.policy.linger)


class Parts:
    """The parts in which a refused batch goes again: slices of it, in its order.

    Its entries are known here by their *sizes* alone. Whoever sends takes `following`, and says
    what came of it: `refused`, or `taken`. *limit* is the size that the queue is known to take.
    """

    def __init__(self, sizes: Sequence[int], limit: int | None = None) -> None:
        self._sizes = sizes
        self._slices = [slice(0, len(sizes))]
        """What is still to go, the next one last."""
        self._room = limit
        """Bytes in one part."""
        self._learnt = False
        self._largest = 0
        self._explained = False

    def refused(self, limit: int | None) -> None:
        """The part that is `following` was refused: as a whole, so that smaller ones follow in
        its place, or as a single entry, which has its verdict now. *limit* is `None` where that
        was not for its size; else the size that is taken, or 0 where that is not known."""
        part = self._slices.pop()
        sizes = self._sizes[part]
        if len(sizes) == 1:
            # Every refusal before was for the sake of this one, as far as one can know.
            self._explained = True
            return
        total = sum(sizes)
        if limit is not None and 0 < limit < max(sizes):
            self._replace(part, _apart(sizes, limit))
            return
        if limit is not None and total > 0:
            self._learnt = True
            self._room = _smaller(total, limit, self._room)
        if self._room is not None and self._room < total:
            self._replace(part, _packed(sizes, self._room))
        else:
            half = len(sizes) // 2
            self._replace(part, [half, len(sizes) - half])

    def taken(self, size: int) -> None:
        """The call for the part that is `following` went through, with *size* bytes; 0 where
        nothing of it was left to send."""
        self._slices.pop()
        self._largest = max(self._largest, size)

    def following(self) -> slice | None:
        """The part to send now; `None` when all have gone."""
        while self._slices:
            part = self._slices[-1]
            sizes = self._sizes[part]
            if self._room is None or len(sizes) == 1 or sum(sizes) <= self._room:
                return part
            self._slices.pop()
            self._replace(part, _packed(sizes, self._room))
        return None

    @property
    def limit(self) -> int | None:
        """The bytes in one batch that the queue takes, if the refusals have shown it: they were
        for no single entry's sake."""
        if self._explained or self._slices:
            return None
        return self._room if self._learnt else self._largest or None

    def _replace(self, part: slice, counts: list[int]) -> None:
        stop = part.stop
        for count in reversed(counts):
            self._slices.append(slice(stop - count, stop))
            stop -= count


def _smaller(total: int, limit: int, known: int | None) -> int:
    """What to try instead of *total* bytes: the *limit*, where the refusal has said it."""
    if 0 < limit < total:
        return limit
    if known is not None and known < total:
        return known
    if limit == 0 and total > FORMER_BATCH_BYTES:
        return FORMER_BATCH_BYTES
    return max(1, total // 2)


def _packed(sizes: Sequence[int], room: int) -> list[int]:
    """How many of *sizes*, one after another, go into each part of at most *room* bytes."""
    counts: list[int] = []
    left = -1
    for size in sizes:
        if size > left:
            counts.append(0)
            left = room
        counts[-1] += 1
        left -= size
    return counts


def _apart(sizes: Sequence[int], limit: int) -> list[int]:
    """The same, with each that is larger than *limit* in a part of its own."""
    counts: list[int] = []
    together = False
    for size in sizes:
        if size <= limit and together:
            counts[-1] += 1
        else:
            counts.append(1)
        together = size <= limit
    return counts
