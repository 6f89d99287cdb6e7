"""`lambda_handler`: the work of a poller on what Lambda has received."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
import pytest_asyncio

from sqs_orchestrator import (
    NO_REPLY,
    Connection,
    Message,
    Poller,
    Publisher,
    Reject,
    RemoteError,
    Retry,
    Throttled,
)
from sqs_orchestrator.aws_lambda import LambdaHandler, lambda_handler, received
from sqs_orchestrator.testing import MemoryServer, MemorySQS
from sqs_orchestrator.testing import connect as connect_in_memory
from tests.shell.workers import REPLIES, Bench, bench_on, now, text, until

# The shapes are Lambda's, as its guide and its tools have them.
STANDARD: dict[str, Any] = {
    "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
    "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
    "body": "Test message.",
    "attributes": {
        "ApproximateReceiveCount": "2",
        "SentTimestamp": "1545082649183",
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
    },
    "messageAttributes": {
        "tenant": {
            "stringValue": "a",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "String",
        },
        "count": {"stringValue": "3", "binaryValue": None, "dataType": "Number.int"},
        "raw": {
            "binaryValue": "AAEC/w==",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "Binary",
        },
    },
    "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
    "eventSource": "aws:sqs",
    "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:orders",
    "awsRegion": "us-east-1",
}
FIFO: dict[str, Any] = {
    "messageId": "11d6ee51-4cc7-4302-9e22-7cd8afdaadf5",
    "receiptHandle": "AQEBBX8nesZEXmkhsmZeyIE8iQAMig7qw...",
    "body": "Test message.",
    "attributes": {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1573251510774",
        "SequenceNumber": "18849496460467696128",
        "MessageGroupId": "1",
        "SenderId": "AIDAIO23YVJENQZJOL4VO",
        "MessageDeduplicationId": "1",
        "ApproximateFirstReceiveTimestamp": "1573251510774",
    },
    "messageAttributes": {},
    "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
    "eventSource": "aws:sqs",
    "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:orders.fifo",
    "awsRegion": "us-east-1",
}


class Context:
    """Lambda's, of a function that has *seconds* left."""

    def __init__(self, seconds: float) -> None:
        self.end = now() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self.end - now()) * 1000)


class Mapping:
    """Lambda's event source mapping: receives, calls the function, and deletes. Unless it has
    `ReportBatchItemFailures`, it *reads* no answer."""

    def __init__(self, bench: Bench, handler: LambdaHandler, *, reads: bool = True) -> None:
        self.bench = bench
        self.handler = handler
        self.reads = reads

    async def event(self) -> dict[str, Any]:
        """All that the queue hands out now, as an event."""
        records: list[dict[str, Any]] = []
        while batch := await self.bench.client.receive(
            self.bench.url, wait_time=0, visibility_timeout=360
        ):
            for each in batch:
                first = int((self.bench.server.now()) * 1000)
                records.append(
                    {
                        "messageId": each.message_id,
                        "receiptHandle": each.receipt_handle,
                        "body": each.body,
                        "attributes": {
                            **each.system,
                            "ApproximateFirstReceiveTimestamp": str(first),
                        },
                        "messageAttributes": {
                            name: _lower(value) for name, value in each.attributes.items()
                        },
                        "eventSource": "aws:sqs",
                        "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{self.bench.queue}",
                        "awsRegion": "us-east-1",
                    }
                )
        return {"Records": records}

    async def call(self, seconds: float = 60) -> list[str]:
        """One call of the function; gives the bodies of what failed."""
        event = await self.event()
        answer = await self.handler.handle(event, Context(seconds))
        failed = [each["itemIdentifier"] for each in answer["batchItemFailures"] if self.reads]
        handles = {each["messageId"]: each for each in event["Records"]}
        done = [each["receiptHandle"] for key, each in handles.items() if key not in failed]
        for at in range(0, len(done), 10):
            await self.bench.client.delete(self.bench.url, done[at : at + 10])
        return [handles[each]["body"] for each in failed]


