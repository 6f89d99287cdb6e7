"""What is in work is not begun again, though SQS hands it out once more: since its visibility ran
out under a loop that stood still or extensions that failed, or since SQS delivers twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sqs_orchestrator import Message, Poller
from sqs_orchestrator.errors import AccessDenied, QueueError, Throttled
from sqs_orchestrator.testing import MemoryServer, VirtualTimeLoop
from sqs_orchestrator.worker.delivery import REMEMBERED
from tests.shell.workers import REPLIES, Bench, bench_on, engine_of, now, until


@pytest_asyncio.fixture(params=["orders", "orders.fifo"])
async def bench(server: MemoryServer, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench_on(server, request.param) as bench:
        yield bench


@pytest_asyncio.fixture
async def standard(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server) as bench:
        yield bench


def group_of(bench: Bench) -> str | None:
    return "g" if bench.queue.endswith(".fifo") else None


def stand_still(seconds: float) -> None:
    """What a handler does that computes without an `await`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.jump(seconds)


class Started:
    """Counts what handlers were started on."""

    def __init__(self) -> None:
        self.bodies: Counter[str] = Counter()

    def __call__(self, message: Message) -> None:
        self.bodies[message.body] += 1

    def assert_once(self, *bodies: str) -> None:
        assert self.bodies == dict.fromkeys(bodies, 1)


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [message for message in caplog.messages if text in message]


def assert_nothing_known(poller: Poller) -> None:
    engine = engine_of(poller)
    assert not engine.deliveries
    assert len(engine.visibility) == 0


@pytest.mark.parametrize("concurrency", [1, 10])
@pytest.mark.parametrize("wanted", [True, False])
async def test_handler_that_blocks_the_loop_runs_once(
    bench: Bench, caplog: pytest.LogCaptureFixture, concurrency: int, wanted: bool
) -> None:
    started = Started()

    async def handle(message: Message) -> int:
        started(message)
        await asyncio.sleep(0.5)
        stand_still(25)
        return 1

    send = bench.ask if wanted else bench.send
    await send("a", group=group_of(bench))
    async with Poller(
        bench.sqs, bench.queue, handle, concurrency=concurrency, visibility_timeout=10
    ) as poller:
        await until(lambda: poller.statistics().handled)
        await until(lambda: bench.empty)
        await asyncio.sleep(30)
        assert_nothing_known(poller)
    started.assert_once("a")
    assert poller.statistics().deleted == 1
    if wanted:
        assert bench.replies == [1]
    (warning,) = lines(caplog, "stood still")
    seconds = float(warning.split("stood still for ")[1].split()[0])
    assert 24 <= seconds <= 25
    assert "thread" in warning


