"""`ReplyQueue`: the requester's own temporary queue: its creation, loss and deletion.

A reply queue is disposable. A `LiveQueue` is one queue of SQS under one name. If SQS says that it
is gone, the requests that wait on it fail at once, and the next request makes a new one under a
new name.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

from ..connection import Connection, check_connection
from ..core import wire
from ..core.checks import check_flag, check_seconds, checked_tags, whole_seconds
from ..core.failing import FORGOTTEN, FailureStreak
from ..core.limits import MIN_RETENTION, RETENTION, WAIT_TIME
from ..core.names import DEFAULT_PREFIX, check_prefix, new_reply_queue_name
from ..core.pacing import Pacer
from ..core.queue_attributes import queue_attributes
from ..errors import QueueError, QueueNotFound, ReplyQueueClosed, ReplyQueueLost
from ..health import Ailment, Vitals, said
from ..logs import about, get_logger
from ..retry import retrying
from ..sending.entries import delete_lanes
from ..sqs.port import SQS
from ..tasks import DeferredCall, SingleFlight, TaskOwner
from .heartbeat import STALE
from .live_queue import Counts, LiveQueue, ReplyQueueSettings

logger = get_logger(__name__)

T = TypeVar("T")

VISIBILITY_TIMEOUT = 5
"""Seconds. It is longer than any delete lingers, so that no reply is received twice. It is short,
since a receive whose answer got lost hides its replies for so long."""

DELETE_LINGER = 1.5
"""Seconds for which the delete of a reply waits for others: a reply that comes twice does no
harm."""

YOUNG_INTERVAL = 0.25

YOUNG_AT_CLOSING = 2.0
"""Seconds after its creation in which a queue that is to be deleted and "does not exist" is only
not there yet: nobody should wait long for one that is gone."""

CREATION_PATIENCE = 5.0
"""Seconds for which leaving waits for a queue that is just being created, to delete it."""

CLOSE_PATIENCE = 5.0
"""Seconds for which deleting the queue is tried when leaving."""

REFILL_PATIENCE = 0.005
"""Seconds for which the poll for the reply to a request waits until the request has left."""

READ_MARGIN = 2.0
"""Seconds by which a long poll ends before the client's read timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyQueueStatistics:
    """A snapshot of a `ReplyQueue`. Counters count from when it was entered.

    Attributes:
        url: The queue's URL; `None` while there is no queue.
        pending: Requests that wait for a reply.
        replies: Replies that reached their request.
        unmatched: Replies that nobody waited for: late, duplicate or forged. Deleted.
        receives: ReceiveMessage calls made.
        created: Queues created: more than one where queues were lost.
        lost: Queues that vanished.
        consecutive_failures: Receives that have failed since the last that did not.
        heartbeats: Heartbeats written to the queue's tags, that of its creation apart.
        heartbeat_failures: Heartbeats that failed.
        swept: Abandoned queues of others that were deleted.
        sweep_failures: Sweeps that failed, for want of a permission among others.
        fleet: How many queues share the prefix, as the last sweep saw it; 1 before.
    """

    url: str | None
    pending: int
    replies: int
    unmatched: int
    receives: int
    created: int
    lost: int
    consecutive_failures: int
    heartbeats: int
    heartbeat_failures: int
    swept: int
    sweep_failures: int
    fleet: int


