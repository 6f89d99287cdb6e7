"""Tasks that begin eagerly (`asyncio.eager_task_factory`) may be over before they are known to
whoever made them. All tests of this directory run with such tasks too, where Python has them."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys

import pytest

from sqs_orchestrator import (
    AccessDenied,
    Message,
    Poller,
    Publisher,
    QueueError,
    RemoteError,
    ReplyQueue,
    SQSOrchestratorError,
)
from sqs_orchestrator.testing import MemoryServer, MemorySQS, VirtualTimeLoop, connect

if sys.version_info < (3, 12):

    def test_eager_tasks_are_tested_on_newer_pythons() -> None:
        pytest.skip("NOT TESTED with eager tasks: asyncio.eager_task_factory is new in Python 3.12")


class AtOnce(MemorySQS):
    """An SQS whose calls wait for nothing, as those do for which there are no credentials."""

    error: QueueError | None = None

    async def _begin(self, operation: str, queue: str | None, entries: int) -> None:
        self.calls[operation] += 1
        if self.error is not None:
            raise self.error
        await self._happen(operation, queue, before=True)

    async def _end(self, operation: str, queue: str | None) -> None:
        await self._happen(operation, queue, before=False)
        self._observe()


@pytest.fixture
def at_once(server: MemoryServer) -> AtOnce:
    server.latency = 0
    return AtOnce(server)


async def test_requester_and_worker_on_calls_that_wait_for_nothing(at_once: AtOnce) -> None:
    async def handle(message: Message) -> str:
        return message.body

    async with connect(port=at_once) as sqs:
        await sqs.create_queue("orders", dead_letter_queue=True)
        async with Publisher(sqs) as publisher, Poller(sqs, "orders", handle) as poller:
            bodies = [str(number) for number in range(100)]
            replies = await asyncio.gather(*(publisher.request("orders", each) for each in bodies))
            assert [reply.body for reply in replies] == bodies
            await publisher.send("orders", "one-way")
            await asyncio.sleep(1)
            assert poller.statistics().handled == 101
            assert poller.statistics().running == 0
    assert not [name for name in at_once.server.queues if name.startswith("sqs_orchestrator")]


@pytest.mark.parametrize("transient", [False, True])
async def test_everything_fails_at_once_and_is_left_in_peace(
    at_once: AtOnce, caplog: pytest.LogCaptureFixture, transient: bool
) -> None:
    async def handle(message: Message) -> None: ...

    async with connect(port=at_once) as sqs:
        url = await sqs.create_queue("orders")
        poller = Poller(sqs, url, handle)
        # By its URL, it looks for nothing.
        working = asyncio.create_task(poller.run(handle_signals=False))
        replies = ReplyQueue(sqs, heartbeat_interval=5, idle_retention=20, sweep_interval=5)
        async with replies, Publisher(sqs, reply_queue=replies, default_timeout=10) as publisher:
            await publisher.ready()
            kind = QueueError if transient else AccessDenied
            at_once.error = kind("no credentials", transient=transient)
            for call in (
                lambda: sqs.queue_url("another"),
                lambda: publisher.request("another", "a"),
                lambda: publisher.send(url, "a"),
                lambda: publisher.request(url, "a"),
            ):
                for _ in range(2):
                    with pytest.raises(SQSOrchestratorError):
                        await call()
            await asyncio.sleep(60)
        poller.stop()
        if transient:
            await working
        else:
            with pytest.raises(AccessDenied):
                await working
    assert "has closed" not in caplog.text
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_handlers_that_wait_for_nothing_are_counted_and_answered(
    server: MemoryServer,
) -> None:
    """Such a handler is over before its task is known."""
    done: list[str] = []

    async def handle(message: Message) -> str:
        done.append(message.body)
        if message.body == "raises":
            raise ZeroDivisionError
        if message.body == "exits":
            raise SystemExit
        return message.body

    async with connect(server) as sqs:
        await sqs.create_queue("orders")
        async with (
            Publisher(sqs) as publisher,
            Poller(sqs, "orders", handle, concurrency=2) as poller,
        ):
            for body in ("raises", "exits"):
                with pytest.raises(RemoteError):
                    await publisher.request("orders", body)
            await asyncio.gather(*(publisher.request("orders", str(n)) for n in range(30)))
            counts = poller.statistics()
    assert (counts.handled, counts.failed, counts.running) == (30, 2, 0)
    assert len(done) == 32


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_keyboard_interrupt_as_a_handler_begins_ends_the_program(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = MemoryServer(latency=0.02)
    factory = asyncio.get_running_loop().get_task_factory()

    async def handle(message: Message) -> None:
        raise KeyboardInterrupt

    async def program() -> None:
        async with connect(server) as sqs:
            await sqs.create_queue("orders")
            async with Publisher(sqs) as publisher:
                await publisher.send("orders", "a")
            await Poller(sqs, "orders", handle).run(handle_signals=False)

    def whole() -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.get_loop().set_task_factory(factory)
            with pytest.raises(KeyboardInterrupt):
                runner.run(program())

    await asyncio.to_thread(whole)
    gc.collect()  # while the warning is ignored
    assert server.calls["ChangeMessageVisibilityBatch"] == 1, "it is released"
    assert len(server.messages("orders")) == 1
    assert not [
        each
        for each in caplog.records
        if each.name.startswith("sqs_orchestrator") and each.levelno >= logging.WARNING
    ]