async def test_all_that_is_in_work_survives_a_loop_that_stands_still(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    started = Started()

    async def handle(message: Message) -> None:
        started(message)
        await asyncio.sleep(3)
        if message.body == "5":
            stand_still(25)
        await asyncio.sleep(3)

    bodies = [str(number) for number in range(10)]
    for body in bodies:
        # A group each, or two for one of them.
        await bench.send(body, group=group_of(bench) and f"g{int(body) // 2}")
    async with Poller(bench.sqs, bench.queue, handle, visibility_timeout=10) as poller:
        await until(lambda: bench.empty)
        await asyncio.sleep(30)
        assert_nothing_known(poller)
    started.assert_once(*bodies)
    assert len(lines(caplog, "stood still")) == 1


async def test_loop_that_stands_still_for_a_moment_is_not_complained_of(
    standard: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> None:
        for _ in range(10):
            await asyncio.sleep(0.7)
            stand_still(3)

    await standard.send("a")
    async with Poller(standard.sqs, "orders", handle, visibility_timeout=10) as poller:
        await until(lambda: standard.empty)
    assert poller.statistics().redelivered == 0
    assert not lines(caplog, "stood still")


async def test_message_received_while_the_loop_stood_still_is_extended_at_once(
    standard: Bench,
) -> None:
    async def handle(message: Message) -> None:
        if message.body == "a":
            await asyncio.sleep(1)
            gate.release()
            stand_still(8)
        else:
            await asyncio.sleep(60)

    async with Poller(standard.sqs, "orders", handle, visibility_timeout=10):
        await standard.send("a")
        await asyncio.sleep(0.5)
        # SQS hands it out, and its answer is there when the loop goes on.
        gate = standard.faults.hold("ReceiveMessage", answer=True)
        await standard.send("b")
        await until(lambda: "b" in [each.body for each in standard.messages])
        await until(lambda: now() > 9)
        (message,) = [each for each in standard.messages if each.body == "b"]
        # Half-way after it was taken would be too late.
        assert message.visible_at < 11
        await until(lambda: message.visible_at > 18, within=1)
        assert message.receive_count == 1


async def test_message_is_not_begun_again_while_extensions_are_throttled(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    started = Started()

    async def handle(message: Message) -> None:
        started(message)
        await asyncio.sleep(20)

    bench.faults.fail("ChangeMessageVisibilityBatch", Throttled, times=None)
    await bench.send("a", group=group_of(bench))
    async with Poller(bench.sqs, bench.queue, handle, visibility_timeout=2, wait_time=1) as poller:
        await until(lambda: bench.empty)
        await asyncio.sleep(1)
        statistics = poller.statistics()
        assert_nothing_known(poller)
    started.assert_once("a")
    assert statistics.duplicates == statistics.redelivered >= 5
    assert statistics.received == 1 + statistics.duplicates
    assert statistics.extensions == 0
    assert statistics.extensions_failed >= 1
    warning = lines(caplog, "could not be kept hidden")[0]
    assert "in work since" in warning
    assert "RequestThrottled" in warning


async def test_extensions_that_work_are_counted_and_not_complained_of(
    standard: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(52)

    standard.faults.fail("ChangeMessageVisibilityBatch", Throttled, times=2)
    await standard.send("a", "b")
    async with Poller(standard.sqs, "orders", handle, visibility_timeout=10) as poller:
        await until(lambda: standard.empty)
    assert poller.statistics().extensions == 20
    assert poller.statistics().extensions_failed == 0
    assert not caplog.messages


async def test_extension_that_is_not_allowed_is_counted(
    standard: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(20)

    standard.faults.fail("ChangeMessageVisibilityBatch", AccessDenied, times=None)
    await standard.send("a")
    async with Poller(standard.sqs, "orders", handle, visibility_timeout=4) as poller:
        await until(lambda: standard.empty)
    assert poller.statistics().extensions_failed >= 2
    assert poller.statistics().handled == 1
    assert len(caplog.messages) == 1


async def test_extension_of_what_was_deleted_meanwhile_is_no_failure(
    standard: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    gate = standard.faults.hold("ChangeMessageVisibilityBatch")

    async def handle(message: Message) -> None:
        await gate.arrived()

    await standard.send("a")
    async with Poller(standard.sqs, "orders", handle, visibility_timeout=10) as poller:
        await until(lambda: standard.empty)
        gate.release()
        await asyncio.sleep(20)
    assert poller.statistics().extensions_failed == 0
    assert not caplog.messages


async def test_delete_that_is_throttled_keeps_its_message_hidden(bench: Bench) -> None:
    started = Started()

    async def handle(message: Message) -> None:
        started(message)

    bench.faults.fail("DeleteMessageBatch", Throttled, times=None)
    await bench.send("a", group=group_of(bench))
    async with Poller(bench.sqs, bench.queue, handle, visibility_timeout=4) as poller:
        await asyncio.sleep(25)
        assert [message.receive_count for message in bench.messages] == [1]
        bench.faults.clear()
        await until(lambda: bench.empty)
        await asyncio.sleep(1)
        assert_nothing_known(poller)
    started.assert_once("a")


async def test_delete_that_waits_uses_the_newest_receipt_handle(bench: Bench) -> None:
    started = Started()

    async def handle(message: Message) -> None:
        started(message)

    bench.faults.fail("ChangeMessageVisibilityBatch", Throttled, times=None)
    bench.faults.fail("DeleteMessageBatch", Throttled, times=None)
    await bench.send("a", group=group_of(bench))
    async with Poller(bench.sqs, bench.queue, handle, visibility_timeout=2, wait_time=1) as poller:
        await until(lambda: poller.statistics().duplicates >= 3)
        bench.faults.clear()
        await until(lambda: bench.empty)
        assert poller.statistics().deleted == 1
        await asyncio.sleep(10)
        assert_nothing_known(poller)
    started.assert_once("a")


async def test_delete_in_flight_is_made_again_with_the_newest_receipt_handle(
    bench: Bench,
) -> None:
    started = Started()

    async def handle(message: Message) -> None:
        started(message)

    bench.faults.fail("ChangeMessageVisibilityBatch", Throttled, times=None)
    gate = bench.faults.hold("DeleteMessageBatch")
    await bench.send("a", group=group_of(bench))
    async with Poller(bench.sqs, bench.queue, handle, visibility_timeout=2, wait_time=1) as poller:
        await gate.arrived()
        await until(lambda: poller.statistics().duplicates)
        gate.release()
        await until(lambda: bench.empty)
        assert bench.calls("DeleteMessageBatch") == 2
    started.assert_once("a")


async def test_message_on_its_way_here_while_its_delete_did_nothing_is_deleted(
    bench: Bench,
) -> None:
    started = Started()

    async def handle(message: Message) -> None:
        started(message)
        await asyncio.sleep(0.5)
        stand_still(25)

    await bench.send("a", group=group_of(bench))
    async with Poller(bench.sqs, bench.queue, handle, visibility_timeout=10) as poller:
        await until(lambda: started.bodies)
        # SQS hands it out once more, and the answer takes until after the delete.
        gate = bench.faults.hold("ReceiveMessage", answer=True)
        await until(lambda: poller.statistics().handled)
        await until(lambda: bench.calls("DeleteMessageBatch"))
        await asyncio.sleep(1)
        assert not bench.empty
        gate.release()
        await until(lambda: bench.empty)
        await asyncio.sleep(1)
        assert poller.statistics().duplicates == 1
    started.assert_once("a")


@pytest.mark.parametrize("fault", [QueueError, AccessDenied])
async def test_message_whose_delete_was_given_up_is_deleted_when_it_comes_again(
    standard: Bench, fault: type[QueueError]
) -> None:
    started = Started()

    async def handle(message: Message) -> None:
        started(message)

    standard.faults.fail("DeleteMessageBatch", fault, times=None)
    await standard.send("a")
    async with Poller(standard.sqs, "orders", handle, visibility_timeout=4, wait_time=1) as poller:
        await asyncio.sleep(300)
        standard.faults.clear()
        await until(lambda: standard.empty)
        await asyncio.sleep(4 + REMEMBERED + 10)
        assert_nothing_known(poller)
    started.assert_once("a")


async def test_message_that_was_deleted_late_is_forgotten_in_the_end(standard: Bench) -> None:
    async def handle(message: Message) -> None: ...

    standard.faults.fail("ChangeMessageVisibilityBatch", AccessDenied, times=None)
    deletes = standard.faults.hold("DeleteMessageBatch")
    await standard.send("a")
    async with Poller(standard.sqs, "orders", handle, visibility_timeout=4, wait_time=1) as poller:
        await deletes.arrived()
        polls = standard.faults.hold("ReceiveMessage")
        await polls.arrived()
        await asyncio.sleep(10)
        deletes.release()
        await until(lambda: standard.empty)
        await asyncio.sleep(1)
        # Another poll may have it on its way.
        assert engine_of(poller).deliveries
        polls.release()
        await asyncio.sleep(REMEMBERED + 10)
        assert_nothing_known(poller)


async def test_reply_on_its_way_keeps_its_request_from_being_done_again(bench: Bench) -> None:
    started = Started()

    async def handle(message: Message) -> int:
        started(message)
        return 1

    bench.faults.fail("ChangeMessageVisibilityBatch", Throttled, times=None)
    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    await bench.ask("a", timeout=100, group=group_of(bench))
    async with Poller(bench.sqs, bench.queue, handle, visibility_timeout=2, wait_time=1) as poller:
        await until(lambda: poller.statistics().duplicates >= 5)
        bench.faults.clear()
        await until(lambda: bench.empty)
    started.assert_once("a")
    assert bench.replies == [1]


async def test_message_that_was_left_is_begun_anew_when_it_comes_again(bench: Bench) -> None:
    started = Started()

    async def handle(message: Message) -> None:
        started(message)
        if started.bodies["a"] < 4:
            raise ValueError("not yet")

    await bench.send("a", group=group_of(bench))
    async with Poller(bench.sqs, bench.queue, handle, visibility_timeout=4) as poller:
        await until(lambda: bench.empty)
    assert started.bodies["a"] == 4
    assert poller.statistics().duplicates == 0
