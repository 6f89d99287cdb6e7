"""AWS's own Temporary Queue Client, unmodified, at the other end.

They need Java 17 and Maven, which builds the program in `java/`, and are skipped where these are
not, unless `SQS_INTEROP` is set, as `nox -s interop` does, which runs them on two servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from tests.benchmarks.programs import Unavailable, java_program, java_version
from tests.processes.conftest import Process, starting
from tests.servers import CREDENTIALS

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCE: Final = Path(__file__).parent / "java"
BUILT: Final = ROOT / ".cache" / "interop"
RELEASE: Final = 17
"""The oldest Java that does."""

PATIENCE: Final = 90.0
"""Seconds for one answer of the program in Java: after that it hangs, and the test fails."""

JAVA_PREFIX: Final = "__RequesterClientQueues__"


class Java:
    """A process of Java, and what it is asked to do."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    async def requester(
        self,
        prefix: str = JAVA_PREFIX,
        *,
        virtual: bool = True,
        heartbeat: int = 5,
        retention: int = 300,
        sweep: int = 300,
    ) -> None:
        """Make an `AmazonSQSRequester`; durations in seconds."""
        await self._order(
            "requester",
            prefix=prefix,
            virtual=virtual,
            heartbeat=heartbeat,
            retention=retention,
            sweep=sweep,
        )

    async def responder(self, queue_url: str) -> None:
        """Consume that queue and answer each request by an `AmazonSQSResponder`, with its own body
        and those of its attributes whose names begin with `a.`."""
        await self._order("responder", queue=queue_url)

    async def ask(
        self,
        queue_url: str,
        bodies: Sequence[str],
        *,
        timeout: int = 30,
        attributes: Mapping[str, tuple[str, str]] | None = None,
    ) -> list[dict[str, Any]]:
        """Ask all at once; what came of each: `body` and `attributes` of the reply, or `error`."""
        items = [{"body": body, "attributes": dict(attributes or {})} for body in bodies]
        answers: list[dict[str, Any]] = await self._order(
            "ask", queue=queue_url, timeout=timeout, items=items
        )
        return answers

    async def close(self) -> None:
        """Shut the requester down."""
        await self._order("close")

    async def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def _order(self, order: str, **what: Any) -> Any:
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        line = json.dumps({"id": number, "order": order, **what}) + "\n"
        self._process.stdin.write(line.encode())
        async with asyncio.timeout(PATIENCE):
            return await future

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            self._waiting.pop(answer["id"]).set_result(answer["answer"])
        for future in self._waiting.values():
            future.set_exception(AssertionError("the program in Java has ended"))


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The command that runs the program in Java, built if need be."""
    missing = what_is_missing()
    if missing and not os.environ.get("SQS_INTEROP"):
        pytest.skip(f"NOT TESTED with AWS's Java client, which needs Java 17 and Maven: {missing}")
    try:
        runs, *arguments = java_program(SOURCE, BUILT, "Peer")
    except Unavailable as why:
        pytest.fail(str(why))
    # It does not live long enough for what the other compiler and collector cost.
    return [runs, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *arguments]


def what_is_missing() -> str | None:
    for name in ("java", "mvn"):
        if shutil.which(name) is None:
            return f"there is no `{name}`"
    release = re.match(r"\d+", java_version() or "")
    if release is None or int(release[0]) < RELEASE:
        return f"`java` is {java_version()}"
    return None


@pytest.fixture(scope="session")
def endpoint_url(volume_server: str) -> str:
    return volume_server


Start = Callable[..., Awaitable[Java]]


@pytest_asyncio.fixture
async def start_java(program: list[str], endpoint_url: str) -> AsyncIterator[Start]:
    """Starts processes of Java; those that still run are killed after the test."""
    started: list[Java] = []

    async def start(at: str = endpoint_url) -> Java:
        process = await asyncio.create_subprocess_exec(
            *program,
            at,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        started.append(Java(process))
        return started[-1]

    yield start
    for java in started:
        await java.kill()


@pytest_asyncio.fixture
async def java(start_java: Start) -> Java:
    return await start_java()


@pytest_asyncio.fixture
async def start_here(endpoint_url: str) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """Starts programs of `tests/processes`."""
    async with starting(endpoint_url) as start:
        yield start


@pytest_asyncio.fixture
async def sqs(endpoint_url: str) -> AsyncIterator[so.Connection]:
    async with so.connect(endpoint_url=endpoint_url, **CREDENTIALS) as connection:
        yield connection


@pytest_asyncio.fixture
async def url(sqs: so.Connection) -> AsyncIterator[str]:
    """The URL of a request queue."""
    url = await sqs.create_queue(f"orders-{uuid.uuid4().hex}")
    yield url
    await sqs.client.delete_queue(QueueUrl=url)
