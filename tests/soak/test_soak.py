"""A mixed load for a long time, with workers that come and go: what the library holds must not
grow with what it has done.

`SQS_SOAK` is for how many seconds; `nox -s soak` takes a quarter of an hour.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from sqs_orchestrator.core.names import DEFAULT_PREFIX
from tests.faults.rounds import becomes_empty
from tests.processes.conftest import HANGS, Process, start_program
from tests.servers import CREDENTIALS, chosen_server

from .__main__ import PAUSE
from .measuring import Measured

pytestmark = [pytest.mark.server, pytest.mark.slow]

LENGTH: Final = float(os.environ.get("SQS_SOAK", "60"))
"""Seconds."""

ROUNDS: Final = 3 if LENGTH < 120 else 15

WARM: Final = 1 if LENGTH < 120 else 3
"""Rounds after which all is warm that gets warm: connections, caches, the allocator."""

KIB: Final = 1024


@pytest.fixture
def endpoint_url(volume_server: str) -> Iterator[str]:
    """A server of its own beside that one: others would see to it that it never is quiet."""
    with chosen_server("fauxqs") as url:
        yield url


@pytest_asyncio.fixture
async def sqs(endpoint_url: str) -> AsyncIterator[so.Connection]:
    async with so.connect(endpoint_url=endpoint_url, **CREDENTIALS) as connection:
        yield connection


class Crew:
    """The processes; all that they say is read, or they would stand still."""

    def __init__(self, endpoint_url: str, queues: list[str]) -> None:
        self._endpoint_url = endpoint_url
        self._queues = ",".join(queues)
        self._readers: dict[Process, asyncio.Task[int]] = {}

    async def start(self, program: str, **options: Any) -> Process:
        process = await start_program(
            self._endpoint_url, program, module="tests.soak", queues=self._queues, **options
        )
        self._readers[process] = asyncio.create_task(process.ended())
        return process

    async def ended(self, process: Process, within: float = HANGS) -> int:
        """Its exit code."""
        # Who waits may be cancelled, and must not take the reader along: `close` sees to the rest.
        async with asyncio.timeout(within):
            await asyncio.wait({self._readers[process]})
        return self._readers.pop(process).result()

    async def close(self) -> None:
        for process, reader in self._readers.items():
            process.stop_at_once()
            await reader


async def come_and_go(crew: Crew, dice: random.Random) -> None:
    """Two workers that are replaced by turns, killed or asked to stop."""
    working = [await crew.start("worker") for _ in range(2)]
    for politely in itertools.cycle([True, False]):
        await asyncio.sleep(dice.uniform(1.0, 4.0))
        leaving = working.pop(0)
        async with asyncio.timeout(HANGS):
            while not leaving.values("ready"):  # noqa: ASYNC110 - it is a process
                await asyncio.sleep(0.05)
        if politely:
            leaving.terminate()
            assert await crew.ended(leaving) == 0
            assert leaving.values("stopped")
        else:
            leaving.stop_at_once()
            await crew.ended(leaving)
        working.append(await crew.start("worker"))


def assert_flat(who: str, measured: list[Measured], done: int) -> None:
    """What *who* holds at the end, after *done* messages, is what it held when it was warm."""
    warm, last = measured[WARM - 1 : -1], measured[-1]
    facts = "\n".join([f"{who}, {done} messages:", *map(str, measured)])
    print(facts)
    assert last.entries == 0, facts
    assert last.owners <= max(each.owners for each in warm), facts
    assert last.tasks <= max(each.tasks for each in warm), facts
    # Connections are kept for a while, and how many there are depends on the last moments.
    assert last.sockets <= max(each.sockets for each in warm) + 5, facts
    # What is kept for each message shows here: there are hundreds at least.
    assert last.traced < max(each.traced for each in warm) + 128 * KIB, facts
    assert last.resident < max(each.resident for each in warm) + 4 * KIB * KIB, facts


async def test_nothing_grows_while_workers_come_and_go(
    endpoint_url: str, sqs: so.Connection
) -> None:
    stem = f"soak-{uuid.uuid4().hex[:8]}"
    queues = [stem, f"{stem}.fifo"]
    for queue in queues:
        await sqs.create_queue(queue, fifo=queue.endswith(".fifo"))
    crew = Crew(endpoint_url, queues)
    try:
        steady = await crew.start("worker", measured=1)
        changing = asyncio.create_task(come_and_go(crew, random.Random(3)))
        requester = await crew.start(
            "requester", rounds=ROUNDS, seconds=max(LENGTH / ROUNDS - PAUSE, 1.0)
        )
        ending = asyncio.create_task(crew.ended(requester, LENGTH + 2 * HANGS))
        await asyncio.wait({ending, changing}, return_when=asyncio.FIRST_COMPLETED)
        if changing.done():
            changing.result()
        assert ending.result() == 0
        for queue in queues:
            await becomes_empty(sqs, queue)
        changing.cancel()
        await asyncio.wait({changing})
        steady.terminate()
        assert await crew.ended(steady) == 0
    finally:
        await crew.close()
    (outcomes,) = requester.values("outcomes")[-1:]
    assert set(outcomes) == {"reply", "error", "sent", "timeout", "cancelled", "no such queue"}
    for who, process in ("requester", requester), ("worker", steady):
        measured = [Measured(**each) for each in process.values("measured")]
        assert len(measured) > WARM, process.said
        done = sum(outcomes.values()) if process is requester else process.values("handled")[-1]
        assert_flat(who, measured, done)
    assert not (await sqs.port.list_queues(DEFAULT_PREFIX)).urls
    for queue in queues:
        await sqs.port.delete_queue(await sqs.queue_url(queue))
