"""How many receives of one queue should be in flight.

One long poll is enough for a quiet queue. While polls come back full there is more where
that came from, and another receiver joins; as they come back short, receivers retire.
"""

from __future__ import annotations

from .limits import BATCH_ENTRIES

EARLY_END = 0.4
"""Seconds: a long poll that ends empty before is in haste."""

EARLY_ENDS_ALLOWED = 8
"""So many of them in a row are let pass."""

LONGEST_PAUSE = 1.0
"""The most seconds to wait after one more."""


class Receivers:
    """The number of receives in flight, and the number that there should be."""

    __slots__ = ("_early_ends", "in_flight", "most", "target")

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self.target = 1
        self.in_flight = 0
        self._early_ends = 0

    def __repr__(self) -> str:
        return f"<Receivers {self.in_flight} in flight, {self.target} wanted>"

    def ask(self, room: int) -> int:
        """How many messages one more receive may ask for, where *room* is how many can be
        taken beyond those that the receives in flight may bring; 0: start none."""
        if room <= 0 or self.in_flight >= self.target:
            return 0
        return min(room, BATCH_ENTRIES)

    def started(self) -> None:
        self.in_flight += 1

    def ended(self, asked: int, got: int) -> None:
        """A receive of at most *asked* messages has brought *got*."""
        self.in_flight -= 1
        if got >= asked:
            self.target = min(self.most, self.target + 1)
        elif got * 2 <= asked:
            self.target = max(1, self.target - 1)

    def pause(self, got: int, took: float, wait: float) -> float:
        """Seconds to wait after a receive that has brought *got* after *took* seconds, where it
        might have waited for *wait*. Something between us and SQS that ends long polls at once
        must not make us spin; some servers end a few for messages that another poll got."""
        if got or took >= min(wait, EARLY_END):
            self._early_ends = 0
            return 0.0
        self._early_ends += 1
        return min(LONGEST_PAUSE, max(0, self._early_ends - EARLY_ENDS_ALLOWED) * EARLY_END / 4)

    def failed(self) -> None:
        """A receive has failed: one is enough to find out when it works again."""
        self.in_flight -= 1
        self.target = 1


SOON = 0.2
"""Seconds: a worker takes no more messages than it expects to start within this time, since
another worker might start them at once."""

MOST_AHEAD = 20
"""Messages that may wait in a worker of any concurrency; larger ones may hold as many as
they run at once."""


class Intake:
    """How many messages a worker may hold, running and waiting ones together.

    At first just as many as it runs at once. Once handlers turn out to be quick, some ahead
    of time: as many as start soon, so that no handler's place stays empty while the next
    batch travels.
    """

    __slots__ = ("concurrency", "mean")

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.mean: float | None = None
        """A moving average of how long a handler runs, in seconds."""

    def finished(self, seconds: float) -> None:
        """A handler has run for *seconds*."""
        self.mean = seconds if self.mean is None else self.mean + (seconds - self.mean) * 0.1

    @property
    def capacity(self) -> int:
        """The most messages to hold."""
        if self.mean is None:
            return self.concurrency
        most = max(MOST_AHEAD, self.concurrency)
        if self.mean * most <= self.concurrency * SOON:
            return self.concurrency + most
        return self.concurrency + int(self.concurrency * SOON / self.mean)

    def room(self, running: int, waiting: int, asked: int) -> int:
        """How many messages to ask for, with *asked* already asked for in other receives.

        While messages wait, a whole batch is worth waiting for; else take what fits.
        """
        room = self.capacity - running - waiting - asked
        return room if room >= BATCH_ENTRIES or not waiting else 0
