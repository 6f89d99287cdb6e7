"""Message groups of a FIFO queue: one lane each, in order.

SQS hands out several messages of a group at once, and none further while one of them is
held. They run one after another. If one fails, the rest of its group goes back, unstarted,
and from then on the group is *suspect*: its messages are taken one at a time until one
succeeds. For each release raises a receive count, and so would carry innocent messages to
the dead-letter queue along with the poisonous one.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_SUSPECTS = 1_000
"""Suspect groups remembered. Others may take a group over and succeed unseen, so the memory
must end; the oldest suspicion goes first."""


class Groups(Generic[T]):
    """The lanes of the groups that are held, and the suspects."""

    __slots__ = ("_lanes", "_suspects")

    def __init__(self) -> None:
        # A lane exists while one of its messages runs; in it wait those after it.
        self._lanes: dict[str, deque[T]] = {}
        self._suspects: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Groups {len(self._lanes)} held, {len(self._suspects)} suspect>"

    def enter(self, group: str, item: T) -> bool:
        """Whether *item* may run now; otherwise it waits for those of its group before it."""
        lane = self._lanes.get(group)
        if lane is None:
            self._lanes[group] = deque()
            return True
        lane.append(item)
        return False

    def succeeded(self, group: str) -> T | None:
        """The running message of *group* is dealt with; the next one, which may run now."""
        self._suspects.pop(group, None)
        lane = self._lanes[group]
        if lane:
            return lane.popleft()
        del self._lanes[group]
        return None

    def failed(self, group: str, until: float) -> list[T]:
        """The running message of *group* failed. The rest of the group, which must go back;
        the group is suspect until loop time *until* at most."""
        self._suspects.pop(group, None)
        self._suspects[group] = until
        if len(self._suspects) > MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]
        return list(self._lanes.pop(group))

    def drain(self) -> list[T]:
        """All that waits, which must go back; what runs stays in its lane."""
        waiting: list[T] = []
        for lane in self._lanes.values():
            waiting.extend(lane)
            lane.clear()
        return waiting

    def one_at_a_time(self, now: float) -> bool:
        """Whether receives should ask for one message only: a suspect group may come."""
        for group, until in list(self._suspects.items()):
            if until <= now:
                del self._suspects[group]
        return bool(self._suspects)
