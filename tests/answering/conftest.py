"""The programs of `docs/examples/answering` at the other end: they know the wire, not this library.

Where what runs or builds one of them is not installed, its tests are skipped, and say what to
install; where it cannot be fetched or built, they fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from tests.answering import programs
from tests.answering.programs import Absent
from tests.servers import CREDENTIALS

WORKERS: Final = {"boto3": programs.python, "node": programs.node, "go": programs.go}

HANGS: Final = 60.0
"""Seconds after which something that does not happen never will: then the test fails."""


@pytest.fixture(scope="session")
def endpoint_url(volume_server: str) -> str:
    return volume_server


@pytest.fixture
def environment(endpoint_url: str) -> dict[str, str]:
    """What the SDKs of all languages read."""
    return {
        "AWS_ENDPOINT_URL_SQS": endpoint_url,
        "AWS_REGION": CREDENTIALS["region_name"],
        "AWS_DEFAULT_REGION": CREDENTIALS["region_name"],
        "AWS_ACCESS_KEY_ID": CREDENTIALS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS["aws_secret_access_key"],
    }


@pytest.fixture(scope="session", params=WORKERS)
def command(request: pytest.FixtureRequest) -> list[str]:
    """The command that runs a worker."""
    try:
        return WORKERS[request.param]()
    except Absent as absent:
        pytest.skip(str(absent))


@pytest_asyncio.fixture
async def sqs(endpoint_url: str) -> AsyncIterator[so.Connection]:
    async with so.connect(endpoint_url=endpoint_url, **CREDENTIALS) as connection:
        yield connection


class Queue:
    """A request queue."""

    def __init__(self, sqs: so.Connection, url: str) -> None:
        self._sqs = sqs
        self.url = url
        self.name = url.rpartition("/")[2]

    async def counts(self) -> tuple[int, int]:
        """How many messages are visible, and how many are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = await self._sqs.port.get_queue_attributes(self.url, names)
        visible, hidden = (int(told[name]) for name in names)
        return visible, hidden

    async def until(self, visible: int, hidden: int) -> None:
        """Wait until it has so many."""
        async with asyncio.timeout(HANGS):
            while await self.counts() != (visible, hidden):  # noqa: ASYNC110 - others do it
                await asyncio.sleep(0.05)


MakeQueue = Callable[[str], Awaitable[Queue]]


@pytest_asyncio.fixture
async def make_queue(sqs: so.Connection) -> AsyncIterator[MakeQueue]:
    """Makes queues, which are deleted after the test."""
    made: list[Queue] = []

    async def make(name: str) -> Queue:
        made.append(Queue(sqs, await sqs.create_queue(name)))
        return made[-1]

    yield make
    for queue in made:
        with contextlib.suppress(so.QueueNotFound):
            await sqs.port.delete_queue(queue.url)


@pytest_asyncio.fixture
async def queue(make_queue: MakeQueue) -> Queue:
    return await make_queue(f"orders-{uuid.uuid4().hex}")


Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest_asyncio.fixture
async def start(environment: dict[str, str]) -> AsyncIterator[Start]:
    """Starts programs; those that still run are killed after the test."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*command: str, **options: Any) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **environment}, **options
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
