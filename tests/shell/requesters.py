"""A bench for requesters: a publisher on an SQS in memory, and a worker that is no more than
a coroutine over the port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from typing import Any

from sqs_orchestrator import Connection, Publisher, QueueNotFound, ReplyQueue
from sqs_orchestrator.core import wire
from sqs_orchestrator.requester.live_queue import LiveQueue
from sqs_orchestrator.requester.pending import PendingRequest, PendingSend
from sqs_orchestrator.requester.session import PublisherSession
from sqs_orchestrator.sqs.port import Received, SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, connect

Answer = Callable[[Received, wire.ReplyTo], Sequence[SendEntry]]


def echo(request: Received, reply_to: wire.ReplyTo) -> list[SendEntry]:
    """Reply with the body of the request."""
    return [SendEntry(request.body, wire.reply_attributes(reply_to))]


class Worker:
    """Answers what is in a queue, as *answer* says, *delay* seconds later."""

    def __init__(
        self,
        server: MemoryServer,
        queue: str = "orders",
        answer: Answer = echo,
        *,
        delay: float = 0.0,
    ) -> None:
        self.client = MemorySQS(server)
        self.queue = queue
        self.answer = answer
        self.delay = delay
        self.requests: list[Received] = []

    async def run(self) -> None:
        url = self.client.server.url(self.queue)
        async with asyncio.TaskGroup() as group:
            while True:
                received = await self.client.receive(url)
                if received:
                    self.requests += received
                    group.create_task(self._handle(url, received))

    async def _handle(self, url: str, received: list[Received]) -> None:
        await asyncio.sleep(self.delay)
        replies: dict[str, list[SendEntry]] = {}
        for request in received:
            reply_to = wire.parse_request(request.attributes).reply_to
            if reply_to is not None:
                entries = self.answer(request, reply_to)
                replies.setdefault(reply_to.queue_url, []).extend(entries)
        for reply_url, entries in replies.items():
            for start in range(0, len(entries), 10):
                with suppress(QueueNotFound):
                    await self.client.send(reply_url, entries[start : start + 10])
        await self.client.delete(url, [request.receipt_handle for request in received])


@asynccontextmanager
async def working(
    server: MemoryServer, queue: str = "orders", answer: Answer = echo, *, delay: float = 0.0
) -> AsyncIterator[Worker]:
    """A worker in the background."""
    worker = Worker(server, queue, answer, delay=delay)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Bench:
    """A publisher, over a connection whose client has faults of its own."""

    def __init__(self, server: MemoryServer, faults: MemorySQS, sqs: Connection) -> None:
        self.server = server
        self.faults = faults
        """The publisher's own client: its faults, its calls."""
        self.sqs = sqs
        self.publisher: Publisher

    @property
    def replies(self) -> ReplyQueue:
        return self.publisher._replies

    @property
    def session(self) -> PublisherSession:
        """What the publisher has from entering to leaving."""
        session = self.publisher._session
        assert session is not None
        return session

    @property
    def live(self) -> LiveQueue:
        """The reply queue that there is."""
        live = self.replies.current
        assert live is not None
        return live

    @property
    def reply_queues(self) -> list[str]:
        return [
            name for name in self.server.queues if name.startswith(self.replies.settings.prefix)
        ]

    def bodies(self, queue: str = "orders") -> list[str]:
        """What is in a queue."""
        return [message.body for message in self.server.messages(queue)]

    def task(self, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(coroutine)

    def assert_nothing_pends(self) -> None:
        """No request, send or entry is left anywhere."""
        session = self.session
        assert not session.pending
        assert not session.waits
        assert not self.publisher._owner._guests
        assert not len(session.lanes)
        assert not len(session.reply_sender)
        live = self.replies.current
        assert live is None or not live.waiters
        assert not self.timed

    @property
    def timed(self) -> list[PendingRequest | PendingSend]:
        """Those for whom a timer is set."""
        owners = [owner(timer) for timer in timers()]
        return [each for each in owners if isinstance(each, PendingRequest | PendingSend)]


def timers() -> list[asyncio.TimerHandle]:
    """The timers that are set."""
    scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    return [timer for timer in scheduled if not timer.cancelled()]


callback_of = attrgetter("_callback")


def owner(timer: asyncio.TimerHandle) -> object:
    """Whose method *timer* calls."""
    return getattr(callback_of(timer), "__self__", None)


@asynccontextmanager
async def connected(server: MemoryServer, *queues: str) -> AsyncIterator[Bench]:
    """A connection, without a publisher."""
    client = MemorySQS(server)
    for queue in queues or ("orders",):
        if queue not in server.queues:
            attributes = {"FifoQueue": "true"} if queue.endswith(".fifo") else {}
            server.create(server.account, queue, attributes, {})
    async with connect(port=client) as sqs:
        yield Bench(server, client, sqs)


@asynccontextmanager
async def publishing(
    server: MemoryServer, *queues: str, ready: bool = False, **settings: Any
) -> AsyncIterator[Bench]:
    """A publisher; *ready*: with its reply queue made, and no trace of that in the counters."""
    async with connected(server, *queues) as bench:
        bench.publisher = Publisher(bench.sqs, **settings)
        async with bench.publisher:
            if ready:
                await bench.publisher.ready()
                for queue in queues or ("orders",):
                    await bench.sqs.queue_url(queue)
                server.calls.clear()
                bench.faults.calls.clear()
            yield bench
