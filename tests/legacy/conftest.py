"""The synchronous package at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from tests.servers import CREDENTIALS

from .package import Requester, Worker


class Old:
    """Starts processes of the package, and ends those that still run."""

    def __init__(self, endpoint_url: str, stack: contextlib.AsyncExitStack) -> None:
        self._endpoint_url = endpoint_url
        self._stack = stack

    async def requester(self, name: str = "reply_queue_", **options: Any) -> Requester:
        made = Requester(self._endpoint_url, name, **options)
        self._stack.push_async_callback(asyncio.to_thread, made.die)
        return await asyncio.to_thread(made.open)

    async def worker(
        self,
        queue_url: str,
        process_message: Callable[[str, Mapping[str, Any]], str | None],
        **options: Any,
    ) -> Worker:
        made = Worker(self._endpoint_url, queue_url, process_message, **options)
        made.start()
        self._stack.push_async_callback(asyncio.to_thread, made.stop)
        return made


@contextlib.asynccontextmanager
async def working(
    sqs: so.Connection, queue: str, handler: Callable[[so.Message], Awaitable[Any]], **options: Any
) -> AsyncIterator[so.Poller]:
    """A worker of ours, which ends at once."""
    async with so.Poller(sqs, queue, handler, **options) as poller:
        yield poller
        poller.stop(drop_poll=True)


async def response(requester: Requester, request_id: str, timeout: float = 30.0) -> str:
    """The reply to a request of the package."""
    return await asyncio.to_thread(requester.response, request_id, timeout)


@pytest.fixture(scope="session")
def endpoint_url(volume_server: str) -> str:
    return volume_server


@pytest_asyncio.fixture
async def old(endpoint_url: str, url: str) -> AsyncIterator[Old]:
    # After the request queue, so that it ends before that.
    async with contextlib.AsyncExitStack() as stack:
        yield Old(endpoint_url, stack)


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
