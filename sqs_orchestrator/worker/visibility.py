"""Keeps what a poller holds hidden from others, and lets it come back when it should.

Changes for one message never overtake each other: one that waits is replaced by the next,
and one in flight is followed by it. Else an extension could undo the release after it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from ..core.batching import Policy
from ..core.visibility import Keeper
from ..errors import AccessDenied, QueueError, SendError
from ..lanes import Entry, Lanes
from ..logs import get_logger
from ..sqs.port import SQS, Failure
from ..tasks import Host
from .held import Held

logger = get_logger(__name__)

LINGER = 0.02
"""Seconds that a change waits for company while another batch is in flight."""


class Visibility:
    """The visibility of the messages held. *overdue* hears of each that was held for
    *max_extension*; it is then kept no more."""

    def __init__(
        self,
        host: Host,
        port: SQS,
        url: str,
        *,
        timeout: float,
        max_extension: float,
        overdue: Callable[[Held], None],
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._overdue = overdue
        self._keeper: Keeper[Held] = Keeper(timeout, max_extension)
        self._timer: asyncio.TimerHandle | None = None
        self._pending: dict[Held, Change] = {}
        self._closed = False
        policy = Policy(linger=LINGER)
        self._lanes: Lanes[Change] = Lanes(
            host, _changing(port), lambda url: policy, name="ChangeMessageVisibilityBatch"
        )

    def __len__(self) -> int:
        return len(self._keeper)

    def hold(self, held: Held, now: float) -> None:
        """Keep a message that has just been received hidden."""
        self._keeper.hold(held, now)
        if self._timer is None:
            self._tend()

    def let_go(self, held: Held) -> None:
        """Extend it no more: it comes back when its visibility runs out."""
        self._keeper.let_go(held)

    def hidden_until(self, held: Held, now: float) -> float:
        """Until when it stays hidden, if it is let go now."""
        return self._keeper.hidden_until(held, now)

    def change(self, held: Held, seconds: float) -> None:
        """Hide it for *seconds* from now on; 0 lets it come back at once."""
        seconds = math.ceil(seconds)
        pending = self._pending.get(held)
        if pending is not None:
            pending.replace(seconds)
            return
        now = asyncio.get_running_loop().time()
        # After that it has come back by itself.
        change = Change(self, held, seconds, now + max(self._timeout / 2, 5.0))
        self._pending[held] = change
        self._lanes.add(self._url, change)

    def ended(self, held: Held, following: int | None) -> None:
        """A change is over; *following* is what was asked for since it left."""
        del self._pending[held]
        if following is not None:
            self.change(held, following)

    async def flush(self) -> None:
        """Make all changes now."""
        await self._lanes.flush()

    def close(self) -> None:
        """Extend nothing any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tend(self) -> None:
        """Extend what is due, say what was held for too long, and come back in time."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        for held in self._keeper.overdue(now):
            self._overdue(held)
        for held in self._keeper.to_extend(now):
            self.change(held, self._timeout)
        at = self._keeper.next_at()
        self._timer = None if at is None else loop.call_at(at, self._tend)


class Change(Entry):
    """A change of one message's visibility."""

    __slots__ = ("_following", "_held", "_left", "_visibility", "seconds")

    def __init__(self, visibility: Visibility, held: Held, seconds: int, expires: float) -> None:
        super().__init__(0, expires)
        self.seconds = seconds
        self._visibility = visibility
        self._held = held
        self._left = False
        self._following: int | None = None

    def replace(self, seconds: int) -> None:
        """Make this change instead, or after the one that has left already."""
        if self._left:
            self._following = seconds
        else:
            self.seconds = seconds

    def leave(self) -> tuple[str, int]:
        """What to ask of SQS now."""
        self._left = True
        return self._held.received.receipt_handle, self.seconds

    def done(self, result: str | None) -> None:
        self._visibility.ended(self._held, self._following)

    def failed(self, error: QueueError | SendError) -> None:
        # It was deleted or ran out: in either case SQS has already done what is right.
        logger.debug("the visibility of a message was not changed: %s", error)
        self.done(None)


def _changing(
    port: SQS,
) -> Callable[[str, Sequence[Change]], Awaitable[Sequence[Failure | None]]]:
    warned = False

    async def change(url: str, batch: Sequence[Change]) -> Sequence[Failure | None]:
        nonlocal warned
        try:
            return await port.change_visibility(url, [entry.leave() for entry in batch])
        except AccessDenied as error:
            if not warned:
                warned = True
                logger.warning(
                    "messages cannot be kept hidden nor released, so what takes longer than the"
                    " visibility timeout is done again meanwhile: %s",
                    error,
                )
            raise

    return change
