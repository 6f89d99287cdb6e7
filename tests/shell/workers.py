"""A bench for workers: a request queue, requests as they come off the wire, and a look at what
became of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqs_orchestrator import Connection, Poller
from sqs_orchestrator.sqs.port import AttributeValue, SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, connect
from sqs_orchestrator.testing.queues import StoredMessage
from sqs_orchestrator.worker.engine import Engine

REPLIES = "sqs_orchestrator_reply_00000000000000000000000000000001"


def engine_of(poller: Poller) -> Engine:
    """What works on the messages of a poller that has found its queue."""
    assert isinstance(poller._work, Engine)
    return poller._work


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


async def until(condition: Callable[[], Any], within: float = 300.0) -> None:
    """Let virtual time pass until *condition* holds."""
    began = now()
    while not condition():
        assert now() < began + within, f"still not so after {within} s"
        # Hours should not take thousands of steps.
        await asyncio.sleep(max(0.01, (now() - began) * 0.005))


def text(value: str) -> AttributeValue:
    return {"DataType": "String", "StringValue": value}


def number(value: object) -> AttributeValue:
    return {"DataType": "Number", "StringValue": str(value)}


class Bench:
    """A request queue and a reply queue on an SQS in memory."""

    def __init__(self, server: MemoryServer, sqs: Connection, queue: str) -> None:
        self.server = server
        self.sqs = sqs
        self.queue = queue
        self.url = server.url(queue)
        self.client = MemorySQS(server)
        """A client whose faults are its own."""

    @property
    def faults(self) -> Any:
        return self.server.faults

    async def send(
        self,
        *bodies: str,
        group: str | None = None,
        route: str | None = None,
        **attributes: AttributeValue,
    ) -> None:
        """Send one-way messages, in one batch."""
        if route is not None:
            attributes["MessageType"] = text(route)
        entries = [
            SendEntry(
                body, attributes, group_id=group, deduplication_id=group and f"{group}-{body}"
            )
            for body in bodies
        ]
        for at in range(0, len(entries), 10):
            results = await self.client.send(self.url, entries[at : at + 10])
            assert all(isinstance(result, str) for result in results), results

    async def ask(
        self,
        *bodies: str,
        to: str | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        """Send requests; the correlation id of each is its body."""
        address = self.server.url(REPLIES) if to is None else to
        for body in bodies:
            more = dict(options)
            more["ResponseQueueUrl"] = text(f"{address}#{body[:20]}")
            if timeout is not None:
                more["RequestTimeToLive"] = number(int(timeout * 1000))
            await self.send(body, **more)

    @property
    def messages(self) -> list[StoredMessage]:
        """What the request queue holds, hidden messages included."""
        return self.server.messages(self.queue)

    @property
    def empty(self) -> bool:
        return not self.messages

    def at(self, name: str) -> list[StoredMessage]:
        """What another queue holds."""
        return self.server.messages(name)

    @property
    def replies(self) -> list[Any]:
        """The replies, decoded: values, and what error replies say."""
        return [json.loads(message.body) for message in self.at(REPLIES)]

    def calls(self, operation: str) -> int:
        return self.server.calls[operation]


@asynccontextmanager
async def bench_on(
    server: MemoryServer, queue: str = "orders", **attributes: Any
) -> AsyncIterator[Bench]:
    """A bench on *server*, with a queue of these attributes."""
    async with connect(server) as sqs:
        options = {
            key: attributes.pop(key)
            for key in ("dead_letter_queue", "max_receive_count")
            if key in attributes
        }
        await sqs.create_queue(
            queue, fifo=queue.endswith(".fifo"), attributes=attributes, **options
        )
        await sqs.create_queue(REPLIES)
        yield Bench(server, sqs, queue)
