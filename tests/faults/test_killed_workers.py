"""Workers that are killed, and workers that are asked to stop, while requests pour in."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from tests.processes.conftest import HANGS, Process, start_program

from .conftest import LENGTH, WHOLE, Connect
from .proxy import MESSAGE_OPERATIONS, PASSING, FaultProxy
from .rounds import Load, assert_no_reply_queue, becomes_empty, own_number

pytestmark = [pytest.mark.server, pytest.mark.slow]

COUNT = 3_000 if WHOLE else 200
KILLS = 30 if WHOLE else 5


class Fleet:
    """Workers in processes of their own."""

    def __init__(self, start: Callable[..., Awaitable[Process]]) -> None:
        self._start = start
        self.processes: list[Process] = []
        self._readers: dict[Process, asyncio.Task[int]] = {}

    async def add(self, queue: str, **options: Any) -> Process:
        process = await self._start("worker", queue=queue, **options)
        self.processes.append(process)
        # Read all the time, or the pipe fills up and the worker stands still.
        self._readers[process] = asyncio.create_task(process.ended())
        return process

    def values(self, key: str) -> Counter[int]:
        """What all of them have said, and how often."""
        return Counter(value for process in self.processes for value in process.values(key))

    async def ended(self, process: Process) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(HANGS):
            return await self._readers[process]

    async def close(self) -> None:
        for process, reader in self._readers.items():
            process.stop_at_once()
            await reader


@pytest_asyncio.fixture
async def fleet(proxy: FaultProxy) -> AsyncIterator[Fleet]:
    async def start(program: str, **options: Any) -> Process:
        return await start_program(proxy.url, program, **options)

    fleet = Fleet(start)
    yield fleet
    await fleet.close()


@pytest.fixture
def prefix(prefix: str) -> str:
    """One that the workers answer to by themselves."""
    return f"sqs_orchestrator_reply_{prefix}"


async def test_requests_survive_workers_that_are_killed_at_any_moment(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    fleet: Fleet,
) -> None:
    dice = random.Random(5)
    options = {"work": 0.1, "concurrency": 5, "visibility_timeout": 2}
    load = Load(queue, prefix, at_once=100, timeout=60.0, own=own_number)
    working = [await fleet.add(queue, **options) for _ in range(3)]

    async def kill() -> None:
        for _ in range(KILLS):
            async with asyncio.timeout(HANGS):
                # One that works, not one that is still starting.
                while not (busy := [p for p in working if p.values("started")]):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await asyncio.sleep(dice.uniform(0.0, 0.5))
            victim = dice.choice(busy)
            working.remove(victim)
            victim.stop_at_once()
            working.append(await fleet.add(queue, **options))

    async with asyncio.TaskGroup() as group:
        killing = group.create_task(kill())
        async with connect() as sqs:
            numbers = range(COUNT)
            await load.run(sqs, numbers)
            while not killing.done():
                # As long as workers are killed, there has to be work.
                numbers = range(len(numbers), len(numbers) + 100)
                await load.run(sqs, numbers)
                numbers = range(numbers.stop)
    await becomes_empty(direct, queue)
    load.check(numbers, fleet.values("started"), proxy)
    # All but those that are in a hurry: each worker's work was taken over by another.
    assert load.outcomes()["reply"] >= len(numbers) * 0.95
    await assert_no_reply_queue(direct, prefix)


@pytest.mark.skipif(not LENGTH, reason="it waits for the default visibility timeout")
async def test_killed_worker_costs_no_request_with_the_defaults(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    fleet: Fleet,
) -> None:
    defaults = {
        name: inspect.signature(of).parameters[parameter].default
        for name, of, parameter in (
            ("visibility_timeout", so.Poller, "visibility_timeout"),
            ("timeout", so.Publisher, "default_timeout"),
        )
    }
    options = {
        "work": 1.0,
        "concurrency": 20,
        "visibility_timeout": defaults["visibility_timeout"],
    }
    load = Load(
        queue, prefix, at_once=60, timeout=defaults["timeout"], hurried=False, own=own_number
    )
    doomed = await fleet.add(queue, **options)
    async with connect() as sqs, asyncio.TaskGroup() as group:
        group.create_task(load.run(sqs, range(60)))
        async with asyncio.timeout(HANGS):
            while len(doomed.values("started")) < 20:  # noqa: ASYNC110 - it is a process
                await asyncio.sleep(0.02)
        doomed.stop_at_once()
        other = await fleet.add(queue, **options)
    load.check(range(60), fleet.values("started"), proxy)
    assert load.outcomes() == {"reply": 60}
    # It had what the other took over.
    assert set(doomed.values("started")) - set(doomed.values("finished"))
    assert set(doomed.values("started")) <= set(other.values("started")) | set(
        doomed.values("finished")
    )
    await becomes_empty(direct, queue)
    await assert_no_reply_queue(direct, prefix)


@pytest.mark.parametrize(
    "faults", [(), PASSING] if WHOLE else [()], ids=lambda faults: "faults" if faults else "calm"
)
async def test_worker_that_is_asked_to_stop_stops_in_time_and_leaves_nothing_hidden(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    fleet: Fleet,
    faults: tuple[Any, ...],
) -> None:
    # What stayed hidden would come back after the requests' timeout.
    options = {"work": 0.3, "concurrency": 10, "visibility_timeout": 90}
    drain_timeout = 8.0
    load = Load(queue, prefix, at_once=200, timeout=60.0, hurried=False, own=own_number)
    numbers = range(200 if WHOLE else 100)
    stopping = await fleet.add(queue, drain_timeout=drain_timeout, **options)
    loop = asyncio.get_running_loop()
    async with connect() as sqs, asyncio.TaskGroup() as group:
        group.create_task(load.run(sqs, numbers))
        async with asyncio.timeout(HANGS):
            while len(stopping.values("finished")) < 20:  # noqa: ASYNC110 - it is a process
                await asyncio.sleep(0.02)
        proxy.inject(*faults, on=MESSAGE_OPERATIONS, probability=0.1)
        began = loop.time()
        stopping.terminate()
        assert await fleet.ended(stopping) == 0
        assert loop.time() - began < drain_timeout + 1.0
        proxy.heal()
        assert stopping.values("stopped") == [True]
        # It was busy, and finished what it had started.
        assert set(stopping.values("started")) == set(stopping.values("finished"))
        assert len(stopping.values("finished")) < len(numbers)
        if not faults:
            url = await direct.queue_url(queue)
            name = "ApproximateNumberOfMessagesNotVisible"
            assert await direct.port.get_queue_attributes(url, [name]) == {name: "0"}
        second = await fleet.add(queue, **options)
    if not faults:
        load.check(numbers, fleet.values("started"), proxy)
        assert load.outcomes()["reply"] == len(numbers)
        assert not set(second.values("started")) & set(stopping.values("finished"))
        await becomes_empty(direct, queue)
    await assert_no_reply_queue(direct, prefix)
