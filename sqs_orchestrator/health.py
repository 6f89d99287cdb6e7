"""Whether a publisher or a poller works, for whoever watches over the process.

All of it can be asked from any thread, while the event loop is busy or blocked. A loop that is
blocked cannot say so, and a timer that shows that it turns would ring all day for nobody. So
asking puts a callback into the loop. If that still has not run when somebody asks again, later
than `PATIENCE`, the loop is blocked.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import NamedTuple

from .core.failing import PATIENCE, FailureStreak
from .tasks import TaskOwner

__all__ = ["Health"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a `Poller` or a `Publisher` is.

    Attributes:
        healthy: It can do its work now. This is what a readiness check asks for.
        alive: It works, or will work again by itself. False where only a new start helps: it
            failed, or its event loop is blocked. This is what a liveness check asks for.
        reason: Why it is not healthy, on one line; `None` while it is.
        since: Since when it is so, in UTC.
        last_poll: When a receive last succeeded, in UTC; `None` before the first. A publisher
            receives only while requests wait.
        oldest_in_work: The age in seconds of the oldest message whose handler runs, from its
            receive; of a publisher, that of the oldest request that waits for its reply. `None`
            if there is none.
        pending: Messages that were received and whose handler runs or waits for a place; of a
            publisher, requests that wait for their reply.
    """

    healthy: bool
    alive: bool
    reason: str | None
    since: datetime
    last_poll: datetime | None
    oldest_in_work: float | None
    pending: int


class Ailment(NamedTuple):
    """Why something is not healthy, and since when, by the loop's time or in UTC."""

    reason: str
    since: float | datetime
    alive: bool = True


class Vitals:
    """What shows from outside about the owner of tasks of *what*."""

    def __init__(self, owner: TaskOwner, what: str) -> None:
        self._owner = owner
        self._what = what
        self._made = datetime.now(UTC)
        # When it was asked for a sign of life that has not come yet.
        self._asked: tuple[float, datetime] | None = None
        self._turned = -math.inf

    def ailment(self, failure: BaseException | None = None) -> Ailment | None:
        """What ails it as a whole, if anything does; *failure* is why it stopped by itself."""
        owner, what = self._owner, self._what
        failure = failure or owner.failure
        if failure is not None:
            return Ailment(f"{what} failed: {said(failure)}", self._stopping_since(), False)
        if not owner.entered:
            return self.not_started()
        ended = owner.ended
        blocked = None if ended else self._blocked()
        if blocked is not None:
            return blocked
        if not owner.stopping:
            return None
        state = "has stopped" if ended else "is stopping"
        return Ailment(f"{what} {state}", self._stopping_since())

    def not_started(self) -> Ailment:
        """What ails it before it has begun."""
        return Ailment(f"{self._what} has not started", self._made)

    def _stopping_since(self) -> float | datetime:
        if not self._owner.entered:
            return self._made
        since = self._owner.stopping_since
        return self._owner.started if since is None else since

    def _blocked(self) -> Ailment | None:
        loop = self._owner.loop
        try:
            if asyncio.get_running_loop() is loop:
                return None
        except RuntimeError:
            pass
        asked = self._asked
        if asked is None:
            # Before the call: the loop may answer before that returns.
            self._asked = asked = monotonic(), datetime.now(UTC)
            try:
                loop.call_soon_threadsafe(self._turns)
            except RuntimeError:
                self._asked = None
                return Ailment("its event loop is closed", datetime.now(UTC), False)
        if monotonic() - asked[0] < PATIENCE:
            return None
        return Ailment("its event loop is blocked, or does not run", asked[1], False)

    def _turns(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and monotonic() - asked[0] >= PATIENCE:
            self._turned = self._owner.loop.time()

    def health(
        self,
        ailment: Ailment | None,
        *,
        streaks: Iterable[FailureStreak] = (),
        since: float = -math.inf,
        last_poll: float | None = None,
        oldest: float | None = None,
        pending: int = 0,
    ) -> Health:
        """Its health. If nothing ails it, it is healthy since *since*, or since the last of
        *streaks* ended. All times are the loop's."""
        owner = self._owner
        if ailment is None:
            now = owner.loop.time()
            healed = [streak.healed(now) for streak in streaks]
            when = self._utc(max(since, owner.started, self._turned, *healed))
        else:
            when = self._utc(ailment.since)
        return Health(
            healthy=ailment is None,
            alive=ailment is None or ailment.alive,
            reason=None if ailment is None else ailment.reason,
            since=when,
            last_poll=None if last_poll is None else self._utc(last_poll),
            oldest_in_work=None if oldest is None else max(0.0, owner.loop.time() - oldest),
            pending=pending,
        )

    def _utc(self, when: float | datetime) -> datetime:
        """A time of the loop's, by the machine's clock as it was when the owner started."""
        if isinstance(when, datetime):
            return when
        return self._owner.started_at + timedelta(seconds=when - self._owner.started)


def said(error: BaseException) -> str:
    """An error on one line."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text}" if text else name
