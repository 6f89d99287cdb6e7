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
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import anyio

from .connection import Connection
from .core import wire
from .core.backoff import Backoff
from .core.limits import BATCH_ENTRIES, MIN_RETENTION, RETENTION, WAIT_TIME
from .core.polling import Receivers
from .errors import QueueError, QueueNotFound, ReplyQueueClosed, ReplyQueueLost
from .outgoing import Deletion, delete_lanes
from .retry import retrying
from .sqs.port import SQS, Received
from .tasks import Flights, Host

logger = logging.getLogger(__name__)

DEFAULT_PREFIX = "sqs_orchestrator_reply_"

VISIBILITY_TIMEOUT = 5
"""Seconds. Longer than any delete lingers, so that no reply is received twice; short, since
a receive whose answer got lost hides its replies for this long."""

DELETE_LINGER = 1.5
"""Seconds that the delete of a reply waits for company: a reply seen twice is harmless."""

YOUNG = 10.0
"""Seconds in which "does not exist" means "not yet": SQS asks for one after creating."""

CLOSE_PATIENCE = 5.0
"""Seconds for which deleting the queue is tried again when leaving."""


class Waiter:
    """One who waits for replies. `publisher` has the kinds of them."""

    __slots__ = ()

    correlation_id: str

    def resolve(self, head: wire.ReplyHead, received: Received) -> bool:
        """Take a reply; true when nothing more is awaited."""
        raise NotImplementedError

    def lose(self, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str) -> None:
        """Fail with an error of *kind*."""
        raise NotImplementedError

    def fail(self, error: QueueError) -> None:
        """Fail because the reply queue cannot be read."""
        raise NotImplementedError


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
    """

    url: str | None
    pending: int
    replies: int
    unmatched: int
    receives: int
    created: int
    lost: int
    consecutive_failures: int


class Live:
    """One queue of SQS under one name, from its creation to its loss, and its waiters."""

    __slots__ = ("_wake", "born", "heartbeat", "receivers", "sweeper", "url", "waiters")

    def __init__(self, url: str, born: float, wake: Callable[[Live], None]) -> None:
        self.url = url
        self.born = born
        self.waiters: dict[str, Waiter] = {}
        self.receivers = Receivers()
        self._wake = wake

    def register(self, waiter: Waiter) -> None:
        """Wait for the replies to *waiter*; a receive is in flight from now on."""
        self.waiters[waiter.correlation_id] = waiter
        if not self.receivers.in_flight:
            self._wake(self)

    def forget(self, waiter: Waiter) -> None:
        """Wait for them no more."""
        self.waiters.pop(waiter.correlation_id, None)


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
            it grows by itself, to stay below SQS's limit on tagging.
        idle_retention: Seconds without a heartbeat after which others may delete the
            queue. At least three heartbeats.
        message_retention: Seconds that SQS keeps a reply, at least 60.
        sweep_interval: Seconds between looks for abandoned queues; `None`: never.
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
        wire.check_prefix(prefix)
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
        self._sqs = sqs
        self.prefix = prefix
        self.legacy = legacy
        self._heartbeat_interval = heartbeat_interval
        self._idle_retention = idle_retention
        self._message_retention = message_retention
        self._sweep_interval = sweep_interval
        self._attributes = dict(attributes or {})
        self._tags = dict(tags or {})
        self._host = Host("sqs_orchestrator reply queue", self._closing)
        self._live: Live | None = None
        self._creation: Flights[Live] = Flights(self._host)
        self._replies = self._unmatched = self._receives = self._created = self._lost = 0
        self._consecutive_failures = 0
        self._unconfirmed: str | None = None
        self._backoff = Backoff()

    def __repr__(self) -> str:
        where = self._live.url if self._live else f"{self.prefix}…, not created"
        return f"<ReplyQueue {where}>"

    async def __aenter__(self) -> Self:
        self._port: SQS = self._sqs.adopt(self)
        await self._host.start()
        self._deletes = delete_lanes(self._host, self._port, linger=DELETE_LINGER)
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

        Takes up to 5 s where SQS does not answer. Cancelling it does not cut it short.
        """
        try:
            await self._host.stop()
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
        """
        await self.live()

    def statistics(self) -> ReplyQueueStatistics:
        """A snapshot of the counters."""
        live = self._live
        return ReplyQueueStatistics(
            url=self.url,
            pending=len(live.waiters) if live else 0,
            replies=self._replies,
            unmatched=self._unmatched,
            receives=self._receives,
            created=self._created,
            lost=self._lost,
            consecutive_failures=self._consecutive_failures,
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
        if not self._host.running or self._host.stopping:
            raise RuntimeError("the reply queue is not open; use it inside 'async with'")
        return await self._creation.run("", self._create)

    # ---------------------------------------------------------------------- its life

    async def _create(self) -> Live:
        port = self._port
        name = wire.new_reply_queue_name(self.prefix)
        if not port.clock.known:
            # Any response shows SQS's time, and the very first tags must have it: by a clock
            # of this machine that is slow, the queue would look abandoned at birth.
            await self._sqs.patiently(lambda: _glance(port, name))
        now = port.clock.now()
        tags = {
            **self._tags,
            **wire.reply_queue_tags(
                now=now,
                retention=self._idle_retention,
                sweeping=self._sweep_interval is not None,
                legacy=self.legacy,
            ),
        }
        attributes = {
            "MessageRetentionPeriod": str(round(self._message_retention)),
            "VisibilityTimeout": str(VISIBILITY_TIMEOUT),
            **{key: str(value) for key, value in self._attributes.items()},
        }
        self._unconfirmed = name
        url = await self._sqs.patiently(lambda: port.create_queue(name, attributes, tags))
        self._unconfirmed = None
        self._sqs.at_home(url)
        live = Live(url, asyncio.get_running_loop().time(), self._refill)
        self._created += 1
        self._live = live
        logger.info("created the reply queue %s", url)
        self._host.spawn(self._care, live, name="heartbeat and sweeper")
        return live

    async def _care(self, live: Live) -> None:
        """Heartbeat and sweeper, for as long as the queue lives."""
        raise NotImplementedError

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
        for waiter in list(live.waiters.values()):
            waiter.lose(ReplyQueueLost, "the reply queue was deleted; try again")
        live.waiters.clear()

    async def _closing(self) -> None:
        until = asyncio.get_running_loop().time() + CLOSE_PATIENCE
        with anyio.move_on_at(until):
            try:
                # A queue that is just being created must not be left behind.
                await self._creation.landed("")
            except QueueError as error:
                logger.debug("no reply queue was created: %s", error)
            live, self._live = self._live, None
            if live is not None:
                for waiter in list(live.waiters.values()):
                    waiter.lose(ReplyQueueClosed, "its reply queue was closed")
            try:
                await retrying(lambda: self._delete(live), until=until)
            except QueueNotFound:
                pass
            except QueueError as error:
                logger.warning(
                    "the reply queue was not deleted, and is left to the sweepers: %s", error
                )

    async def _delete(self, live: Live | None) -> None:
        if live is not None:
            await self._port.delete_queue(live.url)
        elif self._unconfirmed is not None:
            # SQS never said whether it made this one.
            await self._port.delete_queue(await self._port.get_queue_url(self._unconfirmed))

    # ----------------------------------------------------------------------- replies

    def _refill(self, live: Live) -> None:
        """Start the receives that should be in flight."""
        receivers = live.receivers
        while self._live is live and self._host.running:
            # Every waiter may have one reply coming; those asked for already come elsewhere.
            room = len(live.waiters) - receivers.in_flight * BATCH_ENTRIES
            if not receivers.ask(room):
                return
            receivers.started()
            self._host.spawn(self._receive, live)

    async def _receive(self, live: Live) -> None:
        """One receive, and what comes of it."""
        self._receives += 1
        try:
            messages = await self._port.receive(
                live.url, max_messages=BATCH_ENTRIES, wait_time=round(WAIT_TIME)
            )
        except QueueError as error:
            live.receivers.failed()
            await self._receive_failed(live, error)
        else:
            self._consecutive_failures = 0
            self._backoff.reset()
            live.receivers.ended(BATCH_ENTRIES, len(messages))
            for received in messages:
                self._dispatch(live, received)
        self._refill(live)

    async def _receive_failed(self, live: Live, error: QueueError) -> None:
        self._consecutive_failures += 1
        loop = asyncio.get_running_loop()
        young = isinstance(error, QueueNotFound) and loop.time() < live.born + YOUNG
        if error.transient or young:
            # Held for the pause, so that no other receive starts meanwhile.
            live.receivers.started()
            await asyncio.sleep(self._backoff.next())
            live.receivers.failed()
        elif isinstance(error, QueueNotFound):
            self._lose(live)
        else:
            # It will not heal by itself, so whoever waits should know at once. The next
            # request tries again.
            logger.error("the reply queue cannot be read: %s", error)
            for waiter in list(live.waiters.values()):
                waiter.fail(error)
            live.waiters.clear()

    def _dispatch(self, live: Live, received: Received) -> None:
        head = wire.parse_reply(received.attributes)
        waiter = live.waiters.get(head.correlation_id) if head.correlation_id else None
        if waiter is None:
            self._unmatched += 1
            logger.debug("deleted a reply that nobody waits for: %s", received.message_id)
        else:
            self._replies += 1
            if waiter.resolve(head, received):
                live.forget(waiter)
        self._deletes.add(live.url, Deletion(received.receipt_handle))


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
