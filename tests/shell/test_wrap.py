"""`connect(wrap=…)` around the calls of a whole program."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sqs_orchestrator import AccessDenied, Call, Message, Poller, Publisher, QueueError, Throttled
from sqs_orchestrator.sqs.counting import counting
from sqs_orchestrator.testing import MemoryServer, connect

CallNext = Callable[[Call], Awaitable[Any]]


async def answer(message: Message) -> str:
    return message.body


class Seen:
    """A wrap that keeps the attempts of each operation on a queue."""

    def __init__(self) -> None:
        self.attempts: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)

    async def __call__(self, call: Call, call_next: CallNext) -> Any:
        self.attempts[call.operation, call.queue_name].append(call.attempt)
        return await call_next(call)


async def test_every_call_of_a_program_passes_the_wrap(server: MemoryServer) -> None:
    calls: Counter[str] = Counter()
    async with connect(server, wrap=counting(calls)) as sqs:
        await sqs.create_queue("orders", dead_letter_queue=True)
        async with Publisher(sqs) as publisher, Poller(sqs, "orders", answer):
            for body in "abc":
                assert (await publisher.request("orders", body)).body == body
            await asyncio.sleep(1000)
    assert calls == server.calls
    assert {"TagQueue", "ListQueues", "DeleteQueue"} < calls.keys()


@pytest.mark.parametrize("operation", ["SendMessageBatch", "GetQueueUrl"])
async def test_attempt_counts_the_failures_before_it(server: MemoryServer, operation: str) -> None:
    seen = Seen()
    async with connect(server, wrap=seen) as sqs, Publisher(sqs) as publisher:
        await sqs.create_queue("orders")
        await sqs.create_queue("others")
        sqs.queues.forget_url("orders")
        sqs.queues.forget_url("others")
        seen.attempts.clear()
        server.faults.fail(operation, Throttled, times=3)
        await publisher.send("orders", "a")
        await publisher.send("orders", "b")
        await publisher.send("others", "c")
    sends = ("SendMessageBatch", "orders")
    assert seen.attempts[operation, "orders"][:4] == [1, 2, 3, 4]
    assert seen.attempts[sends][-1] == 1
    assert seen.attempts[operation, "others"] == [1]


async def test_attempt_of_a_receive_counts_the_failures_before_it(server: MemoryServer) -> None:
    seen = Seen()
    async with connect(server, wrap=seen) as sqs, Publisher(sqs) as publisher:
        await sqs.create_queue("orders")
        await publisher.ready()
        server.faults.fail("ReceiveMessage", Throttled, times=2, queue="orders")
        async with Poller(sqs, "orders", answer):
            await asyncio.sleep(10)
            [own] = [name for name in server.queues if name != "orders"]
            server.faults.fail("ReceiveMessage", Throttled, times=2, queue=own)
            await publisher.request("orders", "a")
            await publisher.request("orders", "b")
    assert seen.attempts["ReceiveMessage", "orders"][:4] == [1, 2, 3, 1]
    assert seen.attempts["ReceiveMessage", own][:4] == [1, 2, 3, 1]


async def test_retries_of_one_operation_are_no_attempts_of_the_next(server: MemoryServer) -> None:
    seen = Seen()
    async with connect(server, wrap=seen) as sqs:
        await sqs.create_queue("orders")
        sqs.queues.forget_url("orders")
        server.faults.fail("GetQueueUrl", AccessDenied, times=1)
        with pytest.raises(AccessDenied):
            await sqs.queue_url("orders")
        seen.attempts.clear()
        await sqs.queue_url("orders")
    assert seen.attempts == {("GetQueueUrl", "orders"): [1]}


async def test_calls_that_a_wrap_fails_are_tried_again(server: MemoryServer) -> None:
    made: Counter[str] = Counter()

    async def fail_every_third(call: Call, call_next: CallNext) -> Any:
        made[call.operation] += 1
        if made[call.operation] % 3 == 0:
            raise QueueError("no luck", transient=True)
        return await call_next(call)

    async with connect(server, wrap=fail_every_third) as sqs:
        await sqs.create_queue("orders")
        async with Publisher(sqs) as publisher, Poller(sqs, "orders", answer):
            for number in range(20):
                reply = await publisher.request("orders", str(number), timeout=60)
                assert reply.body == str(number)
    assert server.queues == ["orders"]
    assert server.messages("orders") == []


@pytest.mark.parametrize("after", [False, True])
async def test_wrap_with_a_bug_loses_no_message_and_spins_nowhere(
    server: MemoryServer, after: bool, caplog: pytest.LogCaptureFixture
) -> None:
    now = asyncio.get_running_loop().time
    has_bug = False

    async def stumble(call: Call, call_next: CallNext) -> Any:
        if after or not has_bug:
            result = await call_next(call)
            if not has_bug:
                return result
        raise KeyError("bug")

    def mend() -> None:
        nonlocal has_bug
        has_bug = False

    handled: list[str] = []

    async def handle(message: Message) -> str:
        handled.append(message.body)
        return message.body

    tried: Counter[str] = Counter()

    async def count(call: Call, call_next: CallNext) -> Any:
        tried[call.operation] += 1
        return await stumble(call, call_next)

    async with connect(server, wrap=count) as sqs:
        await sqs.create_queue("orders")
        async with Publisher(sqs) as publisher, Poller(sqs, "orders", handle):
            await publisher.request("orders", "first")
            tried.clear()
            has_bug = True
            asyncio.get_running_loop().call_later(20, mend)
            asked = [publisher.request("orders", each, timeout=60) for each in "abc"]
            assert sorted(reply.body for reply in await asyncio.gather(*asked)) == ["a", "b", "c"]
            assert now() < 40
            await asyncio.sleep(40 - now())
            assert tried.total() < 120
    assert sorted(handled) == ["a", "b", "c", "first"]
    assert server.messages("orders") == []
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    # Once for each operation, however often it came.
    assert 1 <= len(errors) <= len({record.args for record in errors})
    assert all("wrap given to connect()" in record.getMessage() for record in errors)


@pytest.mark.parametrize("operation", ["GetQueueUrl", "CreateQueue"])
@pytest.mark.parametrize("made", [False, True])
async def test_text_that_is_no_url_of_a_queue_is_not_believed(
    server: MemoryServer, operation: str, made: bool
) -> None:
    wrong = iter(["", "orders", "see https://sqs.us-east-1.amazonaws.com/1/orders"])

    async def wrap(call: Call, call_next: CallNext) -> Any:
        url = next(wrong, None) if call.operation == operation else None
        if url is not None and not made:
            return url
        result = await call_next(call)
        return result if url is None else url

    async with connect(server, wrap=wrap) as sqs:
        for number in range(4):
            name = f"orders-{number}"
            if operation == "GetQueueUrl":
                server.create(server.account, name, {}, {})
                assert await sqs.queue_url(name) == server.url(name)
            else:
                assert await sqs.create_queue(name) == server.url(name)
    assert next(wrong, None) is None


async def test_wrap_may_name_another_queue(server: MemoryServer) -> None:
    server.create(server.account, "orders-test", {}, {})

    async def elsewhere(call: Call, call_next: CallNext) -> Any:
        if call.operation == "GetQueueUrl":
            return server.url(f"{call.queue_name}-test")
        return await call_next(call)

    async with connect(server, wrap=elsewhere) as sqs, Publisher(sqs) as publisher:
        await publisher.send("orders", "a")
    assert [each.body for each in server.messages("orders-test")] == ["a"]


async def test_wrap_may_delay_a_call_and_cancelling_ends_the_delay(server: MemoryServer) -> None:
    ended: list[str] = []

    async def dawdle(call: Call, call_next: CallNext) -> Any:
        if call.operation == "SendMessageBatch":
            try:
                await asyncio.sleep(1000)
            finally:
                ended.append(call.operation)
        return await call_next(call)

    async with connect(server, wrap=dawdle) as sqs:
        await sqs.create_queue("orders")
        with contextlib.suppress(QueueError):
            async with Publisher(sqs) as publisher:
                sending = asyncio.create_task(publisher.send("orders", "a"))
                await asyncio.sleep(1)
        with pytest.raises(Exception):  # noqa: B017, PT011 - it says that it was not sent
            await sending
    assert ended == ["SendMessageBatch"]
    assert server.messages("orders") == []


async def test_a_call_that_sends_shows_the_attributes_of_its_messages(server: MemoryServer) -> None:
    seen: list[Call] = []

    async def wrap(call: Call, call_next: CallNext) -> Any:
        seen.append(call)
        return await call_next(call)

    async with connect(server, wrap=wrap) as sqs, Publisher(sqs) as publisher:
        await sqs.create_queue("orders")
        await asyncio.gather(
            publisher.send("orders", "a", attributes={"n": "1"}), publisher.send("orders", "b")
        )
    (sending,) = [call for call in seen if call.operation == "SendMessageBatch"]
    assert sending.message_attributes == [{"n": {"DataType": "String", "StringValue": "1"}}, {}]
    assert not any(call.message_attributes for call in seen if call is not sending)
    assert "StringValue" not in repr(sending)  # which goes to logs
