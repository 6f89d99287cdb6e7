"""How a worker stops: in the order that loses nothing, and how it ends when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import pytest_asyncio

from sqs_orchestrator import Message, Poller, Publisher, QueueError, Retry
from sqs_orchestrator.errors import AccessDenied, QueueNotFound, Throttled
from sqs_orchestrator.sqs.port import Received
from sqs_orchestrator.testing import MemoryServer, MemorySQS, VirtualTimeLoop, connect
from tests.shell.workers import REPLIES, Bench, bench_on, now, until


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server) as bench:
        yield bench


def sleeper(seconds: float) -> Any:
    """A handler that takes its time."""

    async def handle(message: Message) -> list[str]:
        await asyncio.sleep(seconds)
        return [message.body]

    return handle


def visible(bench: Bench) -> list[str]:
    """What other workers could have now."""
    return [message.body for message in bench.messages if message.visible_at <= now()]


async def stopped(task: asyncio.Task[Any]) -> None:
    """Wait for a task, whatever its end."""
    await asyncio.wait({task})


# ------------------------------------------------------------------ the order


async def test_stop_lets_handlers_finish_and_their_replies_and_deletes_out(bench: Bench) -> None:
    await bench.ask("a", "b", "c")
    poller = Poller(bench.sqs, "orders", sleeper(10))
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running == 3)
    poller.stop()
    await run
    assert bench.empty
    assert len(bench.replies) == 3
    assert poller.statistics().running == 0


async def test_stop_releases_what_has_not_started(bench: Bench) -> None:
    poller = Poller(bench.sqs, "orders", sleeper(0.01), concurrency=1, visibility_timeout=600)
    run = asyncio.create_task(poller.run())
    await bench.send(*map(str, range(200)))
    await until(lambda: poller.statistics().waiting > 5)
    poller.stop()
    await run
    assert bench.messages
    assert len(visible(bench)) == len(bench.messages)


async def test_poll_in_flight_is_awaited_and_what_it_brings_released(bench: Bench) -> None:
    bench.server.cancelled_polls_take = True
    poller = Poller(bench.sqs, "orders", sleeper(0), visibility_timeout=600)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().receives)
    await asyncio.sleep(1)
    poller.stop()
    await asyncio.sleep(5)
    assert not run.done()
    await bench.send("a")
    await run
    assert now() < 10
    assert visible(bench) == ["a"]
    assert poller.statistics().handled == 0
    assert poller.statistics().receives == 1


async def test_stopped_idle_worker_loses_nothing_that_comes_later(bench: Bench) -> None:
    bench.server.cancelled_polls_take = True
    poller = Poller(bench.sqs, "orders", sleeper(0), visibility_timeout=600)
    run = asyncio.create_task(poller.run())
    await asyncio.sleep(1)
    poller.stop()
    await run
    await bench.send("a")
    assert visible(bench) == ["a"]


async def test_handlers_that_outlast_the_drain_are_cancelled_and_released(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cancelled: list[float] = []

    async def handle(message: Message) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            cancelled.append(now())

    await bench.ask("a", "b")
    poller = Poller(bench.sqs, "orders", handle, drain_timeout=25)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running == 2)
    poller.stop()
    began = now()
    await run
    assert [at - began for at in cancelled] == pytest.approx([23, 23])
    assert now() - began < 25
    assert sorted(visible(bench)) == ["a", "b"]
    assert bench.replies == []
    assert poller.statistics().released == 2
    assert "2 of test_handlers_that_outlast" in caplog.text


@pytest.mark.parametrize("drain_timeout", [0.1, 1, 4])
async def test_drain_ends_in_time_however_short(bench: Bench, drain_timeout: float) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(1000), drain_timeout=drain_timeout)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    poller.stop()
    began = now()
    await run
    assert now() - began <= drain_timeout + 0.5
    if drain_timeout > 1:
        assert visible(bench) == ["a"]


async def test_handler_that_finishes_although_cancelled_is_answered(bench: Bench) -> None:
    async def handle(message: Message) -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        await asyncio.sleep(0.2)
        return 1

    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", handle)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    poller.stop()
    await run
    assert bench.replies == [1]
    assert bench.empty


async def test_handler_that_turns_cancellation_into_its_own_error_is_released(
    bench: Bench,
) -> None:
    async def handle(message: Message) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            raise ValueError from None

    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", handle)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    poller.stop()
    await run
    assert bench.replies == []
    assert visible(bench) == ["a"]


async def test_handler_that_ignores_cancellation_is_left_behind(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    free = asyncio.Event()

    async def handle(message: Message) -> int:
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()
        if message.body == "b":
            raise ValueError
        return 1

    await bench.ask("a", "b")
    poller = Poller(bench.sqs, "orders", handle, drain_timeout=5)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running == 2)
    poller.stop()
    began = now()
    await run
    assert now() - began <= 6
    assert "ignores that it was cancelled" in caplog.text
    # What it does later has no effect.
    free.set()
    await asyncio.sleep(1)
    assert "never retrieved" not in caplog.text
    assert bench.replies == []
    await until(lambda: sorted(visible(bench)) == ["a", "b"])


async def test_handlers_may_send_and_ask_while_draining(bench: Bench) -> None:
    await bench.sqs.create_queue("others")

    async with Publisher(bench.sqs) as publisher:

        async def handle(message: Message) -> str:
            await asyncio.sleep(3)
            return await publisher.send("others", "x")

        await bench.ask("a")
        poller = Poller(bench.sqs, "orders", handle)
        run = asyncio.create_task(poller.run())
        await until(lambda: poller.statistics().running)
        poller.stop()
        await run
    assert bench.empty
    assert len(bench.at("others")) == 1


async def test_retry_while_draining_keeps_its_delay(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(3)
        raise Retry(delay=500)

    await bench.send("a")
    poller = Poller(bench.sqs, "orders", handle)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    poller.stop()
    await run
    assert bench.messages[0].visible_at - now() > 400


async def test_replies_that_fail_do_not_keep_deletes_from_going_out(bench: Bench) -> None:
    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    bench.faults.delay("DeleteMessageBatch", 1)
    await bench.ask("a", timeout=500)
    await bench.send("b")
    poller = Poller(bench.sqs, "orders", sleeper(2.5), drain_timeout=5)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running == 2)
    poller.stop()
    began = now()
    await run
    assert now() - began < 6
    assert [message.body for message in bench.messages] == ["a"]


async def test_drain_says_what_it_could_not_flush(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(1))
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    poller.stop()
    await run
    assert "1 replies" in caplog.text


async def test_deletes_go_out_after_the_last_reply(bench: Bench) -> None:
    bench.faults.delay("SendMessageBatch", 1.5, queue=REPLIES)
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(22.5))
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    poller.stop()
    await run
    assert len(bench.replies) == 1
    assert bench.empty


async def test_dead_letters_are_awaited(
    server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(number: int) -> None: ...

    async with bench_on(server, dead_letter_queue=True) as bench:
        bench.faults.delay("GetQueueAttributes", 10)
        await bench.send("x")
        poller = Poller(bench.sqs, "orders", handle, wait_time=1)
        run = asyncio.create_task(poller.run())
        await until(lambda: poller.statistics().rejected)
        poller.stop()
        await run
        assert bench.empty
        assert len(bench.at("orders_dlq")) == 1
        assert "took too long" not in caplog.text


# -------------------------------------------------------------- cancellation


async def test_cancelled_run_drains_and_then_is_cancelled(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(10))
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    run.cancel()
    await stopped(run)
    assert run.cancelled()
    assert len(bench.replies) == 1
    assert bench.empty


async def test_second_cancellation_stops_at_once(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(1000), visibility_timeout=60)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    run.cancel()
    await asyncio.sleep(1)
    began = now()
    run.cancel()
    await stopped(run)
    assert run.cancelled()
    assert now() - began < 1
    assert poller.statistics().running == 0
    assert bench.replies == []
    await until(lambda: visible(bench) == ["a"])


async def test_anyio_scope_lets_it_drain(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(10))
    with anyio.move_on_after(5) as scope:
        await poller.run()
    assert scope.cancelled_caught
    assert len(bench.replies) == 1
    assert bench.empty


async def test_asyncio_timeout_lets_it_drain(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(10))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await poller.run()
    assert len(bench.replies) == 1
    assert bench.empty


@pytest.mark.parametrize("kind", ["native", "anyio"])
async def test_cancelled_body_of_async_with_lets_it_drain(bench: Bench, kind: str) -> None:
    await bench.ask("a")

    async def work() -> None:
        async with Poller(bench.sqs, "orders", sleeper(10)):
            await asyncio.sleep(1000)

    if kind == "anyio":
        with anyio.move_on_after(5):
            await work()
    else:
        task = asyncio.create_task(work())
        await asyncio.sleep(5)
        task.cancel()
        await stopped(task)
        assert task.cancelled()
    assert len(bench.replies) == 1
    assert bench.empty


async def test_cancelled_leaving_goes_on_draining_until_cancelled_again(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(1000), visibility_timeout=60)

    async def work() -> None:
        async with poller:
            await until(lambda: poller.statistics().running)

    task = asyncio.create_task(work())
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.sleep(5)
    assert not task.done()
    task.cancel()
    await asyncio.sleep(1)
    assert task.cancelled()


async def test_cancelled_while_it_starts_leaves_nothing(bench: Bench) -> None:
    await bench.sqs.create_queue("others")
    bench.sqs.queues.forget_url("others")
    gate = bench.faults.hold("GetQueueUrl")
    poller = Poller(bench.sqs, "others", sleeper(0))
    run = asyncio.create_task(poller.run())
    await gate.arrived()
    run.cancel()
    await stopped(run)
    assert run.cancelled()
    gate.release()
    await asyncio.sleep(100)
    assert bench.calls("ReceiveMessage") == 0


async def test_poller_may_be_left_in_another_task(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(10))
    await asyncio.create_task(poller.__aenter__())
    await until(lambda: poller.statistics().running)
    await asyncio.create_task(poller.__aexit__(None, None, None))
    assert bench.empty


async def test_connection_left_first_drains_the_poller(server: MemoryServer) -> None:
    async with bench_on(server) as bench, connect(server) as sqs:
        await bench.ask("a")
        poller = Poller(sqs, "orders", sleeper(10))
        run = asyncio.create_task(poller.run())
        await until(lambda: poller.statistics().running)
        await sqs.aclose()
        assert bench.empty
        await run


async def test_end_of_asyncio_run_neither_hangs_nor_answers() -> None:
    """The program ends with a poller still at work: all tasks are cancelled together."""
    server = MemoryServer(latency=0.02)
    bodies: list[str] = []
    seconds = 0.0

    async def program() -> None:
        nonlocal seconds
        loop = asyncio.get_running_loop()
        stack = contextlib.AsyncExitStack()
        bench = await stack.enter_async_context(bench_on(server))
        poller = Poller(bench.sqs, "orders", sleeper(1000))
        await bench.ask("a", "b")
        loop.tasks = [asyncio.create_task(poller.run()), stack]  # type: ignore[attr-defined]
        await until(lambda: poller.statistics().running == 2)
        seconds = loop.time()

    def whole() -> None:
        nonlocal seconds
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(program())
            loop = runner.get_loop()
            runner.close()
            seconds = loop.time() - seconds

    await asyncio.to_thread(whole)
    for (_, name), queue in server._queues.items():
        bodies += [message.body for message in queue._messages.values() if name == "orders"]
        if name == REPLIES:
            assert not queue._messages
    assert bodies == ["a", "b"]
    assert seconds < 5


# --------------------------------------------------------------- dropping a poll


async def test_stop_may_drop_a_poll_that_has_brought_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.server.cancelled_polls_take = True
    poller = Poller(bench.sqs, "orders", sleeper(0), visibility_timeout=600)
    run = asyncio.create_task(poller.run())
    await asyncio.sleep(1)
    poller.stop(drop_poll=True)
    await run
    assert now() < 2
    assert "dropping 1 polls" in caplog.text
    assert "come back in 600 s" in caplog.text
    assert "waiting" not in caplog.text
    # Late, but not lost.
    await bench.send("a")
    assert visible(bench) == []
    await asyncio.sleep(601)
    assert visible(bench) == ["a"]


async def test_poll_is_dropped_by_a_drain_that_awaits_it(bench: Bench) -> None:
    poller = Poller(bench.sqs, "orders", sleeper(0))
    run = asyncio.create_task(poller.run())
    await asyncio.sleep(1)
    poller.stop()
    await asyncio.sleep(5)
    assert not run.done()
    poller.stop(drop_poll=True)
    await run
    assert now() < 7


async def test_handlers_get_their_time_when_the_poll_is_dropped(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(10))
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    poller.stop(drop_poll=True)
    await run
    assert now() > 10
    assert len(bench.replies) == 1
    assert bench.empty


class Trickling(MemorySQS):
    """Its answers take ten seconds from their first byte to their last."""

    async def receive(self, queue_url: str, **options: Any) -> list[Received]:
        received = await super().receive(queue_url, **options)
        await asyncio.sleep(10)
        return received


async def test_poll_whose_answer_has_begun_is_not_dropped(bench: Bench) -> None:
    await bench.send("a")
    async with connect(port=Trickling(bench.server)) as sqs:
        poller = Poller(sqs, "orders", sleeper(0), visibility_timeout=600)
        run = asyncio.create_task(poller.run())
        await asyncio.sleep(5)
        assert poller.statistics().received == 0
        poller.stop(drop_poll=True)
        await run
    assert now() > 10
    assert poller.statistics().released == 1
    assert visible(bench) == ["a"]


class Unread(MemorySQS):
    """Between the first byte and whoever waits for it are some turns of the loop."""

    async def receive(self, queue_url: str, *, begun: Any = None, **options: Any) -> list[Received]:
        received = await super().receive(queue_url, **options)
        for _ in range(30):
            await asyncio.sleep(0)
        begun()
        await asyncio.sleep(1)
        return received


async def test_answer_that_came_with_the_interrupt_is_not_dropped(bench: Bench) -> None:
    bench.server.latency = 0
    async with connect(port=Unread(bench.server)) as sqs:
        poller = Poller(sqs, "orders", sleeper(0), visibility_timeout=600)
        run = asyncio.create_task(poller.run())
        await asyncio.sleep(1)
        poller.stop()
        await asyncio.sleep(1)
        await bench.send("a")
        poller.stop(drop_poll=True)
        await run
    assert poller.statistics().received == 1
    assert visible(bench) == ["a"]


async def test_dropping_while_it_pauses_after_a_failure_ends_it(bench: Bench) -> None:
    bench.faults.fail("ReceiveMessage", Throttled, times=None)
    poller = Poller(bench.sqs, "orders", sleeper(0))
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().consecutive_failures > 5)
    began = now()
    poller.stop(drop_poll=True)
    await run
    assert now() - began < 1
    assert poller.statistics().consecutive_failures > 5


async def test_interrupt_drops_the_polls_of_all_pollers_and_termination_none(bench: Bench) -> None:
    await bench.sqs.create_queue("others")
    for number, least, most in ((signal.SIGINT, 0, 1), (signal.SIGTERM, 15, 20)):
        pollers = [Poller(bench.sqs, name, sleeper(0)) for name in ("orders", "others")]
        runs = [asyncio.create_task(poller.run()) for poller in pollers]
        await asyncio.sleep(2)
        began = now()
        send_signal(number)
        await asyncio.wait(runs)
        assert least <= now() - began < most


async def test_short_drain_is_warned_of_when_it_starts(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async with Poller(bench.sqs, "orders", sleeper(0), drain_timeout=8, wait_time=5):
        pass
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    async with Poller(bench.sqs, "orders", sleeper(0), drain_timeout=8, wait_time=7):
        pass
    assert "Set wait_time to 6 or less" in caplog.text


# ------------------------------------------------------------------- signals


def send_signal(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_drains(bench: Bench, number: int) -> None:
    before = signal.getsignal(number)
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(10))
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    send_signal(number)
    await run
    assert len(bench.replies) == 1
    assert bench.empty
    assert signal.getsignal(number) is before


async def test_second_signal_stops_at_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(1000), visibility_timeout=60)
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    send_signal(signal.SIGTERM)
    await asyncio.sleep(1)
    send_signal(signal.SIGINT)
    began = now()
    await run
    assert now() - began < 1
    assert poller.statistics().running == 0
    assert "at once" in caplog.text
    await until(lambda: visible(bench) == ["a"])


async def test_first_signal_after_stop_does_not_cut_the_drain_short(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(10))
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    poller.stop()
    await asyncio.sleep(1)
    send_signal(signal.SIGTERM)
    await run
    assert bench.empty


async def test_signal_stops_every_poller_and_the_last_puts_back_what_was_there(
    bench: Bench,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    await bench.sqs.create_queue("others")
    await bench.ask("a")
    first = Poller(bench.sqs, "orders", sleeper(10), wait_time=1)
    second = Poller(bench.sqs, "others", sleeper(10), wait_time=1)
    runs = [asyncio.create_task(poller.run()) for poller in (first, second)]
    await until(lambda: first.statistics().running)
    send_signal(signal.SIGTERM)
    await runs[1]
    assert not runs[0].done()
    assert signal.getsignal(signal.SIGTERM) is not before
    await runs[0]
    assert signal.getsignal(signal.SIGTERM) is before


async def test_signal_reaches_a_poller_that_still_starts(bench: Bench) -> None:
    await bench.sqs.create_queue("others")
    bench.sqs.queues.forget_url("others")
    gate = bench.faults.hold("GetQueueUrl")
    poller = Poller(bench.sqs, "others", sleeper(0))
    run = asyncio.create_task(poller.run())
    await gate.arrived()
    send_signal(signal.SIGTERM)
    await run
    assert bench.calls("ReceiveMessage") == 0


async def test_background_poller_never_touches_signals(bench: Bench) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with Poller(bench.sqs, "orders", sleeper(0)):
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    run = asyncio.create_task(Poller(bench.sqs, "orders", sleeper(0)).run(handle_signals=False))
    await asyncio.sleep(1)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    run.cancel()
    await stopped(run)


async def test_handler_set_meanwhile_by_the_program_stays(bench: Bench) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def own(*_: Any) -> None: ...

    poller = Poller(bench.sqs, "orders", sleeper(0))
    run = asyncio.create_task(poller.run())
    await asyncio.sleep(1)
    signal.signal(signal.SIGTERM, own)
    try:
        poller.stop()
        await run
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_worker_in_another_thread_leaves_signals_alone() -> None:
    def work() -> None:
        async def program() -> None:
            async with bench_on(MemoryServer()) as bench:
                poller = Poller(bench.sqs, "orders", sleeper(0))
                asyncio.get_running_loop().call_later(5, poller.stop)
                await poller.run()

        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(program())

    await asyncio.to_thread(work)


# ------------------------------------------------------------------ failures


@pytest.mark.parametrize("error", [QueueNotFound, AccessDenied])
async def test_run_raises_what_will_not_heal(bench: Bench, error: type[QueueError]) -> None:
    poller = Poller(bench.sqs, "orders", sleeper(10))
    await bench.ask("a")
    asyncio.get_running_loop().call_later(30, bench.faults.fail, "ReceiveMessage", error)
    with pytest.raises(error):
        await poller.run()
    assert isinstance(poller.statistics().failure, error)
    assert bench.empty


async def test_run_raises_where_queue_was_deleted(bench: Bench) -> None:
    poller = Poller(bench.sqs, "orders", sleeper(0))
    run = asyncio.create_task(poller.run())
    await asyncio.sleep(30)
    await bench.client.delete_queue(bench.url)
    with pytest.raises(QueueNotFound):
        await run


async def test_failure_lets_handlers_finish(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", sleeper(10))
    run = asyncio.create_task(poller.run())
    await until(lambda: poller.statistics().running)
    bench.faults.fail("ReceiveMessage", AccessDenied)
    with pytest.raises(AccessDenied):
        await run
    assert bench.empty


@pytest.mark.parametrize("by_url", [True, False])
async def test_run_raises_at_once_where_there_is_no_queue(bench: Bench, by_url: bool) -> None:
    poller = Poller(bench.sqs, bench.server.url("none") if by_url else "none", sleeper(0))
    with pytest.raises(QueueNotFound):
        await poller.run()
    assert now() < 10
    assert poller._owner.ended
    assert bench.sqs._dependents == []
    with pytest.raises(QueueNotFound):
        async with Poller(bench.sqs, "none", sleeper(0)):
            pass


async def test_queue_just_created_may_be_too_young(bench: Bench) -> None:
    bench.server.creation_lag = 1.0
    await bench.sqs.create_queue("young")
    handled: list[str] = []

    async def handle(message: Message) -> None:
        handled.append(message.body)

    async with Poller(bench.sqs, "young", handle), Publisher(bench.sqs) as publisher:
        await asyncio.sleep(2)
        await publisher.send("young", "a")
        await until(lambda: handled)


async def test_run_keeps_trying_to_find_its_queue_and_entering_does_not(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.sqs.queues.forget_url("orders")
    bench.faults.fail("GetQueueUrl", QueueError("unreachable", transient=True), times=None)
    with pytest.raises(QueueError, match="unreachable"):
        async with Poller(bench.sqs, "orders", sleeper(0)):
            pass
    poller = Poller(bench.sqs, "orders", sleeper(0))
    run = asyncio.create_task(poller.run())
    await asyncio.sleep(0.1)
    assert poller.statistics().consecutive_failures == 1
    await asyncio.sleep(600)
    assert not run.done()
    assert poller.statistics().consecutive_failures > 10
    assert poller.statistics().seconds_since_poll is None
    # Each attempt is several calls; what counts is that they do not spin.
    assert bench.calls("GetQueueUrl") < 600
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    bench.faults.clear()
    await bench.ask("a")
    await until(lambda: bench.empty)
    assert poller.statistics().consecutive_failures == 0
    poller.stop()
    await run


async def test_run_can_be_stopped_while_it_tries_to_find_its_queue(bench: Bench) -> None:
    bench.sqs.queues.forget_url("orders")
    bench.faults.fail("GetQueueUrl", QueueError("unreachable", transient=True), times=None)
    poller = Poller(bench.sqs, "orders", sleeper(0))
    run = asyncio.create_task(poller.run())
    await asyncio.sleep(100)
    began = now()
    poller.stop()
    await run
    assert now() == began
    with pytest.raises(RuntimeError, match="ran before"):
        await poller.run()


@pytest.mark.parametrize("error", [Throttled, QueueError])
async def test_passing_failures_of_polls_are_tried_again_with_backoff(
    bench: Bench, error: type[QueueError], caplog: pytest.LogCaptureFixture
) -> None:
    bench.faults.fail("ReceiveMessage", error, times=None)
    async with Poller(bench.sqs, "orders", sleeper(0)) as poller:
        await bench.ask("a")
        await asyncio.sleep(600)
        failures = poller.statistics().consecutive_failures
        assert failures == pytest.approx(bench.calls("ReceiveMessage"), abs=1)
        assert 100 < bench.calls("ReceiveMessage") < 260
        assert [record.levelname for record in caplog.records].count("WARNING") == 1
        bench.faults.clear()
        began = now()
        await until(lambda: bench.empty)
        assert now() - began < 6
        assert poller.statistics().consecutive_failures == 0
        assert poller.statistics().seconds_since_poll == pytest.approx(0, abs=1)
        assert poller.statistics().failure is None


async def test_outage_of_polls_does_not_slow_the_stop(bench: Bench) -> None:
    bench.faults.fail("ReceiveMessage", Throttled, times=None)
    for seconds in (60, 61, 62, 63, 64):
        async with Poller(bench.sqs, "orders", sleeper(0)):
            await asyncio.sleep(seconds)
            began = now()
        assert now() - began < 0.5


async def test_failure_never_cancels_the_body_and_shows_at_the_exit(bench: Bench) -> None:
    poller = Poller(bench.sqs, "orders", sleeper(0))

    async def body() -> None:
        async with poller:
            bench.faults.fail("ReceiveMessage", AccessDenied)
            await asyncio.sleep(100)
            assert isinstance(poller.statistics().failure, AccessDenied)

    with pytest.raises(AccessDenied):
        await body()
    assert now() >= 100


async def test_error_of_the_body_leaves_as_it_is(bench: Bench) -> None:
    async def body() -> None:
        async with Poller(bench.sqs, "orders", sleeper(0)):
            bench.faults.fail("ReceiveMessage", AccessDenied)
            await asyncio.sleep(100)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await body()


@pytest.mark.parametrize("seconds", [0, 1])
@pytest.mark.filterwarnings("ignore:coroutine .*_receive' was never awaited:RuntimeWarning")
async def test_keyboard_interrupt_in_a_handler_ends_the_program(seconds: float) -> None:
    """At once, too, when the next poll has not begun."""
    server = MemoryServer(latency=0.02)
    ended: list[float] = []

    async def handle(message: Message) -> None:
        if seconds:
            await asyncio.sleep(seconds)
        raise KeyboardInterrupt

    async def program() -> None:
        async with bench_on(server) as bench:
            await bench.ask("a")
            try:
                await Poller(bench.sqs, "orders", handle).run(handle_signals=False)
            finally:
                ended.append(now())

    def whole() -> None:
        with (
            asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
            pytest.raises(KeyboardInterrupt),
        ):
            runner.run(program())

    await asyncio.to_thread(whole)
    gc.collect()  # while the warning is ignored
    assert ended[0] < 2
    assert not server.queue(REPLIES)._messages
    assert len(server.queue("orders")._messages) == 1


# -------------------------------------------------------------------- misuse


async def test_stop_before_run_makes_run_return_at_once(bench: Bench) -> None:
    poller = Poller(bench.sqs, "orders", sleeper(0))
    poller.stop()
    await poller.run()
    assert bench.calls("ReceiveMessage") == 0
    assert poller.statistics().receives == 0


async def test_running_twice_is_refused_and_disturbs_nothing(bench: Bench) -> None:
    async with Poller(bench.sqs, "orders", sleeper(0)) as poller:
        with pytest.raises(RuntimeError, match="at work already"):
            await poller.run()
        await bench.ask("a")
        await until(lambda: bench.empty)
    with pytest.raises(RuntimeError, match="ran before"):
        await poller.run()


async def test_poller_without_handler_is_refused(bench: Bench) -> None:
    poller = Poller(bench.sqs, "orders")
    with pytest.raises(ValueError, match="no handler"):
        await poller.run()
    poller.handler(sleeper(0))
    poller.stop()
    await poller.run()


async def test_statistics_may_be_asked_at_any_time(bench: Bench) -> None:
    poller = Poller(bench.sqs, "orders", sleeper(0))
    assert poller.statistics().seconds_since_poll is None
    assert "not running" in repr(poller)
    async with poller:
        assert "0 running" in repr(poller)
    assert poller.statistics().running == 0
    assert "stopped" in repr(poller)