def _lower(value: Any) -> dict[str, Any]:
    found = {"dataType": value["DataType"], "stringListValues": [], "binaryListValues": []}
    if "StringValue" in value:
        found["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        found["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return found


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server, dead_letter_queue=True) as bench:
        yield bench


@pytest_asyncio.fixture
async def fifo(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server, "orders.fifo", dead_letter_queue=True) as bench:
        yield bench


@asynccontextmanager
async def mapped(
    bench: Bench, handle: Any, *, report_failures: bool = True, **options: Any
) -> AsyncIterator[Mapping]:
    """A mapping to a function with this handler."""
    poller = Poller(bench.sqs, bench.queue, handle, **options)
    handler = lambda_handler(poller, report_failures=report_failures)
    yield Mapping(bench, handler, reads=report_failures)
    await handler.aclose()


def outcomes(**by_body: Any) -> Callable[[Message], Awaitable[Any]]:
    """A handler that returns or raises what the body names."""

    async def handle(message: Message) -> Any:
        outcome = by_body[message.body]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return handle


# ------------------------------------------------------------------------ shapes


def test_record_is_read_as_sqs_would_have_handed_it_out() -> None:
    read = received(STANDARD)
    assert read.body == "Test message."
    assert read.receipt_handle == STANDARD["receiptHandle"]
    assert read.system == STANDARD["attributes"]
    assert read.attributes == {
        "tenant": {"DataType": "String", "StringValue": "a"},
        "count": {"DataType": "Number.int", "StringValue": "3"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01\x02\xff"},
    }
    assert received(FIFO).attributes == {}


async def test_handler_gets_the_message_of_a_recorded_event(bench: Bench) -> None:
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    async with mapped(bench, handle) as mapping:
        answer = await mapping.handler.handle({"Records": [STANDARD]}, Context(10))
    assert answer == {"batchItemFailures": []}
    (message,) = seen
    assert message.attributes == {"tenant": "a", "count": 3, "raw": b"\x00\x01\x02\xff"}
    assert (message.message_id, message.receive_count) == (STANDARD["messageId"], 2)
    assert message.queue_url == bench.url
    assert message.sent_at is not None
    assert message.sent_at.year == 2018
    assert bench.calls("DeleteMessageBatch") == bench.calls("ReceiveMessage") == 0


async def test_handler_gets_the_group_of_a_recorded_fifo_event(fifo: Bench) -> None:
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    async with mapped(fifo, handle) as mapping:
        answer = await mapping.handler.handle({"Records": [FIFO]}, Context(10))
    assert answer == {"batchItemFailures": []}
    assert [message.group_id for message in seen] == ["1"]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Records": None},
        {"Records": [{**STANDARD, "eventSource": "aws:sns"}]},
        {"Records": [{**STANDARD, "messageId": 5}]},
        {"Records": [{**STANDARD, "eventSourceARN": None}]},
        {"Records": ["x"]},
        [],
    ],
)
async def test_other_events_are_refused(bench: Bench, event: Any) -> None:
    async with mapped(bench, outcomes()) as mapping:
        with pytest.raises(ValueError, match="none of Lambda's event source for SQS"):
            await mapping.handler.handle(event, Context(10))


async def test_event_without_records_is_done(bench: Bench) -> None:
    async with mapped(bench, outcomes()) as mapping:
        assert await mapping.handler.handle({"Records": []}) == {"batchItemFailures": []}


@pytest.mark.parametrize(
    "change",
    [
        {"messageAttributes": {"x": {"dataType": "Binary", "binaryValue": "*"}}},
        {"messageAttributes": {"x": {"dataType": "Number", "stringValue": 7}}},
        {"messageAttributes": {"x": {"dataType": None, "stringValue": "7"}}},
        {"messageAttributes": {"x": None}},
        {"messageAttributes": ["x"]},
        {"attributes": {"SentTimestamp": 1545082649183}},
        {"attributes": {"ApproximateFirstReceiveTimestamp": 1545082649185}},
        {"attributes": {"MessageGroupId": ["x"]}},
        {"attributes": ["x"]},
        {"receiptHandle": None},
        {"body": None},
        {"body": {"id": 1}},
    ],
    ids=str,
)
async def test_unreadable_record_fails_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    records = [{**STANDARD, "messageId": "a", **change}, {**STANDARD, "messageId": "b"}]
    async with mapped(bench, handle) as mapping:
        answer = await mapping.handler.handle({"Records": records}, Context(10))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "a"}]}
    assert [message.message_id for message in seen] == ["b"]
    assert "message a is unreadable" in caplog.text


