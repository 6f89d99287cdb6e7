"""What a handler does, and what becomes of its message: the contract's table, row by row."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio

from sqs_orchestrator import (
    NO_REPLY,
    JSONCodec,
    Message,
    Poller,
    QueueError,
    Reject,
    Reply,
    Retry,
)
from sqs_orchestrator.errors import AccessDenied, QueueNotFound, Throttled
from sqs_orchestrator.sending.entries import DELETE_PATIENCE
from sqs_orchestrator.sqs.port import Failure, SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS
from sqs_orchestrator.testing.queues import StoredMessage, size_of
from sqs_orchestrator.worker import engine, judging, replies
from tests.shell.workers import REPLIES, Bench, bench_on, now, number, text, until

AHandler = Callable[[Message], Awaitable[Any]]


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server) as bench:
        yield bench


@pytest_asyncio.fixture
async def with_dead_letters(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server, dead_letter_queue=True, max_receive_count=100) as bench:
        yield bench


def returning(value: Any) -> AHandler:
    async def handle(message: Message) -> Any:
        return value

    return handle


def raising(*errors: BaseException | None) -> AHandler:
    """A handler that raises these errors, one each time it is called, and the last for ever;
    for `None` it returns."""
    left = list(errors)

    async def handle(message: Message) -> None:
        error = left.pop(0) if len(left) > 1 else left[0]
        if error is not None:
            raise error

    return handle


# ----------------------------------------------------------------- returning


@pytest.mark.parametrize("value", [None, 0, False, "text", {"id": 1}, [1, None]])
async def test_returned_value_is_reply_and_request_deleted(bench: Bench, value: Any) -> None:
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", returning(value)) as poller:
        await until(lambda: bench.empty)
    (reply,) = bench.at(REPLIES)
    assert (reply.body if isinstance(value, str) else json.loads(reply.body)) == value
    assert reply.attributes == {"__AmazonSQSVirtualQueuesClient.QueueName": text("a")}
    statistics = poller.statistics()
    assert (statistics.handled, statistics.replies, statistics.deleted) == (1, 1, 1)


async def test_returned_value_of_one_way_message_is_dropped(bench: Bench) -> None:
    await bench.send("a")
    async with Poller(bench.sqs, "orders", returning({"id": 1})):
        await until(lambda: bench.empty)
    assert bench.replies == []


@pytest.mark.parametrize("wanted", [True, False])
async def test_no_reply_only_deletes(bench: Bench, wanted: bool) -> None:
    await (bench.ask("a") if wanted else bench.send("a"))
    async with Poller(bench.sqs, "orders", returning(NO_REPLY)):
        await until(lambda: bench.empty)
    assert bench.replies == []


async def test_reply_is_confirmed_before_request_is_deleted(bench: Bench) -> None:
    gate = bench.faults.hold("SendMessageBatch", queue=REPLIES, answer=True)
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", returning(1)):
        await gate.arrived()
        await asyncio.sleep(100)
        assert bench.calls("DeleteMessageBatch") == 0
        assert not bench.empty
        gate.release()
        await until(lambda: bench.empty)


async def test_deletes_of_requests_wait_a_tenth_of_a_second_for_company(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(int(message.body) * 0.01)

    await bench.send(*map(str, range(8)))
    async with Poller(bench.sqs, "orders", handle):
        await until(lambda: bench.empty)
    (call,) = [call for call in bench.server.log if call.operation == "DeleteMessageBatch"]
    assert call.entries == 8


async def test_delete_that_fails_for_a_while_is_tried_again(bench: Bench) -> None:
    bench.faults.fail("DeleteMessageBatch", Throttled, times=3)
    bench.faults.fail_entries(
        "DeleteMessageBatch", lambda _: True, Failure("InternalError", sender_fault=False), times=2
    )
    await bench.send("a")
    async with Poller(bench.sqs, "orders", returning(None)) as poller:
        await until(lambda: bench.empty)
    assert poller.statistics().received == 1


async def test_delete_that_is_refused_leaves_message_to_come_back(bench: Bench) -> None:
    bench.faults.fail("DeleteMessageBatch", AccessDenied, times=1)
    await bench.send("a")
    async with Poller(bench.sqs, "orders", returning(None), visibility_timeout=5) as poller:
        await until(lambda: bench.empty)
    assert poller.statistics().redelivered == 1


async def test_delete_that_fails_for_long_is_given_up_and_message_comes_back(
    bench: Bench,
) -> None:
    bench.faults.fail("DeleteMessageBatch", Throttled, times=None)
    await bench.send("a")
    async with Poller(bench.sqs, "orders", returning(None), visibility_timeout=60) as poller:
        await asyncio.sleep(DELETE_PATIENCE + 6)
        calls = bench.calls("DeleteMessageBatch")
        assert calls > 5
        await asyncio.sleep(20)
        assert bench.calls("DeleteMessageBatch") == calls
        bench.faults.clear()
        await until(lambda: bench.empty)
        assert now() > 60
    assert poller.statistics().received == 2


# --------------------------------------------------------- replies that fail


async def test_reply_refused_for_good_is_counted_and_request_deleted(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = Failure("InvalidMessageContents", "no", sender_fault=True)
    bench.faults.fail_entries("SendMessageBatch", lambda _: True, refusal, queue=REPLIES)
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", returning(1)) as poller:
        await until(lambda: bench.empty)
    assert poller.statistics().replies_dropped == 1
    assert "InvalidMessageContents" in caplog.text


async def test_reply_that_nobody_waits_for_any_more_is_not_tried_for_ever(bench: Bench) -> None:
    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    await bench.ask("a", timeout=7)
    async with Poller(bench.sqs, "orders", returning(1)) as poller:
        await until(lambda: bench.empty)
        assert 7 <= now() < 13
    assert poller.statistics().replies_dropped == 1


async def test_reply_without_deadline_that_cannot_be_sent_lets_message_come_back(
    bench: Bench,
) -> None:
    bench.faults.fail("SendMessageBatch", Throttled, times=None, queue=REPLIES)
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", returning(1)) as poller:
        await until(lambda: poller.statistics().redelivered == 1)
        assert poller.statistics().replies_dropped == 0
        bench.faults.clear()
        await until(lambda: bench.empty)
    assert bench.replies == [1]


async def test_reply_to_vanished_queue_is_dropped_and_request_deleted(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.ask("a", to=bench.server.url("sqs_orchestrator_reply_gone"))
    async with Poller(bench.sqs, "orders", returning(1)) as poller:
        await until(lambda: bench.empty)
    assert poller.statistics().replies_dropped == 1
    assert "sqs_orchestrator_reply_gone does not exist" in caplog.text


async def test_requester_that_died_holds_no_other_up(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    gone = bench.server.url("sqs_orchestrator_reply_gone")
    for number_ in range(3000):
        await bench.ask(f"gone-{number_}", to=gone)
    await bench.ask("honest")
    began = now()
    async with Poller(bench.sqs, "orders", returning(1)) as poller:
        await until(lambda: bench.replies)
        # The 3,000 before it take their time to be received, and no more.
        assert now() < began + 8
        await until(lambda: bench.empty)
    assert poller.statistics().replies_dropped == 3000
    assert caplog.text.count("sqs_orchestrator_reply_gone") == 1


async def test_result_past_the_deadline_is_dropped_and_message_deleted(bench: Bench) -> None:
    async def handle(message: Message) -> int:
        await asyncio.sleep(60)
        assert message.time_remaining() < 0
        return 1

    await bench.ask("a", timeout=10)
    async with Poller(bench.sqs, "orders", handle) as poller:
        await until(lambda: bench.empty)
        assert now() >= 60
    assert bench.replies == []
    assert poller.statistics().replies_dropped == 1
    assert poller.statistics().handled == 1


async def test_expired_request_is_deleted_unhandled(bench: Bench) -> None:
    handled: list[str] = []

    async def handle(message: Message) -> None:
        handled.append(message.body)

    await bench.ask("late", timeout=5)
    await asyncio.sleep(20)
    await bench.ask("early", timeout=5)
    async with Poller(bench.sqs, "orders", handle) as poller:
        await until(lambda: bench.empty)
    assert handled == ["early"]
    assert poller.statistics().expired == 1


async def test_request_is_handled_until_its_last_moment(bench: Bench) -> None:
    bench.faults.delay("ReceiveMessage", 0.0)
    await bench.ask("a", timeout=0.9)
    async with Poller(bench.sqs, "orders", returning(1)) as poller:
        await until(lambda: bench.empty)
    assert bench.replies == [1]
    assert poller.statistics().expired == 0


async def test_expired_request_is_deleted_wherever_its_reply_should_go(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        raise AssertionError("nobody waits for this")

    await bench.ask("late", to=bench.server.url("payments"), timeout=5)
    await asyncio.sleep(20)
    async with Poller(bench.sqs, "orders", handle) as poller:
        await until(lambda: bench.empty)
    assert poller.statistics().expired == 1
    assert poller.statistics().rejected == 0


async def test_one_way_message_never_expires(bench: Bench) -> None:
    handled: list[str] = []

    async def handle(message: Message) -> None:
        handled.append(message.body)

    await bench.send("a", RequestTimeToLive=number(1000))
    await asyncio.sleep(20)
    async with Poller(bench.sqs, "orders", handle):
        await until(lambda: bench.empty)
    assert handled == ["a"]


# ------------------------------------------------------------------ raising


async def test_reject_of_request_is_error_reply_with_its_facts(bench: Bench) -> None:
    await bench.ask("a")
    error = Reject("no such order", code="unknown_order", details={"id": 7})
    async with Poller(bench.sqs, "orders", raising(error)) as poller:
        await until(lambda: bench.empty)
    (reply,) = bench.at(REPLIES)
    assert reply.attributes["ReplyError"] == text("unknown_order")
    assert json.loads(reply.body) == {
        "code": "unknown_order",
        "type": "Reject",
        "message": "no such order",
        "details": {"id": 7},
    }
    assert poller.statistics().rejected == 1
    assert poller.statistics().failed == 0


async def test_reject_of_one_way_message_moves_it_to_dead_letters(
    with_dead_letters: Bench,
) -> None:
    bench = with_dead_letters
    await bench.send("a", tenant=text("t"), route="r")
    async with Poller(bench.sqs, "orders", raising(Reject("no"))) as poller:
        await until(lambda: bench.empty)
    (letter,) = bench.at("orders_dlq")
    assert letter.body == "a"
    own = {"tenant": text("t"), "MessageType": text("r")}
    assert own.items() <= letter.attributes.items()
    assert poller.statistics().dead_lettered == 1


def why_dead(letter: StoredMessage) -> dict[str, Any]:
    """What a dead letter says of its death."""
    return {
        name.removeprefix("sqs_orchestrator."): value["StringValue"]
        for name, value in letter.attributes.items()
        if name.startswith("sqs_orchestrator.")
    }


async def test_dead_letter_says_why_it_is_one(
    with_dead_letters: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = with_dead_letters

    async def handle(message: Message) -> None:
        raise Reject("no\x00 stock\nleft", code="sold_out")

    await bench.send("a")
    (message_id,) = [message.message_id for message in bench.messages]
    async with Poller(bench.sqs, "orders", handle):
        await until(lambda: bench.empty)
    (letter,) = bench.at("orders_dlq")
    assert why_dead(letter) == {
        "code": "sold_out",
        "reason": "no? stock\nleft",
        "message_id": message_id,
        "handler": "test_dead_letter_says_why_it_is_one.<locals>.handle",
    }
    lines = [record.getMessage() for record in caplog.records if message_id in record.getMessage()]
    assert len(lines) == 1
    assert "sold_out" in lines[0]
    assert "stock" in lines[0]


async def test_dead_letter_of_the_library_says_why_it_is_one(with_dead_letters: Bench) -> None:
    bench = with_dead_letters
    poller = Poller(bench.sqs, "orders")
    poller.handler("known")(returning(1))
    await bench.send("a", route="unknown")
    async with poller:
        await until(lambda: bench.empty)
    (letter,) = bench.at("orders_dlq")
    why = why_dead(letter)
    assert why["code"] == "unknown_route"
    assert "unknown" in why["reason"]
    assert "handler" not in why


async def test_dead_letter_that_comes_again_and_is_rejected_again_says_the_latest(
    with_dead_letters: Bench,
) -> None:
    bench = with_dead_letters
    names = ("code", "reason", "message_id")
    old: Any = {f"sqs_orchestrator.{name}": text("old") for name in names}
    await bench.send("a", **old)
    async with Poller(bench.sqs, "orders", raising(Reject("no", code="new"))):
        await until(lambda: bench.empty)
    (letter,) = bench.at("orders_dlq")
    assert "old" not in why_dead(letter).values()
    assert why_dead(letter)["code"] == "new"


@pytest.mark.parametrize(
    ("count", "room"), [(10, set()), (9, {"code"}), (7, {"code", "reason", "message_id"})]
)
async def test_attributes_of_a_dead_letter_come_before_why_it_is_one(
    with_dead_letters: Bench, count: int, room: set[str]
) -> None:
    bench = with_dead_letters
    own: Any = {f"a{number_}": text("x") for number_ in range(count)}
    await bench.send("a", **own)
    async with Poller(bench.sqs, "orders", raising(Reject("no"))):
        await until(lambda: bench.empty)
    (letter,) = bench.at("orders_dlq")
    assert own.items() <= letter.attributes.items()
    assert set(why_dead(letter)) == room


async def test_dead_letter_as_large_as_sqs_takes_still_gets_there(with_dead_letters: Bench) -> None:
    bench = with_dead_letters
    await bench.send("x" * 2**20)
    async with Poller(bench.sqs, "orders", raising(Reject("no"))):
        await until(lambda: bench.empty)
    (letter,) = bench.at("orders_dlq")
    assert why_dead(letter) == {}


async def test_dead_letter_of_a_fair_queue_keeps_its_group(with_dead_letters: Bench) -> None:
    bench = with_dead_letters
    entry = SendEntry("a", {}, group_id="tenant-1")
    (sent,) = await bench.client.send(bench.url, [entry])
    assert isinstance(sent, str), sent
    async with Poller(bench.sqs, "orders", raising(Reject("no"))):
        await until(lambda: bench.empty)
    (letter,) = bench.at("orders_dlq")
    assert letter.group_id == "tenant-1"


async def test_reject_of_one_way_message_deletes_it_where_there_are_no_dead_letters(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.send("a", "b")
    async with Poller(bench.sqs, "orders", raising(Reject("no\nforged"))):
        await until(lambda: bench.empty)
    assert "deleted message" in caplog.text
    assert "\nforged" not in caplog.text
    assert bench.calls("GetQueueAttributes") == 1


async def test_reject_inside_a_task_group_of_the_handler_is_a_reject(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        async def inner() -> None:
            raise Reject("no", code="inner")

        async with asyncio.TaskGroup() as group:
            group.create_task(inner())

    await bench.ask("a")
    async with Poller(bench.sqs, "orders", handle) as poller:
        await until(lambda: bench.empty)
    assert bench.replies[0]["code"] == "inner"
    assert (poller.statistics().rejected, poller.statistics().failed) == (1, 0)


@pytest.mark.parametrize("wanted", [True, False])
async def test_retry_redelivers_after_its_delay(bench: Bench, wanted: bool) -> None:
    times: list[float] = []

    async def handle(message: Message) -> int:
        times.append(now())
        if message.receive_count == 1:
            raise Retry(delay=100)
        return message.receive_count

    await (bench.ask("a") if wanted else bench.send("a"))
    async with Poller(bench.sqs, "orders", handle) as poller:
        await until(lambda: bench.empty)
    assert times[1] - times[0] == pytest.approx(100, abs=0.5)
    assert bench.replies == ([2] if wanted else [])
    assert poller.statistics().retried == 1


async def test_retry_comes_back_no_earlier_than_it_should(bench: Bench) -> None:
    # SQS knows whole seconds only.
    times: list[float] = []

    async def handle(message: Message) -> None:
        times.append(now())
        if message.receive_count == 1:
            raise Retry(delay=2.3)

    await bench.send("a")
    async with Poller(bench.sqs, "orders", handle):
        await until(lambda: bench.empty)
    assert 2.3 <= times[1] - times[0] < 3.5


async def test_retry_counts_twelve_hours_from_the_receive(bench: Bench) -> None:
    times: list[float] = []

    async def handle(message: Message) -> None:
        times.append(now())
        if message.receive_count == 1:
            await asyncio.sleep(3000)
            raise Retry(delay=50_000)

    await bench.send("a")
    async with Poller(bench.sqs, "orders", handle):
        await until(lambda: bench.empty, within=50_000)
    assert 43_200 - 60 < times[1] - times[0] < 43_200


async def test_failure_of_request_is_error_reply_without_its_text(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", raising(KeyError("secret"))) as poller:
        await until(lambda: bench.empty)
    assert bench.replies == [
        {"code": "handler_error", "type": "KeyError", "message": "", "details": None}
    ]
    assert poller.statistics().failed == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert "secret" in caplog.text


async def test_failure_of_request_travels_where_errors_are_exposed(bench: Bench) -> None:
    await bench.ask("a")
    poller = Poller(bench.sqs, "orders", raising(ValueError("the text")), expose_errors=True)
    async with poller:
        await until(lambda: bench.empty)
    assert bench.replies[0]["message"] == "the text"


async def test_failed_one_way_message_comes_back_when_visibility_runs_out(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.send("a")
    handle = raising(ValueError("no"), None)
    async with Poller(bench.sqs, "orders", handle, visibility_timeout=40) as poller:
        await until(lambda: bench.empty)
        assert now() == pytest.approx(40, abs=1)
    assert poller.statistics().redelivered == 1
    assert "Traceback" in caplog.text


async def test_redrive_policy_takes_what_fails_too_often(server: MemoryServer) -> None:
    async with bench_on(server, dead_letter_queue=True, max_receive_count=3) as bench:
        await bench.send("a")
        async with Poller(bench.sqs, "orders", raising(ValueError("no"))) as poller:
            await until(lambda: bench.empty)
        assert poller.statistics().failed == 3
        assert [letter.body for letter in bench.at("orders_dlq")] == ["a"]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Base(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), Base("no"), Unprintable(), asyncio.CancelledError(), StopAsyncIteration()],
)
async def test_whatever_handler_raises_is_its_failure(bench: Bench, error: BaseException) -> None:
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", raising(error, None), expose_errors=True) as poller:
        await until(lambda: bench.empty)
        assert bench.replies[0]["code"] == "handler_error"
        assert bench.replies[0]["type"] == type(error).__name__
        await bench.ask("b")
        await until(lambda: bench.empty)
    assert bench.replies[1] is None
    assert poller.statistics().failure is None


async def test_handler_that_cancels_its_own_task_has_failed(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    await bench.ask("a")
    async with Poller(bench.sqs, "orders", handle):
        await until(lambda: bench.empty)
    assert bench.replies[0]["type"] == "CancelledError"


async def test_handler_that_awaits_a_cancelled_task_has_failed(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        task = asyncio.create_task(asyncio.sleep(1))
        task.cancel()
        await task

    await bench.ask("a")
    async with Poller(bench.sqs, "orders", handle):
        await until(lambda: bench.empty)
    assert bench.replies[0]["type"] == "CancelledError"


# ------------------------------------------------------------- bad results


@pytest.mark.parametrize(
    "value", [object(), {1j}, "", "\x00", "\ud800", float("nan"), [[]] * 2 + [{}]]
)
async def test_what_cannot_be_sent_is_bad_reply(bench: Bench, value: Any) -> None:
    if isinstance(value, list):
        value.append(value)
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", returning(value)) as poller:
        await until(lambda: bench.empty)
    (reply,) = bench.replies
    assert reply["code"] == "bad_reply"
    assert reply["message"] == ""
    assert poller.statistics().failed == 1


async def test_reply_that_is_too_large_says_so(bench: Bench) -> None:
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", returning("x" * 1_048_576)):
        await until(lambda: bench.empty)
    assert bench.replies[0]["code"] == "reply_too_large"
    assert bench.replies[0]["type"] == "MessageTooLarge"


def small_reply_queue(bench: Bench) -> None:
    """A reply queue that takes no more than 2,000 bytes."""
    bench.server.queue(REPLIES).attributes["MaximumMessageSize"] = "2000"


def stingy_server(bench: Bench) -> None:
    """A server like ElasticMQ: more than 2,000 bytes of a batch are refused as a whole."""
    refusal = QueueError("SQS refused it (MessageTooLong)", code="InvalidAttributeValue")
    bench.faults.fail_batches(
        "SendMessageBatch", lambda batch: sum(map(size_of, batch)) > 2000, refusal, queue=REPLIES
    )


@pytest.mark.parametrize("limit", [small_reply_queue, stingy_server])
async def test_reply_that_is_too_large_for_its_queue_says_so_and_harms_no_other(
    bench: Bench, limit: Callable[[Bench], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> str:
        return "x" * int(message.body)

    limit(bench)
    await bench.ask("10", "3000", "20", "30")
    async with Poller(bench.sqs, "orders", handle) as poller:
        await until(lambda: bench.empty)
    replies = {
        message.attributes["__AmazonSQSVirtualQueuesClient.QueueName"]["StringValue"]: message.body
        for message in bench.at(REPLIES)
    }
    assert replies.keys() == {"10", "3000", "20", "30"}
    assert json.loads(replies["3000"])["code"] == "reply_too_large"
    assert json.loads(replies["3000"])["type"] == "MessageTooLarge"
    assert [replies[size] for size in ("10", "20", "30")] == ["x" * 10, "x" * 20, "x" * 30]
    statistics = poller.statistics()
    assert (statistics.replies, statistics.failed, statistics.replies_dropped) == (4, 1, 0)
    assert caplog.text.count("cannot be sent") == 1


async def test_error_reply_that_is_too_large_for_its_queue_goes_without_details(
    bench: Bench,
) -> None:
    small_reply_queue(bench)
    await bench.ask("a")
    handler = raising(Reject("sold out", code="sold_out", details="x" * 3000))
    async with Poller(bench.sqs, "orders", handler):
        await until(lambda: bench.empty)
    assert bench.replies == [{"code": "sold_out", "type": "Reject", "message": "", "details": None}]


async def test_reply_queue_that_takes_no_reply_at_all_gets_none(bench: Bench) -> None:
    refusal = QueueError("Request Entity Too Large", code="413")
    bench.faults.fail("SendMessageBatch", refusal, times=None, queue=REPLIES)
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", returning("x")) as poller:
        await until(lambda: bench.empty)
    assert bench.server.calls["SendMessageBatch"] == 1 + 2
    assert poller.statistics().replies_dropped == 1


async def test_replies_refused_together_for_their_size_all_arrive_and_no_request_is_lost(
    bench: Bench,
) -> None:
    stingy_server(bench)
    together = asyncio.Event()

    async def handle(message: Message) -> str:
        if message.body == "49":
            together.set()
        await together.wait()
        return "x" * 300

    await bench.ask(*map(str, range(50)))
    async with Poller(bench.sqs, "orders", handle, concurrency=50) as poller:
        await until(lambda: bench.empty)
    assert len(bench.at(REPLIES)) == 50
    assert poller.statistics().replies_dropped == 0


@pytest.mark.parametrize("bad", ["c", None], ids=["one bad handle", "no ten at once"])
async def test_deletes_refused_as_a_whole_are_made_in_parts(bench: Bench, bad: str | None) -> None:
    def refused(batch: Sequence[str]) -> bool:
        if bad is None:
            return len(batch) > 3
        stored = {message.body: message.receipt_handle for message in bench.messages}
        return stored.get(bad) in batch

    refusal = QueueError("no", code="ReceiptHandleIsInvalid")
    bench.faults.fail_batches("DeleteMessageBatch", refused, refusal)
    await bench.send(*"abcdefghij")
    async with Poller(bench.sqs, "orders", returning(None)):
        await asyncio.sleep(5)
        assert [message.body for message in bench.messages] == ([bad] if bad else [])


async def test_extensions_refused_as_a_whole_are_made_in_parts(bench: Bench) -> None:
    refusal = QueueError("no", code="InvalidParameterValue")

    def refused(batch: Sequence[tuple[str, int]]) -> bool:
        stored = {message.receipt_handle: message.body for message in bench.messages}
        return any(stored.get(handle) == "c" for handle, _ in batch)

    bench.faults.fail_batches("ChangeMessageVisibilityBatch", refused, refusal)
    starts: list[str] = []

    async def handle(message: Message) -> None:
        starts.append(message.body)
        await asyncio.sleep(50)

    await bench.send(*"abcdef")
    other = MemorySQS(bench.server)
    async with Poller(bench.sqs, "orders", handle, visibility_timeout=20):
        await asyncio.sleep(30)
        # Of the others, none has become visible.
        got = await other.receive(bench.url, wait_time=0, visibility_timeout=0)
        assert {message.body for message in got} <= {"c"}
        assert sorted(starts) == list("abcdef")


class BadCodec(JSONCodec):
    """Does what a codec of the user's own may do."""

    def encode(self, value: Any) -> tuple[str, str | None]:
        if value == "content type":
            return "x", "\x00"
        if value == "not text":
            return 1, None  # type: ignore[return-value]
        raise OSError("no\nforged")

    def decode(self, body: str, type: Any, content_type: str | None = None) -> Any:  # noqa: A002
        raise LookupError("no\nforged")


