"""Message groups of a FIFO queue: one lane each, in order.

SQS hands out several messages of a group at once, and none further while one of them is
held. They run one after another. If one fails, the rest of its group goes back, unstarted,
and from then on the group is *suspect*: its messages are taken one at a time until one
succeeds. For each receive raises a receive count, and so would carry innocent messages to
the dead-letter queue along with the poisonous one.

So no receive that asks for several messages may be under way when a suspect group comes
back. While SQS withholds the group, several may be asked for all the same, or the other
groups would starve; such a receive just must not wait for too long.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, NamedTuple, TypeVar

from .limits import BATCH_ENTRIES

T = TypeVar("T")

MOST_SUSPECTS = 1_000
"""Suspect groups remembered. Others may take a group over and succeed unseen, so the memory
must end; the oldest suspicion goes first."""

SUSPICION = 600.0
"""Seconds after its return for which a group stays suspect that is not seen any more."""

SHORT_WAIT = 1.0
"""Seconds that a receive of several messages waits while a held group may fail: so soon is
its failed message let out again."""

MARGIN = 0.5
"""Seconds that a receive may take beyond its wait."""


class Ask(NamedTuple):
    """What a receive may ask for."""

    most: int
    """Messages."""
    wait: float
    """Seconds."""


class Groups(Generic[T]):
    """The lanes of the groups that are held, and the suspects. Times are the loop's."""

    __slots__ = ("_lanes", "_suspects", "waiting")

    def __init__(self) -> None:
        # A lane exists while one of its messages runs; in it wait those after it.
        self._lanes: dict[str, deque[T]] = {}
        # By when SQS hands them out again, at the earliest.
        self._suspects: dict[str, float] = {}
        self.waiting = 0
        """Messages that wait for others of their group."""

    def __repr__(self) -> str:
        return f"<Groups {len(self._lanes)} held, {len(self._suspects)} suspect>"

    def enter(self, group: str, item: T) -> bool:
        """Whether *item* may run now; otherwise it waits for those of its group before it."""
        lane = self._lanes.get(group)
        if lane is None:
            self._lanes[group] = deque()
            return True
        lane.append(item)
        self.waiting += 1
        return False

    def succeeded(self, group: str) -> T | None:
        """The running message of *group* is dealt with; the next one, which may run now."""
        self._suspects.pop(group, None)
        lane = self._lanes[group]
        if lane:
            self.waiting -= 1
            return lane.popleft()
        del self._lanes[group]
        return None

    def failed(self, group: str, returns: float, widest: float) -> tuple[list[T], float]:
        """The running message of *group* failed, and would be visible again at *returns*.
        Receives of several messages are under way until *widest*, at most.

        Gives the rest of the group, which must go back, and when the failed message may be
        visible again: never within a receive that could bring innocent ones along.
        """
        known = self._suspects.pop(group, None) is not None
        rest = list(self._lanes.pop(group))
        self.waiting -= len(rest)
        if rest or known:
            returns = max(returns, widest)
        self._suspects[group] = returns
        if len(self._suspects) > MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]
        return rest, returns

    def drain(self) -> list[T]:
        """All that waits, which must go back; what runs stays in its lane."""
        waiting: list[T] = []
        for lane in self._lanes.values():
            waiting.extend(lane)
            lane.clear()
        self.waiting = 0
        return waiting

    def ask(self, now: float, wait: float) -> Ask:
        """What a receive from *now* on may ask for, that would wait for *wait* seconds."""
        widest = SHORT_WAIT if self.waiting else wait
        for group, returns in list(self._suspects.items()):
            if group in self._lanes:
                widest = min(widest, SHORT_WAIT)
                continue
            if returns + SUSPICION <= now:
                del self._suspects[group]
                continue
            away = math.floor(returns - now - MARGIN)
            if away < SHORT_WAIT:
                return Ask(1, wait)
            widest = min(widest, away)
        return Ask(BATCH_ENTRIES, min(wait, widest))
