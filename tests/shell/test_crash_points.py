"""What is left when a process dies between two of its calls, or an answer of SQS gets lost.

All that others see of a process that was killed is that its calls stop. So here a process dies by
having all of its calls stopped: those that it would make, and the answers to those under way.
`tests/processes` kills real ones, at moments that cannot be chosen as finely.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from sqs_orchestrator import (
    Connection,
    Message,
    Poller,
    Publisher,
    ReplyQueue,
    ReplyTimeout,
)
from sqs_orchestrator.testing import MemoryServer, MemorySQS, VirtualTimeLoop, connect

from .workers import now, until

VISIBILITY_TIMEOUT = 30.0


@pytest_asyncio.fixture
async def server(server: MemoryServer) -> MemoryServer:
    server.create(server.account, "orders", {}, {})
    server.create(server.account, "orders.fifo", {"FifoQueue": "true"}, {})
    return server


class Process:
    """A process of its own, as far as SQS can tell."""

    def __init__(self, client: MemorySQS, sqs: Connection) -> None:
        self.client = client
        self.sqs = sqs

    def die(self) -> None:
        """Be killed: nothing more leaves, and nothing more arrives."""
        self.client.hold("*", times=None)
        self.client.hold("*", times=None, answer=True)


@asynccontextmanager
async def process(server: MemoryServer) -> AsyncIterator[Process]:
    client = MemorySQS(server)
    async with connect(port=client) as sqs:
        yield Process(client, sqs)


class Worker(Process):
    """A worker, and the bodies that its handler was started on."""

    def __init__(self, client: MemorySQS, sqs: Connection) -> None:
        super().__init__(client, sqs)
        self.started: list[Any] = []
        self.poller: Poller

    async def handle(self, message: Message) -> Any:
        self.started.append(message.json())
        return message.json()


@asynccontextmanager
async def worker(
    server: MemoryServer, handler: Any = None, *, concurrency: int = 10
) -> AsyncIterator[Worker]:
    async with process(server) as own:
        worker = Worker(own.client, own.sqs)
        worker.poller = Poller(
            own.sqs,
            "orders",
            handler or worker.handle,
            concurrency=concurrency,
            visibility_timeout=VISIBILITY_TIMEOUT,
            # A poll of one that is dead must not take what another should get.
            wait_time=1,
        )
        async with worker.poller:
            yield worker


@asynccontextmanager
async def requester(server: MemoryServer, **options: Any) -> AsyncIterator[Publisher]:
    async with process(server) as own, Publisher(own.sqs, **options) as publisher:
        yield publisher


def replies_to(publisher: Publisher) -> ReplyQueue:
    return publisher._replies


# ---------------------------------------------------------------------- requesters


async def test_requester_killed_before_its_request_left_has_sent_nothing(
    server: MemoryServer,
) -> None:
    async with requester(server) as survivor:
        await survivor.ready()
        async with process(server) as doomed, Publisher(doomed.sqs) as publisher:
            gate = doomed.client.hold("SendMessageBatch")
            request = asyncio.create_task(publisher.request("orders", 1))
            await gate.arrived()
            doomed.die()
            with pytest.raises(ReplyTimeout):
                await request
            await until(lambda: replies_to(survivor).statistics().swept, 300 + 330 + 10)
            assert not server.messages("orders")
            assert server.queues == ["orders", "orders.fifo", name_of(survivor)]


async def test_request_of_a_killed_requester_is_handled_and_its_reply_goes_with_the_queue(
    server: MemoryServer,
) -> None:
    async with requester(server) as survivor:
        await survivor.ready()
        async with process(server) as doomed, Publisher(doomed.sqs) as publisher:
            request = asyncio.create_task(publisher.request("orders", 1))
            await until(lambda: server.messages("orders"))
            name = name_of(publisher)
            doomed.die()
            async with worker(server) as working:
                await until(lambda: server.messages(name))
                await until(lambda: working.poller.statistics().replies)
                assert working.started == [1]
            assert not server.messages("orders")
            with pytest.raises(ReplyTimeout):
                await request
            await until(lambda: replies_to(survivor).statistics().swept, 300 + 330 + 10)
            assert server.queues == ["orders", "orders.fifo", name_of(survivor)]


def name_of(publisher: Publisher) -> str:
    url = replies_to(publisher).url
    assert url is not None
    return url.rpartition("/")[2]


async def test_request_whose_confirmation_got_lost_is_queued_once_on_a_fifo_queue(
    server: MemoryServer,
) -> None:
    async with process(server) as own, Publisher(own.sqs) as publisher:
        own.client.drop_answer("SendMessageBatch")
        with pytest.raises(ReplyTimeout) as caught:
            await publisher.request("orders.fifo", 1, group_id="g", timeout=5)
        assert caught.value.confirmed
        assert own.client.calls["SendMessageBatch"] == 2
        assert len(server.messages("orders.fifo")) == 1


async def test_replies_whose_receive_got_lost_come_after_five_seconds(
    server: MemoryServer,
) -> None:
    async with process(server) as own, Publisher(own.sqs) as publisher, worker(server):
        await publisher.ready()
        own.client.drop_answer("ReceiveMessage")
        began = now()
        assert (await publisher.request("orders", 1)).json() == 1
        assert 5 <= now() - began < 7
        assert replies_to(publisher).statistics().unmatched == 0


async def test_request_that_waits_in_a_deleted_queue_ends_with_its_timeout(
    server: MemoryServer,
) -> None:
    async with requester(server) as publisher:
        request = asyncio.create_task(publisher.request("orders", 1, timeout=20))
        await until(lambda: server.messages("orders"))
        server.drop(server.url("orders"))
        with pytest.raises(ReplyTimeout) as caught:
            await request
        assert caught.value.confirmed
        assert now() == pytest.approx(20)


# ------------------------------------------------------------------------- workers


async def test_worker_killed_before_its_handler_began_leaves_the_request_to_another(
    server: MemoryServer,
) -> None:
    async with requester(server) as publisher, worker(server) as doomed:
        gate = doomed.client.hold("ReceiveMessage", answer=True)
        request = asyncio.create_task(publisher.request("orders", 1, timeout=100))
        await gate.arrived()
        doomed.die()
        async with worker(server) as other:
            assert (await request).json() == 1
            assert VISIBILITY_TIMEOUT <= now() < VISIBILITY_TIMEOUT + 2
        assert doomed.started == []
        assert other.started == [1]


async def test_killed_worker_costs_no_request_of_those_that_take_the_defaults(
    server: MemoryServer,
) -> None:
    count = 60
    async with requester(server) as publisher, process(server) as doomed, process(server) as other:
        await publisher.ready()

        async def handle(message: Message) -> int:
            await asyncio.sleep(1)
            return int(message.json())

        async with Poller(doomed.sqs, "orders", handle, concurrency=20, wait_time=1) as poller:
            asking = [
                asyncio.create_task(publisher.request("orders", number)) for number in range(count)
            ]
            await until(lambda: poller.statistics().running == 20)
            doomed.die()
            async with Poller(other.sqs, "orders", handle):
                replies = await asyncio.gather(*asking)
        assert [reply.json() for reply in replies] == list(range(count))


async def test_worker_killed_before_the_reply_left_has_its_work_done_again(
    server: MemoryServer,
) -> None:
    async with requester(server) as publisher, worker(server) as doomed:
        gate = doomed.client.hold("SendMessageBatch")
        request = asyncio.create_task(publisher.request("orders", 1, timeout=100))
        await gate.arrived()
        await asyncio.sleep(1)  # in which a delete would leave
        doomed.die()
        async with worker(server) as other:
            assert (await request).json() == 1
            assert VISIBILITY_TIMEOUT <= now() < VISIBILITY_TIMEOUT + 2
            await until(lambda: not server.messages("orders"))
        assert doomed.started == other.started == [1]
        assert replies_to(publisher).statistics().unmatched == 0


async def test_worker_killed_between_reply_and_delete_has_its_work_done_again_for_nobody(
    server: MemoryServer,
) -> None:
    async with requester(server) as publisher, worker(server) as doomed:
        gate = doomed.client.hold("DeleteMessageBatch")
        assert (await publisher.request("orders", 1, timeout=100)).json() == 1
        assert now() < 1
        await gate.arrived()
        doomed.die()
        async with worker(server) as other:
            await until(lambda: other.poller.statistics().replies)
            await until(lambda: not server.messages("orders"))
            assert doomed.started == other.started == [1]
            # Whoever asks next receives the second reply too.
            assert (await publisher.request("orders", 2)).json() == 2
            await until(lambda: replies_to(publisher).statistics().unmatched == 1)


async def test_worker_killed_while_it_drains_has_its_work_done_again(
    server: MemoryServer,
) -> None:
    begun: list[int] = []

    async def toil(message: Message) -> None:
        begun.append(message.json())
        await asyncio.sleep(20)

    async with (
        requester(server) as publisher,
        worker(server, toil, concurrency=1) as doomed,
    ):
        first = asyncio.create_task(publisher.request("orders", 1, timeout=100))
        await until(lambda: begun)
        doomed.poller.stop()
        await asyncio.sleep(5)
        doomed.die()
        # The handler ends in the drain, and nobody hears of it.
        async with worker(server) as other:
            assert (await first).json() == 1
            assert VISIBILITY_TIMEOUT <= now() < VISIBILITY_TIMEOUT + 2
            await until(lambda: not server.messages("orders"))
        assert begun == other.started == [1]


async def test_request_that_expired_with_a_killed_worker_is_not_done_again(
    server: MemoryServer,
) -> None:
    async with requester(server) as publisher, worker(server) as doomed:
        gate = doomed.client.hold("DeleteMessageBatch")
        assert (await publisher.request("orders", 1, timeout=10)).json() == 1
        await gate.arrived()
        doomed.die()
        async with worker(server) as other:
            await until(lambda: not server.messages("orders"))
            assert other.poller.statistics().expired == 1
            assert other.started == []


async def test_messages_whose_receive_got_lost_come_back_when_their_visibility_runs_out(
    server: MemoryServer,
) -> None:
    async with requester(server) as publisher, worker(server) as working:
        working.client.drop_answer("ReceiveMessage")
        assert (await publisher.request("orders", 1, timeout=100)).json() == 1
        assert VISIBILITY_TIMEOUT <= now() < VISIBILITY_TIMEOUT + 2
        assert working.started == [1]


async def test_request_delivered_twice_at_once_is_handled_once(server: MemoryServer) -> None:
    server.duplicate("orders")
    async with requester(server) as publisher, worker(server) as working:
        assert (await publisher.request("orders", 1)).json() == 1
        await until(lambda: not server.messages("orders"))
        assert working.started == [1]
        assert working.poller.statistics().duplicates == 1
        assert working.poller.statistics().received == 2


async def test_request_delivered_to_two_is_handled_twice_and_answered_once(
    server: MemoryServer,
) -> None:
    server.duplicate("orders")
    async with (
        requester(server) as publisher,
        worker(server) as working,
        worker(server) as other,
    ):
        gate = working.client.hold("ReceiveMessage", answer=True)
        also = other.client.hold("ReceiveMessage", answer=True)
        request = asyncio.create_task(publisher.request("orders", 1))
        await gate.arrived()
        await also.arrived()
        gate.release()
        also.release()
        assert (await request).json() == 1
        await until(lambda: other.poller.statistics().replies == 1)
        assert working.started == other.started == [1]
        # Whoever asks next receives the second reply too.
        assert (await publisher.request("orders", 2)).json() == 2
        await until(lambda: replies_to(publisher).statistics().unmatched == 1)
        await until(lambda: not server.messages("orders"))


async def test_message_of_a_blocked_event_loop_is_handled_by_another_worker(
    server: MemoryServer,
) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    go_on = asyncio.Event()

    async def block(message: Message) -> str:
        await go_on.wait()
        # Both workers stand still then; but the other one has nothing to extend.
        loop.jump(VISIBILITY_TIMEOUT + 5)
        return "late"

    async with (
        requester(server) as publisher,
        worker(server, block, concurrency=1) as blocked,
    ):
        request = asyncio.create_task(publisher.request("orders", 1, timeout=100))
        await until(lambda: blocked.poller.statistics().running)
        async with worker(server) as other:
            await asyncio.sleep(1)
            go_on.set()
            await until(lambda: not server.messages("orders"))
            assert other.started == [1]
            assert blocked.poller.statistics().handled == 1
            assert (await request).body == "late"
