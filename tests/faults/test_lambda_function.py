"""A function that Lambda kills at its deadline: its batch comes back, and is answered then.

The test is Lambda here: it receives, calls a process, kills it, and deletes what is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from sqs_orchestrator.sqs.port import Received
from tests.lambda_events import event
from tests.processes.conftest import HANGS, ROOT, Process

from .rounds import becomes_empty

pytestmark = [pytest.mark.server, pytest.mark.slow]

TIMEOUT: Final = 5.0
"""Seconds of the function. Much may be slow on a busy machine before it stands still."""

HIDDEN: Final = 7
"""Seconds for which the queue hides a message: longer than the function has."""

ASKED: Final = 8
ONE_WAY: Final = 2


@pytest.fixture(scope="session")
def server_url(small_server: str) -> str:
    return small_server


class Container(Process):
    """A process with the function."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self._calls = 0

    def tell(self, line: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def call(self, given: dict[str, Any], seconds: float = TIMEOUT) -> dict[str, Any] | None:
        """Its answer to an event. Where there is none in time, it is killed, as by Lambda."""
        self._calls += 1
        self.tell({"event": given, "seconds": seconds})
        try:
            async with asyncio.timeout(seconds):
                answers = await self.say("answer", self._calls)
        except TimeoutError:
            await self.kill()
            return None
        answer = answers[-1]
        assert isinstance(answer, dict)
        return answer


class Mapping:
    """The event source mapping: a queue, and the containers that it has started."""

    def __init__(self, sqs: so.Connection, endpoint_url: str, url: str, reports: bool) -> None:
        self._sqs = sqs
        self._arguments = (endpoint_url, url, str(reports))
        self.url = url
        self.containers: list[Container] = []

    async def start(self) -> Container:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.faults.function", *self._arguments),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": ""},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.containers.append(Container(process))
        return self.containers[-1]

    async def receive(self, count: int) -> list[Received]:
        """The next *count* messages, in the order of their numbers."""
        found: dict[str, Received] = {}
        async with asyncio.timeout(HANGS):
            while len(found) < count:
                batch = await self._sqs.port.receive(self.url, max_messages=10, wait_time=1)
                found |= {each.message_id: each for each in batch}
        return sorted(found.values(), key=lambda each: int(json.loads(each.body)["number"]))

    def event(self, batch: list[Received]) -> dict[str, Any]:
        *_, account, name = self.url.split("/")
        return event(f"arn:aws:sqs:us-east-1:{account}:{name}", batch)

    async def work_off(self, container: Container, batch: list[Received]) -> None:
        """A call that succeeds, and what Lambda does then."""
        # It may be a cold start, on a busy machine.
        answer = await container.call(self.event(batch), HANGS)
        assert answer == {"batchItemFailures": []}
        await self._sqs.port.delete(self.url, [each.receipt_handle for each in batch])


@pytest_asyncio.fixture
async def mapping(direct: so.Connection, server_url: str, reports: bool) -> AsyncIterator[Mapping]:
    url = await direct.create_queue(
        f"orders-{uuid.uuid4().hex}", attributes={"VisibilityTimeout": HIDDEN}
    )
    mapping = Mapping(direct, server_url, url, reports)
    yield mapping
    for container in mapping.containers:
        await container.kill()
    with contextlib.suppress(so.QueueNotFound):
        await direct.port.delete_queue(url)


@pytest.mark.parametrize(
    ("blocks", "reports"),
    [("at once", True), ("when told", True), ("when told", False)],
    ids=["before replies", "after replies", "after replies, without reports"],
)
async def test_batch_of_a_killed_function_comes_back_and_is_answered_by_the_next(
    direct: so.Connection, mapping: Mapping, prefix: str, blocks: str
) -> None:
    async with (
        so.ReplyQueue(direct, prefix=f"sqs_orchestrator_reply_{prefix}") as replies,
        so.Publisher(direct, reply_queue=replies) as publisher,
        asyncio.TaskGroup() as group,
    ):

        def ask(number: int, how: str = "") -> asyncio.Task[so.Reply]:
            order = {"number": number, "blocks": how}
            return group.create_task(publisher.request(mapping.url, order, timeout=HANGS))

        doomed = await mapping.start()
        # A warm one: how long a cold start takes is the machine's business.
        warming = ask(-1)
        await mapping.work_off(doomed, await mapping.receive(1))
        assert (await warming).json() == {"number": -1, "receive_count": 1}

        asked = [ask(0, blocks), *map(ask, range(1, ASKED))]
        numbers = list(range(ASKED + ONE_WAY))
        for number in numbers[ASKED:]:
            await publisher.send(mapping.url, {"number": number, "blocks": ""})
        call = group.create_task(doomed.call(mapping.event(await mapping.receive(len(numbers)))))
        if blocks == "when told":
            # They all have their answers, and Lambda does not know.
            await asyncio.wait(asked[1:])
            doomed.tell("now")
        assert await call is None
        assert doomed.values("blocks") == [True]
        before = [each.done() for each in asked]
        assert before == [False, *[blocks == "when told"] * (ASKED - 1)]

        again = await mapping.receive(len(numbers))
        assert [json.loads(each.body)["number"] for each in again] == numbers
        assert {each.system["ApproximateReceiveCount"] for each in again} == {"2"}
        second = await mapping.start()
        await mapping.work_off(second, again)
    assert sorted(second.values("started")) == numbers
    answers = [reply.result().json() for reply in asked]
    assert answers == [
        {"number": number, "receive_count": 1 if done else 2} for number, done in enumerate(before)
    ]
    await becomes_empty(direct, mapping.url)
