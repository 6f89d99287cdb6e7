"""`LiveQueue`: one reply queue of SQS, from its creation to its loss or deletion.

How a reply finds its request: each request is in the table `waiters` under its correlation id.
Receives long-poll the queue while anybody waits. Each reply that they bring is looked up in the
table, and resolves the request that it finds. A reply that nobody waits for is late, a duplicate,
or forged: it is counted, and deleted like all others.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ..core import wire
from ..core.backoff import Backoff
from ..core.failing import FailureStreak
from ..core.limits import BATCH_ENTRIES
from ..core.pacing import Pacer
from ..core.polling import Receivers
from ..errors import QueueError, QueueNotFound, ReplyQueueClosed, ReplyQueueLost
from ..logs import about, get_logger
from ..sending.entries import Deletion
from ..sending.lanes import Lanes
from ..sqs.attempts import attempt
from ..sqs.port import SQS, Received
from ..tasks import TaskOwner
from .heartbeat import Heartbeat
from .sweeper import Sweeper

if TYPE_CHECKING:
    from .pending import PendingRequest

logger = get_logger(__name__)

YOUNG: Final = 10.0
"""Seconds after its creation in which a queue that "does not exist" is only not there yet."""


class ReplyQueueSettings(NamedTuple):
    """How reply queues are made and looked after. Durations in seconds."""

    prefix: str
    heartbeat_interval: float
    idle_retention: float
    message_retention: int
    sweep_interval: float | None
    legacy: bool
    wait_time: int
    attributes: dict[str, str]
    tags: dict[str, str]


@dataclass(slots=True)
class Counts:
    """What happened to all the queues of one `ReplyQueue`."""

    created: int = 0
    lost: int = 0
    replies: int = 0
    unmatched: int = 0
    receives: int = 0


class LiveQueue:
    """One reply queue of SQS, and the requests that wait on it.

    Args:
        owner: Owns the tasks.
        port: The port to SQS.
        url: The queue, which was created a moment ago.
        settings: How it is looked after.
        pacer: How often.
        counts: Counts on from queue to queue.
        deletes: Takes the replies that have come.
        receive_soon: Asks for `receive_now`, once the requests have left.
        lost: Called with this where SQS has said that the queue is gone.
        streak: Hears of the receives that fail.
        doubtful: The time in its tags has turned out to be wrong.
    """

    def __init__(
        self,
        owner: TaskOwner,
        port: SQS,
        url: str,
        settings: ReplyQueueSettings,
        *,
        pacer: Pacer,
        counts: Counts,
        deletes: Lanes[Deletion],
        receive_soon: Callable[[], None],
        lost: Callable[[LiveQueue], None],
        streak: FailureStreak,
        doubtful: bool = False,
    ) -> None:
        self.url = url
        self.born = owner.loop.time()
        self.waiters: dict[str, PendingRequest] = {}
        """The requests that wait for a reply, by their correlation ids."""
        self.receivers = Receivers()
        self.consecutive_failures = 0
        """Receives that have failed since the last that did not."""
        self.trouble: QueueError | None = None
        """Why the last receive failed, if it did."""
        self.polled: float | None = None
        """When a receive last succeeded, by the loop's time."""
        self._streak = streak
        self._owner = owner
        self._port = port
        self._wait_time = settings.wait_time
        self._counts = counts
        self._deletes = deletes
        self._receive_soon = receive_soon
        self._lost = lost
        self._over: tuple[type[ReplyQueueLost | ReplyQueueClosed], str] | None = None
        self._backoff = Backoff()
        self._retry_at = -math.inf
        self.heartbeat = Heartbeat(
            port,
            url,
            pacer=pacer,
            legacy=settings.legacy,
            not_there=self._not_there,
            doubtful=doubtful,
        )
        self.sweeper: Sweeper | None = None
        """`None` where sweeping is turned off."""
        if settings.sweep_interval is not None:
            self.sweeper = Sweeper(port, settings.prefix, url, pacer=pacer)
        self._care: list[asyncio.Task[None]] = [owner.spawn(self.heartbeat.run)]
        if self.sweeper is not None:
            self._care.append(owner.spawn(self.sweeper.run))

    def __repr__(self) -> str:
        return f"<LiveQueue {self.url}, {len(self.waiters)} waiting>"

    # ---------------------------------------------------------------------- its life

    def young(self, seconds: float) -> bool:
        """Whether it was created in the last so many *seconds*. One that SQS does not know then
        may just not be there yet."""
        return self._owner.loop.time() < self.born + seconds

    def _not_there(self) -> bool:
        """SQS has said that the queue does not exist. True where it is lost by that."""
        if self.young(YOUNG):
            return False
        self._lost(self)
        return True

    def end(self, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str) -> None:
        """Look after it no longer. Fail the requests that wait, and those that still come."""
        self._over = kind, why
        self.neglect()
        for request in self._emptied():
            request.lose(kind, why)

    def neglect(self) -> None:
        """Stop its heartbeat and its sweeper."""
        for task in self._care:
            task.cancel()

    def care_counts(self) -> Counter[str]:
        """What heartbeat and sweeper have done."""
        counts = Counter(
            heartbeats=self.heartbeat.beats, heartbeat_failures=self.heartbeat.failures
        )
        if self.sweeper is not None:
            counts.update(swept=self.sweeper.deleted, sweep_failures=self.sweeper.failures)
        return counts

    # -------------------------------------------------------------- who waits on it

    def register(self, request: PendingRequest) -> None:
        """Wait for the reply to *request*; a receive is in flight soon."""
        if self._over is not None:
            # It ended between its creation and now.
            request.lose(*self._over)
            return
        self.waiters[request.correlation_id] = request
        if not self.receivers.in_flight:
            self._receive_soon()

    def _emptied(self) -> list[PendingRequest]:
        requests = list(self.waiters.values())
        self.waiters.clear()
        return requests

    def _fail(self, error: QueueError) -> None:
        """Fail the requests that wait, but not those that come later."""
        for request in self._emptied():
            request.fail(error)

    # ----------------------------------------------------------------------- replies

    def receive_now(self) -> None:
        """Start the receives that should be in flight."""
        receivers = self.receivers
        # Each request may have one reply coming; those that were asked for come elsewhere.
        while (
            (room := len(self.waiters) - receivers.in_flight * BATCH_ENTRIES) > 0
            and self._owner.running
            and receivers.ask(room)
        ):
            receivers.started()
            self._owner.spawn(self._receive)

    async def _receive(self) -> None:
        """One receive, and what comes of it."""
        self._counts.receives += 1
        time = self._owner.loop.time
        began = time()
        if self.consecutive_failures:
            attempt.set(1 + self.consecutive_failures)
        try:
            messages = await self._port.receive(
                self.url, max_messages=BATCH_ENTRIES, wait_time=self._wait_time
            )
        except QueueError as error:
            # Counted as in flight during its pause, so that no other starts meanwhile.
            await self._receive_failed(error)
            self.receivers.failed()
        except Exception as error:
            logger.exception("a receive failed in a way that it should not", extra=about(self.url))
            self._fail(QueueError(f"the reply queue cannot be read: {error!r}", queue=self.url))
            self.receivers.failed()
        else:
            if self.consecutive_failures:
                self.trouble = None
                self.consecutive_failures = 0
                self._streak.over(time())
                self._backoff.reset()
            now = self.polled = time()
            for received in messages:
                self._dispatch(received, now)
            pause = self.receivers.pause(len(messages), now - began, self._wait_time)
            if pause:
                await self._owner.pause(pause)
            self.receivers.ended(BATCH_ENTRIES, len(messages))
        self.receive_now()

    async def _receive_failed(self, error: QueueError) -> None:
        self.consecutive_failures += 1
        self.trouble = error
        missing = isinstance(error, QueueNotFound)
        if missing and self._not_there():
            return
        passing = error.transient or missing
        self._streak.failed(error, self._owner.loop.time(), lasting=not passing)
        if passing:
            loop = self._owner.loop
            now = loop.time()
            # Receives that were in flight together count as one failure, not as many.
            if now >= self._retry_at:
                self._retry_at = now + self._backoff.next()
            await asyncio.sleep(self._retry_at - now)
        else:
            # It will not heal by itself, so whoever waits should know at once. The next
            # request tries again.
            logger.error("the reply queue cannot be read: %s", error, extra=about(self.url))
            self._fail(error)

    def _dispatch(self, received: Received, now: float) -> None:
        """Take a reply to the request that waits for it, and delete it."""
        try:
            head = wire.parse_reply(received.attributes)
            request = self.waiters.pop(head.correlation_id or "", None)
            if request is None:
                self._counts.unmatched += 1
                logger.debug(
                    "deleted a reply that nobody waits for: %s",
                    received.message_id,
                    extra=about(self.url, received.message_id, head.correlation_id),
                )
            else:
                self._counts.replies += 1
                request.resolve(head, received)
        except Exception:  # whatever somebody sends us, the others' replies come after it
            logger.exception(
                "a reply could not be taken", extra=about(self.url, received.message_id)
            )
        self._deletes.add(self.url, Deletion(received.receipt_handle, now))
