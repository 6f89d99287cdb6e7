"""What pollers and publishers say of themselves, to whoever watches over the process."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from sqs_orchestrator import (
    AccessDenied,
    Health,
    Message,
    Poller,
    Publisher,
    QueueError,
    QueueNotFound,
    ReplyQueue,
)
from sqs_orchestrator.core.failing import FORGOTTEN, PATIENCE
from sqs_orchestrator.testing import MemoryServer, connect
from tests.shell.workers import Bench, bench_on, until


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server) as bench:
        yield bench


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets real time pass, by which it is told how long a loop is blocked."""
    passed = 0.0

    def more(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    monkeypatch.setattr("sqs_orchestrator.health.monotonic", lambda: passed)
    return more


async def echo(message: Message) -> str:
    return message.body


def at(second: float, poller: Any) -> datetime:
    """The time at which the loop's was *second*."""
    owner = poller._owner
    began: datetime = owner.started_at
    return began + timedelta(seconds=second - owner.started)


def in_thread(call: Callable[[], Health]) -> Health:
    """What a thread without a loop gets, while this one waits."""
    got: list[Health] = []
    thread = threading.Thread(target=lambda: got.append(call()))
    thread.start()
    thread.join(30)
    return got[0]


def well(seen: Health) -> bool:
    assert (seen.reason is None) == seen.healthy
    assert seen.alive or not seen.healthy
    return seen.healthy


# --------------------------------------------------------------------------- pollers


async def test_poller_is_healthy_from_its_queue_to_its_drain(bench: Bench) -> None:
    gate = asyncio.Event()

    async def handle(message: Message) -> None:
        await gate.wait()

    before = datetime.now(UTC)
    poller = Poller(bench.sqs, "orders", handle, concurrency=1)
    seen = poller.health()
    assert (seen.healthy, seen.alive, seen.reason) == (False, True, "the poller has not started")
    assert before <= seen.since <= datetime.now(UTC)
    run = asyncio.create_task(poller.run())
    await until(lambda: well(poller.health()))
    healthy = poller.health()
    await bench.send("a", "b")
    await until(lambda: poller.statistics().running)
    await asyncio.sleep(5)
    seen = poller.health()
    assert seen.since == healthy.since
    assert seen.pending == 1 + poller.statistics().waiting
    assert seen.oldest_in_work == pytest.approx(5, abs=0.2)
    assert seen.last_poll is not None
    assert seen.last_poll > seen.since
    poller.stop()
    stopping = at(asyncio.get_running_loop().time(), poller)
    await asyncio.sleep(3)
    seen = poller.health()
    assert (seen.healthy, seen.alive, seen.reason) == (False, True, "the poller is stopping")
    assert seen.since == stopping
    gate.set()
    await run
    seen = poller.health()
    assert (seen.healthy, seen.alive, seen.reason) == (False, True, "the poller has stopped")
    assert (seen.since, seen.oldest_in_work, seen.pending) == (stopping, None, 0)


async def test_health_is_frozen(bench: Bench) -> None:
    seen = Poller(bench.sqs, "orders", echo).health()
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen.healthy = True  # type: ignore[misc]


@pytest.mark.parametrize("background", [True, False])
async def test_poller_without_sqs_is_alive_and_not_healthy_until_it_is_back(
    bench: Bench, background: bool
) -> None:
    poller = Poller(bench.sqs, "orders", echo, wait_time=1)
    run = asyncio.create_task(_until_cancelled(poller) if background else poller.run())
    await until(lambda: poller.health().last_poll is not None)
    loop = asyncio.get_running_loop()
    bench.faults.fail("ReceiveMessage", times=None)
    await until(lambda: poller.statistics().consecutive_failures)
    failed = loop.time()
    assert well(poller.health())  # most of it passes at once
    await asyncio.sleep(PATIENCE + 1)
    seen = poller.health()
    assert (seen.healthy, seen.alive) == (False, True)
    assert "receives fail: QueueError: " in (seen.reason or "")
    assert abs(seen.since - at(failed, poller)) < timedelta(seconds=0.1)
    await asyncio.sleep(60)
    later = poller.health()
    assert (later.healthy, later.since, later.last_poll) == (False, seen.since, seen.last_poll)
    bench.faults.clear()
    await until(lambda: well(poller.health()))
    again = poller.health()
    assert again.since == again.last_poll
    await asyncio.sleep(60)
    assert poller.health().since == again.since
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run


async def _until_cancelled(poller: Poller) -> None:
    async with poller:
        await asyncio.Event().wait()


async def test_poller_that_looks_for_its_queue_is_alive(bench: Bench) -> None:
    bench.faults.fail("GetQueueUrl", times=None)
    async with connect(bench.server) as sqs:
        poller = Poller(sqs, "orders", echo)
        run = asyncio.create_task(poller.run())
        await asyncio.sleep(100)
        seen = poller.health()
        assert (seen.healthy, seen.alive) == (False, True)
        assert (seen.reason or "").startswith(
            "the poller has not found its queue yet: QueueError: "
        )
        bench.faults.clear()
        await until(lambda: well(poller.health()))
        poller.stop()
        await run


async def test_background_poller_that_fails_is_not_alive(bench: Bench) -> None:
    poller = await Poller(bench.sqs, "orders", echo, wait_time=1).__aenter__()
    await until(lambda: poller.health().last_poll is not None)
    await bench.sqs.port.delete_queue(bench.url)
    await until(lambda: not well(poller.health()))
    seen = poller.health()
    assert not seen.alive
    assert (seen.reason or "").startswith("the poller failed: QueueNotFound: ")
    await asyncio.sleep(100)
    assert poller.health().since == seen.since
    with pytest.raises(QueueNotFound):
        await poller.__aexit__(None, None, None)


async def test_poller_whose_queue_does_not_exist_is_not_alive(bench: Bench) -> None:
    poller = Poller(bench.sqs, "lost", echo)
    with pytest.raises(QueueNotFound):
        await poller.run()
    seen = poller.health()
    assert (seen.healthy, seen.alive) == (False, False)
    assert "QueueNotFound" in (seen.reason or "")


async def test_handler_that_blocks_the_loop_shows_to_a_thread(
    bench: Bench, patience: Callable[[float], None]
) -> None:
    looks: list[Health] = []

    async def handle(message: Message) -> None:
        # Blocks the loop for as long as another thread looks.
        for seconds in (PATIENCE - 1, 2, 100):
            looks.append(in_thread(poller.health))
            patience(seconds)
        looks.append(in_thread(poller.health))
        # Whoever asks in the loop itself sees that it turns.
        looks.append(poller.health())

    async with Poller(bench.sqs, "orders", handle, wait_time=1) as poller:
        await bench.send("a")
        await until(lambda: poller.statistics().handled)
        # It counts, though with a task that begins eagerly it has not even been started yet.
        assert [each.pending for each in looks] == [1] * 5
        assert None not in [each.oldest_in_work for each in looks]
        first, second, third, fourth, own = looks
        assert well(first)
        assert well(second)
        for each in (third, fourth):
            assert (each.healthy, each.alive) == (False, False)
            assert each.reason == "its event loop is blocked, or does not run"
        assert third.since == fourth.since
        assert own.healthy
        await asyncio.sleep(1)
        again = in_thread(poller.health)
        assert well(again)
        # Healthy since the loop turned again.
        assert again.since > first.since
        patience(PATIENCE + 1)
        await asyncio.sleep(1)
        assert well(in_thread(poller.health))


async def test_loop_that_was_closed_is_not_alive(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    async with Poller(bench.sqs, "orders", echo) as poller:
        with monkeypatch.context() as patched:
            patched.setattr(poller._owner, "loop", closed)
            seen = in_thread(poller.health)
        assert not seen.alive
        assert seen.reason == "its event loop is closed"
        assert well(in_thread(poller.health))


# ------------------------------------------------------------------------ publishers


async def test_publisher_is_healthy_from_entering_to_leaving(bench: Bench) -> None:
    publisher = Publisher(bench.sqs)
    assert publisher.health().reason == "the publisher has not started"
    async with publisher, asyncio.TaskGroup() as group:
        assert well(publisher.health())
        assert publisher.health().last_poll is None
        asked = group.create_task(publisher.request("orders", "a", timeout=50))
        await asyncio.sleep(30)
        seen = publisher.health()
        assert well(seen)
        assert seen.pending == 1
        assert seen.oldest_in_work == pytest.approx(30)
        assert seen.last_poll is not None
        async with Poller(bench.sqs, "orders", echo):
            assert (await asked).body == "a"
        assert (publisher.health().pending, publisher.health().oldest_in_work) == (0, None)
    seen = publisher.health()
    assert (seen.healthy, seen.alive, seen.reason) == (False, True, "the publisher has stopped")


async def _asking(publisher: Publisher, kind: str) -> None:
    """Ask or send again and again, whatever comes of it."""
    while True:
        with suppress(QueueError, TimeoutError):
            if kind == "send":
                await publisher.send("orders", "a")
            else:
                await publisher.request("orders", "a", timeout=3)
        await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("operation", "kind", "reason"),
    [
        ("SendMessageBatch", "send", "messages cannot be sent: QueueError: "),
        ("SendMessageBatch", "request", "messages cannot be sent: QueueError: "),
        ("ReceiveMessage", "request", "the reply queue cannot be read: QueueError: "),
        ("CreateQueue", "request", "the reply queue cannot be created: QueueError: "),
    ],
)
async def test_publisher_without_sqs_is_alive_and_not_healthy_until_it_is_back(
    bench: Bench, operation: str, kind: str, reason: str
) -> None:
    bench.faults.fail(operation, times=None)
    async with Publisher(bench.sqs, default_timeout=3) as publisher:
        asking = asyncio.create_task(_asking(publisher, kind))
        await asyncio.sleep(5)
        assert well(publisher.health())
        await until(lambda: not well(publisher.health()))
        seen = publisher.health()
        assert seen.alive
        assert (seen.reason or "").startswith(reason)
        await asyncio.sleep(100)
        assert publisher.health().since == seen.since
        bench.faults.clear()
        await until(lambda: well(publisher.health()), within=30)
        assert publisher.health().since > seen.since + timedelta(seconds=100)
        asking.cancel()


async def test_publisher_that_nobody_uses_becomes_healthy_again(bench: Bench) -> None:
    bench.faults.fail("SendMessageBatch", times=None)
    async with Publisher(bench.sqs, default_timeout=3) as publisher:
        asking = asyncio.create_task(_asking(publisher, "send"))
        await until(lambda: not well(publisher.health()))
        asking.cancel()
        await asyncio.sleep(FORGOTTEN / 2)
        assert not well(publisher.health())
        await asyncio.sleep(FORGOTTEN)
        assert well(publisher.health())


@pytest.mark.parametrize("operation", ["CreateQueue", "ReceiveMessage"])
async def test_missing_permission_shows_at_once(bench: Bench, operation: str) -> None:
    bench.faults.fail(operation, AccessDenied, times=None)
    async with Publisher(bench.sqs) as publisher:
        with pytest.raises(AccessDenied):
            await publisher.request("orders", "a")
        seen = publisher.health()
        assert (seen.healthy, seen.alive) == (False, True)
        assert f"AccessDenied: {operation}" in (seen.reason or "")


async def test_publisher_whose_shared_reply_queue_was_closed_is_not_healthy(bench: Bench) -> None:
    async with ReplyQueue(bench.sqs) as replies:
        publisher = await Publisher(bench.sqs, reply_queue=replies).__aenter__()
        assert well(publisher.health())
    seen = publisher.health()
    assert (seen.healthy, seen.alive, seen.reason) == (False, True, "the reply queue has stopped")
    await publisher.aclose()


async def test_oldest_request_is_the_publishers_own(bench: Bench) -> None:
    async with (
        ReplyQueue(bench.sqs) as replies,
        Publisher(bench.sqs, reply_queue=replies) as one,
        Publisher(bench.sqs, reply_queue=replies) as other,
    ):
        asked = asyncio.create_task(one.request("orders", "a", timeout=90))
        await asyncio.sleep(10)
        assert one.health().oldest_in_work == pytest.approx(10)
        assert (other.health().pending, other.health().oldest_in_work) == (0, None)
        asked.cancel()


async def test_blocked_loop_shows_to_a_thread_that_asks_a_publisher(
    bench: Bench, patience: Callable[[float], None]
) -> None:
    async with Publisher(bench.sqs) as publisher:
        assert well(in_thread(publisher.health))
        patience(PATIENCE)
        assert not in_thread(publisher.health).alive
        await asyncio.sleep(1)
        assert well(in_thread(publisher.health))