async def test_message_that_is_twice_in_an_event_is_handled_once(bench: Bench) -> None:
    # SQS may hand it out twice.
    seen: list[str] = []

    async def handle(message: Message) -> None:
        seen.append(message.body)

    again = {**STANDARD, "receiptHandle": "another"}
    async with mapped(bench, handle) as mapping:
        answer = await mapping.handler.handle({"Records": [STANDARD, again]}, Context(10))
    assert answer == {"batchItemFailures": []}
    assert seen == ["Test message."]


# ---------------------------------------------------------------------- outcomes


async def test_one_way_messages_have_the_outcomes_of_a_poller(bench: Bench) -> None:
    handle = outcomes(
        done=1,
        none=NO_REPLY,
        rejected=Reject("no", code="sold_out"),
        failed=ValueError("x"),
        retried=Retry(7),
    )
    async with mapped(bench, handle) as mapping:
        await bench.send("done", "none", "rejected", "failed", "retried")
        await bench.send("x", Other=text("y"), ResponseQueueUrl=text("nowhere"))
        began = now()
        failed = await mapping.call()
        assert failed == ["failed", "retried"]
        letters = [each.attributes["sqs_orchestrator.code"] for each in bench.at("orders_dlq")]
        assert sorted(letter["StringValue"] for letter in letters) == ["bad_attribute", "sold_out"]
        # The delay is from when it failed; the other waits for the queue's own visibility timeout.
        await until(lambda: [m for m in bench.messages if m.visible_at <= now()])
        assert 7 <= now() - began < 9


async def test_requests_have_the_outcomes_of_a_poller(bench: Bench) -> None:
    async def handle(order: dict[str, Any], message: Message) -> Any:
        message.reply_attributes["served_by"] = "lambda"
        return await outcomes(
            done=7, late=NO_REPLY, rejected=Reject("no", code="c"), failed=ValueError("x")
        )(Message(order["do"]))

    poller = Poller(bench.sqs, "orders")
    poller.handler("work")(handle)
    handler = lambda_handler(poller)
    mapping = Mapping(bench, handler)
    async with Publisher(bench.sqs) as publisher:

        async def ask(do: str, route: str = "work") -> Any:
            body = {"do": do} if do else "{"
            return await publisher.request("orders", body, message_type=route, timeout=50)

        asked = [asyncio.ensure_future(ask(do)) for do in ("done", "rejected", "failed", "")]
        asked.append(asyncio.ensure_future(ask("done", "other")))
        await publisher.ready()
        await until(lambda: len(bench.messages) == 5)
        assert await mapping.call() == []
        reply, *errors = await asyncio.gather(*asked, return_exceptions=True)
        assert not isinstance(reply, BaseException)
        assert (reply.json(), reply.attributes) == (7, {"served_by": "lambda"})
        codes = [error.code for error in errors if isinstance(error, RemoteError)]
        assert codes == ["c", "handler_error", "bad_body", "unknown_route"]
    await handler.aclose()
    assert bench.empty


async def test_replies_leave_before_the_function_ends_in_batches_of_ten(bench: Bench) -> None:
    async with mapped(bench, outcomes(**{str(n): n for n in range(40)}), concurrency=40) as mapping:
        await bench.ask(*map(str, range(40)))
        before = bench.calls("SendMessageBatch")
        assert await mapping.call() == []
        assert sorted(bench.replies) == list(range(40))
        assert bench.calls("SendMessageBatch") - before == 4
    assert bench.empty


async def test_reply_that_does_not_get_off_lets_its_request_come_again(bench: Bench) -> None:
    async with mapped(bench, outcomes(a=1, b=2)) as mapping:
        await bench.ask("a")
        await bench.send("b")
        event_time = now()
        bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
        assert await mapping.call(20) == ["a"]
        assert now() - event_time < 20


