"""`TaskOwner` and `SingleFlight`: who owns the background tasks, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import pytest

from sqs_orchestrator import Call, Message, Poller, Publisher
from sqs_orchestrator.errors import AccessDenied, QueueError
from sqs_orchestrator.requester.reply_queue import REFILL_PATIENCE
from sqs_orchestrator.tasks import (
    Changed,
    DeferredCall,
    SingleFlight,
    TaskOwner,
    finished,
    unwrap_group,
)
from sqs_orchestrator.testing import MemoryServer, connect
from sqs_orchestrator.worker.receive_loop import REFILL_LINGER
from tests.shell.requesters import timers


class Closing:
    """A `closing` that takes its time and says whether it ran."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.begun = self.ended = 0

    async def __call__(self) -> None:
        self.begun += 1
        await asyncio.sleep(self.seconds)
        self.ended += 1


async def started(closing: Callable[[], Awaitable[None]] | None = None) -> TaskOwner:
    owner = TaskOwner("owner", closing or Closing())
    await owner.start()
    return owner


# ------------------------------------------------------------------------- TaskOwner


async def test_owner_left_in_another_task_ends() -> None:
    owner = TaskOwner("owner", Closing())
    await asyncio.create_task(owner.start())
    await asyncio.create_task(owner.stop())
    assert owner.ended
    assert not owner.running


async def test_owner_says_how_it_stands() -> None:
    def states(owner: TaskOwner) -> list[str]:
        names = ["entered", "running", "stopping", "cancelled", "ended"]
        return [name for name in names if getattr(owner, name)]

    owner = TaskOwner("owner", Closing(1))
    assert states(owner) == []
    assert "use it inside 'async with it'" in str(owner.not_open("a thing", "it"))
    await owner.start()
    assert states(owner) == ["entered", "running"]
    owner.request_stop()
    await asyncio.sleep(0.5)
    assert states(owner) == ["entered", "running", "stopping"]
    await owner.wait()
    assert states(owner) == ["entered", "stopping", "ended"]
    assert str(owner.not_open("a thing", "it")) == "a thing is not open any more: it was closed"


async def test_owner_calls_back_when_all_its_tasks_have_ended() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("task")

    owner = await started()
    owner.at_end(lambda: seen.append("first"))
    owner.at_end(lambda: seen.append("second"))
    owner.spawn(work)
    await asyncio.sleep(1)
    assert seen == []
    await owner.stop()
    assert seen == ["task", "first", "second"]


async def test_owner_closes_while_its_tasks_still_run_then_cancels_them() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def closing() -> None:
        owner.spawn(work)
        await asyncio.sleep(1)
        seen.append("closed")

    owner = await started(closing)
    owner.spawn(work)
    await owner.stop()
    assert seen == ["closed", "cancelled", "cancelled"]


async def test_owner_cannot_be_used_twice() -> None:
    owner = await started()
    with pytest.raises(RuntimeError, match="entered before"):
        await owner.start()
    assert owner.running
    await owner.stop()
    with pytest.raises(RuntimeError, match="entered before"):
        await owner.start()


async def test_owner_that_is_not_running_spawns_nothing() -> None:
    owner = TaskOwner("the thing", Closing())
    with pytest.raises(RuntimeError, match="the thing is not running"):
        owner.spawn(asyncio.sleep, 0)
    await owner.start()
    await owner.stop()
    with pytest.raises(RuntimeError, match="the thing is not running"):
        owner.spawn(asyncio.sleep, 0)


async def test_owner_leaves_a_task_behind_that_ignores_its_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    enough = asyncio.Event()

    async def ignore() -> None:
        while not enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await enough.wait()

    owner = await started()
    task = owner.spawn(ignore)
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await owner.stop()
    assert "1 tasks ignore that they were cancelled, and are left behind" in caplog.text
    enough.set()
    await task


