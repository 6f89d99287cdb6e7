"""A fleet that cannot stop moves from the synchronous package to this library, step by step.

Each step is taken in the middle of requests, and all of them are answered. The page on migrating
tells the steps, in the order of the first test.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import pytest
import pytest_asyncio

import sqs_orchestrator as so
from sqs_orchestrator.core import leftovers

from .conftest import Old, response
from .package import Requester, Worker

EACH: Final = 25
"""Requests that each requester makes during a step."""

COMES_BACK: Final = 2
"""Seconds after which a message comes back that a killed worker had."""


class Fleet:
    """Requesters and workers of both kinds, and what became of each request."""

    def __init__(self, sqs: so.Connection, old: Old, url: str) -> None:
        self.sqs = sqs
        self.url = url
        self.name = f"reply_queue_{uuid.uuid4().hex[:8]}_"
        self.done: Counter[int] = Counter()
        """How often each request was handled."""
        self._old = old
        self._numbers = itertools.count()
        self._works = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stack = contextlib.AsyncExitStack()
        self._ends: dict[str, contextlib.AsyncExitStack] = {}
        self.old_requester: Requester | None = None
        self.old_worker: Worker | None = None
        self.publisher: so.Publisher | None = None

    # --------------------------------------------------------------------- the members

    async def start_old_requester(self) -> None:
        self.old_requester = await self._old.requester(self.name)

    async def end_old_requester(self) -> None:
        assert self.old_requester is not None
        requester, self.old_requester = self.old_requester, None
        await asyncio.to_thread(requester.remove_queue)

    async def start_old_worker(self) -> None:
        def process(body: str, attributes: Mapping[str, Any]) -> str:
            return self._handled(body)

        self.old_worker = await self._old.worker(self.url, process, visibility=COMES_BACK)

    async def stop_old_worker(self) -> None:
        assert self.old_worker is not None
        await asyncio.to_thread(self.old_worker.stop)

    async def kill_old_worker(self) -> None:
        assert self.old_worker is not None
        await asyncio.to_thread(self.old_worker.die)

    async def start_worker(self) -> None:
        async def handle(message: so.Message) -> str:
            return self._handled(message.body)

        poller = so.Poller(self.sqs, self.url, handle, wait_time=1)
        await self._enter("worker", poller)

    async def stop_worker(self) -> None:
        await self._ends.pop("worker").aclose()

    async def start_requester(self, *, legacy: bool = True) -> None:
        replies = so.ReplyQueue(self.sqs, legacy=legacy)
        self.publisher = so.Publisher(self.sqs, reply_queue=replies)
        await self._enter("requester", replies, self.publisher)

    async def drop_the_legacy_mode(self) -> None:
        # As a deployment does: the new process starts before the old one ends.
        before = self._ends.pop("requester")
        await self.start_requester(legacy=False)
        self._ends["before"] = before

    async def _enter(self, name: str, *managers: Any) -> None:
        stack = self._ends[name] = contextlib.AsyncExitStack()
        for manager in managers:
            await stack.enter_async_context(manager)

    async def close(self) -> None:
        for stack in self._ends.values():
            await stack.aclose()

    # ---------------------------------------------------------------------- the requests

    def _handled(self, body: str) -> str:
        number = json.loads(body)["number"]
        self.done[number] += 1
        self._loop.call_soon_threadsafe(self._works.set)
        return json.dumps({"done": number})

    async def step(self, take: Callable[[], Awaitable[None]] | None = None) -> None:
        """Ask from all requesters, and take a step meanwhile; all requests are answered."""
        self._works.clear()
        async with asyncio.TaskGroup() as group:
            if self.old_requester is not None and take != self.end_old_requester:
                group.create_task(self._ask_in_the_old_way(self.old_requester))
            if self.publisher is not None:
                for _ in range(EACH):
                    group.create_task(self._ask(self.publisher))
            if take is not None:
                if self.old_worker is not None or "worker" in self._ends:
                    await self._works.wait()
                await take()

    async def _ask(self, publisher: so.Publisher) -> None:
        number = next(self._numbers)
        reply = await publisher.request(self.url, {"number": number}, timeout=60)
        assert reply.json() == {"done": number}

    async def _ask_in_the_old_way(self, requester: Requester) -> None:
        asked = {}
        for number in itertools.islice(self._numbers, EACH):
            body = json.dumps({"number": number})
            asked[number] = await asyncio.to_thread(requester.ask, self.url, body)
        for number, request_id in asked.items():
            assert json.loads(await response(requester, request_id)) == {"done": number}

    async def check_that_all_is_done_and_nothing_left(self) -> None:
        asked = next(self._numbers)
        assert self.done.keys() == set(range(asked))
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        # Deletes linger for a moment.
        async with asyncio.timeout(30):
            while True:
                counts = await self.sqs.port.get_queue_attributes(self.url, names)
                if set(counts.values()) == {"0"}:
                    break
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture
async def fleet(sqs: so.Connection, old: Old, url: str) -> AsyncIterator[Fleet]:
    fleet = Fleet(sqs, old, url)
    yield fleet
    await fleet.close()


async def test_workers_first(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    await fleet.start_old_requester()
    await fleet.start_old_worker()
    await fleet.step()
    await fleet.step(fleet.start_worker)
    await fleet.step(fleet.kill_old_worker)
    # Back: nothing has to be set for that.
    await fleet.step(fleet.start_old_worker)
    await fleet.step(fleet.stop_worker)
    await fleet.step(fleet.start_worker)
    await fleet.step(fleet.stop_old_worker)
    # The workers have moved, so the requesters need no legacy mode.
    await fleet.step(lambda: fleet.start_requester(legacy=False))
    await fleet.step(fleet.end_old_requester)
    await fleet.step()
    await fleet.check_that_all_is_done_and_nothing_left()

    monkeypatch.setattr(leftovers, "LISTED", 0.0)
    left = [f"{fleet.name}sweeper.fifo"]
    gone = await so.sweep(fleet.sqs, fleet.name, legacy=True)
    assert [url.rpartition("/")[2] for url in gone] == left
    assert (await fleet.sqs.port.list_queues(fleet.name)).urls == []


async def test_requesters_first(fleet: Fleet) -> None:
    await fleet.start_old_requester()
    await fleet.start_old_worker()
    await fleet.step(fleet.start_requester)
    await fleet.step(fleet.end_old_requester)
    # Back, and forth.
    await fleet.step(fleet.start_old_requester)
    await fleet.step(fleet.start_worker)
    await fleet.step(fleet.stop_worker)
    await fleet.step(fleet.start_worker)
    await fleet.step(fleet.kill_old_worker)
    await fleet.step(fleet.end_old_requester)
    await fleet.step(fleet.drop_the_legacy_mode)
    await fleet.step()
    await fleet.check_that_all_is_done_and_nothing_left()
