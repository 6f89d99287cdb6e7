from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

# Before there are servers with threads of their own: what this imports first pytest rewrites (anyio
# is a plugin of its), and Python 3.11 may fail where something else parses meanwhile.
import litestar.testing  # noqa: F401
import pytest
import pytest_asyncio

from sqs_orchestrator import Connection, Poller, Publisher, Reply, connect
from sqs_orchestrator.testing import moto_server


@pytest.fixture(scope="session")
def endpoint_url() -> Iterator[str]:
    """A server for all examples."""
    with moto_server() as url:
        yield url


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Examples set levels, as programs do; the tests after them are none of their business."""
    loggers = [logging.getLogger(), logging.getLogger("sqs_orchestrator")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


class Given:
    """What the hidden parts of examples set the stage with."""

    def __init__(self, sqs: Connection, stack: AsyncExitStack) -> None:
        self.sqs = sqs
        self._stack = stack
        self._publisher: Publisher | None = None

    async def queue(self, name: str, **options: Any) -> str:
        """Create a queue; returns its URL."""
        return await self.sqs.create_queue(name, **options)

    async def worker(self, queue: str, handler: Callable[..., Any]) -> Poller:
        """Create a queue, and let a worker answer its messages until the example ends."""
        await self.queue(queue)
        poller = Poller(self.sqs, queue, handler, wait_time=1)
        return await self._stack.enter_async_context(poller)

    async def request(self, queue: str, body: Any, **options: Any) -> Reply:
        """Ask the worker that the example shows."""
        publisher = await self._open_publisher()
        reply: Reply = await publisher.request(queue, body, **options)
        return reply

    async def send(self, queue: str, body: Any, **options: Any) -> str:
        """Send the worker that the example shows a one-way message."""
        publisher = await self._open_publisher()
        return await publisher.send(queue, body, **options)

    async def _open_publisher(self) -> Publisher:
        if self._publisher is None:
            self._publisher = await self._stack.enter_async_context(Publisher(self.sqs))
        return self._publisher


@pytest_asyncio.fixture
async def given(endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Given]:
    """A stage without queues, where `connect()` finds the server by itself."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", endpoint_url)
    async with connect() as sqs, AsyncExitStack() as stack:
        yield Given(sqs, stack)
        await stack.aclose()
        for url in (await sqs.port.list_queues("")).urls:
            await sqs.port.delete_queue(url)