@pytest.mark.asyncio(loop_factories=["virtual"])  # tasks that begin at once leave no time for it
async def test_entering_cancelled_leaves_no_owner_behind() -> None:
    closing = Closing()
    owner = TaskOwner("owner", closing)
    task = asyncio.create_task(owner.start())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert owner.ended
    assert not closing.begun, "what nobody got to use needs no closing"


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelling_who_leaves_does_not_cut_closing_short(times: int) -> None:
    closing = Closing(1.0)
    owner = await started(closing)
    leaving = asyncio.create_task(owner.stop())
    for _ in range(times):
        await asyncio.sleep(0.1)
        leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert closing.ended
    assert owner.ended


async def test_anyio_scope_does_not_cut_closing_short() -> None:
    closing = Closing(1.0)
    owner = await started(closing)
    with anyio.move_on_after(0.1) as scope:
        await owner.stop()
        await anyio.sleep(10)
    assert scope.cancelled_caught
    assert closing.ended
    assert asyncio.get_running_loop().time() == pytest.approx(1.0)


async def test_timeout_of_asyncio_does_not_cut_closing_short() -> None:
    closing = Closing(1.0)
    owner = await started(closing)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await owner.stop()
    assert closing.ended
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_failed_task_closes_the_owner_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closing = Closing()
    owner = await started(closing)

    async def fail() -> None:
        raise ZeroDivisionError("of the background")

    owner.spawn(fail)
    await owner.wait()
    assert closing.ended
    assert isinstance(owner.failure, ZeroDivisionError)
    assert "it failed, and the log has why" in str(owner.not_open("a thing", "it"))
    assert "owner failed" in caplog.text
    assert "of the background" in caplog.text
    await owner.stop()  # raises nothing


async def test_first_failure_of_an_owner_is_the_one_to_know() -> None:
    async def closing() -> None:
        raise LookupError

    async def fail() -> None:
        raise ZeroDivisionError

    owner = await started(closing)
    owner.spawn(fail)
    await owner.wait()
    assert isinstance(owner.failure, ZeroDivisionError)


async def test_failed_task_does_not_cancel_who_entered() -> None:
    owner = await started()

    async def fail() -> None:
        raise ZeroDivisionError

    owner.spawn(fail)
    await asyncio.sleep(1)
    await owner.stop()


async def test_pause_ends_when_the_owner_is_asked_to_stop() -> None:
    loop = asyncio.get_running_loop()
    ended: list[float] = []

    async def work() -> None:
        await owner.pause(100)
        ended.append(loop.time())

    async def closing() -> None:
        await asyncio.sleep(1)

    owner = await started(closing)
    owner.spawn(work)
    await asyncio.sleep(5)
    await owner.stop()
    assert ended == [5]


async def test_scope_until_stop_ends_at_once_when_asked_to_stop() -> None:
    loop = asyncio.get_running_loop()
    owner = await started(Closing(10))

    async def guest() -> float:
        with owner.until_stop():
            await asyncio.sleep(100)
        return loop.time()

    task = asyncio.create_task(guest())
    await asyncio.sleep(3)
    await owner.stop()
    assert await task == 3


async def test_scope_until_stop_ends_when_a_task_of_the_owner_fails() -> None:
    owner = await started(Closing(10))

    async def fail() -> None:
        await asyncio.sleep(3)
        raise ZeroDivisionError

    owner.spawn(fail)
    with owner.until_stop():
        await asyncio.sleep(100)
    assert asyncio.get_running_loop().time() == 3
    await owner.stop()


async def test_scope_until_stop_ends_at_its_deadline() -> None:
    owner = await started()
    with owner.until_stop(2.0):
        await asyncio.sleep(100)
    assert asyncio.get_running_loop().time() == 2
    assert not owner.stopping
    await owner.stop()
    assert not owner._guests


# ---------------------------------------------------------------------- SingleFlight


