"""The virtual time that the other tests here rely on."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import pytest
import pytest_asyncio

from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.testing import Deadlock, MemorySQS, VirtualTimeLoop


@pytest_asyncio.fixture
async def ticker() -> AsyncIterator[list[float]]:
    """A background task of a fixture, ticking once a minute."""
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(60)
            ticks.append(asyncio.get_running_loop().time())

    task = asyncio.create_task(tick())
    yield ticks
    task.cancel()


async def test_sleep_takes_virtual_seconds_only() -> None:
    loop = asyncio.get_running_loop()
    began, began_really = loop.time(), time.monotonic()
    await asyncio.sleep(86_400)
    assert loop.time() - began == 86_400
    assert time.monotonic() - began_really < 3_600


async def test_fixture_and_test_share_one_time(ticker: list[float]) -> None:
    await asyncio.sleep(150)
    assert ticker == [60, 120]


async def test_anyio_timeout_fires_at_its_virtual_time() -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(30):
            await asyncio.Event().wait()
    assert asyncio.get_running_loop().time() == 30


async def test_thread_is_waited_for_while_time_stands_still() -> None:
    await asyncio.to_thread(time.sleep, 0.01)
    assert asyncio.get_running_loop().time() == 0


async def test_thread_wins_against_virtual_timeout() -> None:
    async with asyncio.timeout(1):
        await asyncio.to_thread(time.sleep, 0.01)


async def test_thread_of_anyio_is_waited_for_while_time_stands_still() -> None:
    for _ in range(2):
        async with asyncio.timeout(1):
            await anyio.to_thread.run_sync(time.sleep, 0.01)
    assert asyncio.get_running_loop().time() == 0


async def test_time_jumps_again_once_the_thread_of_anyio_is_idle() -> None:
    await anyio.to_thread.run_sync(time.sleep, 0.01)
    await asyncio.sleep(3600)
    assert asyncio.get_running_loop().time() == 3600


async def test_time_is_real_while_a_socket_is_open() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        thread = threading.Timer(0.01, theirs.sendall, [b"late\n"])
        thread.start()
        async with asyncio.timeout(60):
            assert await reader.readline() == b"late\n"
        assert asyncio.get_running_loop().time() < 60
        thread.join()
        writer.close()
        await writer.wait_closed()
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(3600)
    assert asyncio.get_running_loop().time() == began + 3600


async def test_real_time_passes_while_a_socket_is_open() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        _, writer = await asyncio.open_connection(sock=ours)
        began = time.monotonic()
        await asyncio.sleep(0.01)
        assert time.monotonic() - began >= 0.01
        assert asyncio.get_running_loop().time() == pytest.approx(0.01)
        writer.close()
        await writer.wait_closed()


async def test_long_poll_ends_at_its_virtual_time(sqs: MemorySQS) -> None:
    url = await sqs.create_queue("orders", {}, {})
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await sqs.receive(url, wait_time=20) == []
    assert loop.time() - began == pytest.approx(20 + sqs.server.latency)


async def test_long_poll_ends_when_message_becomes_visible(sqs: MemorySQS) -> None:
    url = await sqs.create_queue("orders", {"VisibilityTimeout": "7"}, {})
    await sqs.send(url, [SendEntry("one")])
    loop = asyncio.get_running_loop()
    await sqs.receive(url)
    began = loop.time()
    assert len(await sqs.receive(url, wait_time=20)) == 1
    assert loop.time() - began == pytest.approx(7, abs=2 * sqs.server.latency)


def test_loop_reports_deadlock_instead_of_hanging() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    loop = VirtualTimeLoop()
    task = loop.create_task(hang(), name="the one that hangs")
    try:
        with pytest.raises(Deadlock, match="the one that hangs"):
            loop.run_until_complete(task)
        task.cancel()
        loop.run_until_complete(asyncio.wait({task}))
    finally:
        loop.close()


async def linger(seconds: float) -> None:
    """Ends *seconds* after it is told to."""
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(seconds)


async def test_time_passes_while_a_scope_repeats_its_cancellation() -> None:
    with anyio.move_on_after(5):
        # It may not leave before its tasks do, and the scope cancels it in each turn.
        async with asyncio.TaskGroup() as group:
            group.create_task(linger(3600))
    assert asyncio.get_running_loop().time() == 3605


async def test_no_time_passes_while_one_scope_after_the_other_is_cancelled() -> None:
    asyncio.get_running_loop().call_later(3600, print)
    for _ in range(1000):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await asyncio.sleep(0)
    assert asyncio.get_running_loop().time() == 0


def test_loop_reports_deadlock_while_a_scope_repeats_its_cancellation() -> None:
    async def hang() -> None:
        with anyio.move_on_after(5):
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if over:
                        raise

    over: list[bool] = []
    loop = VirtualTimeLoop()
    task = loop.create_task(hang(), name="the one that hangs")
    try:
        with pytest.raises(Deadlock, match="the one that hangs"):
            loop.run_until_complete(task)
        over.append(True)
        loop.run_until_complete(asyncio.wait({task}))
    finally:
        loop.close()
