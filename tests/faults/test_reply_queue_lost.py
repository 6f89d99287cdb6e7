"""The reply queue deleted by hand, while requests wait on it and more come."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from aiobotocore.config import AioConfig

import sqs_orchestrator as so
from tests.servers import CREDENTIALS

from .conftest import WHOLE
from .proxy import FaultProxy
from .rounds import (
    DONE,
    Workers,
    assert_no_reply_queue,
    assert_nothing_left,
    becomes_empty,
)

pytestmark = [pytest.mark.server, pytest.mark.slow]

DELETIONS = 5 if WHOLE else 2

POLL = 2.0
"""Seconds of a long poll here: this server says that a queue is gone only when a poll ends."""


def connect(proxy: FaultProxy) -> so.Connection:
    # A reply queue polls for two seconds less than the read timeout.
    config = AioConfig(read_timeout=POLL + 2.0)
    return so.connect(endpoint_url=proxy.url, config=config, **CREDENTIALS)


@pytest.fixture(autouse=True)
def old_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no queue for too young to exist: these are deleted in their first seconds."""
    monkeypatch.setattr("sqs_orchestrator.requester.live_queue.YOUNG", 0.0)


async def lost(replies: so.ReplyQueue, count: int) -> None:
    async with asyncio.timeout(DONE):
        while replies.statistics().lost < count:  # noqa: ASYNC110 - the library tells nobody
            await asyncio.sleep(0.02)


async def test_all_that_wait_fail_at_once_and_the_next_request_works(
    proxy: FaultProxy, direct: so.Connection, queue: str, prefix: str
) -> None:
    before = asyncio.all_tasks()
    async with (
        connect(proxy) as sqs,
        so.ReplyQueue(sqs, prefix=prefix) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        # Nobody answers.
        waiting = [
            asyncio.create_task(publisher.request(queue, {"number": number}, timeout=600))
            for number in range(100)
        ]
        async with asyncio.timeout(DONE):
            while len(proxy.accepted) < len(waiting):  # noqa: ASYNC110 - it is in another thread
                await asyncio.sleep(0.02)
        url, live = replies.url, replies.current
        assert url is not None
        await direct.port.delete_queue(url)
        async with asyncio.timeout(DONE):
            errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(error) for error in errors} == {so.ReplyQueueLost}
        assert len({id(error) for error in errors}) == len(waiting)
        assert replies.statistics().url is None
        workers = Workers(queue)
        async with workers.running(sqs, prefix):
            reply = await publisher.request(queue, {"number": 1, "text": "again"}, timeout=DONE)
            assert reply.json() == {"number": 1, "echo": "again"}
            assert replies.statistics().url not in (None, url)
            await becomes_empty(direct, queue)
        assert not workers.failures
    await assert_no_reply_queue(direct, prefix)
    assert live is not None
    await assert_nothing_left(proxy, [*before, *waiting])


async def test_requests_go_on_while_their_reply_queue_is_deleted_again_and_again(
    proxy: FaultProxy, direct: so.Connection, queue: str, prefix: str
) -> None:
    before = asyncio.all_tasks()
    outcomes: Counter[str] = Counter()
    workers = Workers(queue)
    over = asyncio.Event()

    async def request_on_and_on(publisher: so.Publisher, first: int) -> None:
        number = first
        while not over.is_set():
            number += 100
            try:
                reply = await publisher.request(
                    queue, {"number": number, "text": "x"}, timeout=DONE
                )
            except so.ReplyQueueLost:
                outcomes["lost"] += 1
            else:
                assert reply.json()["number"] == number
                outcomes["reply"] += 1

    urls: set[str | None] = set()
    kept: list[object] = []
    async with (
        connect(proxy) as sqs,
        workers.running(sqs, prefix),
        connect(proxy) as requesters,
        so.ReplyQueue(requesters, prefix=prefix) as replies,
        so.Publisher(requesters, reply_queue=replies) as publisher,
        asyncio.TaskGroup() as group,
    ):
        for first in (0, 1, 2, 3, 4, 5, 6, 8, 9):
            group.create_task(request_on_and_on(publisher, first))
        for deletion in range(DELETIONS):
            answered = outcomes["reply"]
            async with asyncio.timeout(DONE):
                while outcomes["reply"] < answered + 50:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            url = replies.url
            assert url is not None
            kept.append(replies.current)
            urls.add(url)
            with contextlib.suppress(so.QueueNotFound):
                await direct.port.delete_queue(url)
            await lost(replies, deletion + 1)
        answered = outcomes["reply"]
        async with asyncio.timeout(DONE):
            while outcomes["reply"] < answered + 50:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        over.set()
    urls.add(replies.url)
    assert replies.statistics().lost == DELETIONS
    assert replies.statistics().created == DELETIONS + 1
    assert outcomes["lost"] >= DELETIONS
    assert not workers.failures
    await becomes_empty(direct, queue)
    await assert_no_reply_queue(direct, prefix)
    assert len(kept) == DELETIONS
    await assert_nothing_left(proxy, before)
