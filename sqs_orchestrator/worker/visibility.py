"""Keeps what a poller holds hidden from others, and lets it come back when it should.

Changes for one message never overtake each other: one that waits is replaced by the next,
and one in flight is followed by it. Else an extension could undo the release after it.

While something is held, a timer looks after it ten times in each visibility timeout. If it
runs late, the event loop stood still, and nothing could be extended meanwhile.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ..core.batching import Policy
from ..core.visibility import ExtensionSchedule
from ..errors import AccessDenied, QueueError, SendError
from ..logs import about, get_logger
from ..sending.lanes import Entry, Lanes
from ..sqs.port import SQS, Failure
from ..tasks import TaskOwner
from .delivery import Delivery
from .statistics import Counts

logger = get_logger(__name__)

LINGER: Final = 0.02
"""Seconds that a change waits for company while another batch is in flight."""

TICK: Final = 0.1
"""The part of the visibility timeout after which the timer comes again, at the latest: so exactly
is known for how long the event loop stood still."""

STALL: Final = 2 * TICK
"""The part of the visibility timeout by which the timer is late where the loop stood still for
long enough to matter."""

AFTERMATH: Final = 1.0
"""Seconds after such a stall in which what is received may have been handed out before its end."""


class Visibility:
    """The visibility of the messages held. *overdue* hears of each that was held for
    *max_extension*; it is then kept no more."""

    def __init__(
        self,
        owner: TaskOwner,
        port: SQS,
        url: str,
        counts: Counts,
        *,
        timeout: float,
        max_extension: float,
        overdue: Callable[[Delivery], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._url = url
        self._counts = counts
        self._timeout = timeout
        self._overdue = overdue
        self._schedule: ExtensionSchedule[Delivery] = ExtensionSchedule(timeout, max_extension)
        self._timer: asyncio.TimerHandle | None = None
        self._stall = (-math.inf, -math.inf)
        self._pending: dict[Delivery, Change] = {}
        self._closed = False
        policy = Policy(linger=LINGER)
        self._lanes: Lanes[Change] = Lanes(
            owner, _changing(port), lambda url: policy, name="ChangeMessageVisibilityBatch"
        )

    def __len__(self) -> int:
        return len(self._schedule)

    def __contains__(self, delivery: Delivery) -> bool:
        """Whether it is kept hidden."""
        return delivery in self._schedule

    def hold(self, delivery: Delivery, now: float) -> None:
        """Keep a message that has just been received hidden."""
        self._schedule.hold(delivery, now)
        delivery.hidden_until = now + self._timeout
        if self._timer is None:
            self._tend()
        stood_still, went_on = self._stall
        if now < went_on + AFTERMATH:
            # SQS may have handed it out when the stall began.
            delivery.hidden_until = stood_still + self._timeout
            self.extend(delivery)

    def renew(self, delivery: Delivery, now: float) -> None:
        """A message that is held was received once more, and so is hidden from now on."""
        if delivery not in self._schedule:
            return
        self._schedule.renew(delivery, now)
        delivery.hidden_until = now + self._timeout

    def let_go(self, delivery: Delivery) -> None:
        """Extend it no more: it comes back when its visibility runs out."""
        self._schedule.let_go(delivery)

    def hidden_until(self, delivery: Delivery, now: float) -> float:
        """Until when it stays hidden, if it is let go now."""
        return self._schedule.hidden_until(delivery, now)

    def extend(self, delivery: Delivery) -> None:
        """Hide it for the whole timeout from now on."""
        self._change(delivery, math.ceil(self._timeout), extends=True)

    def change(self, delivery: Delivery, seconds: float) -> None:
        """Hide it for *seconds* from now on; 0 lets it come back at once."""
        self._change(delivery, math.ceil(seconds), extends=False)

    def _change(self, delivery: Delivery, seconds: int, *, extends: bool) -> None:
        pending = self._pending.get(delivery)
        if pending is not None:
            pending.replace(seconds, extends)
            return
        # After that it has come back by itself.
        change = Change(self, delivery, seconds, extends, delivery.hidden_until)
        self._pending[delivery] = change
        self._lanes.add(self._url, change)

    def ended(self, change: Change, error: QueueError | SendError | None) -> None:
        """A change is over."""
        delivery = change.delivery
        del self._pending[delivery]
        if error is not None:
            self._failed(change, error)
        elif change.handle == delivery.handle:
            delivery.hidden_until = change.left_at + change.seconds
            self._counts["extensions"] += change.extends
        if change.following is not None:
            seconds, extends = change.following
            self._change(delivery, seconds, extends=extends)

    def _failed(self, change: Change, error: QueueError | SendError) -> None:
        delivery = change.delivery
        in_work = delivery in self._schedule and not delivery.deleted
        # What SQS refuses for an older handle is made up for by the receive of the newer one.
        outdated = isinstance(error, SendError) and change.handle != delivery.handle
        if not change.extends or not in_work or outdated:
            # It was deleted or ran out: in either case SQS has already done what is right.
            logger.debug(
                "the visibility of a message was not changed: %s", error, extra=delivery.log_fields
            )
            return
        self._counts["extensions_failed"] += 1
        if not isinstance(error, AccessDenied):  # that is said once
            logger.warning(
                "message %s, in work since %.0f s, could not be kept hidden, and may be handled"
                " elsewhere as well: %s",
                delivery.received.message_id,
                self._loop.time() - delivery.since,
                error,
                extra=delivery.log_fields,
            )

    async def flush(self) -> None:
        """Make all changes now."""
        await self._lanes.flush()

    def close(self) -> None:
        """Extend nothing any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tend(self, due: float = math.inf) -> None:
        """Extend what is due, say what was held for too long, and come back in time. The timer
        was to come at *due*."""
        if self._closed:
            return
        now = self._loop.time()
        if now - due >= self._timeout * STALL:
            self._stood_still(due, now)
        for delivery in self._schedule.overdue(now):
            self._overdue(delivery)
        for delivery in self._schedule.to_extend(now):
            self.extend(delivery)
        at = self._schedule.next_at()
        if at is None:
            self._timer = None
        else:
            at = min(at, now + self._timeout * TICK)
            self._timer = self._loop.call_at(at, self._tend, at)

    def _stood_still(self, since: float, now: float) -> None:
        self._stall = (since - self._timeout * TICK, now)
        exposed = self._schedule.exposed(lambda delivery: delivery.hidden_until, now)
        if exposed and now - since >= self._timeout * (0.5 - TICK):
            logger.warning(
                "the event loop stood still for %.1f s, so %d messages of %s could not be kept"
                " hidden (visibility_timeout is %d s), and may be handled elsewhere as well. Let"
                " what computes or waits without 'await' run in a thread or a process of its own",
                now - since,
                exposed,
                self._url,
                self._timeout,
                extra=about(self._url),
            )