@pytest.mark.parametrize("value", [["content type"], ["not text"], 1])
async def test_codec_that_fails_to_encode_makes_a_bad_reply(
    bench: Bench, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Codec(BadCodec):
        def encode(self, value: Any) -> tuple[str, str | None]:
            return super().encode(value[0] if isinstance(value, list) else value)

    await bench.ask("a")
    async with Poller(bench.sqs, "orders", returning(value), codec=Codec()):
        await until(lambda: bench.empty)
    assert bench.replies[0]["code"] == "bad_reply"
    assert "\nforged" not in caplog.text


async def test_text_travels_as_it_is_by_any_codec(bench: Bench) -> None:
    await bench.ask("a")
    async with Poller(bench.sqs, "orders", returning("text"), codec=BadCodec()):
        await until(lambda: bench.empty)
    assert bench.at(REPLIES)[0].body == "text"


# -------------------------------------------------- rejected by the library


async def takes_number(number: int) -> int:
    return number


async def test_undecodable_body_is_error_reply(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.ask('"no\nnumber"')
    async with Poller(bench.sqs, "orders", takes_number) as poller:
        await until(lambda: bench.empty)
    assert bench.replies[0]["code"] == "bad_body"
    assert bench.replies[0]["message"] == ""
    assert poller.statistics().rejected == 1
    assert all("\n" not in record.getMessage() for record in caplog.records)


async def test_body_that_is_not_the_json_a_handler_asks_for_is_error_reply(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> Any:
        return message.json()

    await bench.ask("no json")
    async with Poller(bench.sqs, "orders", handle, expose_errors=True) as poller:
        await until(lambda: bench.empty)
    assert bench.replies[0]["code"] == "bad_body"
    assert "the body is not JSON" in bench.replies[0]["message"]
    assert (poller.statistics().rejected, poller.statistics().failed) == (1, 0)
    assert "Traceback" not in caplog.text


async def test_one_way_body_that_is_not_the_json_a_handler_asks_for_is_buried(
    with_dead_letters: Bench,
) -> None:
    async def handle(message: Message) -> Any:
        return message.json()

    bench = with_dead_letters
    await bench.send("no json")
    async with Poller(bench.sqs, "orders", handle) as poller:
        await until(lambda: bench.empty)
    assert poller.statistics().dead_lettered == 1
    assert [message.body for message in bench.at("orders_dlq")] == ["no json"]


async def test_other_body_that_is_not_json_is_the_handlers_failure(bench: Bench) -> None:
    async def handle(message: Message) -> Any:
        return Message("no json").json() if message.body == "1" else Reply("no json").json()

    await bench.ask("1", "2")
    async with Poller(bench.sqs, "orders", handle) as poller:
        await until(lambda: bench.empty)
    assert [reply["code"] for reply in bench.replies] == ["handler_error"] * 2
    assert poller.statistics().failed == 2


async def test_body_that_users_codec_fails_to_decode_is_error_reply(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.ask("1")
    async with Poller(bench.sqs, "orders", takes_number, codec=BadCodec(), expose_errors=True):
        await until(lambda: bench.empty)
    assert bench.replies[0]["code"] == "bad_body"
    assert "forged" in bench.replies[0]["message"]
    assert "\nforged" not in caplog.text


async def test_unknown_route_is_error_reply(bench: Bench) -> None:
    poller = Poller(bench.sqs, "orders")
    poller.handler("known")(returning(1))
    await bench.ask("a", route="unknown")
    await bench.ask("b")
    await bench.ask("c", route="known")
    async with poller:
        await until(lambda: bench.empty)
    codes = [reply if reply == 1 else reply["code"] for reply in bench.replies]
    assert sorted(map(str, codes)) == ["1", "unknown_route", "unknown_route"]


async def test_malformed_attribute_is_error_reply_where_address_can_be_read(bench: Bench) -> None:
    await bench.ask("a", RequestTimeToLive=text("soon"))
    async with Poller(bench.sqs, "orders", returning(1)):
        await until(lambda: bench.empty)
    assert bench.replies[0]["code"] == "bad_attribute"


HOSTILE: list[dict[str, Any]] = [
    {"ResponseQueueUrl": text("nowhere")},
    {"ResponseQueueUrl": text("https://evil.example/123456789012/sqs_orchestrator_reply_x#")},
    {"ResponseQueueUrl": text("https://sqs.us-east-1.amazonaws.com/999999999999/reply_queue_x#1")},
    {"ResponseQueueUrl": text("https://sqs.eu-west-9.amazonaws.com/123456789012/reply_queue_x#1")},
    {"ResponseQueueUrl": text("https://sqs.us-east-1.amazonaws.com/123456789012/orders#1")},
    {"ResponseQueueUrl": number(1)},
    {"ResponseQueueUrl": {"DataType": "Binary", "BinaryValue": b"\x00"}},
    {"ReplyTo": text("x\nforged")},
]


@pytest.mark.parametrize("attributes", HOSTILE)
async def test_address_that_is_refused_moves_message_to_dead_letters(
    with_dead_letters: Bench, attributes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    bench = with_dead_letters
    await bench.send("a", **attributes)
    async with Poller(bench.sqs, "orders", returning(1)) as poller:
        await until(lambda: bench.empty)
        await bench.ask("b")
        await until(lambda: bench.empty)
    (letter,) = bench.at("orders_dlq")
    assert attributes.items() <= letter.attributes.items()
    assert bench.replies == [1]
    assert poller.statistics().rejected == 1
    assert any("bad_attribute" in record.getMessage() for record in caplog.records)
    assert all("\n" not in record.getMessage() for record in caplog.records)


async def test_unknown_route_of_one_way_message_moves_it_to_dead_letters(
    with_dead_letters: Bench,
) -> None:
    bench = with_dead_letters
    poller = Poller(bench.sqs, "orders")
    poller.handler("known")(returning(1))
    await bench.send("a", route="x\nforged")
    async with poller:
        await until(lambda: bench.empty)
    assert [letter.body for letter in bench.at("orders_dlq")] == ["a"]


async def test_what_nobody_judged_comes_back_later_and_later(bench: Bench) -> None:
    await bench.send("x")
    poller = Poller(bench.sqs, "orders", takes_number, visibility_timeout=10)
    times: list[float] = []
    async with poller:
        for count in range(1, 6):
            await until(lambda count=count: poller.statistics().rejected == count)  # type: ignore[misc]
            times.append(now())
        assert not bench.empty
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == pytest.approx([10, 20, 40, 80], abs=1)
    assert bench.calls("DeleteMessageBatch") == 0


async def test_unjudged_message_waits_an_hour_at_most(bench: Bench) -> None:
    await bench.send("x")
    for _ in range(40):
        await bench.client.receive(bench.url, visibility_timeout=0)
    async with Poller(bench.sqs, "orders", takes_number) as poller:
        await until(lambda: poller.statistics().rejected == 2, within=7200)
        assert 3600 <= now() < 3660


# ------------------------------------------------------------- dead letters


@pytest.mark.parametrize("error", [AccessDenied, QueueNotFound])
async def test_message_stays_where_dead_letters_cannot_be_looked_up(
    with_dead_letters: Bench, error: type[QueueError], caplog: pytest.LogCaptureFixture
) -> None:
    bench = with_dead_letters
    bench.faults.fail("GetQueueAttributes", error, times=None)
    await bench.send("a", "b", "c")
    asked = bench.calls("GetQueueAttributes")
    poller = Poller(bench.sqs, "orders", raising(Reject("no")), visibility_timeout=10)
    async with poller:
        await until(lambda: poller.statistics().rejected >= 6)
        assert bench.calls("GetQueueAttributes") == asked + 1
        assert len(bench.messages) == 3
        bench.faults.clear()
        await until(lambda: bench.empty)
    assert len(bench.at("orders_dlq")) == 3
    assert caplog.text.count("is not known") == 1


async def test_message_stays_where_dead_letter_queue_does_not_take_it(
    with_dead_letters: Bench,
) -> None:
    bench = with_dead_letters
    bench.faults.fail("SendMessageBatch", AccessDenied, times=2, queue="orders_dlq")
    await bench.send("a")
    poller = Poller(bench.sqs, "orders", raising(Reject("no")), visibility_timeout=10)
    async with poller:
        await until(lambda: bench.empty)
    assert poller.statistics().rejected == 3
    assert len(bench.at("orders_dlq")) == 1


async def test_dead_letter_is_sent_nowhere_else(with_dead_letters: Bench) -> None:
    bench = with_dead_letters
    await bench.sqs.create_queue("orders_dlq-Failover")
    await bench.client.delete_queue(bench.server.url("orders_dlq"))
    await bench.send("a")
    poller = Poller(bench.sqs, "orders", raising(Reject("no")), visibility_timeout=10)
    async with poller:
        await until(lambda: poller.statistics().rejected == 2)
    assert bench.at("orders_dlq-Failover") == []


async def test_dead_letter_of_fifo_queue_keeps_its_group(server: MemoryServer) -> None:
    async with bench_on(server, "orders.fifo", dead_letter_queue=True) as bench:
        await bench.send("a", "b", group="g")
        async with Poller(bench.sqs, "orders.fifo", raising(Reject("no"))):
            await until(lambda: bench.empty)
        letters = bench.at("orders_dlq.fifo")
    assert [(letter.body, letter.group_id) for letter in letters] == [("a", "g"), ("b", "g")]


# ------------------------------------------------------------ one bad apple


async def test_error_that_nobody_foresaw_concerns_one_message_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever the code that reads what senders wrote should be wrong."""

    def breaks(where: ModuleType, name: str, bad: str) -> None:
        original = getattr(where, name)

        def broken(*args: Any, **kwargs: Any) -> Any:
            if bad in repr(args):
                raise ZeroDivisionError
            return original(*args, **kwargs)

        monkeypatch.setattr(where, name, broken)

    breaks(engine, "read", "unreadable")
    breaks(judging, "check_reply_address", "unjudged")
    breaks(replies, "seal", "unsent")
    bad = ["unreadable", "unjudged", "unsent"]

    async def handle(message: Message) -> int:
        if message.body == "unsent":
            raise ValueError
        return 1

    async with Poller(bench.sqs, "orders", handle, visibility_timeout=10) as poller:
        await bench.ask(*bad)
        await until(lambda: poller.statistics().redelivered == 2)
        await bench.ask("good")
        await until(lambda: len(bench.messages) == 3)
        assert bench.replies == [1]
        monkeypatch.undo()
        await until(lambda: bench.empty)
    assert poller.statistics().failure is None
    assert caplog.text.count("ZeroDivisionError") >= 3


async def test_error_reply_larger_than_a_message_harms_nobody_else(bench: Bench) -> None:
    address = f"{bench.server.url(REPLIES)}#"
    address += "x" * (1_048_576 - len("a" + "ResponseQueueUrl" + "String" + address))
    await bench.client.send(bench.url, [SendEntry("a", {"ResponseQueueUrl": text(address)})])
    await bench.ask("b", "c")
    async with Poller(bench.sqs, "orders", raising(ValueError())) as poller:
        await until(lambda: bench.empty)
    assert len(bench.replies) == 2
    assert poller.statistics().replies_dropped == 1
