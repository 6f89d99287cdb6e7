"""What lines of the log carry, of a worker and a requester at work."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from sqs_orchestrator import (
    AccessDenied,
    Message,
    Poller,
    Publisher,
    RemoteError,
    ReplyQueue,
    ReplyTo,
)
from sqs_orchestrator.core import wire
from sqs_orchestrator.core.names import DEFAULT_PREFIX, queue_name_of
from sqs_orchestrator.logs import FIELDS, FIRST, INTERVAL
from sqs_orchestrator.testing import MemoryServer, connect, sent


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[dict[str, Any]]:
    return [fields(each) for each in caplog.records if text in each.getMessage()]


async def fail(message: Message) -> None:
    raise LookupError(message.message_id)


async def test_a_failed_request_is_found_by_queue_message_and_correlation(
    server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sqs_orchestrator")
    async with connect(server) as sqs:
        await sqs.create_queue("orders")
        async with Publisher(sqs) as publisher, Poller(sqs, "orders", fail, wait_time=1):
            with pytest.raises(RemoteError):
                await publisher.request("orders", "a")
            (message,) = sent(sqs, "orders")
            url = publisher.reply_queue.statistics().url
            assert url is not None
            await publisher.reply(ReplyTo(url, "nobody's"), "x")
            pending = asyncio.create_task(publisher.request("orders", "b", timeout=2))
            with pytest.raises(RemoteError):
                await pending
    failed, _ = lines(caplog, "failed on message")
    assert failed == {
        "queue": "orders",
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
    }
    assert lines(caplog, "polling")[0] == {"queue": "orders"}
    (late,) = lines(caplog, "a reply that nobody waits for")
    assert late["queue"] == url.rpartition("/")[2]
    assert late["correlation_id"] == "nobody's"


async def test_lines_of_a_sweeper_carry_the_queue_of_whoever_sweeps(
    server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sqs_orchestrator")
    dead = f"{DEFAULT_PREFIX}{1:032x}"
    server.create(server.account, dead, {}, wire.heartbeat_tags(now=1e9, retention=300))
    async with connect(server) as sqs, ReplyQueue(sqs) as replies:
        await replies.ready()
        own = {"queue": queue_name_of(str(replies.url))}
        await asyncio.sleep(400)
        assert lines(caplog, "deleted 1 abandoned reply queues") == [own]
        assert lines(caplog, "deleted the abandoned reply queue") == [{"queue": dead}]
        server.faults.fail("ListQueues", AccessDenied, times=1)
        server.faults.fail("ListQueues", times=None)
        await asyncio.sleep(4000)
        assert lines(caplog, "are not all swept from here") == [own]
        await asyncio.sleep(1000)
    tried = lines(caplog, "a sweep of sqs_orchestrator_reply_")
    assert tried
    assert all(each == own for each in tried)


async def test_the_line_that_counts_others_carries_the_fields_of_the_last(
    server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(server) as sqs:
        await sqs.create_queue("orders")
        async with Publisher(sqs) as publisher, Poller(sqs, "orders", fail, wait_time=1):
            for _ in range(FIRST + 2):
                with pytest.raises(RemoteError):
                    await publisher.request("orders", "a")
            await asyncio.sleep(INTERVAL + 1)
    (count,) = lines(caplog, "more like it")
    assert count["message_id"] == sent_ids(server)[-1]


def sent_ids(server: MemoryServer) -> list[str]:
    return [stored.message_id for stored in server.queue("orders").history]
