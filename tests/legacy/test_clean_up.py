"""What the synchronous package leaves behind; and sweepers of both beside each other."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from sqs_orchestrator.core import leftovers
from tests.servers import CREDENTIALS

from .conftest import Old
from .package import Requester

LONG_AGO = -7200
"""Seconds by which the clock of a machine is off that seems to have been silent since then."""


@pytest.fixture
def endpoint_url(request: pytest.FixtureRequest, small_server: str, volume_server: str) -> str:
    return small_server if getattr(request, "param", "") == "small" else volume_server


each_server = pytest.mark.parametrize("endpoint_url", ["small", "volume"], indirect=True)


IDLE = {
    "__IdleQueueRetentionPeriodSeconds": "300",
    "__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp": "1700000000000",
}
"""The tags of a queue of ours whose owner has died."""


@pytest.fixture
def prefix() -> str:
    return f"reply_queue_{uuid.uuid4().hex[:8]}_"


@pytest.fixture(autouse=True)
def listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """These servers list a queue as soon as it is there; SQS needs up to a minute."""
    monkeypatch.setattr(leftovers, "LISTED", 0.0)


async def names(sqs: so.Connection, prefix: str) -> set[str]:
    return {name_of(url) for url in (await sqs.port.list_queues(prefix)).urls}


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


async def swept(sqs: so.Connection, prefix: str, **options: Any) -> set[str]:
    return {name_of(url) for url in await so.sweep(sqs, prefix, **options)}


def of(*requesters: Requester) -> set[str]:
    """The names of all their queues."""
    return {name_of(url) for each in requesters for url in (each.url, each.sweepers_url)}


@each_server
async def test_sweep_deletes_what_dead_processes_left_and_nothing_of_the_living(
    sqs: so.Connection, old: Old, prefix: str
) -> None:
    dead = await old.requester(f"{prefix}1_", clock_error=LONG_AGO)
    await asyncio.to_thread(dead.die)
    ended = await old.requester(f"{prefix}2_")
    await asyncio.to_thread(ended.remove_queue)
    live = await old.requester(f"{prefix}3_")
    late = await old.requester(f"{prefix}4_", clock_error=-900)
    beside = await old.requester(f"{prefix}5_")
    beside_dead = await old.requester(f"{prefix}5_", clock_error=LONG_AGO)
    await asyncio.to_thread(beside_dead.die)
    foreign = f"{prefix}orders"
    await sqs.create_queue(foreign)
    before = await names(sqs, prefix)
    gone = {*of(dead), name_of(ended.sweepers_url), name_of(beside_dead.url)}

    assert await swept(sqs, prefix) == set()
    assert await swept(sqs, prefix, legacy=True, dry_run=True) == gone
    assert await names(sqs, prefix) == before
    assert await swept(sqs, prefix, legacy=True) == gone
    assert await names(sqs, prefix) == {*of(live, late, beside), foreign}


async def test_queue_that_seemed_dead_and_beats_again_is_kept(
    sqs: so.Connection, old: Old, prefix: str
) -> None:
    requester = await old.requester(prefix, clock_error=LONG_AGO)
    assert await swept(sqs, prefix, legacy=True, dry_run=True) == of(requester)
    requester.clock_error = 0
    await asyncio.to_thread(requester.beat)
    assert await swept(sqs, prefix, legacy=True) == set()


@each_server
async def test_messages_keep_a_queue(sqs: so.Connection, old: Old, prefix: str) -> None:
    dead = await old.requester(f"{prefix}1_", clock_error=LONG_AGO)
    ended = await old.requester(f"{prefix}2_")
    await asyncio.to_thread(dead.die)
    await asyncio.to_thread(ended.remove_queue)
    await sqs.client.send_message(QueueUrl=dead.url, MessageBody="reply")
    await sqs.client.send_message(
        QueueUrl=ended.sweepers_url, MessageBody="SweepingTrigger", MessageGroupId="a"
    )
    assert await swept(sqs, prefix, legacy=True) == set()


# ------------------------------------------------- both kinds of sweepers with one prefix


@pytest_asyncio.fixture
async def ours(sqs: so.Connection, prefix: str) -> AsyncIterator[so.ReplyQueue]:
    """A requester of ours in the legacy mode, with the prefix of the package."""
    async with so.ReplyQueue(sqs, prefix=prefix, legacy=True) as replies:
        await replies.ready()
        yield replies


async def test_sweeper_of_ours_leaves_queues_of_the_package_alone(
    sqs: so.Connection, old: Old, prefix: str
) -> None:
    dead = await old.requester(prefix, clock_error=LONG_AGO)
    await asyncio.to_thread(dead.die)
    # The last one that a sweep comes to.
    await sqs.create_queue(f"{prefix}zz", tags=IDLE)
    async with so.ReplyQueue(sqs, prefix=prefix, sweep_interval=0.3) as replies:
        await replies.ready()
        while not replies.statistics().swept:  # noqa: ASYNC110 - it says so nowhere else
            await asyncio.sleep(0.05)
        assert await names(sqs, prefix) == {*of(dead), name_of(str(replies.url))}


@each_server
async def test_sweeper_of_the_package_keeps_a_live_queue_of_ours_in_the_legacy_mode(
    old: Old, prefix: str, ours: so.ReplyQueue
) -> None:
    requester = await old.requester(prefix)
    assert await asyncio.to_thread(requester.sweep) == ([], [])


async def test_sweeper_of_the_package_deletes_a_queue_of_ours_whose_heartbeat_is_late(
    sqs: so.Connection, old: Old, prefix: str, ours: so.ReplyQueue
) -> None:
    # As where a large fleet, or throttling, slows the heartbeats down: by our tags it lives.
    requester = await old.requester(prefix, clock_error=130)
    assert await asyncio.to_thread(requester.sweep) == ([ours.url], [])


async def test_sweeper_of_the_package_stumbles_over_a_queue_of_ours_without_the_legacy_mode(
    sqs: so.Connection, old: Old, prefix: str
) -> None:
    requester = await old.requester(prefix)
    async with so.ReplyQueue(sqs, prefix=prefix) as replies:
        await replies.ready()
        assert await asyncio.to_thread(requester.sweep) == ([], [replies.url])
    async with so.ReplyQueue(sqs) as replies:
        await replies.ready()
        assert await asyncio.to_thread(requester.sweep) == ([], [])


async def test_sweep_deletes_an_idle_queue_of_ours_in_the_legacy_mode_too(
    sqs: so.Connection, prefix: str, endpoint_url: str
) -> None:
    url = await sqs.create_queue(f"{prefix}{'0' * 32}", tags={**IDLE, "heartbeat": "1700000000"})
    async with so.connect(endpoint_url=endpoint_url, **CREDENTIALS) as other:
        assert await so.sweep(other, prefix, legacy=True) == [url]
