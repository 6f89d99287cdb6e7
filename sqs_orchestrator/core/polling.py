"""How many receives of one queue should be in flight, and how many messages they ask for.

One long poll is enough for a quiet queue. A poll that comes back full shows that more messages
wait, so another receiver joins. A poll that comes back half empty lets one receiver go.
"""

from __future__ import annotations

from .limits import BATCH_ENTRIES

EARLY_END = 0.4
"""Seconds. A long poll that brings nothing and takes less time has ended too early."""

EARLY_ENDS_ALLOWED = 8
"""So many polls in a row may end too early without a pause after them."""

LONGEST_PAUSE = 1.0
"""The longest pause after a poll that ended too early, in seconds."""


class Receivers:
    """How many receives are in flight, and how many should be."""

    __slots__ = ("_early_ends", "in_flight", "most", "target")

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self.target = 1
        self.in_flight = 0
        self._early_ends = 0

    def __repr__(self) -> str:
        return f"<Receivers {self.in_flight} in flight, {self.target} wanted>"

    def ask(self, room: int) -> int:
        """How many messages one more receive may ask for; 0 if none should start. *room* is how
        many messages can be taken beyond those that the receives in flight may bring."""
        if room <= 0 or self.in_flight >= self.target:
            return 0
        return min(room, BATCH_ENTRIES)

    def started(self) -> None:
        self.in_flight += 1

    def ended(self, asked: int, got: int) -> None:
        """A receive that asked for *asked* messages has brought *got*."""
        self.in_flight -= 1
        if got:
            self._early_ends = 0
        if got >= asked:
            self.target = min(self.most, self.target + 1)
        elif got * 2 <= asked:
            self.target = max(1, self.target - 1)

    def pause(self, got: int, took: float, wait: float) -> float:
        """Seconds to wait after a receive that brought *got* messages in *took* seconds, and was
        allowed to wait for *wait* seconds. A proxy that ends long polls at once must not make
        us poll in a tight loop. A few early ends are normal: some servers wake all polls for
        messages that go to one of them."""
        if got or took >= min(wait, EARLY_END):
            self._early_ends = 0
            return 0.0
        self._early_ends += 1
        return min(LONGEST_PAUSE, max(0, self._early_ends - EARLY_ENDS_ALLOWED) * EARLY_END / 4)

    def failed(self) -> None:
        """A receive has failed. One receiver is enough to find out when SQS works again."""
        self.in_flight -= 1
        self.target = 1


SOON = 0.2
"""Seconds. A worker takes no more messages than it expects to start within this time, because
another worker could perhaps start them at once."""

MOST_AHEAD = 20
"""So many messages may wait in a worker whose handlers are quick; as many as run at once, if
its concurrency is larger."""


class Intake:
    """How many messages a worker may hold, running and waiting ones together.

    At first it holds as many as it runs at once. When its handlers turn out to be quick, it takes
    some more, as many as it expects to start soon. So no place stays empty while the next batch
    is on its way.
    """

    __slots__ = ("_most", "capacity", "concurrency", "mean")

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self._most = max(MOST_AHEAD, concurrency)
        self.capacity = concurrency
        """The most messages to hold."""
        self.mean: float | None = None
        """How long a handler runs, in seconds, as a moving average; `None` before the first."""

    def finished(self, seconds: float) -> None:
        """A handler has run for *seconds*."""
        mean = seconds if self.mean is None else self.mean + (seconds - self.mean) * 0.1
        self.mean = mean
        soon = self.concurrency * SOON
        # As many as start soon, and no more than that.
        ahead = self._most if mean * self._most <= soon else int(soon / mean)
        self.capacity = self.concurrency + ahead

    def room(self, running: int, waiting: int, asked: int) -> int:
        """How many messages to ask for, if other receives have asked for *asked* already.

        While messages wait for a place, nothing is in a hurry, and only a whole batch is asked
        for. Otherwise as many as there is room for.
        """
        room = self.capacity - running - waiting - asked
        return room if room >= BATCH_ENTRIES or not waiting else 0
