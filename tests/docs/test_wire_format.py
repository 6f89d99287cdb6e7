"""The raw messages of the page on the wire format are those that go over the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from tests.docs.messages import PAGE, Recorder, check
from tests.servers import CREDENTIALS
from tests.vectors import VECTORS

pytestmark = pytest.mark.server

REPLIES = "sqs_orchestrator_reply_"


@pytest.fixture
def recorder(endpoint_url: str) -> Iterator[Recorder]:
    with Recorder(endpoint_url) as recorder:
        yield recorder


@pytest_asyncio.fixture
async def sqs(recorder: Recorder) -> AsyncIterator[so.Connection]:
    async with so.connect(endpoint_url=recorder.url, **CREDENTIALS) as connection:
        yield connection


@contextlib.asynccontextmanager
async def queue(sqs: so.Connection, name: str, **options: Any) -> AsyncIterator[str]:
    url = await sqs.create_queue(name, **options)
    try:
        yield url
    finally:
        await sqs.port.delete_queue(url)


async def handle(message: so.Message) -> dict[str, Any]:
    if message.json()["id"] == 0:
        raise so.Reject("we have 99", code="sold_out", details={"left": 99})
    return {"done": message.json()["id"]}


async def test_request_and_reply(recorder: Recorder, sqs: so.Connection) -> None:
    async with (
        queue(sqs, "orders"),
        so.Poller(sqs, "orders", handle, wait_time=1),
        so.Publisher(sqs) as publisher,
    ):
        await publisher.request("orders", {"id": 1}, timeout=5)
        check("request", recorder.first("SendMessageBatch", "orders"))
        check("reply", recorder.first("SendMessageBatch", REPLIES))
        check("create-queue", recorder.first("CreateQueue", REPLIES))


async def test_failure(recorder: Recorder, sqs: so.Connection) -> None:
    async with (
        queue(sqs, "orders"),
        so.Poller(sqs, "orders", handle, wait_time=1),
        so.Publisher(sqs) as publisher,
    ):
        with pytest.raises(so.RemoteError):
            await publisher.request("orders", {"id": 0}, timeout=5)
        check("failure", recorder.first("SendMessageBatch", REPLIES))


async def test_request_with_more(recorder: Recorder, sqs: so.Connection) -> None:
    async def price(message: so.Message) -> int:
        return 42

    async with queue(sqs, "orders.fifo", fifo=True), so.Publisher(sqs) as publisher:
        poller = so.Poller(sqs, "orders.fifo", wait_time=1)
        poller.handler("price")(price)
        async with poller:
            await publisher.request(
                "orders.fifo",
                {"id": 1},
                timeout=5,
                message_type="price",
                attributes={"tenant": "acme", "priority": 5},
                group_id="customer-7",
            )
        check("request-fifo", recorder.first("SendMessageBatch", "orders.fifo"))


async def test_legacy_form(recorder: Recorder, sqs: so.Connection) -> None:
    async with (
        queue(sqs, "orders"),
        so.Poller(sqs, "orders", handle, wait_time=1),
        so.ReplyQueue(sqs, legacy=True) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        await publisher.request("orders", {"id": 1}, timeout=5)
        check("request-legacy", recorder.first("SendMessageBatch", "orders"))
        check("reply-legacy", recorder.first("SendMessageBatch", REPLIES))
        check("create-queue-legacy", recorder.first("CreateQueue", REPLIES))


async def test_heartbeat(recorder: Recorder, sqs: so.Connection) -> None:
    async with so.ReplyQueue(sqs, heartbeat_interval=1, sweep_interval=None) as replies:
        await replies.ready()
        async with asyncio.timeout(60):
            while recorder.calls["TagQueue"] == 0:  # noqa: ASYNC110 - another task does it
                await asyncio.sleep(0.05)
    check("heartbeat", recorder.first("TagQueue"))


async def test_dead_letter(recorder: Recorder, sqs: so.Connection) -> None:
    async with (
        queue(sqs, "orders_dlq"),
        queue(sqs, "orders", dead_letter_queue="orders_dlq"),
        so.Publisher(sqs) as publisher,
        so.Poller(sqs, "orders", handle, wait_time=1) as poller,
    ):
        await publisher.send("orders", {"id": 0}, attributes={"tenant": "acme"})
        async with asyncio.timeout(60):
            while poller.statistics().dead_lettered == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        check("dead-letter", recorder.first("SendMessageBatch", "orders_dlq"))


def test_page_describes_every_part_of_the_vectors() -> None:
    page = PAGE.read_text("utf-8")
    assert [name for name in VECTORS if f"\n| `{name}` |" not in page] == []


def test_page_names_every_reserved_name() -> None:
    page = PAGE.read_text("utf-8")
    assert [name for name in VECTORS["reserved_names"] if f"`{name}`" not in page] == []