class Work:
    """Work that counts its runs, and can be told how to end."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.error = error

    async def __call__(self) -> int:
        self.runs += 1
        run = self.runs
        await asyncio.sleep(1)
        if self.error is not None:
            raise self.error
        return run


async def test_flight_is_shared_by_all_who_ask_meanwhile() -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    work = Work()
    assert await asyncio.gather(*(flights.run("a", work) for _ in range(5))) == [1, 1, 1, 1, 1]
    assert await flights.run("a", work) == 2
    await owner.stop()


async def test_flights_of_other_keys_are_their_own() -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    work = Work()
    first, second = await asyncio.gather(flights.run("a", work), flights.run("b", work))
    assert (first, second) == (1, 2)
    await owner.stop()


async def test_cancelling_one_who_waits_disturbs_no_other() -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    work = Work()
    first = asyncio.create_task(flights.run("a", work))
    other = asyncio.create_task(flights.run("a", work))
    await asyncio.sleep(0.5)
    first.cancel()
    assert await other == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    await owner.stop()


async def test_cancelling_all_who_wait_lets_the_flight_land() -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    work = Work()
    only = asyncio.create_task(flights.run("a", work))
    await asyncio.sleep(0.5)
    only.cancel()
    assert await flights.landed("a") == 1
    assert await flights.landed("a") is None
    await owner.stop()


async def test_failure_reaches_each_with_an_instance_of_its_own() -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    cause = AccessDenied("no", operation="CreateQueue", queue="q", code="AccessDenied")
    cause.__cause__ = KeyError("why")
    outcomes = await asyncio.gather(
        *(flights.run("a", Work(cause)) for _ in range(3)), return_exceptions=True
    )
    assert len({id(outcome) for outcome in outcomes}) == 3
    for outcome in outcomes:
        assert isinstance(outcome, AccessDenied)
        assert outcome is not cause
        # It tells why, and not the same twice.
        assert outcome.__cause__ is cause.__cause__
        assert outcome.__context__ is None
        assert (outcome.operation, outcome.queue, outcome.code) == (
            "CreateQueue",
            "q",
            "AccessDenied",
        )
    await owner.stop()


async def test_next_to_ask_after_a_failure_starts_anew() -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    work = Work(QueueError("once"))
    with pytest.raises(QueueError):
        await flights.run("a", work)
    work.error = None
    assert await flights.run("a", work) == 2
    await owner.stop()


async def test_flight_without_anybody_waiting_may_fail_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    only = asyncio.create_task(flights.run("a", Work(QueueError("unseen"))))
    await asyncio.sleep(0.5)
    only.cancel()
    await asyncio.sleep(2)
    assert owner.running
    await owner.stop()
    del only
    gc.collect()
    assert not caplog.records


async def test_who_waits_for_a_flight_hears_when_the_owner_ends() -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    only = asyncio.create_task(flights.run("a", Work()))
    await asyncio.sleep(0.5)
    await owner.stop()
    with pytest.raises(RuntimeError, match="owner was closed"):
        await only
    assert not flights._flights


async def test_flight_just_begun_when_the_owner_ends_leaves_nobody_hanging() -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    only = asyncio.create_task(flights.run("a", Work()))
    await asyncio.sleep(0)  # asked for, but not begun
    await owner.stop()
    with pytest.raises(RuntimeError, match="owner was closed"):
        await only


async def test_flight_asked_for_in_the_turn_in_which_the_owner_ends_leaves_nobody_hanging() -> None:
    asked = asyncio.Event()

    async def closing() -> None:
        await asked.wait()

    owner = await started(closing)
    flights: SingleFlight[int] = SingleFlight(owner)

    async def ask() -> int:
        asked.set()
        # The owner has its turn now, and cancels what has not even begun.
        return await flights.run("a", Work())

    leaving = asyncio.create_task(owner.stop())
    await asyncio.sleep(1)
    with pytest.raises(RuntimeError, match="owner was closed"):
        await ask()
    await leaving
    assert not flights._flights


@pytest.mark.parametrize("error", [None, AccessDenied("no"), ValueError("a bug")])
async def test_flight_that_lands_without_waiting_for_anything(error: Exception | None) -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)

    async def work() -> int:
        if error is not None:
            raise error
        return 1

    for _ in range(2):
        if error is None:
            assert await flights.run("a", work) == 1
        else:
            with pytest.raises(type(error)):
                await flights.run("a", work)
    assert not flights._flights
    await owner.stop()
    assert owner.failure is None


async def test_those_who_wait_for_a_flight_go_on_in_the_order_in_which_they_came() -> None:
    owner = await started()
    flights: SingleFlight[int] = SingleFlight(owner)
    order: list[int] = []

    async def ask(number: int) -> None:
        await flights.run("a", Work())
        order.append(number)

    await asyncio.gather(*map(ask, range(50)))
    assert order == list(range(50))
    await owner.stop()


async def test_flight_of_an_owner_that_is_not_running_is_refused() -> None:
    owner = TaskOwner("owner", Closing())
    flights: SingleFlight[int] = SingleFlight(owner)
    with pytest.raises(RuntimeError, match="not running"):
        await flights.run("a", Work())
    assert not flights._flights


# ---------------------------------------------------------------------- helpers


async def test_finished_does_not_look_at_the_outcome() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    task = asyncio.create_task(fail())
    await finished(task)
    assert isinstance(task.exception(), ZeroDivisionError)


def test_sole_unwraps_nested_groups_of_one() -> None:
    error = ValueError("inside")
    assert unwrap_group(ExceptionGroup("", [ExceptionGroup("", [error])])) is error
    assert unwrap_group(error) is error


def test_sole_keeps_groups_of_several() -> None:
    group = ExceptionGroup("", [ValueError(), TypeError()])
    assert unwrap_group(group) is group


async def test_owner_ends_with_its_loop(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio.run() cancels what is left: closing still runs."""
    closing = Closing()
    owner = await started(closing)
    assert owner._task is not None
    with caplog.at_level(logging.ERROR):
        owner._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await owner._task
    assert closing.ended
    assert not caplog.records


