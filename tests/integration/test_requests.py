"""Requests and replies over HTTP, small: a server is slow, and the shell tests are thorough.

`SQS_ENDPOINT_URL` or `SQS_SERVER` name another server than moto (`tests/servers.py`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from sqs_orchestrator import (
    Connection,
    Message,
    MessageTooLarge,
    Poller,
    Publisher,
    QueueError,
    QueueNotFound,
    Reject,
    RemoteError,
    Reply,
    ReplyQueue,
    ReplyTimeout,
    connect,
)
from tests.servers import CREDENTIALS

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def endpoint_url(small_server: str) -> str:
    return small_server


@pytest_asyncio.fixture
async def sqs(endpoint_url: str) -> AsyncIterator[Connection]:
    async with connect(endpoint_url=endpoint_url, **CREDENTIALS) as opened:
        yield opened


@pytest_asyncio.fixture
async def queue(sqs: Connection) -> AsyncIterator[str]:
    """A queue of this test alone."""
    name = f"orders-{uuid.uuid4().hex[:8]}"
    url = await sqs.create_queue(name)
    yield name
    await sqs.client.delete_queue(QueueUrl=url)


@pytest.fixture
def prefix() -> str:
    """A prefix for reply queues of this test alone, so that it can count them."""
    return f"sqs_orchestrator_reply_{uuid.uuid4().hex[:8]}_"


async def reply_queues(sqs: Connection, prefix: str) -> list[str]:
    return list((await sqs.port.list_queues(prefix)).urls)


async def echo(message: Message) -> Any:
    if message.message_type == "reject":
        raise Reject("none left", code="out_of_stock", details=message.json())
    return message.json()


def worker(sqs: Connection, queue: str) -> Poller:
    return Poller(sqs, queue, echo, concurrency=50, wait_time=1)


@dataclass
class Order:
    id: int


async def test_requests_get_their_own_replies_and_leave_no_queue(
    sqs: Connection, queue: str, prefix: str
) -> None:
    replies = ReplyQueue(sqs, prefix=prefix)
    async with (
        worker(sqs, queue),
        replies,
        Publisher(sqs, reply_queue=replies, default_timeout=60) as publisher,
    ):
        answers = await asyncio.gather(*(publisher.request(queue, n) for n in range(50)))
        assert [answer.json() for answer in answers] == list(range(50))
        assert await publisher.request(queue, {"id": 1}, returns=Order) == Order(1)
        with pytest.raises(RemoteError) as caught:
            await publisher.request(queue, {"id": 1}, message_type="reject")
        assert (caught.value.code, caught.value.details) == ("out_of_stock", {"id": 1})
        assert len(await reply_queues(sqs, prefix)) == 1
        assert publisher.statistics().batches <= 10
    assert await reply_queues(sqs, prefix) == []


async def test_request_that_nobody_answers_times_out(sqs: Connection, queue: str) -> None:
    async with Publisher(sqs) as publisher:
        with pytest.raises(ReplyTimeout) as caught:
            await publisher.request(queue, "a", timeout=1)
    assert caught.value.confirmed


async def test_request_to_a_missing_queue_says_so(sqs: Connection) -> None:
    async with Publisher(sqs) as publisher:
        with pytest.raises(QueueNotFound):
            await publisher.request(f"nowhere-{uuid.uuid4().hex[:8]}", "a")


async def test_queue_is_created_once_and_never_altered(sqs: Connection) -> None:
    name = f"made-{uuid.uuid4().hex[:8]}"
    settings: dict[str, Any] = {
        "dead_letter_queue": True,
        "attributes": {"VisibilityTimeout": 60},
        "tags": {"team": "a"},
    }
    url = await sqs.create_queue(name, **settings)
    try:
        assert await sqs.create_queue(name, **settings) == url
        with pytest.raises(QueueError, match="VisibilityTimeout is '60', not '61'"):
            await sqs.create_queue(name, attributes={"VisibilityTimeout": 61})
    finally:
        for created in (name, f"{name}_dlq"):
            await sqs.client.delete_queue(QueueUrl=await sqs.queue_url(created))


async def test_unreachable_endpoint_is_named_soon() -> None:
    async with (
        connect(endpoint_url="http://127.0.0.1:9", **CREDENTIALS) as sqs,
        Publisher(sqs) as publisher,
    ):
        with pytest.raises(QueueError, match=r"127\.0\.0\.1:9/? is unreachable"):
            await publisher.request("orders", "a", timeout=20)
        with pytest.raises(QueueError, match=r"127\.0\.0\.1:9/? is unreachable"):
            await publisher.send("orders", "a")


async def test_leaving_a_request_under_way_ends_it_and_its_queue(
    sqs: Connection, queue: str, prefix: str
) -> None:
    replies = ReplyQueue(sqs, prefix=prefix)
    async with replies, Publisher(sqs, reply_queue=replies) as publisher:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await publisher.request(queue, "a")
    assert await reply_queues(sqs, prefix) == []


async def test_what_is_too_large_for_its_queue_says_so_and_harms_no_other(
    sqs: Connection, queue: str, prefix: str
) -> None:
    # ElasticMQ has no limits of queues, but one of its own that is lower than this.
    large = "x" * 300_000
    small = f"small-{uuid.uuid4().hex[:8]}"
    url = await sqs.create_queue(small, attributes={"MaximumMessageSize": 2048})

    async def handle(message: Message) -> str:
        return large if message.body == "large" else message.body

    replies = ReplyQueue(sqs, prefix=prefix, attributes={"MaximumMessageSize": "2048"})
    async with (
        replies,
        Publisher(sqs, reply_queue=replies) as publisher,
        Poller(sqs, queue, handle, wait_time=1, reply_queue_prefixes=[prefix]),
    ):
        bodies = ["1", "large", "2"]
        one, error, two = await asyncio.gather(
            *(publisher.send(small, large if body == "large" else body) for body in bodies),
            return_exceptions=True,
        )
        assert isinstance(one, str)
        assert isinstance(two, str)
        assert isinstance(error, MessageTooLarge)
        assert (error.size, error.queue) == (300_000, small)
        first, failure, last = await asyncio.gather(
            *(publisher.request(queue, body, timeout=20) for body in bodies),
            return_exceptions=True,
        )
        assert isinstance(first, Reply)
        assert isinstance(last, Reply)
        assert (first.body, last.body) == ("1", "2")
        assert isinstance(failure, RemoteError)
        assert failure.code == "reply_too_large"
    await sqs.client.delete_queue(QueueUrl=url)