async def test_concurrency_is_the_pollers(bench: Bench) -> None:
    running = most = 0

    async def handle(message: Message) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1

    async with mapped(bench, handle, concurrency=3) as mapping:
        await bench.send(*map(str, range(9)))
        assert await mapping.call() == []
    assert most == 3


async def test_middleware_stands_around_handlers_and_replies(bench: Bench) -> None:
    class Both:
        async def incoming(self, message: Message, call_next: Any) -> Any:
            return [await call_next(message)]

        async def outgoing(self, draft: Any, call_next: Any) -> Any:
            return await call_next(draft.replace(attributes={"through": "outgoing"}))

    async with mapped(bench, outcomes(a=1), middleware=[Both()]) as mapping:
        await bench.ask("a")
        assert await mapping.call() == []
    assert bench.replies == [[1]]
    (reply,) = bench.at(REPLIES)
    assert reply.attributes["through"]["StringValue"] == "outgoing"


async def test_message_of_a_topic_is_taken_out_of_its_envelope(bench: Bench) -> None:
    topic = "arn:aws:sns:us-east-1:123456789012:prices"
    address = {"Type": "String", "Value": f"{bench.server.url(REPLIES)}#c1"}
    wrapped = {
        "Type": "Notification",
        "TopicArn": topic,
        "Message": "a",
        "MessageAttributes": {"ResponseQueueUrl": address},
    }
    async with mapped(bench, outcomes(a=1), sns_topics=[topic]) as mapping:
        await bench.send(json.dumps(wrapped))
        assert await mapping.call() == []
    assert bench.replies == [1]


# ------------------------------------------- a mapping without ReportBatchItemFailures


async def test_mapping_that_reads_no_answer_loses_what_failed(bench: Bench) -> None:
    async with mapped(bench, outcomes(done=1, failed=ValueError("x"))) as mapping:
        mapping.reads = False
        await bench.send("done", "failed")
        await mapping.call()
    # Nobody can help it: the function has returned, so Lambda deletes.
    assert bench.empty


async def test_function_without_reports_keeps_what_failed_and_deletes_the_rest(
    bench: Bench,
) -> None:
    handle = outcomes(done=1, asked=2, failed=ValueError("x"), retried=Retry(7))
    async with mapped(bench, handle, report_failures=False) as mapping:
        await bench.send("done", "failed", "retried")
        await bench.ask("asked")
        with pytest.raises(RuntimeError, match="2 of 4 messages are to come again"):
            await mapping.call()
        assert sorted(message.body for message in bench.messages) == ["failed", "retried"]
        assert bench.replies == [2]
        await bench.send("done")
        # All is well: Lambda deletes.
        before = bench.calls("DeleteMessageBatch")
        assert await mapping.call() == []
        assert bench.calls("DeleteMessageBatch") == before + 1


async def test_function_without_reports_keeps_the_order_of_groups(fifo: Bench) -> None:
    seen: list[str] = []

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if message.body == "a2" and seen.count("a2") == 1:
            raise Retry(1)

    async with mapped(fifo, handle, report_failures=False) as mapping:
        await fifo.send("a1", "a2", "a3", group="a")
        await fifo.send("b1", group="b")
        with pytest.raises(RuntimeError, match="2 of 4"):
            await mapping.call()
        assert [message.body for message in fifo.messages] == ["a2", "a3"]
        await asyncio.sleep(2)
        assert await mapping.call() == []
    assert [body for body in seen if body != "b1"] == ["a1", "a2", "a2", "a3"]


async def test_deletes_that_fail_do_not_hold_up_the_function(bench: Bench) -> None:
    handle = outcomes(done=1, failed=ValueError("x"))
    async with mapped(bench, handle, report_failures=False) as mapping:
        await bench.send("done", "failed")
        bench.faults.fail("DeleteMessageBatch", Throttled, times=None)
        began = now()
        with pytest.raises(RuntimeError, match="1 of 2"):
            await mapping.call(10)
        assert now() - began < 10
    assert len(bench.messages) == 2


# ------------------------------------------------------------------------- groups