async def test_owner_of_another_loop_says_so_instead_of_hanging() -> None:
    async def nothing() -> None: ...

    owner = TaskOwner("the thing", nothing)
    flights: SingleFlight[None] = SingleFlight(owner)
    await owner.start()

    async def elsewhere() -> None:
        for use in (owner.stop, owner.wait):
            with pytest.raises(RuntimeError, match="the thing belongs to another event loop"):
                await use()
        with pytest.raises(RuntimeError, match="the thing belongs to another event loop"):
            await flights.run("", nothing)

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    thread.join()
    await owner.stop()


async def test_deferred_call_comes_once_and_after_its_time() -> None:
    happened: list[float] = []
    loop = asyncio.get_running_loop()
    owner = await started()
    call = DeferredCall(owner, 0.5, lambda: happened.append(loop.time()))
    call()
    await asyncio.sleep(0.25)
    call()
    assert happened == []
    await asyncio.sleep(1)
    assert happened == [0.5]
    call()
    await asyncio.sleep(1)
    assert happened == [0.5, 1.75]
    await owner.stop()


async def test_deferred_call_that_is_hurried_comes_right_after_who_is_at_work() -> None:
    happened: list[str] = []
    owner = await started()
    call = DeferredCall(owner, 0.5, lambda: happened.append("called"))

    async def at_work() -> None:
        # However often and by however many it is hurried.
        call.hurry()
        call.hurry()
        happened.append("worked")

    call.hurry()
    await asyncio.sleep(1)
    assert happened == [], "nobody has asked for it"
    call()
    await asyncio.gather(at_work(), at_work())
    await asyncio.sleep(0.25)
    assert happened == ["worked", "worked", "called"]
    await asyncio.sleep(1)
    assert happened == ["worked", "worked", "called"]
    await owner.stop()


async def test_deferred_call_is_not_made_once_its_owner_has_ended() -> None:
    happened: list[str] = []
    owner = await started()
    call = DeferredCall(owner, 0.5, lambda: happened.append("called"))
    call()
    await owner.stop()
    assert not timers()
    await asyncio.sleep(1)
    assert happened == []


