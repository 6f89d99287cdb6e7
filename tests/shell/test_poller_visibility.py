"""How many messages a worker takes, and how it keeps them hidden."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sqs_orchestrator import Message, Poller, Retry
from sqs_orchestrator.errors import AccessDenied, QueueError, Throttled
from sqs_orchestrator.testing import MemoryServer
from sqs_orchestrator.worker.carrying import MOST_UNFINISHED
from tests.shell.requesters import timers
from tests.shell.workers import REPLIES, Bench, bench_on, engine_of, now, until


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server) as bench:
        yield bench


def hidden(bench: Bench) -> int:
    """Messages that somebody holds."""
    return sum(message.visible_at > now() for message in bench.messages)


class Handlers:
    """Handlers that run until they are let go."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.running = 0
        self.most = 0
        self._free = asyncio.Semaphore(0)

    async def __call__(self, message: Message) -> None:
        self.bodies.append(message.body)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self._free.acquire()
        finally:
            self.running -= 1

    def let_go(self, count: int = 1) -> None:
        for _ in range(count):
            self._free.release()


# ------------------------------------------------------------ how many at once


@pytest.mark.parametrize("concurrency", [1, 3, 10, 25])
async def test_worker_runs_as_many_handlers_as_it_should(bench: Bench, concurrency: int) -> None:
    handlers = Handlers()
    await bench.send(*map(str, range(60)))
    async with Poller(bench.sqs, "orders", handlers, concurrency=concurrency):
        await until(lambda: handlers.running == concurrency)
        await asyncio.sleep(300)
        assert handlers.most == concurrency
        # No more than it can start: the others are left to other workers.
        assert hidden(bench) == concurrency
        handlers.let_go(60)
        await until(lambda: bench.empty)
    assert handlers.most == concurrency
    assert sorted(map(int, handlers.bodies)) == list(range(60))


async def test_place_that_becomes_free_is_taken_without_waiting_for_others(bench: Bench) -> None:
    handlers = Handlers()
    await bench.send(*map(str, range(30)))
    async with Poller(bench.sqs, "orders", handlers, concurrency=10):
        await until(lambda: handlers.running == 10)
        for done in range(1, 21):
            handlers.let_go()
            began = now()
            await until(lambda done=done: len(handlers.bodies) == 10 + done)  # type: ignore[misc]
            assert handlers.running == 10
            assert now() - began < 0.1
        handlers.let_go(30)
        await until(lambda: bench.empty)


async def test_polls_that_do_not_wait_pause_only_while_nothing_comes(bench: Bench) -> None:
    handlers = Handlers()
    handlers.let_go(100)
    async with Poller(bench.sqs, "orders", handlers, wait_time=0) as poller:
        await asyncio.sleep(60)
        # A receive takes 20 ms, and half a second goes by before the next.
        assert 110 <= poller.statistics().receives <= 120
        await bench.send(*map(str, range(100)))
        before = poller.statistics().receives
        await until(lambda: bench.empty, within=2)
        assert poller.statistics().receives - before < 20


