"""The requester's own temporary queue, and who waits on it.

How a reply finds its request: every request registers a `Waiter` under its correlation id;
receivers long-poll the queue while anybody waits, look the id of each reply up in that
table, and resolve the waiter. A reply that nobody waits for is late, a duplicate, or
forged: it is counted and deleted like all the others.

A reply queue is disposable. A `Live` is one queue of SQS under one name, from its creation
to its loss or deletion. If SQS says that it is gone, those who wait on it fail at once, and
the next request makes a new one under a new name.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import anyio

from ..connection import Connection, check_connection
from ..core import wire
from ..core.backoff import Backoff
from ..core.checks import check_flag, check_seconds, checked_tags, whole_seconds
from ..core.limits import BATCH_ENTRIES, MIN_RETENTION, RETENTION, WAIT_TIME
from ..core.names import DEFAULT_PREFIX, check_prefix, new_reply_queue_name
from ..core.pacing import Pacer
from ..core.polling import Receivers
from ..core.queue_attributes import queue_attributes
from ..errors import QueueError, QueueNotFound, ReplyQueueClosed, ReplyQueueLost
from ..logs import get_logger
from ..retry import retrying
from ..sending.entries import Deletion, delete_lanes
from ..sqs.attempts import attempt
from ..sqs.port import SQS, Received
from ..tasks import DeferredCall, SingleFlight, TaskOwner
from .heartbeat import STALE, YOUNG, Heartbeat
from .sweeper import Sweeper

logger = get_logger(__name__)

VISIBILITY_TIMEOUT = 5
"""Seconds. Longer than any delete lingers, so that no reply is received twice; short, since
a receive whose answer got lost hides its replies for this long."""

DELETE_LINGER = 1.5
"""Seconds that the delete of a reply waits for company: a reply seen twice is harmless."""

YOUNG_INTERVAL = 0.25

YOUNG_AT_CLOSING = 2.0
"""The same when it is to be deleted: nobody should wait long for a queue that is gone."""

CREATION_PATIENCE = 5.0
"""Seconds for which leaving waits for a queue that is just being created, to delete it."""

CLOSE_PATIENCE = 5.0
"""Seconds for which deleting the queue is tried when leaving."""

REFILL_PATIENCE = 0.005
"""Seconds for which the poll for the reply to a request waits until the request has left."""

READ_MARGIN = 2.0
"""Seconds by which a long poll ends before the client's read timeout."""


class Waiter(Protocol):
    """One who waits for replies."""

    correlation_id: str

    def resolve(self, head: wire.ReplyHead, received: Received) -> bool:
        """Take a reply; true when nothing more is awaited."""
        ...

    def lose(self, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str) -> None:
        """Fail with an error of *kind*."""
        ...

    def fail(self, error: QueueError) -> None:
        """Fail because the reply queue cannot be read."""
        ...


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


class Live:
    """One queue of SQS under one name, from its creation to its loss, and its waiters."""

    __slots__ = (
        "_over",
        "born",
        "heartbeat",
        "receivers",
        "refill",
        "scopes",
        "sweeper",
        "trouble",
        "url",
        "waiters",
    )

    def __init__(self, url: str, born: float, refill: Callable[[], None]) -> None:
        self.url = url
        self.born = born
        self.waiters: dict[str, Waiter] = {}
        self.receivers = Receivers()
        self.heartbeat: Heartbeat | None = None
        self.sweeper: Sweeper | None = None
        self.scopes: list[anyio.CancelScope] = []
        self.trouble: QueueError | None = None
        """Why the last receive failed, if it did."""
        self._over: tuple[type[ReplyQueueLost | ReplyQueueClosed], str] | None = None
        self.refill = refill
        """Start the receives that should be in flight, once the requests have left."""

    def register(self, waiter: Waiter) -> None:
        """Wait for the replies to *waiter*; a receive is in flight soon."""
        if self._over is not None:
            # It ended between its creation and now.
            waiter.lose(*self._over)
            return
        self.waiters[waiter.correlation_id] = waiter
        if not self.receivers.in_flight:
            self.refill()

    def forget(self, waiter: Waiter) -> None:
        """Wait for them no more."""
        self.waiters.pop(waiter.correlation_id, None)

    def end(self, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str) -> None:
        """Fail those who wait, and whoever still comes."""
        self._over = kind, why
        for waiter in self._emptied():
            waiter.lose(kind, why)

    def fail(self, error: QueueError) -> None:
        """Fail those who wait, but not whoever comes later."""
        for waiter in self._emptied():
            waiter.fail(error)

    def _emptied(self) -> list[Waiter]:
        waiters = list(self.waiters.values())
        self.waiters.clear()
        return waiters

    def counts(self) -> Counter[str]:
        """What heartbeat and sweeper have done for it."""
        counts: Counter[str] = Counter()
        if self.heartbeat is not None:
            counts["heartbeats"] = self.heartbeat.beats
            counts["heartbeat_failures"] = self.heartbeat.failures
        if self.sweeper is not None:
            counts["swept"] = self.sweeper.deleted
            counts["sweep_failures"] = self.sweeper.failures
        return counts


