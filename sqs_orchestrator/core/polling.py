"""How many receives of one queue should be in flight.

One long poll is enough for a quiet queue. While polls come back full there is more where
that came from, and another receiver joins; as they come back short, receivers retire.
"""

from __future__ import annotations

from .limits import BATCH_ENTRIES


class Receivers:
    """The number of receives in flight, and the number that there should be."""

    __slots__ = ("in_flight", "most", "target")

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self.target = 1
        self.in_flight = 0

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

    def failed(self) -> None:
        """A receive has failed: one is enough to find out when it works again."""
        self.in_flight -= 1
        self.target = 1