class Noting:
    """A wrap that notes when sends and receives begin."""

    NAMES: Final = {"SendMessageBatch": "send", "ReceiveMessage": "receive"}

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []

    async def __call__(self, call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        if name := self.NAMES.get(call.operation):
            self.calls.append((name, asyncio.get_running_loop().time()))
        return await call_next(call)


@pytest.mark.parametrize("turns", [0, 30])
async def test_request_and_reply_leave_before_the_polls_for_what_comes_next(turns: int) -> None:
    server = MemoryServer(latency=0.02)
    asked, answered = Noting(), Noting()
    async with connect(server, wrap=asked) as asking, connect(server, wrap=answered) as working:
        await asking.create_queue("orders")

        async def handle(message: Message) -> str:
            for _ in range(turns):
                await asyncio.sleep(0)
            return message.body

        async with Publisher(asking) as publisher, Poller(working, "orders", handle):
            await publisher.ready()
            await asyncio.sleep(1)
            asked.calls.clear()
            answered.calls.clear()
            await publisher.request("orders", "a", timeout=5)
    # No time passes between them: what has left opens the poll. The worker's first poll was
    # there before.
    for side in (asked, answered):
        [(first, sent), (second, polled), *_] = side.calls
        assert [first, second] == ["send", "receive"]
        assert polled == sent


async def test_poll_for_a_reply_goes_out_though_the_request_stays_behind() -> None:
    loop = asyncio.get_running_loop()
    noting = Noting()
    async with connect(MemoryServer(latency=0.5), wrap=noting) as sqs:
        await sqs.create_queue("orders.fifo", fifo=True)
        async with Publisher(sqs) as publisher:
            await publisher.ready()
            noting.calls.clear()
            # What goes to a FIFO queue waits for the batch before it.
            sending = asyncio.create_task(
                publisher.send("orders.fifo", "a", group_id="one", deduplication_id="a")
            )
            await asyncio.sleep(0.1)
            began = loop.time()
            asking = asyncio.create_task(publisher.request("orders.fifo", "b", group_id="one"))
            await sending
            name, at = noting.calls[1]
            assert name == "receive"
            assert at == pytest.approx(began + REFILL_PATIENCE)
            asking.cancel()
            await asyncio.wait([asking])


async def test_next_poll_of_a_worker_does_not_wait_for_a_slow_handler() -> None:
    server = MemoryServer(latency=0.02)
    noting = Noting()
    async with connect(server, wrap=noting) as sqs, Publisher(sqs) as publisher:
        await sqs.create_queue("orders")
        arrived: list[float] = []

        async def handle(message: Message) -> None:
            arrived.append(asyncio.get_running_loop().time())
            await asyncio.sleep(5)

        async with Poller(sqs, "orders", handle):
            await asyncio.sleep(1)
            noting.calls.clear()
            await publisher.send("orders", "a")
            await asyncio.sleep(1)
            [begun] = arrived
            assert [at for name, at in noting.calls if name == "receive"] == [begun + REFILL_LINGER]


async def test_full_batch_is_followed_by_the_next_poll_at_once() -> None:
    server = MemoryServer(latency=0.02)
    noting = Noting()
    async with connect(server, wrap=noting) as sqs, Publisher(sqs) as publisher:
        await sqs.create_queue("orders")
        arrived: list[float] = []

        async def handle(message: Message) -> None:
            arrived.append(asyncio.get_running_loop().time())
            await asyncio.sleep(5)

        await asyncio.gather(*(publisher.send("orders", "a") for _ in range(10)))
        noting.calls.clear()
        async with Poller(sqs, "orders", handle, concurrency=20):
            await asyncio.sleep(1)
            assert len(arrived) == 10
            [_, second, *_] = [at for name, at in noting.calls if name == "receive"]
            assert second == arrived[0]


async def test_each_who_waits_for_a_change_waits_until_his_condition_holds() -> None:
    left = {"a", "b", "c"}
    changed = Changed()
    ended: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def wait(name: str) -> None:
        await changed.until(lambda: name not in left)
        ended.append((name, round(loop.time() - began)))

    async with asyncio.TaskGroup() as group:
        for name in sorted(left):
            group.create_task(wait(name))
        for name in ("b", "c", "a"):
            await asyncio.sleep(1)
            left.discard(name)
            changed.set()
    assert ended == [("b", 1), ("c", 2), ("a", 3)]
    await changed.until(lambda: not left)