async def test_what_follows_a_failure_in_its_group_fails_too(fifo: Bench) -> None:
    seen: list[str] = []

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if message.body == "a2":
            raise ValueError("x")

    async with mapped(fifo, handle) as mapping:
        await fifo.send("a1", "a2", "a3", "a4", group="a")
        await fifo.send("b1", "b2", group="b")
        assert await mapping.call() == ["a2", "a3", "a4"]
        assert sorted(seen) == ["a1", "a2", "b1", "b2"]


async def test_retry_brings_its_group_back_in_order(fifo: Bench) -> None:
    seen: list[str] = []

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if len(seen) == 1:
            raise Retry(5)

    async with mapped(fifo, handle) as mapping:
        await fifo.send("a1", "a2", "a3", group="a")
        assert await mapping.call() == ["a1", "a2", "a3"]
        await asyncio.sleep(6)
        assert await mapping.call() == []
    assert seen == ["a1", "a1", "a2", "a3"]
    assert fifo.empty


async def test_what_follows_a_lost_reply_in_its_group_fails_too(fifo: Bench) -> None:
    async with mapped(fifo, outcomes(a1=1, a2=2)) as mapping:
        await fifo.ask("a1", group="a")
        await fifo.send("a2", group="a")
        fifo.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
        # Both handlers have run, but a2 must not be deleted before a1.
        assert await mapping.call(20) == ["a1", "a2"]


async def test_group_that_was_given_up_goes_on_with_the_next_event(fifo: Bench) -> None:
    slow = asyncio.Event()

    async def handle(message: Message) -> None:
        if not slow.is_set():
            await asyncio.sleep(1000)

    async with mapped(fifo, handle, concurrency=1) as mapping:
        await fifo.send("a1", "a2", group="a")
        await fifo.send("b1", "b2", group="b")
        assert await mapping.call(10) == ["a1", "a2", "b1", "b2"]
        slow.set()
        # The group that had not begun was released; the other one is hidden for longer.
        assert await mapping.call(10) == []
        await asyncio.sleep(400)
        assert await mapping.call(10) == []
    assert fifo.empty


# ----------------------------------------------------------------------- deadlines


