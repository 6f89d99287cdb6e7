"""Batches refused as a whole for their size: by the server, or by a proxy in between.

ElasticMQ refuses more than 256 KiB by itself. The others take as much as SQS does, so there the
proxy alone refuses.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

import sqs_orchestrator as so

from .conftest import Connect
from .proxy import FaultProxy
from .rounds import becomes_empty

pytestmark = pytest.mark.server

LARGE = "x" * 30_000

WORKER: Any = {"wait_time": 1.0}
"""The last poll of a worker is awaited."""

PROXY_TAKES = pytest.mark.parametrize("proxy_takes", [None, 110_000])


@PROXY_TAKES
async def test_ten_large_messages_sent_at_once_all_arrive(
    proxy: FaultProxy, connect: Connect, queue: str, proxy_takes: int | None
) -> None:
    proxy.most_bytes = proxy_takes
    async with connect() as sqs, so.Publisher(sqs) as publisher:
        await asyncio.gather(*(publisher.send(queue, f"{n} {LARGE}") for n in range(10)))
        first, refused = proxy.calls["SendMessageBatch"], proxy.refused_sizes
        await asyncio.gather(*(publisher.send(queue, f"{n} {LARGE}") for n in range(10)))
    bodies = sorted(message.body.split()[0] for message in proxy.accepted)
    assert bodies == sorted([*map(str, range(10))] * 2)
    if proxy_takes is not None:
        assert refused > 0
        # By then the limit is known.
        assert proxy.refused_sizes == refused
        assert proxy.calls["SendMessageBatch"] - first < first


@PROXY_TAKES
async def test_fifty_large_replies_reach_their_requesters(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    proxy_takes: int | None,
) -> None:
    async def handle(message: so.Message) -> str:
        return f"{message.body} {LARGE}"

    proxy.most_bytes = proxy_takes
    async with (
        connect() as sqs,
        so.ReplyQueue(sqs, prefix=prefix) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
        so.Poller(
            sqs, queue, handle, concurrency=50, **WORKER, reply_queue_prefixes=[prefix]
        ) as poller,
    ):
        asked = [publisher.request(queue, str(n), timeout=30) for n in range(50)]
        got = await asyncio.gather(*asked)
        await becomes_empty(direct, queue)
        assert poller.statistics().replies_dropped == 0
    assert [reply.body.split()[0] for reply in got] == [str(n) for n in range(50)]
    if proxy_takes is not None:
        assert proxy.refused_sizes > 0


async def test_what_is_too_large_alone_says_so_and_the_others_go(
    proxy: FaultProxy, connect: Connect, direct: so.Connection, queue: str, prefix: str
) -> None:
    async def handle(message: so.Message) -> str:
        return "x" * int(message.body)

    proxy.most_bytes = 50_000
    async with (
        connect() as sqs,
        so.ReplyQueue(sqs, prefix=prefix) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        sends = [publisher.send(queue, "1"), publisher.send(queue, "2" * 60_000)]
        small, large = await asyncio.gather(*sends, return_exceptions=True)
        assert isinstance(small, str)
        assert isinstance(large, so.MessageTooLarge)
        assert (large.code, large.queue, large.maybe_sent) == ("413", queue, False)
        assert large.size >= 60_000
        async with so.Poller(sqs, queue, handle, **WORKER, reply_queue_prefixes=[prefix]):
            short, long = await asyncio.gather(
                publisher.request(queue, "100"),
                publisher.request(queue, "70000"),
                return_exceptions=True,
            )
            await becomes_empty(direct, queue)
    assert isinstance(short, so.Reply)
    assert isinstance(long, so.RemoteError)
    assert long.code == "reply_too_large"


@PROXY_TAKES
async def test_large_messages_of_a_group_keep_their_order(
    proxy: FaultProxy, connect: Connect, direct: so.Connection, proxy_takes: int | None
) -> None:
    name = f"orders-{uuid.uuid4().hex}.fifo"
    await direct.create_queue(name, fifo=True, attributes={"ContentBasedDeduplication": True})
    proxy.most_bytes = proxy_takes
    got: list[int] = []

    async def handle(message: so.Message) -> None:
        got.append(int(message.body.split()[0]))

    async with connect() as sqs, so.Publisher(sqs) as publisher:
        sends = [publisher.send(name, f"{n} {LARGE}", group_id="g") for n in range(25)]
        await asyncio.gather(*sends)
        proxy.heal()
        async with so.Poller(sqs, name, handle, **WORKER):
            await becomes_empty(direct, name)
    assert got == list(range(25))