class Change(Entry):
    """A change of one message's visibility."""

    __slots__ = (
        "_left",
        "_visibility",
        "delivery",
        "extends",
        "following",
        "handle",
        "left_at",
        "seconds",
    )

    def __init__(
        self,
        visibility: Visibility,
        delivery: Delivery,
        seconds: int,
        extends: bool,
        expires: float,
    ) -> None:
        super().__init__(0, expires)
        self._visibility = visibility
        self._left = False
        self.delivery = delivery
        self.seconds = seconds
        self.extends = extends
        """Whether it only keeps hidden what is in work."""
        self.following: tuple[int, bool] | None = None
        """What was asked for since it left: seconds, and whether that extends."""
        self.handle = delivery.handle
        """The receipt handle that it was made with."""
        self.left_at = 0.0

    def replace(self, seconds: int, extends: bool) -> None:
        """Make this change instead, or after the one that has left already."""
        if self._left:
            self.following = seconds, extends
        else:
            self.seconds, self.extends = seconds, extends

    def leave(self, now: float) -> tuple[str, int]:
        """What to ask of SQS now."""
        if self.following is not None:
            # It left before, and failed.
            (self.seconds, self.extends), self.following = self.following, None
        self._left = True
        self.left_at = now
        self.handle = self.delivery.handle
        return self.handle, self.seconds

    def done(self, result: str | None) -> None:
        self._visibility.ended(self, None)

    def failed(self, error: QueueError | SendError) -> None:
        self._visibility.ended(self, error)


def _changing(
    port: SQS,
) -> Callable[[str, Sequence[Change]], Awaitable[Sequence[Failure | None]]]:
    warned = False

    async def change(url: str, batch: Sequence[Change]) -> Sequence[Failure | None]:
        nonlocal warned
        now = asyncio.get_running_loop().time()
        try:
            return await port.change_visibility(url, [entry.leave(now) for entry in batch])
        except AccessDenied as error:
            if not warned:
                warned = True
                logger.warning(
                    "messages cannot be kept hidden nor released, so what takes longer than the"
                    " visibility timeout is done again meanwhile: %s",
                    error,
                    extra=about(url),
                )
            raise

    return change