async def test_handlers_end_before_the_function_does(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(1000)

    async with mapped(bench, handle, concurrency=2) as mapping:
        await bench.ask("asked")
        await bench.send("one-way", "not begun")
        began = now()
        assert await mapping.call(30) == ["one-way", "not begun"]
        assert 27 <= now() - began < 30
        assert [reply["type"] for reply in bench.replies] == ["TimeoutError"]
        visible = [message.body for message in bench.messages if message.visible_at <= now()]
        assert visible == ["not begun"]
    assert "the time is over, with message" in caplog.text


async def test_max_extension_ends_handlers_as_well(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(1000)

    async with mapped(bench, handle, max_extension=5) as mapping:
        await bench.send("a")
        began = now()
        assert await mapping.call(300) == ["a"]
        assert now() - began < 7


async def test_handler_that_ignores_its_end_does_not_hold_up_the_function(bench: Bench) -> None:
    release = asyncio.Event()

    async def handle(message: Message) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with mapped(bench, handle) as mapping:
        await bench.send("a")
        began = now()
        assert await mapping.call(10) == ["a"]
        assert now() - began < 10
        release.set()


async def test_expired_requests_are_dropped_on_a_cold_start_too(server: MemoryServer) -> None:
    async with bench_on(server) as bench, connect_in_memory(server) as cold:
        handled: list[str] = []

        async def handle(message: Message) -> None:
            handled.append(message.body)

        await bench.ask("late", timeout=5)
        await asyncio.sleep(10)
        await bench.ask("early", timeout=50)
        # Its queue is given by its URL, so nothing has been asked of SQS.
        handler = lambda_handler(Poller(cold, bench.url, handle))
        assert not cold.port.clock.known
        assert await Mapping(bench, handler).call() == []
        await handler.aclose()
        assert handled == ["early"]
        assert bench.empty


# -------------------------------------------------------------- what lives for longer


async def test_what_the_function_opens_is_open_once_and_closed_at_the_end(bench: Bench) -> None:
    happened: list[str] = []

    @asynccontextmanager
    async def orders(sqs: Connection) -> AsyncIterator[Poller]:
        happened.append("open")
        async with asyncio.TaskGroup():  # which has to be left in the task that entered it
            yield Poller(sqs, "orders", outcomes(a=1))
        happened.append("closed")

    handler = lambda_handler(orders, sqs=bench.sqs)
    for _ in range(2):
        await bench.ask("a")
        assert await Mapping(bench, handler).call() == []
    await handler.aclose()
    assert happened == ["open", "closed"]
    assert bench.replies == [1, 1]


async def test_cold_start_that_fails_is_tried_again(bench: Bench) -> None:
    tries = 0

    async def orders(sqs: Connection) -> Poller:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("no database")
        return Poller(sqs, "orders", outcomes(a=1))

    handler = lambda_handler(orders, sqs=bench.sqs)
    mapping = Mapping(bench, handler)
    await bench.ask("a")
    event = await mapping.event()
    with pytest.raises(OSError, match="no database"):
        await handler.handle(event, Context(10))
    assert await handler.handle(event, Context(10)) == {"batchItemFailures": []}
    await handler.aclose()


async def test_cold_start_that_is_cancelled_from_inside_fails(bench: Bench) -> None:
    async def orders(sqs: Connection) -> Poller:
        raise asyncio.CancelledError

    handler = lambda_handler(orders, sqs=bench.sqs)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(handler.handle({"Records": [STANDARD]}, Context(10)), 10)


async def test_handlers_run_in_the_context_of_the_call(bench: Bench) -> None:
    call: ContextVar[str] = ContextVar("call", default="none")
    seen: list[str] = []

    async def handle(message: Message) -> None:
        seen.append(call.get())

    async def orders(sqs: Connection) -> Poller:
        seen.append(call.get())
        return Poller(sqs, "orders", handle)

    handler = lambda_handler(orders, sqs=bench.sqs)
    for name in ("first", "second"):
        call.set(name)
        await bench.send("a")
        assert await Mapping(bench, handler).call() == []
    await handler.aclose()
    # What it opens is not the first call's alone.
    assert seen == ["none", "first", "second"]


async def test_each_queue_has_its_poller(bench: Bench) -> None:
    await bench.sqs.create_queue("mails")
    handler = lambda_handler(
        Poller(bench.sqs, "orders", outcomes(**{"Test message.": Reject("no")})),
        Poller(bench.sqs, "mails", outcomes(**{"Test message.": ValueError("x")})),
    )
    mail = {
        **STANDARD,
        "messageId": "m",
        "eventSourceARN": f"{STANDARD['eventSourceARN'][:-6]}mails",
    }
    answer = await handler.handle({"Records": [STANDARD, mail]}, Context(10))
    await handler.aclose()
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m"}]}


async def test_event_of_another_queue_is_refused(bench: Bench) -> None:
    other = {**STANDARD, "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:invoices"}
    async with mapped(bench, outcomes()) as mapping:
        with pytest.raises(ValueError, match=r"of the queue .*invoices.* pollers of 'orders'"):
            await mapping.handler.handle({"Records": [other]}, Context(10))


async def test_two_pollers_of_one_queue_are_refused(bench: Bench) -> None:
    poller = Poller(bench.sqs, "orders", outcomes())
    handler = lambda_handler(poller, Poller(bench.sqs, bench.url, outcomes()))
    with pytest.raises(ValueError, match="two pollers of the queue 'orders'"):
        await handler.handle({"Records": [STANDARD]}, Context(10))


async def test_poller_without_handler_is_refused(bench: Bench) -> None:
    handler = lambda_handler(Poller(bench.sqs, "orders"))
    with pytest.raises(ValueError, match="has no handler"):
        await handler.handle({"Records": [STANDARD]}, Context(10))
    await handler.aclose()


async def test_function_is_called_without_a_loop_and_its_coroutine_always_in_the_same_one(
    bench: Bench,
) -> None:
    async with mapped(bench, outcomes(**{"Test message.": 1})) as mapping:
        event = {"Records": [STANDARD]}
        with pytest.raises(RuntimeError, match="running event loop"):
            mapping.handler(event, Context(10))
        await mapping.handler.handle(event, Context(10))
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await asyncio.to_thread(asyncio.run, mapping.handler.handle(event))


@pytest.mark.parametrize("pollers", [(), ("orders",), (5,), (Poller,)])
def test_what_is_no_poller_is_refused(pollers: Any) -> None:
    with pytest.raises(ValueError, match="lambda_handler"):
        lambda_handler(*pollers)


async def test_factory_that_makes_no_poller_is_refused(bench: Bench) -> None:
    handler = lambda_handler(lambda sqs: 5, sqs=bench.sqs)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="made no Poller, but int"):
        await handler.handle({"Records": [STANDARD]}, Context(10))


async def test_queue_of_another_account_is_found_there(bench: Bench) -> None:
    client = MemorySQS(bench.server, account="210987654321")
    await client.create_queue("elsewhere", {}, {})
    arn = "arn:aws:sqs:us-east-1:210987654321:elsewhere"
    seen: list[Message] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    handler = lambda_handler(Poller(bench.sqs, "elsewhere", handle))
    await handler.handle({"Records": [{**STANDARD, "eventSourceARN": arn}]}, Context(10))
    await handler.aclose()
    assert [m.queue_url for m in seen] == [bench.server.url("elsewhere", "210987654321")]


async def test_poller_may_be_made_by_a_plain_function_and_its_queue_is_looked_up_once(
    bench: Bench,
) -> None:
    handler = lambda_handler(lambda sqs: Poller(sqs, "orders", outcomes(a=1)), sqs=bench.sqs)
    before = bench.calls("GetQueueUrl")
    for _ in range(3):
        await bench.send("a")
        assert await Mapping(bench, handler).call() == []
    await handler.aclose()
    assert bench.calls("GetQueueUrl") == before + 1
    # They are all the mapping's: nothing else polls.
    assert bench.calls("ReceiveMessage") == 6


async def test_retry_has_reached_sqs_when_the_function_ends_though_throttled_at_first(
    bench: Bench,
) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(40)
        raise Retry(9)

    async with mapped(bench, handle) as mapping:
        await bench.send("a")
        bench.faults.fail("ChangeMessageVisibilityBatch", Throttled, times=1)
        assert await mapping.call() == ["a"]
        # Lambda may freeze the container now.
        (message,) = bench.messages
        assert 8 < message.visible_at - now() <= 9


async def test_message_that_comes_again_while_it_is_in_work_is_not_begun_again(
    bench: Bench,
) -> None:
    release = asyncio.Event()
    begun = 0

    async def handle(message: Message) -> int:
        nonlocal begun
        begun += 1
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return 1

    async with mapped(bench, handle) as mapping:
        await bench.ask("a")
        assert await mapping.call(10) == ["a"]
        await asyncio.sleep(400)
        asyncio.get_running_loop().call_later(1, release.set)
        assert await mapping.call(10) == []
    assert (begun, bench.replies) == (1, [1])
    assert bench.empty


async def test_calls_at_the_same_time_take_turns(bench: Bench) -> None:
    made = 0
    ended: list[str] = []

    async def handle(message: Message) -> None:
        await asyncio.sleep(5)
        ended.append(message.body)

    def orders(sqs: Connection) -> Poller:
        nonlocal made
        made += 1
        return Poller(sqs, bench.queue, handle)

    handler = lambda_handler(orders, sqs=bench.sqs)
    first = {**STANDARD, "messageId": "a", "body": "a"}
    second = {**STANDARD, "messageId": "b", "body": "b"}
    # The time of the first runs out, which ends nothing of the second.
    short, long = await asyncio.gather(
        handler.handle({"Records": [first]}, Context(4)),
        handler.handle({"Records": [second]}, Context(60)),
    )
    await handler.aclose()
    assert short == {"batchItemFailures": [{"itemIdentifier": "a"}]}
    assert long == {"batchItemFailures": []}
    assert (made, ended) == (1, ["b"])