class ReplyQueue:
    """A temporary queue for replies, with its receives, its heartbeat and its sweeper.

    A `Publisher` makes its own. Make one yourself to share it among several publishers, or
    to choose its settings. Use it as an async context manager. You may enter it in one task and
    leave it in another. The first request creates the queue, and leaving deletes it; requests
    that still wait then fail with `ReplyQueueClosed`.

    Args:
        sqs: The connection.
        prefix: What the queue's name begins with; 32 random digits follow. Workers answer
            only to prefixes that they know (`Poller(reply_queue_prefixes=…)`), and
            processes with the same prefix sweep each other's abandoned queues.
        heartbeat_interval: Seconds between heartbeats. In fleets of hundreds of processes
            it grows by itself, to stay below SQS's limit on tagging. It grows too while SQS
            throttles tag calls. The retention grows with it.
        idle_retention: Seconds without a heartbeat after which others may delete the
            queue. At least three heartbeats.
        message_retention: Whole seconds that SQS keeps a reply, at least 60.
        sweep_interval: Seconds between sweeps for abandoned queues; `None` for no sweeps. Then
            the size of the fleet stays unknown, and heartbeats slow down only once SQS
            throttles them.
        legacy: Also mark the queue and the requests as `python-sqs-client` expects.
        attributes: More attributes for the queue, by SQS's names, such as a KMS key.
        tags: More tags for the queue, such as those for cost allocation.

    Raises:
        ValueError: If the settings contradict each other or SQS's limits.
    """

    def __init__(
        self,
        sqs: Connection,
        *,
        prefix: str = DEFAULT_PREFIX,
        heartbeat_interval: float = 60.0,
        idle_retention: float = 300.0,
        message_retention: float = 300.0,
        sweep_interval: float | None = 300.0,
        legacy: bool = False,
        attributes: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        check_connection(sqs)
        check_prefix(prefix)
        check_flag("legacy", legacy)
        check_seconds("heartbeat_interval", heartbeat_interval)
        check_seconds("idle_retention", idle_retention)
        check_seconds("message_retention", message_retention)
        if sweep_interval is not None:
            check_seconds("sweep_interval", sweep_interval)
        if not 0 < heartbeat_interval < math.inf:
            raise ValueError(f"heartbeat_interval must be positive, not {heartbeat_interval}")
        if not 3 * heartbeat_interval <= idle_retention < math.inf:
            raise ValueError(
                "idle_retention must be at least three heartbeats, or a live queue may be swept:"
                f" {idle_retention} s with a heartbeat each {heartbeat_interval} s"
            )
        if not MIN_RETENTION <= message_retention <= RETENTION:
            raise ValueError(
                f"message_retention must be {MIN_RETENTION} to {RETENTION} seconds,"
                f" not {message_retention}"
            )
        if sweep_interval is not None and not 0 < sweep_interval < math.inf:
            raise ValueError(f"sweep_interval must be positive or None, not {sweep_interval}")
        wait_time = int(min(WAIT_TIME, sqs.read_timeout - READ_MARGIN))
        if wait_time < 1:
            raise ValueError(
                f"a read timeout of {sqs.read_timeout} s is too short for long polls: pass"
                " connect(config=AioConfig(read_timeout=…)) more than 20 s"
            )
        self._sqs = sqs
        self.settings = ReplyQueueSettings(
            prefix=prefix,
            heartbeat_interval=heartbeat_interval,
            idle_retention=idle_retention,
            message_retention=whole_seconds("message_retention", message_retention),
            sweep_interval=sweep_interval,
            legacy=legacy,
            wait_time=wait_time,
            attributes=queue_attributes(attributes),
            tags=checked_tags(tags),
        )
        self._owner = TaskOwner("sqs_orchestrator reply queue", self._closing)
        self.current: LiveQueue | None = None
        """The queue that replies go to now, if there is one."""
        self._creation: SingleFlight[LiveQueue] = SingleFlight(self._owner)
        self._unconfirmed: set[str] = set()
        self._pacer = Pacer(heartbeat_interval, idle_retention, sweep_interval)
        self._counts = Counts()
        self._past_care: Counter[str] = Counter()
        self._vitals = Vitals(self._owner, "the reply queue")
        self.creating, self.receiving = FailureStreak(FORGOTTEN), FailureStreak(FORGOTTEN)
        """What fails, if anything does."""
        self.receive_soon = DeferredCall(self._owner, REFILL_PATIENCE, self._receive_now)
        """Start the receives that should be in flight, once the requests have left."""

    def __repr__(self) -> str:
        where = self.url or f"{self.settings.prefix}…, not created"
        return f"<ReplyQueue {where}>"

    async def __aenter__(self) -> Self:
        port = self._sqs.port
        await self._owner.start()
        self._port: SQS = port
        self._deletes = delete_lanes(self._owner, port, linger=DELETE_LINGER)
        try:
            self._sqs.adopt(self)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Fail what waits, delete the queue; the same as leaving `async with`.

        Takes up to 5 s where SQS does not answer, and 5 s more for a queue that is just being
        created. Cancelling it does not cut it short.
        """
        try:
            await self._owner.stop()
        finally:
            self._sqs.release(self)

    @property
    def url(self) -> str | None:
        """The queue's URL; `None` while there is no queue."""
        return self.current.url if self.current is not None else None

    async def ready(self) -> None:
        """Create the queue now, unless it exists.

        Cancelling it leaves the creation to those who still wait for it.

        Raises:
            AccessDenied: If `sqs:CreateQueue` or `sqs:TagQueue` is not allowed.
            QueueError: If SQS cannot be reached for 30 s, or refuses.
            ReplyQueueClosed: If it was closed meanwhile.
            RuntimeError: If it is not open.
        """
        await self.live()

    def statistics(self) -> ReplyQueueStatistics:
        """A snapshot of the counters."""
        live, counts = self.current, self._counts
        care = self._past_care if live is None else self._past_care + live.care_counts()
        return ReplyQueueStatistics(
            url=self.url,
            pending=0 if live is None else len(live.waiters),
            replies=counts.replies,
            unmatched=counts.unmatched,
            receives=counts.receives,
            created=counts.created,
            lost=counts.lost,
            consecutive_failures=0 if live is None else live.consecutive_failures,
            heartbeats=care["heartbeats"],
            heartbeat_failures=care["heartbeat_failures"],
            swept=care["swept"],
            sweep_failures=care["sweep_failures"],
            fleet=self._pacer.fleet or 1,
        )

    # ------------------------------------------------------------ for the publishers

    def ailment(self, now: float) -> Ailment | None:
        """Why no reply can come through it now, if that is so."""
        ailment = self._vitals.ailment()
        if ailment is not None:
            return ailment
        for what, streak in (
            ("the reply queue cannot be created", self.creating),
            ("the reply queue cannot be read", self.receiving),
        ):
            since = streak.since(now)
            if since is not None and streak.error is not None:
                return Ailment(f"{what}: {said(streak.error)}", since)
        return None

    async def live(self) -> LiveQueue:
        """The queue that replies go to, made if need be."""
        if self.current is not None:
            return self.current
        if not self._owner.running or self._owner.stopping:
            raise self._owner.not_open("the reply queue", "ReplyQueue(…)")
        with self._owner.until_stop():
            return await self._creation.run("", self._create)
        raise ReplyQueueClosed("the reply queue was closed while it was being created")

    def _receive_now(self) -> None:
        if self.current is not None:
            self.current.receive_now()

    # ---------------------------------------------------------------------- its life

    async def _create(self) -> LiveQueue:
        port, settings = self._port, self.settings
        name = new_reply_queue_name(settings.prefix)
        if not port.clock.known:
            # Any answer of SQS's shows its time, a refusal well enough to begin with; and the
            # very first tags must have it: by a clock of this machine that is slow, the queue
            # would look abandoned at birth.
            await self._sqs.patiently(
                lambda: self._noted(_glance(port, name)), about=settings.prefix
            )
        attributes = {
            "MessageRetentionPeriod": str(settings.message_retention),
            "VisibilityTimeout": str(VISIBILITY_TIMEOUT),
            **settings.attributes,
        }

        loop = asyncio.get_running_loop()
        maybe = False
        offset: float | None = None

        async def create() -> str:
            # Anew for each try: a heartbeat must not be old when the queue begins.
            nonlocal offset
            now = port.clock.now()
            offset = None if now is None else now - loop.time()
            tags = wire.reply_queue_tags(
                now=now,
                retention=settings.idle_retention,
                sweeping=settings.sweep_interval is not None,
                legacy=settings.legacy,
            )
            self._unconfirmed.add(name)
            try:
                return await port.create_queue(name, attributes, {**settings.tags, **tags})
            except QueueError as error:
                nonlocal maybe
                maybe |= error.maybe_done
                if not maybe:
                    self._unconfirmed.discard(name)
                raise

        url = await self._sqs.patiently(lambda: self._noted(create()), about=settings.prefix)
        self._unconfirmed.discard(name)
        self._sqs.queues.at_home(url)
        now = port.clock.now()
        live = LiveQueue(
            self._owner,
            port,
            url,
            settings,
            pacer=self._pacer,
            counts=self._counts,
            deletes=self._deletes,
            receive_soon=self.receive_soon,
            lost=self._lose,
            streak=self.receiving,
            # By what its creation has shown, the time in its tags was not SQS's.
            doubtful=now is not None and not _is_near(offset, now - loop.time()),
        )
        self.current = live
        self._counts.created += 1
        logger.info("created the reply queue %s", url, extra=about(url))
        return live

    async def _noted(self, call: Awaitable[T]) -> T:
        """What *call*, a part of the creation, returns; whether it failed shows in `creating`."""
        time = asyncio.get_running_loop().time
        try:
            result = await call
        except QueueError as error:
            self.creating.failed(error, time(), lasting=not error.transient)
            raise
        self.creating.over(time())
        return result

    def _lose(self, live: LiveQueue) -> None:
        """The queue is gone: those who wait on it hear of it now, the next makes a new one."""
        if self.current is not live:
            return
        self._counts.lost += 1
        logger.warning(
            "the reply queue %s was deleted under us; %d requests that waited on it fail, and"
            " the next one makes a new queue",
            live.url,
            len(live.waiters),
            extra=about(live.url),
        )
        self._end(live, ReplyQueueLost, "the reply queue was deleted; try again")

    def _end(
        self, live: LiveQueue, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str
    ) -> None:
        self.current = None
        live.end(kind, why)
        self._past_care.update(live.care_counts())

    async def _closing(self) -> None:
        live = self._retire()
        # A queue that is just being created must not be left behind.
        with anyio.move_on_after(CREATION_PATIENCE):
            try:
                await self._creation.landed("")
            except Exception as error:
                logger.debug("no reply queue was created: %s", error)
        live = self._retire() or live
        until = asyncio.get_running_loop().time() + CLOSE_PATIENCE
        with anyio.CancelScope(deadline=until) as scope:
            if live is not None:
                await self._delete(live.url, until, live)
            for name in sorted(self._unconfirmed):
                await self._delete(name, until)
        if scope.cancelled_caught:
            logger.warning(
                "the reply queue was not deleted in time, and is left to the sweepers",
                extra=about(live.url if live is not None else None),
            )

    def _retire(self) -> LiveQueue | None:
        """Take no more requests for the queue that there is."""
        live = self.current
        if live is not None:
            self._end(live, ReplyQueueClosed, "its reply queue was closed")
        return live

    async def _delete(self, queue: str, until: float, live: LiveQueue | None = None) -> None:
        async def delete() -> None:
            url = queue if "/" in queue else await self._port.get_queue_url(queue)
            await self._port.delete_queue(url)

        while True:
            try:
                await retrying(delete, until=until)
            except QueueNotFound:
                if live is not None and live.young(YOUNG_AT_CLOSING):
                    await asyncio.sleep(YOUNG_INTERVAL)
                    continue
            except QueueError as error:
                logger.warning(
                    "the reply queue was not deleted, and is left to the sweepers: %s",
                    error,
                    extra=about(queue),
                )
            return


def _is_near(told: float | None, shown: float) -> bool:
    return told is not None and abs(told - shown) <= STALE


async def _glance(port: SQS, name: str) -> None:
    """Ask for a queue that does not exist, for the time that the answer carries."""
    try:
        await port.get_queue_url(name)
    except QueueNotFound:
        pass
    except QueueError as error:
        # A refusal shows the time as well; whether it matters, creating will tell.
        if error.transient:
            raise
