"""Message groups of a FIFO queue: the messages of a group run one after another.

SQS hands out several messages of a group at once, and no others of it while the worker holds
one of them. One of the messages runs; the others wait in the *line* of their group. If the
running message fails, the others go back unstarted, and the group is *suspect*: the worker
receives its messages one at a time until one succeeds. The reason is the receive count. Each
receive raises it for all messages that it brings, so messages that did not fail would reach
the dead-letter queue together with the one that does.

So when a suspect group comes back, no receive that asks for several messages may be under
way. While SQS still hides the group, receives may ask for several messages, because other
groups would starve otherwise. Such a receive must only end before the group comes back.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, NamedTuple, TypeVar

from .limits import BATCH_ENTRIES

T = TypeVar("T")

MOST_SUSPECTS = 1_000
"""The most suspect groups that are remembered; the oldest is forgotten first. Memory must end
somewhere, because another worker may take over a group and succeed, and we do not see that."""

SUSPICION = 600.0
"""Seconds for which a group stays suspect after its return, if no message of it is received."""

SHORT_WAIT = 1.0
"""Seconds that a receive of several messages waits while a group that is held may fail. If it
does, its message stays hidden until such receives have ended, so they must end soon."""

MARGIN = 0.5
"""Seconds that a receive may take longer than it was asked to wait."""


class Ask(NamedTuple):
    """What a receive may ask SQS for."""

    most: int
    """The largest number of messages."""
    wait: float
    """Seconds to wait for the first message."""


class Groups(Generic[T]):
    """The lines of the groups that are held, and the suspect groups. Times are loop times."""

    __slots__ = ("_lines", "_suspects", "waiting")

    def __init__(self) -> None:
        # A group has a line while one of its messages runs; those after it wait in the line.
        self._lines: dict[str, deque[T]] = {}
        # For each suspect group, the earliest time at which SQS hands it out again.
        self._suspects: dict[str, float] = {}
        self.waiting = 0
        """Messages that wait in lines."""

    def __repr__(self) -> str:
        return f"<Groups {len(self._lines)} held, {len(self._suspects)} suspect>"

    def enter(self, group: str, item: T) -> bool:
        """Whether *item* may run now. Otherwise it waits in the line of its group."""
        line = self._lines.get(group)
        if line is None:
            self._lines[group] = deque()
            return True
        line.append(item)
        self.waiting += 1
        return False

    def succeeded(self, group: str) -> T | None:
        """The running message of *group* has succeeded. Returns the next one, which may run now."""
        self._suspects.pop(group, None)
        line = self._lines[group]
        if line:
            self.waiting -= 1
            return line.popleft()
        del self._lines[group]
        return None

    def failed(self, group: str, returns: float, widest: float) -> tuple[list[T], float]:
        """The running message of *group* has failed, and would be visible again at *returns*.
        The last receive of several messages that is under way ends at *widest*.

        Returns the messages in the group's line, which must go back, and the time at which the
        failed message may be visible again. No receive of several messages is under way then.
        """
        known = self._suspects.pop(group, None) is not None
        rest = list(self._lines.pop(group))
        self.waiting -= len(rest)
        if rest or known:
            returns = max(returns, widest)
        self._suspects[group] = returns
        if len(self._suspects) > MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]
        return rest, returns

    def drain(self) -> list[T]:
        """Empty all lines; returns what waited in them, which must go back."""
        waiting: list[T] = []
        for line in self._lines.values():
            waiting.extend(line)
            line.clear()
        self.waiting = 0
        return waiting

    def ask(self, now: float, wait: float) -> Ask:
        """What a receive that begins *now* may ask for, if it would wait for *wait* seconds."""
        widest = SHORT_WAIT if self.waiting else wait
        for group, returns in list(self._suspects.items()):
            if group in self._lines:
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
