"""This library.

Options: `session` true brings an aiobotocore session of the user's, which turns the lean path
off. The environment variable of the library turns it off too.
"""

from __future__ import annotations

import asyncio
import time

from aiobotocore.session import AioSession

from sqs_orchestrator import Connection, Message, Poller, Publisher, connect
from sqs_orchestrator.sqs.counting import counting
from tests.benchmarks.side import CLIENT, Side, bodies, told

PATIENCE = 300.0
"""The timeout of a request, in seconds: as long as a slow machine may need for ten thousand."""


class _Ours(Side):
    sqs: Connection

    async def open(self) -> None:
        self.sqs = await self.stack.enter_async_context(
            connect(
                endpoint_url=self.endpoint_url,
                session=AioSession() if self.options.get("session") else None,
                wrap=counting(self.calls),
                **CLIENT,
            )
        )
        if self.queue:
            await self.sqs.queue_url(self.queue)

    async def path(self) -> str:
        """What stands behind the port."""
        return repr(self.sqs.port)


class Requester(_Ours):
    """Asks and sends."""

    publisher: Publisher
    held: list[asyncio.Task[object]]

    async def open(self) -> None:
        await super().open()
        self.publisher = await self.stack.enter_async_context(Publisher(self.sqs))
        await self.publisher.ready()

    async def ask(self, count: int, at_a_time: int) -> dict[str, float]:
        """Make *count* requests, each task the next when it has its reply."""
        latencies: list[float] = []
        texts = bodies(count)
        request, queue = self.publisher.request, self.queue

        async def ask_on() -> None:
            for text in texts:
                asked = time.monotonic()
                reply = await request(queue, text, timeout=PATIENCE)
                latencies.append(time.monotonic() - asked)
                if reply.body != text:
                    raise AssertionError(f"{text!r} came back as {reply.body!r}")

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_a_time):
                group.create_task(ask_on())
        return told(began, latencies)

    async def send(self, count: int, at_a_time: int) -> dict[str, float]:
        """Send *count* one-way messages; each is confirmed."""
        latencies: list[float] = []
        texts = bodies(count)

        async def send_on() -> None:
            for text in texts:
                sent = time.monotonic()
                await self.publisher.send(self.queue, text)
                latencies.append(time.monotonic() - sent)

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_a_time):
                group.create_task(send_on())
        return told(began, latencies)

    async def hold(self, count: int, queue: str) -> None:
        """Make *count* requests that nobody answers, and wait until they have left."""
        self.held = [
            asyncio.create_task(self.publisher.request(queue, text, timeout=PATIENCE))
            for text in bodies(count)
        ]
        await self.all_sent()

    async def all_sent(self) -> None:
        """Wait until SQS has all that is to be sent."""
        await asyncio.sleep(0.1)
        while self.publisher.statistics().unsent:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)

    async def release(self) -> None:
        """Give them up."""
        for task in self.held:
            task.cancel()
        await asyncio.wait(self.held)
        self.held.clear()


class Worker(_Ours):
    """Answers with what it was asked."""

    async def open(self) -> None:
        await super().open()
        await self.stack.enter_async_context(self._poller(self.queue, wait_time=20.0))

    def _poller(self, queue: str, wait_time: float) -> Poller:
        return Poller(self.sqs, queue, self._handle, concurrency=1_000, wait_time=wait_time)

    async def _handle(self, message: Message) -> str:
        if message.reply_to is None:
            self.handle()
        return message.body

    async def drain(self, queue: str, count: int) -> dict[str, float]:
        """Handle the *count* messages that are in another queue."""
        goal = self.handled + count
        began = time.monotonic()
        # Leaving awaits the last poll, which brings nothing.
        async with self._poller(queue, wait_time=1.0):
            return {"seconds": await self.wait_handled(goal) - began}
