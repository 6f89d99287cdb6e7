"""The messages that wait: for a place, and on a FIFO queue for their turn in their group."""

from __future__ import annotations

from collections import deque

from ..core.groups import Groups
from .delivery import Delivery


class Waiting:
    """The messages that wait, of a *fifo* queue or another."""

    def __init__(self, *, fifo: bool) -> None:
        self.fifo = fifo
        self.ready: deque[Delivery] = deque()
        """Those that wait for a place only."""
        self.groups: Groups[Delivery] = Groups()
        """Of a FIFO queue, the groups that are held; the others of a group wait in its line."""

    def __len__(self) -> int:
        return len(self.ready) + self.groups.waiting

    def add(self, delivery: Delivery) -> None:
        """A message that was just received waits from now on."""
        if self.fifo:
            delivery.turn = True
            if not self.groups.enter(delivery.group, delivery):
                return
        self.ready.append(delivery)

    def pass_turn(self, delivery: Delivery) -> None:
        """On a FIFO queue, let the next message of the group run: this one is done with."""
        if not delivery.turn:
            return
        delivery.turn = False
        following = self.groups.succeeded(delivery.group)
        if following is not None:
            self.ready.append(following)

    def fail(
        self, delivery: Delivery, returns: float, widest: float
    ) -> tuple[list[Delivery], float]:
        """A message would come again at *returns*. On a FIFO queue, gives the others of its
        group, which must go back, and when it may come: not before *widest*, at which the last
        receive of several messages ends."""
        if not delivery.turn:
            return [], returns
        delivery.turn = False
        rest, returns = self.groups.failed(delivery.group, returns, widest)
        for other in rest:
            other.turn = False
        return rest, returns

    def drain(self) -> list[Delivery]:
        """All that waits, which must go back."""
        waiting = [*self.ready, *self.groups.drain()]
        self.ready.clear()
        return waiting