class ReplyQueue:
    """A temporary queue for replies, with its receive task, heartbeat and sweeper.

    A `Publisher` makes its own. Make one yourself to share it among several publishers, or
    to choose its settings. Use it as an async context manager; it may be entered in one
    task and left in another. The queue is created when first needed, and deleted on
    leaving; requests that still wait then fail with `ReplyQueueClosed`.

    Args:
        sqs: The connection.
        prefix: What the queue's name begins with; 32 random digits follow. Workers answer
            only to prefixes that they know (`Poller(reply_queue_prefixes=…)`), and
            processes with the same prefix sweep each other's abandoned queues.
        heartbeat_interval: Seconds between heartbeats. In fleets of hundreds of processes
            it grows by itself, to stay below SQS's limit on tagging; and wherever SQS
            throttles that, until it no longer does. The retention grows with it.
        idle_retention: Seconds without a heartbeat after which others may delete the
            queue. At least three heartbeats.
        message_retention: Whole seconds that SQS keeps a reply, at least 60.
        sweep_interval: Seconds between looks for abandoned queues; `None`: never. Then the
            size of the fleet stays unknown, and heartbeats slow down only once throttled.
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
        self._wait_time = int(min(WAIT_TIME, sqs.read_timeout - READ_MARGIN))
        if self._wait_time < 1:
            raise ValueError(
                f"a read timeout of {sqs.read_timeout} s is too short for long polls: pass"
                " connect(config=AioConfig(read_timeout=…)) more than 20 s"
            )
        self._sqs = sqs
        self.prefix = prefix
        self.legacy = legacy
        self._heartbeat_interval = heartbeat_interval
        self._idle_retention = idle_retention
        self._message_retention = whole_seconds("message_retention", message_retention)
        self._sweep_interval = sweep_interval
        self._attributes = queue_attributes(attributes)
        self._tags = checked_tags(tags)
        self._owner = TaskOwner("sqs_orchestrator reply queue", self._closing)
        self._live: Live | None = None
        self._creation: SingleFlight[Live] = SingleFlight(self._owner)
        self._replies = self._unmatched = self._receives = self._created = self._lost = 0
        self._consecutive_failures = 0
        self._unconfirmed: set[str] = set()
        self._pacer = Pacer(heartbeat_interval, idle_retention, sweep_interval)
        self._past: Counter[str] = Counter()
        self._backoff = Backoff()
        self._retry_at = -math.inf
        self.refill = DeferredCall(self._owner, REFILL_PATIENCE, self._refill)
        """Start the receives that should be in flight, once the requests have left."""

    def __repr__(self) -> str:
        where = self._live.url if self._live else f"{self.prefix}…, not created"
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
        return self._live.url if self._live is not None else None

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
        live = self._live
        care = self._past + live.counts() if live is not None else self._past
        return ReplyQueueStatistics(
            url=self.url,
            pending=len(live.waiters) if live else 0,
            replies=self._replies,
            unmatched=self._unmatched,
            receives=self._receives,
            created=self._created,
            lost=self._lost,
            consecutive_failures=self._consecutive_failures,
            heartbeats=care["heartbeats"],
            heartbeat_failures=care["heartbeat_failures"],
            swept=care["swept"],
            sweep_failures=care["sweep_failures"],
            fleet=self._pacer.fleet or 1,
        )

    # ------------------------------------------------------------ for the publishers

    @property
    def current(self) -> Live | None:
        """The queue that replies go to now, if there is one."""
        return self._live

    async def live(self) -> Live:
        """The queue that replies go to, made if need be."""
        if self._live is not None:
            return self._live
        if not self._owner.running or self._owner.stopping:
            raise self._owner.not_open("the reply queue", "ReplyQueue(…)")
        with self._owner.until_stop():
            return await self._creation.run("", self._create)
        raise ReplyQueueClosed("the reply queue was closed while it was being created")

    # ---------------------------------------------------------------------- its life

    async def _create(self) -> Live:
        port = self._port
        name = new_reply_queue_name(self.prefix)
        if not port.clock.known:
            # Any answer of SQS's shows its time, a refusal well enough to begin with; and the
            # very first tags must have it: by a clock of this machine that is slow, the queue
            # would look abandoned at birth.
            await self._sqs.patiently(lambda: _glance(port, name), about=self.prefix)
        attributes = {
            "MessageRetentionPeriod": str(self._message_retention),
            "VisibilityTimeout": str(VISIBILITY_TIMEOUT),
            **self._attributes,
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
                retention=self._idle_retention,
                sweeping=self._sweep_interval is not None,
                legacy=self.legacy,
            )
            self._unconfirmed.add(name)
            try:
                return await port.create_queue(name, attributes, {**self._tags, **tags})
            except QueueError as error:
                nonlocal maybe
                maybe |= error.maybe_done
                if not maybe:
                    self._unconfirmed.discard(name)
                raise

        url = await self._sqs.patiently(create, about=self.prefix)
        self._unconfirmed.discard(name)
        self._sqs.queues.at_home(url)
        live = Live(url, loop.time(), self.refill)
        self._created += 1
        self._live = live
        logger.info("created the reply queue %s", url)
        now = port.clock.now()
        self._care(live, doubtful=now is not None and not _is_near(offset, now - loop.time()))
        return live

    def _care(self, live: Live, *, doubtful: bool) -> None:
        """Start heartbeat and sweeper of a new queue; they end with it. *doubtful*: by what its
        creation has shown, the time in its tags was not SQS's."""
        live.heartbeat = Heartbeat(
            self._port,
            live.url,
            pacer=self._pacer,
            legacy=self.legacy,
            lost=lambda: self._lose(live),
            doubtful=doubtful,
        )
        self._owner.spawn(self._while_live, live, live.heartbeat.run)
        if self._sweep_interval is not None:
            live.sweeper = Sweeper(
                self._port,
                self.prefix,
                live.url,
                pacer=self._pacer,
            )
            self._owner.spawn(self._while_live, live, live.sweeper.run)

    async def _while_live(self, live: Live, run: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            live.scopes.append(scope)
            await run()

    def _lose(self, live: Live) -> None:
        """The queue is gone: those who wait on it hear of it now, the next makes a new one."""
        if self._live is not live:
            return
        self._live = None
        self._lost += 1
        logger.warning(
            "the reply queue %s was deleted under us; %d requests that waited on it fail, and"
            " the next one makes a new queue",
            live.url,
            len(live.waiters),
        )
        self._end(live, ReplyQueueLost, "the reply queue was deleted; try again")

    def _end(self, live: Live, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str) -> None:
        """Nobody waits on the queue or cares for it any more; its counts go into ours."""
        live.end(kind, why)
        for scope in live.scopes:
            scope.cancel()
        self._past.update(live.counts())

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
                await self._delete(live.url, until, young_until=live.born + YOUNG_AT_CLOSING)
            for name in sorted(self._unconfirmed):
                await self._delete(name, until)
        if scope.cancelled_caught:
            logger.warning("the reply queue was not deleted in time, and is left to the sweepers")

    def _retire(self) -> Live | None:
        """Take no more requests for the queue that there is."""
        live, self._live = self._live, None
        if live is not None:
            self._end(live, ReplyQueueClosed, "its reply queue was closed")
        return live

    async def _delete(self, queue: str, until: float, young_until: float = -math.inf) -> None:
        loop = asyncio.get_running_loop()

        async def delete() -> None:
            url = queue if "/" in queue else await self._port.get_queue_url(queue)
            await self._port.delete_queue(url)

        while True:
            try:
                await retrying(delete, until=until)
            except QueueNotFound:
                if loop.time() < young_until:
                    await asyncio.sleep(YOUNG_INTERVAL)
                    continue
            except QueueError as error:
                logger.warning(
                    "the reply queue was not deleted, and is left to the sweepers: %s", error
                )
            return

    # ----------------------------------------------------------------------- replies

    def _refill(self) -> None:
        """Start the receives that should be in flight."""
        live = self._live
        if live is None:
            return
        receivers = live.receivers
        # Every waiter may have one reply coming; those asked for already come elsewhere.
        while self._owner.running and receivers.ask(
            len(live.waiters) - receivers.in_flight * BATCH_ENTRIES
        ):
            receivers.started()
            self._owner.spawn(self._receive, live)

    async def _receive(self, live: Live) -> None:
        """One receive, and what comes of it."""
        self._receives += 1
        began = asyncio.get_running_loop().time()
        if self._consecutive_failures:
            attempt.set(1 + self._consecutive_failures)
        try:
            messages = await self._port.receive(
                live.url, max_messages=BATCH_ENTRIES, wait_time=self._wait_time
            )
        except QueueError as error:
            # Counted as in flight during its pause, so that no other starts meanwhile.
            await self._receive_failed(live, error)
            live.receivers.failed()
        except Exception as error:
            logger.exception("a receive failed in a way that it should not")
            live.fail(QueueError(f"the reply queue cannot be read: {error!r}", queue=live.url))
            live.receivers.failed()
        else:
            live.trouble = None
            self._consecutive_failures = 0
            self._backoff.reset()
            now = asyncio.get_running_loop().time()
            for received in messages:
                self._dispatch(live, received, now)
            pause = live.receivers.pause(len(messages), now - began, self._wait_time)
            await self._owner.pause(pause)
            live.receivers.ended(BATCH_ENTRIES, len(messages))
        if self._live is live:
            self._refill()

    async def _receive_failed(self, live: Live, error: QueueError) -> None:
        self._consecutive_failures += 1
        live.trouble = error
        now = asyncio.get_running_loop().time()
        young = isinstance(error, QueueNotFound) and now < live.born + YOUNG
        if error.transient or young:
            # Receives that were in flight together count as one failure, not as many.
            if now >= self._retry_at:
                self._retry_at = now + self._backoff.next()
            await asyncio.sleep(self._retry_at - now)
        elif isinstance(error, QueueNotFound):
            self._lose(live)
        else:
            # It will not heal by itself, so whoever waits should know at once. The next
            # request tries again.
            logger.error("the reply queue cannot be read: %s", error)
            live.fail(error)

    def _dispatch(self, live: Live, received: Received, now: float) -> None:
        try:
            head = wire.parse_reply(received.attributes)
            waiter = live.waiters.get(head.correlation_id) if head.correlation_id else None
            if waiter is None:
                self._unmatched += 1
                logger.debug("deleted a reply that nobody waits for: %s", received.message_id)
            else:
                self._replies += 1
                if waiter.resolve(head, received):
                    live.forget(waiter)
        except Exception:  # whatever somebody sends us, the others' replies come after it
            logger.exception("a reply could not be taken")
        self._deletes.add(live.url, Deletion(received.receipt_handle, now))


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
