"""What is measured against what, and the processes that do it."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.benchmarks import programs
from tests.benchmarks.results import Sample

SETTLING: Final = 1.8
"""Seconds after a run until its last calls have been made: deletes wait for company. Others
run meanwhile; those one or two calls disturb nobody."""

_OPENING: Final = 90.0
_ORDER: Final = 180.0
"""Seconds that a process has to open, and to carry out one order."""


@dataclass(frozen=True)
class Contender:
    """One way to the same result."""

    name: str
    module: str
    """In `sides`."""
    language: str = "Python"
    loop: str = "asyncio"
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    requirement: str | None = None
    """What it needs in an environment of its own."""
    two_way: bool = True
    one_way: bool = True
    drains: bool = True
    at_most: int = 10_000
    """The most concurrent requests that are worth the time."""
    pace: float = 1.0
    """About how fast it is next to the floor: so many fewer or more messages it gets."""
    warm_up: Sequence[tuple[int, int]] = ((100, 10),)
    """Requests before any is measured, and how many of them at a time."""
    workers: int = 1
    requesters: int = 1
    only: Sequence[str] = ()
    """The scenarios that it is for, if not all."""


OURS: Final = "ours"
OURS_UVLOOP: Final = "ours, uvloop"
OURS_SESSION: Final = "ours, session brought"
OURS_LEAN_OFF: Final = "ours, lean path off"
FLOOR: Final = "floor"
FLOOR_UVLOOP: Final = "floor, uvloop"
SINGLE: Final = "one message per call"
SYNCHRONOUS: Final = "synchronous way"
TASKIQ: Final = "taskiq-aio-sqs"
JAVA: Final = "AWS's Java client"

_SCALED: Final = ["processes"]

SCALED: Final = {1: OURS, 2: "ours, 2 + 2 processes", 4: "ours, 4 + 4 processes"}
"""Ours by the number of processes on each side."""

MORE_WORKERS: Final = "ours, 1 requester, 2 workers"

CONTENDERS: Final = [
    Contender(OURS, "ours", pace=3),
    Contender(OURS_UVLOOP, "ours", loop="uvloop", pace=3),
    Contender(OURS_SESSION, "ours", options={"session": True}),
    Contender(OURS_LEAN_OFF, "ours", environment={"SQS_ORCHESTRATOR_LEAN": "0"}),
    Contender(FLOOR, "floor"),
    Contender(FLOOR_UVLOOP, "floor", loop="uvloop"),
    Contender(SINGLE, "floor", options={"batch": 1}, at_most=1_000, pace=0.1),
    Contender(SYNCHRONOUS, "synchronous", at_most=1_000, pace=0.15),
    Contender(
        TASKIQ,
        "taskiq",
        requirement="taskiq-aio-sqs>=2.1",
        two_way=False,
        drains=False,
        pace=0.3,
    ),
    Contender(
        JAVA,
        "java",
        language="Java",
        # Its way to send one way is to call the SDK.
        one_way=False,
        drains=False,
        # A waiting request has two threads.
        at_most=1_000,
        # So many until Java has compiled what it will: it then takes a tenth of the CPU.
        warm_up=((16_000, 10), (3_000, 1_000), (1_000, 1)),
    ),
    Contender(MORE_WORKERS, "ours", pace=3, workers=2, only=_SCALED),
    *(
        Contender(name, "ours", pace=3, workers=each, requesters=each, only=_SCALED)
        for each, name in SCALED.items()
        if each > 1
    ),
]

OPTIONAL: Final = (OURS_LEAN_OFF,)
"""Measured only where they are asked for."""


def program(contender: Contender) -> list[str]:
    """The command that plays its sides, up to the role; raises `Unavailable`."""
    if contender.language == "Java":
        return programs.java()
    interpreter = programs.python(contender.loop, contender.requirement, contender.module)
    options = ["--loop", contender.loop, "--options", json.dumps(contender.options)]
    return [interpreter, "-m", "tests.benchmarks.side", *options, contender.module]


class Failed(Exception):
    """A process ended early, or did not answer."""


class Process:
    """One side, and its standard input and output."""

    def __init__(self, what: str, process: asyncio.subprocess.Process) -> None:
        self._what = what
        self._process = process

    async def do(self, order: str, *, within: float = _ORDER, **details: Any) -> Any:
        """Give an order and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"order": order, **details}).encode() + b"\n")
        try:
            async with asyncio.timeout(within):
                answer = await self._process.stdout.readline()
        except TimeoutError:
            raise Failed(f"{self._what} did not answer to {order!r} within {within} s") from None
        if not answer:
            raise Failed(f"{self._what} ended at {order!r}; why, it says above")
        return json.loads(answer)

    async def end(self) -> None:
        """Make it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def _process(
    contender: Contender, role: str, endpoint_url: str, queue: str
) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *program(contender),
        *(role, endpoint_url, queue),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=programs.ROOT,
        env={**os.environ, **_PLAIN, **contender.environment},
        # So that Ctrl-C reaches this process alone, which then ends the others.
        start_new_session=True,
    )
    opened = Process(f"the {role} of {contender.name!r}", process)
    try:
        yield opened
    finally:
        await opened.end()


_PLAIN: Final = {
    # No run may depend on the AWS settings of whoever runs it, nor spend their money.
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Mark:
    """What a team has spent so far."""

    requester_cpu: float
    worker_cpu: float
    calls: Counter[str]
    handled: int


class Team:
    """The processes of one contender."""

    def __init__(
        self,
        contender: Contender,
        queue: str,
        requesters: Sequence[Process],
        workers: Sequence[Process],
    ) -> None:
        self.contender = contender
        self.queue = queue
        self.requesters = requesters
        self.workers = workers
        self._settling: asyncio.Task[None] | None = None

    async def expect(self, at_a_time: int) -> None:
        """Tell all how many messages at a time there will be."""
        for process in (*self.requesters, *self.workers):
            await process.do("expect", at_a_time=at_a_time)

    async def mark(self) -> Mark:
        """What has been spent so far."""
        requesters = [await process.do("mark") for process in self.requesters]
        workers = [await process.do("mark") for process in self.workers]
        calls: Counter[str] = Counter()
        for each in requesters + workers:
            calls.update(each["calls"])
        return Mark(
            sum(each["cpu"] for each in requesters),
            sum(each["cpu"] for each in workers),
            calls,
            sum(each["handled"] for each in workers),
        )

    async def settled(self) -> None:
        """Wait until the last run's last calls have been made and counted."""
        if self._settling is not None:
            await self._settling
            self._settling = None

    def settle(self, sample: Sample, before: Mark) -> None:
        """Complete *sample* once its last calls have been made, while others go on."""

        async def complete() -> None:
            await asyncio.sleep(SETTLING)
            complete_sample(sample, before, await self.mark())

        self._settling = asyncio.create_task(complete())


def complete_sample(sample: Sample, before: Mark, after: Mark) -> None:
    """Enter what was spent between the two marks."""
    sample.requester_cpu = after.requester_cpu - before.requester_cpu
    sample.worker_cpu = after.worker_cpu - before.worker_cpu
    sample.calls = dict(after.calls - before.calls)


async def enter_team(
    stack: AsyncExitStack, contender: Contender, endpoint_url: str, queue: str
) -> Team:
    """Start the processes of a contender; raises `Unavailable` or `Failed`."""
    requesters = [
        await stack.enter_async_context(_process(contender, "requester", endpoint_url, queue))
        for _ in range(contender.requesters)
    ]
    workers = [
        await stack.enter_async_context(_process(contender, "worker", endpoint_url, queue))
        for _ in range(contender.workers)
    ]
    for process in (*requesters, *workers):
        await process.do("open", within=_OPENING)
    return Team(contender, queue, requesters, workers)
