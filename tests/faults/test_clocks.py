"""Machines whose clock is an hour off: requester, worker and sweeper, each in turn.

Each is a process of its own under libfaketime, so that its whole clock is wrong and not just
what the library reads of it. The proxy refuses signatures that are minutes off, as SQS does.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from sqs_orchestrator.core import wire
from sqs_orchestrator.core.names import new_reply_queue_name
from tests.processes.conftest import HANGS, Process, start_program

from .conftest import WHOLE, Connect, cases
from .proxy import FaultProxy

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="libfaketime as used here is for Linux"),
]

FAST, SLOW = 3600, -3600


def off(worse: int) -> pytest.MarkDecorator:
    """By how many seconds the clock is wrong; in a usual run only in the way that is *worse*."""
    return pytest.mark.parametrize(
        "off", [FAST, SLOW] if WHOLE else [worse], ids=lambda off: f"{off:+d}s"
    )


HEARTBEAT = "__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp"

Start = Callable[..., Awaitable[Process]]


def wrong_clock(faketime: Path, seconds: int, **more: str) -> dict[str, str]:
    """The environment of a process whose clock is wrong by that much. Its monotonic clock, by
    which the event loop goes, is right, as on a real machine."""
    return {
        "LD_PRELOAD": str(faketime),
        "FAKETIME": f"{seconds:+d}",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        **more,
    }


STOCK = {"SQS_ORCHESTRATOR_LEAN": "0"}
"""aiobotocore's own client makes the calls, and signs them with the machine's clock."""


@pytest.fixture
def prefix(prefix: str) -> str:
    """One that the workers answer to by themselves."""
    return f"sqs_orchestrator_reply_{prefix}"


@pytest.fixture
def proxy(proxy: FaultProxy) -> FaultProxy:
    proxy.checks_clock = True
    return proxy


@pytest_asyncio.fixture
async def start(proxy: FaultProxy, faketime: Path, off: int) -> AsyncIterator[Start]:
    """Starts a program with a wrong clock."""
    processes: list[Process] = []

    async def start(program: str, *, stock: bool = False, **options: Any) -> Process:
        more = STOCK if stock else {}
        process = await start_program(
            proxy.url, program, environment=wrong_clock(faketime, off, **more), **options
        )
        processes.append(process)
        (clock,) = await process.say("clock")
        assert abs(clock - time.time() - off) < 60, "libfaketime does not work"
        return process

    yield start
    for process in processes:
        await process.kill()


async def heartbeat_of(sqs: so.Connection, url: str) -> float:
    return int((await sqs.port.list_queue_tags(url))[HEARTBEAT]) / 1000


@off(FAST)
async def test_worker_with_a_wrong_clock_lets_nothing_expire_early(
    proxy: FaultProxy, connect: Connect, queue: str, prefix: str, start: Start
) -> None:
    worker = await start("worker", queue=queue)
    async with (
        connect() as sqs,
        so.ReplyQueue(sqs, prefix=prefix, sweep_interval=None) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        for number in range(20):
            reply = await publisher.request(queue, {"number": number}, timeout=HANGS)
            assert reply.json() == {"number": number, "receive_count": 1}
    # Only the first calls were signed with the machine's clock.
    assert proxy.refused_clocks <= 3
    worker.terminate()
    assert await worker.ended() == 0


@off(SLOW)
async def test_worker_with_a_wrong_clock_drops_what_has_expired(
    proxy: FaultProxy, connect: Connect, queue: str, prefix: str, start: Start
) -> None:
    async with (
        connect() as sqs,
        so.ReplyQueue(sqs, prefix=prefix, sweep_interval=None) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        with pytest.raises(so.ReplyTimeout):
            await publisher.request(queue, {"number": 1}, timeout=0.5)
        await asyncio.sleep(1.5)  # SQS's clock is known to the second
        worker = await start("worker", queue=queue)
        assert (await publisher.request(queue, {"number": 2}, timeout=HANGS)).json()["number"] == 2
    worker.terminate()
    assert await worker.ended() == 0
    assert worker.values("started") == [2]


@off(SLOW)
async def test_requester_with_a_wrong_clock_is_answered_and_never_swept(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    start: Start,
) -> None:
    async def handle(message: so.Message) -> Any:
        return message.json()

    async with (
        connect() as sqs,
        so.Poller(sqs, queue, handle, reply_queue_prefixes=(prefix,), wait_time=1) as poller,
    ):
        client = await start("client", queue=queue, prefix=prefix, count=20)
        (url,) = await client.say("url")
        assert await client.say("reply", 20) == list(range(20))
        assert poller.statistics().expired == 0
        # It is as fresh as one with the right clock would be: at first, and later on.
        assert abs(await heartbeat_of(direct, url) - time.time()) < 30
        assert await so.sweep(direct, prefix) == []
        while (await client.say("heartbeats", len(client.values("heartbeats")) + 1))[-1] < 3:
            pass
        assert abs(await heartbeat_of(direct, url) - time.time()) < 30
        assert await so.sweep(direct, prefix) == []
    assert proxy.refused_clocks <= 3


@off(FAST)
async def test_sweeper_with_a_wrong_clock_sweeps_the_dead_and_no_live_queue(
    proxy: FaultProxy, connect: Connect, direct: so.Connection, prefix: str, start: Start
) -> None:
    async with (
        connect() as sqs,
        so.ReplyQueue(
            sqs, prefix=prefix, heartbeat_interval=1.0, idle_retention=6.0, sweep_interval=None
        ) as live,
    ):
        await live.ready()
        # Dead for ten minutes, by SQS's clock.
        tags = wire.reply_queue_tags(
            now=time.time() - 600, retention=10.0, sweeping=True, legacy=False
        )
        name = new_reply_queue_name(prefix)
        await direct.port.create_queue(name, {}, tags)
        sweeper = await start("requester", prefix=prefix, sweep_interval=0.5, idle_retention=6)
        (url,) = await sweeper.say("url")
        while not (await sweeper.say("swept", len(sweeper.values("swept")) + 1))[-1]:
            pass
        # And some sweeps more.
        await sweeper.say("swept", len(sweeper.values("swept")) + 10)
        assert set((await direct.port.list_queues(prefix)).urls) == {live.url, url}
        assert live.statistics().lost == 0
    assert proxy.refused_clocks <= 3


@off(FAST)
@pytest.mark.parametrize("program", cases(["worker", "client"], "worker"))
async def test_stock_client_with_a_wrong_clock_says_so(
    queue: str, prefix: str, start: Start, off: int, program: str
) -> None:
    options = {"queue": queue} if program == "worker" else {"queue": queue, "prefix": prefix}
    process = await start(program, stock=True, **options)
    (error,) = await process.say("error")
    assert await process.ended() == 1
    side = "ahead of" if off > 0 else "behind"
    assert error.startswith("AccessDenied")
    assert "this machine's clock is 3" in error
    assert f"s {side} SQS's: set the clock" in error
