"""Somebody in between answers in SQS's place: an ingress, a firewall, a login page."""

from __future__ import annotations

import asyncio
import uuid

import pytest

import sqs_orchestrator as so

from .conftest import Connect
from .proxy import Fault, FaultProxy

pytestmark = pytest.mark.server


async def test_pages_of_somebody_else_end_no_worker_and_fail_no_request(
    proxy: FaultProxy, connect: Connect, direct: so.Connection, queue: str, prefix: str
) -> None:
    async def handle(message: so.Message) -> str:
        return message.body

    async with connect() as sqs, connect() as other:
        poller = so.Poller(other, queue, handle, wait_time=1, reply_queue_prefixes=(prefix,))
        working = asyncio.create_task(poller.run(handle_signals=False))
        replies = so.ReplyQueue(sqs, prefix=prefix)
        async with replies, so.Publisher(sqs, reply_queue=replies, default_timeout=60) as publisher:
            await publisher.request(queue, "before")
            proxy.inject(Fault.FOREIGN, probability=0.3)
            bodies = [uuid.uuid4().hex for _ in range(100)]
            got = await asyncio.gather(*(publisher.request(queue, body) for body in bodies))
            assert [reply.body for reply in got] == bodies
            assert proxy.injected[Fault.FOREIGN] > 10
            proxy.inject(Fault.FOREIGN, on=["ReceiveMessage"])
            waiting = asyncio.create_task(publisher.request(queue, "after"))
            seen = proxy.injected[Fault.FOREIGN]
            while proxy.injected[Fault.FOREIGN] < seen + 4:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.05)
            proxy.heal()
            assert (await waiting).body == "after"
        for connection in (sqs, other):
            shown, right = connection.port.clock.now(), direct.port.clock.now()
            assert shown is not None
            assert right is not None
            assert abs(shown - right) < 60
        assert not working.done()
        poller.stop(drop_poll=True)
        await working