async def test_quick_handlers_are_kept_busy_by_messages_taken_ahead(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(0.01)

    await bench.send(*map(str, range(1000)))
    began = now()
    async with Poller(bench.sqs, "orders", handle, concurrency=10) as poller:
        await until(lambda: bench.empty)
        took = now() - began
    # A receive takes twice as long as a handler; a thousand of ten at a time take a second.
    assert took < 3
    assert poller.statistics().receives < 160


async def test_slow_handlers_keep_no_message_from_other_workers(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(10)

    await bench.send(*map(str, range(50)))
    async with Poller(bench.sqs, "orders", handle, concurrency=5) as poller:
        most = 0
        while poller.statistics().deleted < 40:
            await asyncio.sleep(0.5)
            most = max(most, poller.statistics().waiting)
    assert most == 0


async def test_more_receivers_join_while_polls_come_back_full_and_retire(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(0.001)

    most = 0
    polls = 0

    async with Poller(bench.sqs, "orders", handle, concurrency=100, wait_time=5) as poller:
        receivers = engine_of(poller).receive_loop._receivers
        await asyncio.sleep(30)
        assert receivers.in_flight == 1
        await bench.send(*map(str, range(1000)))
        while not bench.empty:
            await asyncio.sleep(0.01)
            most = max(most, receivers.in_flight)
        assert most > 3
        await asyncio.sleep(60)
        assert receivers.in_flight == 1
        polls = bench.calls("ReceiveMessage")
        await asyncio.sleep(60)
        assert bench.calls("ReceiveMessage") - polls == pytest.approx(12, abs=1)


async def test_short_polls_do_not_spin(bench: Bench) -> None:
    bench.server.latency = 0.0
    async with Poller(bench.sqs, "orders", Handlers(), wait_time=0):
        await asyncio.sleep(100)
    assert bench.calls("ReceiveMessage") <= 201


# ---------------------------------------------------------------- back-pressure


async def test_replies_that_cannot_be_sent_keep_worker_from_taking_more(bench: Bench) -> None:
    async def handle(message: Message) -> int:
        return 1

    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    await bench.ask(*map(str, range(3000)), timeout=500)
    async with Poller(bench.sqs, "orders", handle, concurrency=50) as poller:
        await asyncio.sleep(100)
        assert 0 <= poller.statistics().answering - MOST_UNFINISHED < 300
        assert poller.statistics().received == poller.statistics().answering
        bench.faults.clear()
        await until(lambda: bench.empty)
    assert len(bench.replies) == 3000


async def test_replies_given_up_let_worker_take_more(bench: Bench) -> None:
    async def handle(message: Message) -> int:
        return 1

    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    await bench.ask(*map(str, range(1500)))
    async with Poller(bench.sqs, "orders", handle, concurrency=50, wait_time=1) as poller:
        await until(lambda: poller.statistics().received > 1500, within=1000)


async def test_deletes_that_cannot_be_made_keep_worker_from_taking_more(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        pass

    bench.faults.fail("DeleteMessageBatch", Throttled, times=None)
    await bench.send(*map(str, range(3000)))
    async with Poller(
        bench.sqs, "orders", handle, concurrency=50, visibility_timeout=600
    ) as poller:
        await asyncio.sleep(20)
        assert 0 <= poller.statistics().received - MOST_UNFINISHED < 300
        bench.faults.clear()
        await until(lambda: bench.empty)
    assert poller.statistics().received == 3000


# ------------------------------------------------------------------ visibility


async def test_visibility_is_extended_while_handlers_run(bench: Bench) -> None:
    handlers = Handlers()
    await bench.send(*map(str, range(10)))
    async with Poller(bench.sqs, "orders", handlers, visibility_timeout=30) as poller:
        await until(lambda: handlers.running == 10)
        for _ in range(100):
            await asyncio.sleep(7.3)
            assert hidden(bench) == 10
        # All of them in one call each time, half-way through.
        calls = [call for call in bench.server.log if call.operation.startswith("ChangeMess")]
        assert {call.entries for call in calls} == {10}
        assert len(calls) == pytest.approx(730 / 15, abs=2)
        handlers.let_go(10)
        await until(lambda: bench.empty)
    assert poller.statistics().redelivered == 0


async def test_visibility_of_waiting_messages_is_extended_too(bench: Bench) -> None:
    handlers = Handlers()
    async with Poller(
        bench.sqs, "orders", handlers, concurrency=5, visibility_timeout=10
    ) as poller:
        # Quick at first, so that it takes some ahead.
        handlers.let_go(50)
        await bench.send(*map(str, range(50)))
        await until(lambda: bench.empty)
        await bench.send(*map(str, range(20)))
        await until(lambda: poller.statistics().waiting)
        held = hidden(bench)
        for _ in range(100):
            await asyncio.sleep(1.3)
            assert hidden(bench) == held
        handlers.let_go(20)
        await until(lambda: bench.empty)
    assert poller.statistics().redelivered == 0


async def test_visibility_of_message_whose_reply_is_on_its_way_is_extended(bench: Bench) -> None:
    async def handle(message: Message) -> int:
        return 1

    bench.faults.fail("SendMessageBatch", QueueError, times=None, queue=REPLIES)
    await bench.ask("a", timeout=100)
    async with Poller(bench.sqs, "orders", handle, visibility_timeout=4) as poller:
        await asyncio.sleep(90)
        assert hidden(bench) == 1
        bench.faults.clear()
        await until(lambda: bench.empty)
    assert poller.statistics().received == 1


async def test_lost_extension_does_no_harm(bench: Bench) -> None:
    handlers = Handlers()
    await bench.send("a")
    async with Poller(bench.sqs, "orders", handlers, visibility_timeout=30):
        await until(lambda: handlers.running)
        for _ in range(20):
            bench.faults.drop_answer("ChangeMessageVisibilityBatch")
            bench.faults.fail("ChangeMessageVisibilityBatch", Throttled)
            await asyncio.sleep(20)
            assert hidden(bench) == 1
        handlers.let_go()


@pytest.mark.parametrize("wanted", [True, False])
async def test_handler_past_max_extension_is_cancelled_as_if_it_had_raised(
    bench: Bench, wanted: bool
) -> None:
    ended: list[tuple[float, type[BaseException] | None]] = []

    async def handle(message: Message) -> None:
        try:
            await asyncio.sleep(1000 if message.receive_count == 1 else 0)
        except asyncio.CancelledError:
            ended.append((now(), asyncio.CancelledError))
            raise
        ended.append((now(), None))

    await (bench.ask("a") if wanted else bench.send("a"))
    async with Poller(
        bench.sqs, "orders", handle, visibility_timeout=10, max_extension=60
    ) as poller:
        await until(lambda: bench.empty)
    assert ended[0][0] == pytest.approx(60, abs=0.2)
    if wanted:
        assert [reply["type"] for reply in bench.replies] == ["TimeoutError"]
    else:
        assert len(ended) == 2
        assert 60 < ended[1][0] <= 75
    assert poller.statistics().failed == 1


async def test_own_error_of_a_handler_past_max_extension_is_its_error(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            raise LookupError from None

    await bench.ask("a")
    async with Poller(bench.sqs, "orders", handle, visibility_timeout=10, max_extension=60):
        await until(lambda: bench.empty)
    assert [reply["type"] for reply in bench.replies] == ["LookupError"]


async def test_worker_that_has_left_has_no_timer(bench: Bench) -> None:
    await bench.send("a", "b")
    async with Poller(bench.sqs, "orders", Handlers(), drain_timeout=1) as poller:
        await until(lambda: poller.statistics().running == 2)
        assert timers()
    assert not timers()


async def test_message_whose_extension_was_refused_can_still_be_let_go(bench: Bench) -> None:
    times: list[float] = []

    async def handle(message: Message) -> None:
        times.append(now())
        if message.receive_count == 1:
            await asyncio.sleep(40)
            raise Retry(delay=0)

    bench.faults.fail("ChangeMessageVisibilityBatch", AccessDenied, times=1)
    await bench.send("a")
    async with Poller(bench.sqs, "orders", handle, visibility_timeout=60):
        await until(lambda: bench.empty)
    assert times[1] - times[0] == pytest.approx(40, abs=1)


async def test_waiting_message_past_max_extension_goes_back(bench: Bench) -> None:
    handlers = Handlers()
    async with Poller(
        bench.sqs, "orders", handlers, concurrency=1, visibility_timeout=10, max_extension=30
    ) as poller:
        handlers.let_go(50)
        await bench.send(*map(str, range(50)))
        await until(lambda: bench.empty)
        await bench.send(*map(str, range(10)))
        await until(lambda: poller.statistics().waiting)
        await asyncio.sleep(29 + 10)
        # The one that ran was cancelled, and none of the others started: nobody had them.
        assert poller.statistics().failed == 1
        handlers.let_go(50)
        await until(lambda: bench.empty)
    assert len(handlers.bodies) == 61


async def test_result_of_handler_that_ignores_max_extension_counts(bench: Bench) -> None:
    async def handle(message: Message) -> int:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return 1

    await bench.ask("a")
    async with Poller(bench.sqs, "orders", handle, visibility_timeout=10, max_extension=60):
        await until(lambda: bench.empty)
    assert bench.replies == [1]


async def test_max_extension_may_be_shorter_than_visibility_timeout(bench: Bench) -> None:
    await bench.ask("a")
    handlers = Handlers()
    async with Poller(bench.sqs, "orders", handlers, max_extension=5):
        await until(lambda: bench.empty)
        assert now() == pytest.approx(5, abs=0.5)
    assert bench.replies[0]["type"] == "TimeoutError"


async def test_extension_in_flight_does_not_undo_what_comes_after_it(bench: Bench) -> None:
    times: list[float] = []
    gate = bench.faults.hold("ChangeMessageVisibilityBatch")

    async def handle(message: Message) -> None:
        times.append(now())
        if len(times) == 1:
            await gate.arrived()
            raise Retry(delay=200)

    await bench.send("a")
    async with Poller(bench.sqs, "orders", handle, visibility_timeout=60):
        await gate.arrived()
        await asyncio.sleep(1)
        gate.release()
        await until(lambda: bench.empty)
    assert times[1] - times[0] == pytest.approx(30 + 1 + 200, abs=1)


async def test_extension_that_fails_does_not_undo_what_comes_after_it(bench: Bench) -> None:
    times: list[float] = []

    async def handle(message: Message) -> None:
        times.append(now())
        if len(times) == 1:
            await asyncio.sleep(31)
            raise Retry(delay=200)

    bench.faults.fail("ChangeMessageVisibilityBatch", Throttled, times=6)
    await bench.send("a")
    async with Poller(bench.sqs, "orders", handle, visibility_timeout=60):
        await until(lambda: bench.empty)
    assert times[1] - times[0] == pytest.approx(31 + 200, abs=6)


async def test_extension_that_waits_is_replaced_by_what_comes_after_it(bench: Bench) -> None:
    times: list[float] = []
    gate = bench.faults.hold("ChangeMessageVisibilityBatch")

    async def handle(message: Message) -> None:
        if message.body == "b":
            times.append(now())
            if len(times) == 1:
                # Its extension waits for company now, since that of the other is in flight.
                await asyncio.sleep(30.01)
                raise Retry(delay=200)
        else:
            await asyncio.sleep(100)

    async with Poller(bench.sqs, "orders", handle, visibility_timeout=60):
        await bench.send("a")
        await asyncio.sleep(20)
        await bench.send("b")
        await gate.arrived()
        await asyncio.sleep(25)
        gate.release()
        await until(lambda: bench.empty)
    assert times[1] - times[0] == pytest.approx(230, abs=2)
    calls = [call for call in bench.server.log if call.operation.startswith("ChangeMess")]
    assert len([call for call in calls if call.time > 48 and call.time < 52]) == 1


async def test_idle_worker_has_no_timer_left(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        pass

    async with Poller(bench.sqs, "orders", handle) as poller:
        engine = engine_of(poller)
        await bench.send("a")
        await until(lambda: bench.empty)
        await asyncio.sleep(60)
        assert engine.visibility._timer is None
        assert len(engine.visibility) == 0


async def test_worker_that_may_not_change_visibility_says_so_once(
    bench: Bench, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults.fail("ChangeMessageVisibilityBatch", AccessDenied, times=None)
    handlers = Handlers()
    await bench.send("a", "b")
    async with Poller(bench.sqs, "orders", handlers, visibility_timeout=10):
        await until(lambda: server.calls["ChangeMessageVisibilityBatch"] >= 5)
        handlers.let_go(10)
    warnings = [record for record in caplog.records if "kept hidden" in record.message]
    assert len(warnings) == 1
