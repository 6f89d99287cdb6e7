"""What a request carries in context variables ends with it: what the library does beside it runs
in the context in which its owner was entered, and each handler in a fresh copy of that."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

import pytest

from sqs_orchestrator import (
    AccessDenied,
    Call,
    Connection,
    Message,
    Poller,
    Publisher,
    Reject,
    RemoteError,
    ReplyQueue,
    ReplyTimeout,
)
from sqs_orchestrator.logs import INTERVAL, get_logger
from sqs_orchestrator.tasks import DeferredCall, TaskOwner
from sqs_orchestrator.testing import MemoryServer, connect

T = TypeVar("T")

carried: contextvars.ContextVar[Any] = contextvars.ContextVar("carried", default="nothing")
"""Stands for a trace id, a tenant, a database session."""

OWNER = "what its owner was entered with"


async def carrying(what: Any, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What *work* gives in a task of its own, as a web framework runs a request."""

    async def run() -> T:
        carried.set(what)
        return await work()

    return await asyncio.create_task(run())


class Bench:
    """A requester and a worker, and with what they call SQS and handle messages."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.sqs: Connection
        self.publisher: Publisher
        self.seen: dict[str, set[Any]] = {}
        self.handled: list[Any] = []

    async def handle(self, message: Message) -> str:
        self.handled.append(carried.get())
        carried.set(message.body)
        if message.body == "slow":
            await asyncio.sleep(40)
        if message.body == "bad":
            raise Reject("bad")
        return message.body

    async def note(self, call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        """Note what each operation is called with."""
        self.seen.setdefault(call.operation, set()).add(carried.get())
        return await call_next(call)


@asynccontextmanager
async def benched(server: MemoryServer, **settings: Any) -> AsyncIterator[Bench]:
    bench = Bench(server)
    stack = AsyncExitStack()

    async def enter() -> None:
        carried.set(OWNER)
        bench.sqs = await stack.enter_async_context(connect(server, wrap=bench.note))
        await bench.sqs.create_queue("orders", dead_letter_queue=True)
        await bench.sqs.create_queue("nobody")
        bench.sqs.queues.forget_url("nobody")
        replies = await stack.enter_async_context(ReplyQueue(bench.sqs, **settings))
        publisher = Publisher(bench.sqs, reply_queue=replies)
        bench.publisher = await stack.enter_async_context(publisher)
        await stack.enter_async_context(Poller(bench.sqs, "orders", bench.handle))

    await asyncio.create_task(enter())
    try:
        yield bench
    finally:
        await stack.aclose()


async def test_calls_are_made_in_the_context_of_entering(server: MemoryServer) -> None:
    pace: dict[str, Any] = {"heartbeat_interval": 5.0, "idle_retention": 20.0}
    async with benched(server, sweep_interval=30.0, **pace) as bench:
        await carrying("first", lambda: bench.publisher.request("orders", "a", timeout=60))
        await asyncio.gather(
            carrying("slow one", lambda: bench.publisher.request("orders", "slow", timeout=60)),
            *(carrying(each, lambda: bench.publisher.send("orders", "bad")) for each in range(3)),
        )
        await carrying("another", lambda: bench.publisher.send("nobody", "a"))
        await asyncio.sleep(100)
        seen = dict(bench.seen)
    assert set(seen) >= {
        *("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch", "CreateQueue"),
        *("ChangeMessageVisibilityBatch", "GetQueueUrl", "GetQueueAttributes", "TagQueue"),
        "ListQueues",
    }
    assert seen == {operation: {OWNER} for operation in seen}


async def test_each_handler_has_a_fresh_copy_of_the_context_of_entering(
    server: MemoryServer,
) -> None:
    async with benched(server) as bench:
        for number in range(3):
            ask = functools.partial(bench.publisher.request, "orders", "a")
            await carrying(f"request {number}", ask)
        assert bench.handled == [OWNER] * 3
        assert carried.get() == "nothing"


class Session:
    """Something that a request carries, and that should go when the request has ended."""


async def test_nothing_keeps_what_a_request_carried(server: MemoryServer) -> None:
    async with benched(server) as bench:
        publisher = bench.publisher

        async def times_out() -> None:
            with pytest.raises(ReplyTimeout):
                await publisher.request("nobody", "a", timeout=1)

        async def is_rejected() -> None:
            with pytest.raises(RemoteError):
                await publisher.request("orders", "bad")

        async def gives_up() -> None:
            task = asyncio.create_task(publisher.request("orders", "slow"))
            await asyncio.sleep(1)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        for work in (
            lambda: publisher.request("orders", "a"),  # the first: it makes the reply queue
            lambda: publisher.request("orders", "a"),
            lambda: publisher.send("nobody", "a"),  # the first that looks for it
            lambda: publisher.send("nobody", "a"),
            times_out,
            is_rejected,
            gives_up,
        ):
            kept = await carry_session(work)
            await asyncio.sleep(0)  # the loop holds what it is calling, this here included
            gc.collect()
            assert kept() is None


async def carry_session(work: Callable[[], Coroutine[Any, Any, Any]]) -> weakref.ref[Session]:
    session = Session()
    kept = weakref.ref(session)

    async def run() -> None:
        nonlocal session
        carried.set(session)
        del session
        await work()

    await asyncio.create_task(run())
    return kept


async def test_lines_of_the_background_do_not_carry_what_a_request_did(
    server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[tuple[str, Any]] = []

    def note(record: logging.LogRecord) -> bool:
        lines.append((record.name, carried.get()))
        return True

    caplog.handler.addFilter(note)
    pace: dict[str, Any] = {"heartbeat_interval": 5.0, "idle_retention": 20.0}
    try:
        async with benched(server, sweep_interval=30.0, **pace) as bench:
            server.faults.fail("TagQueue", AccessDenied, times=None)
            server.faults.fail("ListQueues", AccessDenied, times=None)
            request = functools.partial(bench.publisher.request, "orders", "a")
            await carrying("a request", request)
            await asyncio.sleep(100)
    finally:
        caplog.handler.removeFilter(note)
    names = {name.removeprefix("sqs_orchestrator.") for name, _ in lines}
    assert names >= {"requester.heartbeat", "requester.sweeper"}
    assert {what for _, what in lines} == {OWNER}


# ---------------------------------------------------------------------- one by one


async def test_count_of_repeated_lines_carries_nothing_of_the_request_that_caused_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[Any] = []

    def note(record: logging.LogRecord) -> bool:
        if "more like it" in record.getMessage():
            said.append(carried.get())
        return True

    async def flood() -> None:
        for _ in range(10):
            get_logger("tests.contexts").warning("it is bad")

    caplog.handler.addFilter(note)
    try:
        await carrying("a request", flood)
        await asyncio.sleep(INTERVAL + 1)
    finally:
        caplog.handler.removeFilter(note)
    assert said == ["nothing"]


async def nothing() -> None: ...


async def test_owner_runs_its_tasks_in_copies_of_its_context() -> None:
    seen: list[Any] = []

    async def work() -> None:
        seen.append(carried.get())
        carried.set("what one task sets is its own")

    async def closing() -> None:
        await work()

    owner = TaskOwner("owner", closing)
    await carrying(OWNER, owner.start)

    async def spawn() -> None:
        owner.spawn(work)
        owner.spawn(work)
        # A task that spawns while it begins, and while the first is not over.
        owner.spawn(spawn_one)

    async def spawn_one() -> None:
        owner.spawn(work)

    await carrying("a request", spawn)
    await asyncio.sleep(1)
    await carrying("who leaves", owner.stop)
    assert seen == [OWNER] * 4


async def test_task_factory_that_knows_no_context_serves() -> None:
    seen: list[Any] = []

    async def work() -> None:
        seen.append(carried.get())

    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(lambda loop, coroutine: asyncio.Task(coroutine, loop=loop))
    try:
        owner = TaskOwner("owner", nothing)
        carried.set(OWNER)
        await owner.start()
        carried.set("a request")
        owner.spawn(work)
        await asyncio.sleep(1)
        await owner.stop()
    finally:
        loop.set_task_factory(before)
    assert seen == [OWNER]


async def test_deferred_call_is_made_in_the_context_of_its_owner() -> None:
    seen: list[Any] = []
    owner = TaskOwner("owner", nothing)
    await carrying(OWNER, owner.start)

    async def ask() -> None:
        afterwards = DeferredCall(owner, 0.1, lambda: seen.append(carried.get()))
        afterwards()

    await carrying("a request", ask)
    await asyncio.sleep(1)
    assert seen == [OWNER]
    await owner.stop()
