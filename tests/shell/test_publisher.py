"""`Publisher`: messages out, replies in, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
import pytest_asyncio

from sqs_orchestrator import (
    AccessDenied,
    Draft,
    InvalidMessage,
    JSONCodec,
    MessageTooLarge,
    Publisher,
    QueueError,
    QueueNotFound,
    RemoteError,
    Reply,
    ReplyQueue,
    ReplyQueueClosed,
    ReplyTimeout,
    ReplyTo,
    RequestError,
    SendError,
    Throttled,
)
from sqs_orchestrator.core import wire
from sqs_orchestrator.core.names import queue_name_of
from sqs_orchestrator.requester.pending import PendingRequest, PendingSend
from sqs_orchestrator.requester.session import FLUSH_PATIENCE
from sqs_orchestrator.sqs.port import Failure, Received, SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, connect
from tests.shell.requesters import Bench, connected, publishing, working
from tests.shell.workers import now, until

UNREACHABLE = QueueError("unreachable", code="EndpointConnectionError", transient=True)
OUR_FAULT = Failure("InvalidParameterValue", "what is this", sender_fault=True)
THEIR_FAULT = Failure("InternalError", "sorry", sender_fault=False)


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    """A publisher whose reply queue is made, and a queue `orders`."""
    async with publishing(server, ready=True) as made:
        yield made


async def ended(task: asyncio.Task[Any]) -> BaseException:
    """What *task* ends with, an error."""
    await asyncio.wait({task})
    error = task.exception()
    assert error is not None
    return error


async def test_bench_sees_the_timers_of_what_pends(bench: Bench) -> None:
    bench.faults.hold("SendMessageBatch")
    request = bench.task(bench.publisher.request("orders", 1, timeout=60))
    send = bench.task(bench.publisher.send("orders", 1))
    await asyncio.sleep(1)
    assert {type(each) for each in bench.timed} == {PendingRequest, PendingSend}
    request.cancel()
    send.cancel()
    await asyncio.wait({request, send})
    assert not bench.timed


# -------------------------------------------------------------------------- send


async def test_send_returns_the_id_that_sqs_gave(bench: Bench) -> None:
    message_id = await bench.publisher.send(
        "orders", {"id": 1}, attributes={"tenant": "a", "n": 1}, message_type="new"
    )
    [message] = bench.server.messages("orders")
    assert message.message_id == message_id
    assert json.loads(message.body) == {"id": 1}
    assert message.attributes == {
        "tenant": {"DataType": "String", "StringValue": "a"},
        "n": {"DataType": "Number", "StringValue": "1"},
        "MessageType": {"DataType": "String", "StringValue": "new"},
    }
    assert bench.publisher.statistics().sent == 1


async def test_text_travels_as_it_is_by_any_codec(server: MemoryServer) -> None:
    class Shouting:
        def encode(self, value: Any) -> tuple[str, str | None]:
            return f"{value}!", "text/shout"

        def decode(self, body: str, type: Any, content_type: str | None = None) -> Any:  # noqa: A002
            return body, content_type

    async with publishing(server, codec=Shouting()) as bench, working(server) as worker:
        await bench.publisher.send("orders", "as it is")
        await bench.publisher.send("orders", 1)
        await asyncio.sleep(1)
        first, second = worker.requests
        assert (first.body, "ContentType" in first.attributes) == ("as it is", False)
        assert (second.body, second.attributes["ContentType"]["StringValue"]) == (
            "1!",
            "text/shout",
        )
        decoded: Any = await bench.publisher.request("orders", "text", returns=tuple)
        assert decoded == ("text", None)


async def test_thousand_sends_make_a_hundred_calls(bench: Bench) -> None:
    ids = await asyncio.gather(*(bench.publisher.send("orders", n) for n in range(1000)))
    assert len(set(ids)) == 1000
    assert bench.server.calls == {"SendMessageBatch": 100}
    assert bench.publisher.statistics().batches == 100


async def test_batches_keep_to_a_mebibyte(bench: Bench) -> None:
    await asyncio.gather(*(bench.publisher.send("orders", "x" * 300_000) for _ in range(10)))
    assert bench.server.calls == {"SendMessageBatch": 4}


async def test_message_of_a_mebibyte_is_sent(bench: Bench) -> None:
    await bench.publisher.send("orders", "x" * 1_048_576)


async def test_delay_hides_the_message(bench: Bench) -> None:
    await bench.publisher.send("orders", "later", delay=4)
    [message] = bench.server.messages("orders")
    assert message.visible_at == pytest.approx(now() + 4, abs=0.1)


async def test_send_to_a_url_looks_nothing_up(server: MemoryServer) -> None:
    async with publishing(server) as bench:
        await bench.publisher.send(server.url("orders"), "a")
        assert server.calls == {"SendMessageBatch": 1}


@pytest.mark.parametrize("method", ["send", "request"])
@pytest.mark.parametrize(
    ("kind", "body", "settings", "match"),
    [
        (InvalidMessage, "", {}, "empty"),
        (InvalidMessage, "nul\0", {}, "U\\+0000"),
        (InvalidMessage, "\ufffe", {}, "U\\+FFFE"),
        (InvalidMessage, {1, object()}, {}, "object"),
        (InvalidMessage, b"bytes", {}, "bytes"),
        (InvalidMessage, "a", {"attributes": {"": "b"}}, "empty"),
        (InvalidMessage, "a", {"attributes": {"b": ""}}, "empty"),
        (InvalidMessage, "a", {"attributes": {"ResponseQueueUrl": "b"}}, "library's own"),
        (InvalidMessage, "a", {"attributes": {str(n): "b" for n in range(11)}}, "takes 10"),
        (InvalidMessage, "a", {"attributes": "b"}, "attributes are a dict .* not of type str"),
        (InvalidMessage, "a", {"attributes": [("b", "c")]}, "attributes are a dict"),
        (InvalidMessage, "a", {"message_type": ""}, "empty"),
        (InvalidMessage, "a", {"message_type": "\0"}, "U\\+0000"),
        (InvalidMessage, "a", {"group_id": "g" * 129}, "128"),
        (InvalidMessage, "a", {"deduplication_id": "d"}, "FIFO"),
        (MessageTooLarge, "x" * 1_048_577, {}, "1048576"),
        (MessageTooLarge, "x" * 1_048_000, {"attributes": {"b": "y" * 1000}}, "1048576"),
    ],
)
async def test_what_sqs_would_refuse_is_refused_before_any_call(
    server: MemoryServer, method: str, kind: type[SendError], body: Any, settings: Any, match: str
) -> None:
    async with publishing(server) as bench:
        with pytest.raises(kind, match=match) as caught:
            await getattr(bench.publisher, method)("orders", body, **settings)
        assert caught.value.queue == "orders"
        assert not caught.value.maybe_sent
        if isinstance(caught.value, MessageTooLarge):
            assert caught.value.limit == 1_048_576
            assert caught.value.size > 1_048_576
        assert not server.calls
        bench.assert_nothing_pends()


async def test_request_counts_the_librarys_own_attributes(server: MemoryServer) -> None:
    async with publishing(server) as bench, working(server):
        eight = {f"a{n}": "b" for n in range(8)}
        reply = await bench.publisher.request("orders", "fits", attributes=eight)
        assert reply.body == "fits"
        nine = {**eight, "a9": "b"}
        for settings in ({"attributes": nine}, {"attributes": eight, "message_type": "t"}):
            with pytest.raises(InvalidMessage, match="takes 10: the library itself uses"):
                await bench.publisher.request("orders", "too many", **settings)
        # Without a timeout there is one attribute less.
        await bench.publisher.request("orders", "fits", attributes=nine, timeout=math.inf)


async def test_largest_request_that_is_taken_is_one_that_sqs_takes(bench: Bench) -> None:
    with pytest.raises(MessageTooLarge) as caught:
        await bench.publisher.request("orders", "x" * 1_048_576)
    most = 1_048_576 - (caught.value.size - 1_048_576)
    async with working(bench.server):
        reply = await bench.publisher.request("orders", "x" * most, timeout=1_000_000)
        assert len(reply.body) == most
        with pytest.raises(MessageTooLarge):
            await bench.publisher.request("orders", "x" * (most + 1))


@pytest.mark.parametrize("delay", [-1, 901, math.nan, "1"])
async def test_delay_that_sqs_would_refuse_is_refused(server: MemoryServer, delay: Any) -> None:
    async with publishing(server) as bench:
        with pytest.raises(InvalidMessage, match="delay"):
            await bench.publisher.send("orders", "a", delay=delay)
        assert not server.calls


async def test_fifo_queue_needs_a_group_and_takes_no_delay(server: MemoryServer) -> None:
    async with publishing(server, "orders.fifo") as bench:
        for call in (bench.publisher.send, bench.publisher.request):
            with pytest.raises(InvalidMessage, match="group_id") as caught:
                await call("orders.fifo", "a")
            assert caught.value.queue == "orders.fifo"
        with pytest.raises(InvalidMessage, match="delay"):
            await bench.publisher.send("orders.fifo", "a", group_id="g", delay=1)
        assert not server.calls


async def test_send_keeps_the_order_of_a_fifo_queue_over_failures(server: MemoryServer) -> None:
    async with publishing(server, "orders.fifo") as bench:
        bench.faults.fail("SendMessageBatch", Throttled, times=2)
        bench.faults.fail_entries(
            "SendMessageBatch", lambda entry: entry.body == "3", THEIR_FAULT, times=1
        )

        async def send(number: int) -> None:
            await asyncio.sleep(number * 0.01)
            await bench.publisher.send(
                "orders.fifo", str(number), group_id="g", deduplication_id=str(number)
            )

        await asyncio.gather(*(send(number) for number in range(3)))
        await asyncio.gather(*(send(number) for number in range(3, 30)))
        bodies = bench.bodies("orders.fifo")
        # 3 failed alone; what shared its batch and was taken cannot be called back.
        bodies.remove("3")
        assert bodies == [str(number) for number in range(30) if number != 3]


async def test_slow_batch_of_a_fifo_queue_is_not_overtaken(server: MemoryServer) -> None:
    async with publishing(server, "orders.fifo") as bench:
        bench.faults.delay("SendMessageBatch", 1.0, times=1)
        sends = []
        for number in range(30):
            sends.append(
                bench.task(
                    bench.publisher.send(
                        "orders.fifo", number, group_id="g", deduplication_id=str(number)
                    )
                )
            )
            await asyncio.sleep(0.03)
        await asyncio.gather(*sends)
        assert bench.bodies("orders.fifo") == [str(number) for number in range(30)]


async def test_send_leaves_deduplication_to_the_queue(server: MemoryServer) -> None:
    server.create(
        server.account,
        "orders.fifo",
        {"FifoQueue": "true", "ContentBasedDeduplication": "true"},
        {},
    )
    async with publishing(server, "orders.fifo") as bench:
        for _ in range(2):
            await bench.publisher.send("orders.fifo", "same", group_id="g")
        assert bench.bodies("orders.fifo") == ["same"]


async def test_refused_entry_reaches_just_its_caller(bench: Bench) -> None:
    bench.faults.fail_entries("SendMessageBatch", lambda entry: entry.body == "2", OUR_FAULT)
    outcomes = await asyncio.gather(
        *(bench.publisher.send("orders", n) for n in range(5)), return_exceptions=True
    )
    assert [isinstance(outcome, str) for outcome in outcomes] == [True, True, False, True, True]
    error = outcomes[2]
    assert type(error) is SendError
    assert (error.code, error.queue, error.maybe_sent) == ("InvalidParameterValue", "orders", False)
    assert bench.server.calls == {"SendMessageBatch": 1}


async def test_entry_that_failed_on_sqs_side_is_tried_again(bench: Bench) -> None:
    bench.faults.fail_entries(
        "SendMessageBatch", lambda entry: entry.body == "2", THEIR_FAULT, times=2
    )
    await asyncio.gather(*(bench.publisher.send("orders", n) for n in range(5)))
    assert sorted(bench.bodies()) == list("01234")


async def test_send_is_tried_again_for_the_default_timeout(server: MemoryServer) -> None:
    async with publishing(server, ready=True, default_timeout=8.0) as bench:
        bench.faults.fail("SendMessageBatch", Throttled, times=None)
        began = now()
        with pytest.raises(Throttled) as caught:
            await bench.publisher.send("orders", "a")
        assert now() == began + 8
        assert caught.value.queue == "orders"
        assert server.calls["SendMessageBatch"] <= 10
        bench.faults.clear()
        await bench.publisher.send("orders", "b")
        assert bench.bodies() == ["b"]
        bench.assert_nothing_pends()


@pytest.mark.parametrize("error", [UNREACHABLE, QueueError])
async def test_send_says_what_went_wrong_until_the_end(bench: Bench, error: Any) -> None:
    bench.faults.fail("SendMessageBatch", error, times=None)
    with pytest.raises(QueueError) as caught:
        await bench.publisher.send("orders", "a")
    assert caught.value.code in ("EndpointConnectionError", "ServiceUnavailable")


async def test_send_that_hangs_may_have_been_sent(bench: Bench) -> None:
    bench.faults.hold("SendMessageBatch")
    began = now()
    with pytest.raises(SendError, match="has not confirmed") as caught:
        await bench.publisher.send("orders", "a")
    assert caught.value.maybe_sent
    assert now() == began + 30
    bench.assert_nothing_pends()


async def test_send_whose_answers_get_lost_may_have_been_sent(bench: Bench) -> None:
    bench.faults.drop_answer("SendMessageBatch", times=None)
    with pytest.raises(SendError, match="broke off") as caught:
        await bench.publisher.send("orders", "a")
    assert caught.value.maybe_sent
    assert isinstance(caught.value.__cause__, QueueError)


async def test_send_throttled_after_a_lost_answer_may_have_been_sent(bench: Bench) -> None:
    bench.faults.drop_answer("SendMessageBatch")
    sending = asyncio.create_task(bench.publisher.send("orders", "a"))
    await until(lambda: bench.bodies() == ["a"])
    bench.faults.fail("SendMessageBatch", Throttled, times=None)
    with pytest.raises(Throttled) as caught:
        await sending
    assert caught.value.maybe_done


@pytest.mark.parametrize("refusal", [AccessDenied, Throttled, OUR_FAULT])
@pytest.mark.parametrize("call", ["send", "request", "reply"])
async def test_refusal_after_a_lost_answer_says_that_it_may_have_been_sent(
    bench: Bench, refusal: Any, call: str
) -> None:
    to = {"reply": bench.live.url}.get(call, "orders")
    bench.faults.drop_answer("SendMessageBatch")
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "send": lambda: bench.publisher.send("orders", "a"),
        "request": lambda: bench.publisher.request("orders", "a"),
        "reply": lambda: bench.publisher.reply(f"{to}#id", "a"),
    }
    sending = bench.task(calls[call]())
    await until(lambda: bench.bodies(to) == ["a"])
    if isinstance(refusal, Failure):
        bench.faults.fail_entries("SendMessageBatch", lambda _: True, refusal)
    else:
        bench.faults.fail("SendMessageBatch", refusal, times=None)
    error = await ended(sending)
    assert isinstance(error, QueueError | SendError)
    assert error.maybe_sent if isinstance(error, SendError) else error.maybe_done


async def test_send_whose_one_answer_got_lost_is_confirmed_by_the_next(bench: Bench) -> None:
    bench.faults.drop_answer("SendMessageBatch")
    await bench.publisher.send("orders", "a")
    assert bench.bodies() == ["a", "a"]


async def test_send_to_a_hung_lookup_was_not_sent(server: MemoryServer) -> None:
    async with publishing(server) as bench:
        bench.faults.hold("GetQueueUrl")
        with pytest.raises(SendError, match="was not sent") as caught:
            await bench.publisher.send("orders", "a")
        assert not caught.value.maybe_sent
        assert caught.value.queue == "orders"
        assert now() == 30


async def test_send_whose_lookup_fails_until_the_end_says_why(server: MemoryServer) -> None:
    async with publishing(server, default_timeout=2.0) as bench:
        bench.faults.fail("GetQueueUrl", Throttled, times=None)
        with pytest.raises(Throttled):
            await bench.publisher.send("orders", "a")


async def test_send_without_permission_fails_at_once(bench: Bench) -> None:
    bench.faults.fail("SendMessageBatch", AccessDenied)
    began = now()
    outcomes = await asyncio.gather(
        *(bench.publisher.send("orders", n) for n in range(3)), return_exceptions=True
    )
    assert now() - began < 1
    assert all(type(outcome) is AccessDenied for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 3


@pytest.mark.parametrize("method", ["send", "request"])
async def test_queue_deleted_and_made_again_is_found_again(bench: Bench, method: str) -> None:
    await bench.publisher.send("orders", "a")
    bench.server.drop("orders")
    with pytest.raises(QueueNotFound) as caught:
        await getattr(bench.publisher, method)("orders", "b")
    assert caught.value.queue == "orders"
    assert bench.sqs.queues.known.get("orders") is None
    await asyncio.sleep(61)
    await bench.sqs.create_queue("orders")
    await bench.publisher.send("orders", "c")
    assert bench.bodies() == ["c"]


async def test_cancelled_send_that_has_not_left_is_withdrawn(bench: Bench) -> None:
    gate = bench.faults.hold("SendMessageBatch")
    first = bench.task(bench.publisher.send("orders", "first"))
    await gate.arrived()
    second = bench.task(bench.publisher.send("orders", "second"))
    await asyncio.sleep(0)
    second.cancel()
    gate.release()
    await first
    await asyncio.sleep(1)
    assert bench.bodies() == ["first"]
    bench.assert_nothing_pends()


async def test_cancelled_send_in_flight_disturbs_no_other(bench: Bench) -> None:
    gate = bench.faults.hold("SendMessageBatch")
    first, second = (bench.task(bench.publisher.send("orders", n)) for n in range(2))
    await gate.arrived()
    first.cancel()
    gate.release()
    assert await second
    assert bench.bodies() == ["0", "1"]
    bench.assert_nothing_pends()


async def test_send_without_limit_waits_for_ever(server: MemoryServer) -> None:
    async with publishing(server, default_timeout=math.inf) as bench:
        bench.faults.fail("SendMessageBatch", Throttled, times=100)
        await bench.publisher.send("orders", "a")
        assert now() > 300


# ----------------------------------------------------------------------- request


async def test_request_gets_its_reply(bench: Bench) -> None:
    async with working(bench.server):
        reply = await bench.publisher.request("orders", {"id": 1}, timeout=5)
    assert isinstance(reply, Reply)
    assert reply.json() == {"id": 1}
    bench.assert_nothing_pends()


async def test_request_carries_address_and_time_to_live(bench: Bench) -> None:
    async with working(bench.server) as worker:
        await bench.publisher.request("orders", "a", timeout=5, message_type="new")
        await bench.publisher.request("orders", "b", timeout=math.inf)
    first, second = worker.requests
    parsed = wire.parse_request(first.attributes)
    assert parsed.reply_to is not None
    assert parsed.reply_to.queue_url == bench.replies.url
    assert parsed.message_type == "new"
    assert parsed.time_to_live == 5.0
    assert wire.parse_request(second.attributes).time_to_live is None


async def test_time_to_live_is_what_is_left_when_the_batch_leaves(bench: Bench) -> None:
    bench.faults.fail("SendMessageBatch", Throttled, times=4)
    async with working(bench.server) as worker:
        began = now()
        await bench.publisher.request("orders", "a", timeout=5)
        gone = now() - began
    time_to_live = wire.parse_request(worker.requests[0].attributes).time_to_live
    assert time_to_live is not None
    assert gone > 0.3
    assert 5 - gone <= time_to_live < 5 - gone + 0.2


async def test_first_request_makes_the_reply_queue(server: MemoryServer) -> None:
    async with publishing(server) as bench, working(server):
        assert bench.reply_queues == []
        await asyncio.gather(*(bench.publisher.request("orders", n) for n in range(100)))
        assert len(bench.reply_queues) == 1
        assert server.calls["CreateQueue"] == 1
        assert server.calls["GetQueueUrl"] == 1
    assert server.queues == ["orders"]


async def test_request_to_a_missing_queue_costs_no_reply_queue(server: MemoryServer) -> None:
    async with publishing(server) as bench:
        with pytest.raises(QueueNotFound):
            await bench.publisher.request("nowhere", "a")
        assert server.queues == ["orders"]
        assert bench.publisher.statistics().failures == 1


@dataclass
class Order:
    id: int


async def test_request_returns_the_type_that_it_was_asked_for(bench: Bench) -> None:
    async with working(bench.server):
        order = await bench.publisher.request("orders", {"id": 1}, returns=Order)
        assert order == Order(1)
        with pytest.raises(RequestError, match="is no") as caught:
            await bench.publisher.request("orders", {"nothing": 1}, returns=Order)
        assert caught.value.queue == "orders"
        assert caught.value.correlation_id


async def test_reply_that_users_codec_fails_to_decode_is_a_request_error(
    server: MemoryServer,
) -> None:
    class Codec(JSONCodec):
        def decode(self, body: str, type: Any, content_type: str | None = None) -> Any:  # noqa: A002
            raise LookupError("no such schema")

    async with publishing(server, codec=Codec()) as bench, working(server):
        match = "could not be decoded .* LookupError: no such schema"
        with pytest.raises(RequestError, match=match) as caught:
            await bench.publisher.request("orders", {"id": 1}, returns=Order)
        assert isinstance(caught.value.__cause__, LookupError)
        assert (caught.value.queue, bool(caught.value.correlation_id)) == ("orders", True)
        assert bench.publisher.statistics().failures == 1


@pytest.mark.parametrize("returns", [5, [int], "dict", object(), Reply, print, {}, True, b"x"])
async def test_what_no_reply_can_be_read_as_is_refused_before_anything_is_sent(
    server: MemoryServer, returns: Any
) -> None:
    async with publishing(server) as bench:
        with pytest.raises(ValueError, match=r"^returns: ") as caught:
            await bench.publisher.request("orders", {"id": 1}, returns=returns)
        assert type(caught.value) is ValueError
        assert not server.calls


@pytest.mark.parametrize("encoded", ["body", ("body",), (b"body", None), None])
async def test_codec_that_makes_no_pair_is_told_so_before_any_call(
    server: MemoryServer, encoded: Any
) -> None:
    class Codec(JSONCodec):
        def encode(self, value: Any) -> Any:
            return encoded

    async with publishing(server, codec=Codec()) as bench:
        for method in (bench.publisher.send, bench.publisher.request):
            with pytest.raises(ValueError, match="must encode to a pair"):
                await method("orders", {"id": 1})
        assert not server.calls


async def test_remote_error_tells_what_the_handler_said(bench: Bench) -> None:
    def reject(request: Received, reply_to: wire.ReplyTo) -> list[SendEntry]:
        body = wire.error_body("out_of_stock", "Reject", "none left", {"id": 1})
        return [SendEntry(body, wire.reply_attributes(reply_to, error_code="out_of_stock"))]

    async with working(bench.server, answer=reject):
        with pytest.raises(RemoteError) as caught:
            await bench.publisher.request("orders", "a")
        error = caught.value
        assert (error.code, error.type, error.message, error.details) == (
            "out_of_stock",
            "Reject",
            "none left",
            {"id": 1},
        )
        assert error.queue == "orders"
        assert error.correlation_id
    assert bench.publisher.statistics().remote_errors == 1


@pytest.mark.parametrize(
    "body", ["garbage", "[]", "null", '{"code": 1, "type": [], "message": {}}', "[" * 100_000]
)
async def test_error_reply_with_a_garbage_body_is_a_remote_error(bench: Bench, body: str) -> None:
    def reject(request: Received, reply_to: wire.ReplyTo) -> list[SendEntry]:
        return [SendEntry(body, wire.reply_attributes(reply_to, error_code="odd"))]

    async with working(bench.server, answer=reject):
        with pytest.raises(RemoteError) as caught:
            await bench.publisher.request("orders", "a")
    assert caught.value.code == "odd"


async def test_timeout_reaches_a_plain_except_with_its_facts(bench: Bench) -> None:
    began = now()
    with pytest.raises(ReplyTimeout) as caught:
        await bench.publisher.request("orders", "a", timeout=3)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert (error.queue, error.timeout, error.confirmed) == ("orders", 3, True)
    assert error.correlation_id
    assert "reply_queue_prefixes" in str(error)
    assert now() == began + 3
    bench.assert_nothing_pends()


async def test_request_without_a_timeout_has_the_default(server: MemoryServer) -> None:
    async with publishing(server, ready=True, default_timeout=7) as bench:
        began = now()
        with pytest.raises(ReplyTimeout):
            await bench.publisher.request("orders", "a")
        assert now() == began + 7


async def test_request_without_limit_waits_for_ever(bench: Bench) -> None:
    request = bench.task(bench.publisher.request("orders", "a", timeout=math.inf))
    await asyncio.sleep(250)
    async with working(bench.server):
        assert (await request).body == "a"


@pytest.mark.parametrize("timeout", [0, -1, -math.inf])
async def test_request_without_time_is_not_sent(bench: Bench, timeout: float) -> None:
    with pytest.raises(ReplyTimeout, match="not sent") as caught:
        await bench.publisher.request("orders", "a", timeout=timeout)
    assert not caught.value.confirmed
    await asyncio.sleep(1)
    assert not bench.server.calls


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"sqs": 5}, "sqs is the Connection that .* gives, not 5 of type int"),
        ({"codec": 0}, "codec is an object with .* not 0"),
        ({"codec": JSONCodec}, "codec is an object with .* not <class"),
        ({"reply_queue": ""}, "reply_queue is a ReplyQueue, not '' of type str"),
    ],
)
def test_settings_of_a_wrong_type_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Publisher(**{"sqs": connect(), **settings})


async def test_timeout_that_is_no_number_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="a number of seconds"):
        await bench.publisher.request("orders", "a", timeout=math.nan)


@pytest.mark.parametrize("default_timeout", [0, -1, math.nan])
async def test_default_timeout_that_is_none_is_refused(
    server: MemoryServer, default_timeout: float
) -> None:
    with pytest.raises(ValueError, match="default_timeout"):
        Publisher(connect(server), default_timeout=default_timeout)


@pytest.mark.parametrize("operation", ["GetQueueUrl", "CreateQueue", "SendMessageBatch"])
async def test_timeout_covers_what_hangs(server: MemoryServer, operation: str) -> None:
    async with publishing(server) as bench:
        gate = bench.faults.hold(operation)
        with pytest.raises(ReplyTimeout) as caught:
            await bench.publisher.request("orders", "a", timeout=3)
        error = caught.value
        assert not error.confirmed
        assert error.timeout == 3
        assert now() == 3
        bench.assert_nothing_pends()
        gate.release()


@pytest.mark.parametrize("operation", ["GetQueueUrl", "CreateQueue", "SendMessageBatch"])
@pytest.mark.parametrize("error", [Throttled, UNREACHABLE, QueueError])
async def test_deadline_names_what_went_wrong(
    server: MemoryServer, operation: str, error: Any
) -> None:
    async with publishing(server) as bench:
        bench.faults.fail(operation, error, times=None)
        with pytest.raises(QueueError) as caught:
            await bench.publisher.request("orders", "a", timeout=2.5)
        assert now() <= 2.5
        assert caught.value.code in (
            "RequestThrottled",
            "EndpointConnectionError",
            "ServiceUnavailable",
        )
        assert server.calls[operation] < 12
        bench.assert_nothing_pends()


async def test_deadline_of_lost_answers_is_a_timeout(bench: Bench) -> None:
    bench.faults.drop_answer("SendMessageBatch", times=None)
    with pytest.raises(ReplyTimeout, match="broke off") as caught:
        await bench.publisher.request("orders", "a", timeout=3)
    assert not caught.value.confirmed


async def test_timeout_says_that_replies_could_not_be_read(bench: Bench) -> None:
    bench.faults.fail("ReceiveMessage", Throttled, times=None)
    with pytest.raises(ReplyTimeout, match="cannot be read") as caught:
        await bench.publisher.request("orders", "a", timeout=3)
    assert caught.value.confirmed
    assert isinstance(caught.value.__cause__, Throttled)


async def test_timeout_names_no_trouble_that_is_over(bench: Bench) -> None:
    bench.faults.fail("ReceiveMessage", AccessDenied)
    with pytest.raises(AccessDenied):
        await bench.publisher.request("orders", "a", timeout=5)
    with pytest.raises(ReplyTimeout, match="Either no worker took it in time") as caught:
        await bench.publisher.request("orders", "b", timeout=50)
    assert caught.value.__cause__ is None


async def test_trouble_of_another_queue_is_not_named(server: MemoryServer) -> None:
    async with publishing(server, "orders", "other") as bench:
        bench.faults.fail("GetQueueUrl", Throttled, times=None, queue="other")
        bench.faults.hold("GetQueueUrl", queue="orders")
        other = bench.task(bench.publisher.request("other", "a", timeout=2))
        with pytest.raises(ReplyTimeout):
            await bench.publisher.request("orders", "a", timeout=2)
        assert isinstance(await ended(other), Throttled)


async def test_ten_thousand_requests_get_their_own_replies(bench: Bench) -> None:
    async with working(bench.server) as worker:
        replies = await asyncio.gather(
            *(bench.publisher.request("orders", n, timeout=60) for n in range(10_000))
        )
    assert [reply.json() for reply in replies] == list(range(10_000))
    assert len(worker.requests) == 10_000
    assert bench.publisher.statistics().replies == 10_000
    assert bench.faults.calls["SendMessageBatch"] == 1000
    assert bench.faults.calls["ReceiveMessage"] <= 1100
    bench.assert_nothing_pends()


async def test_ten_thousand_timeouts_are_exact(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    late: list[float] = []

    async def ask(number: int) -> None:
        timeout = 5 + number * 0.001
        with pytest.raises(ReplyTimeout):
            await bench.publisher.request("orders", number, timeout=timeout)
        late.append(loop.time() - began - timeout)

    await asyncio.gather(*(ask(number) for number in range(10_000)))
    assert max(late) < 0.001
    assert bench.publisher.statistics().timeouts == 10_000
    bench.assert_nothing_pends()


async def test_thousand_concurrent_requests_cost_a_hundred_calls_of_each_kind(
    bench: Bench,
) -> None:
    async with working(bench.server):
        await asyncio.gather(*(bench.publisher.request("orders", n) for n in range(1000)))
        await asyncio.sleep(3)
    calls = bench.faults.calls
    assert calls["SendMessageBatch"] == 100
    assert 100 <= calls["ReceiveMessage"] <= 112
    assert 100 <= calls["DeleteMessageBatch"] <= 112
    assert calls.total() <= 324


async def test_twenty_requests_one_after_another_cost_two_calls_each_and_few_deletes(
    bench: Bench,
) -> None:
    async with working(bench.server):
        for number in range(20):
            await bench.publisher.request("orders", number)
        await asyncio.sleep(3)
    calls = bench.faults.calls
    assert calls == {"SendMessageBatch": 20, "ReceiveMessage": 20, "DeleteMessageBatch": 2}


async def test_request_that_waits_costs_no_task_and_no_thread(bench: Bench) -> None:
    async def others(waiting: int) -> tuple[int, int]:
        """How many tasks and threads there are beside those that ask."""
        asking = [bench.task(bench.publisher.request("orders", n)) for n in range(waiting)]
        await asyncio.sleep(5)
        assert bench.publisher.statistics().pending == waiting
        found = len(asyncio.all_tasks() - set(asking)), threading.active_count()
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        return found

    assert await others(1_000) == await others(1)


async def test_idle_publisher_makes_no_call_but_heartbeats_and_sweeps(bench: Bench) -> None:
    async with working(bench.server):
        await bench.publisher.request("orders", "a")
    await asyncio.sleep(25)
    bench.faults.calls.clear()
    await asyncio.sleep(3600)
    assert not bench.faults.calls.keys() - {"TagQueue", "ListQueues", "ListQueueTags"}


async def test_request_on_a_fifo_queue_is_a_question_of_its_own(server: MemoryServer) -> None:
    async with publishing(server, "orders.fifo") as bench, working(server, "orders.fifo") as worker:
        for _ in range(2):
            await bench.publisher.request("orders.fifo", "same", group_id="g")
        same = {"group_id": "g", "deduplication_id": "same", "timeout": 1}
        await bench.publisher.request("orders.fifo", "same", **same)  # type: ignore[call-overload]
        with pytest.raises(ReplyTimeout):
            await bench.publisher.request("orders.fifo", "same", **same)  # type: ignore[call-overload]
    assert len(worker.requests) == 3


async def test_refused_request_fails_at_once_with_sqs_code(bench: Bench) -> None:
    bench.faults.fail_entries("SendMessageBatch", lambda entry: entry.body == "2", OUR_FAULT)
    began = now()
    async with working(bench.server):
        outcomes = await asyncio.gather(
            *(bench.publisher.request("orders", n) for n in range(5)), return_exceptions=True
        )
    assert now() - began < 1
    assert [isinstance(outcome, Reply) for outcome in outcomes] == [True, True, False, True, True]
    error = outcomes[2]
    assert type(error) is SendError
    assert (error.code, error.queue) == ("InvalidParameterValue", "orders")
    bench.assert_nothing_pends()


async def test_reply_that_overtakes_the_confirmation_is_taken(bench: Bench) -> None:
    bench.faults.delay("SendMessageBatch", 5.0, answer=True, times=1)
    async with working(bench.server):
        began = now()
        await bench.publisher.request("orders", "a", timeout=30)
        assert now() < began + 1
        bench.assert_nothing_pends()
        await asyncio.sleep(10)
    assert len(bench.bodies()) == 0


async def test_request_retried_into_two_messages_gets_one_reply(bench: Bench) -> None:
    bench.faults.drop_answer("SendMessageBatch")
    async with working(bench.server, delay=1) as worker:
        await bench.publisher.request("orders", "a")
        other = bench.task(bench.publisher.request("orders", "b"))
        await other
        await asyncio.sleep(3)
    assert [request.body for request in worker.requests] == ["a", "a", "b"]
    assert bench.replies.statistics().unmatched == 1
    assert not bench.server.messages(bench.live.url)


async def test_memory_of_a_confirmed_request_holds_no_body(bench: Bench) -> None:
    request = bench.task(bench.publisher.request("orders", {"large": "x" * 100_000}))
    await asyncio.sleep(1)
    [waiting] = bench.session.pending
    assert waiting.body == ""
    assert not waiting.attributes
    request.cancel()


@pytest.mark.parametrize("method", ["send", "request"])
async def test_memory_of_what_is_pending_holds_no_draft(bench: Bench, method: str) -> None:
    bench.faults.hold("SendMessageBatch")
    tasks = [bench.task(getattr(bench.publisher, method)("orders", n)) for n in range(10)]
    await asyncio.sleep(1)
    assert len(bench.session.pending) == 10
    # Errors in the parameters of other tests keep their frames, and drafts of replies in these.
    drafts = [each for each in gc.get_objects() if type(each) is Draft]
    assert not [draft for draft in drafts if draft.kind == method]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("method", ["send", "request"])
async def test_error_of_a_call_is_freed_with_its_last_reference(bench: Bench, method: str) -> None:
    bench.faults.fail("SendMessageBatch", AccessDenied, times=None)
    gc.collect()
    gc.disable()
    try:
        freed: list[weakref.ref[BaseException]] = []
        try:
            await getattr(bench.publisher, method)("orders", "a")
        except AccessDenied as error:
            freed.append(weakref.ref(error))
        await asyncio.sleep(1)
        assert freed[0]() is None, "no cycle holds it"
    finally:
        gc.enable()


# ------------------------------------------------------------------- cancelling


async def test_cancelled_request_that_has_not_left_is_withdrawn(bench: Bench) -> None:
    gate = bench.faults.hold("SendMessageBatch")
    first = bench.task(bench.publisher.send("orders", "first"))
    await gate.arrived()
    second = bench.task(bench.publisher.request("orders", "second"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    gate.release()
    await first
    await asyncio.sleep(1)
    assert bench.bodies() == ["first"]
    assert bench.publisher.statistics().cancelled == 1
    bench.assert_nothing_pends()


async def test_request_cancelled_in_flight_disturbs_no_other(bench: Bench) -> None:
    gate = bench.faults.hold("SendMessageBatch")
    requests = [bench.task(bench.publisher.request("orders", n)) for n in range(10)]
    await gate.arrived()
    for request in requests[::2]:
        request.cancel()
    gate.release()
    async with working(bench.server):
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        bench.assert_nothing_pends()
        await asyncio.sleep(3)
    assert [isinstance(outcome, Reply) for outcome in outcomes] == [False, True] * 5
    assert bench.publisher.statistics().cancelled == 5


async def test_request_cancelled_while_it_waits_leaves_nothing(bench: Bench) -> None:
    requests = [bench.task(bench.publisher.request("orders", n)) for n in range(1000)]
    await asyncio.sleep(2)
    for request in requests:
        request.cancel()
    await asyncio.wait(requests)
    bench.assert_nothing_pends()
    assert bench.publisher.statistics().pending == 0


async def test_request_under_a_timeout_of_the_callers_ends_with_it(bench: Bench) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(1):
            await bench.publisher.request("orders", "a")
    assert not isinstance(caught.value, ReplyTimeout)
    with anyio.move_on_after(1) as scope:
        await bench.publisher.request("orders", "a")
    assert scope.cancelled_caught
    bench.assert_nothing_pends()


async def test_queue_being_created_is_created_for_the_others(server: MemoryServer) -> None:
    async with publishing(server) as bench, working(server):
        gate = bench.faults.hold("CreateQueue")
        first, second = (bench.task(bench.publisher.request("orders", n)) for n in range(2))
        await gate.arrived()
        first.cancel()
        await asyncio.wait({first})
        gate.release()
        assert (await second).json() == 1
        assert server.calls["CreateQueue"] == 1


async def test_request_that_times_out_while_its_queue_is_made_leaves_it_to_the_others(
    server: MemoryServer,
) -> None:
    async with publishing(server) as bench, working(server):
        gate = bench.faults.hold("CreateQueue")
        with pytest.raises(ReplyTimeout):
            await bench.publisher.request("orders", "a", timeout=1)
        gate.release()
        await bench.publisher.request("orders", "b")
        assert server.calls["CreateQueue"] == 1


# -------------------------------------------------------------------- statistics


async def test_statistics_add_up(bench: Bench) -> None:
    def sometimes(request: Received, reply_to: wire.ReplyTo) -> list[SendEntry]:
        if request.body == "error":
            return [SendEntry("{}", wire.reply_attributes(reply_to, error_code="x"))]
        if request.body == "silence":
            return []
        return [SendEntry("ok", wire.reply_attributes(reply_to))]

    async with working(bench.server, answer=sometimes):
        pending = bench.task(bench.publisher.request("orders", "silence", timeout=100))
        cancelled = bench.task(bench.publisher.request("orders", "silence"))
        await asyncio.sleep(1)
        cancelled.cancel()
        outcomes = await asyncio.gather(
            bench.publisher.request("orders", "ok"),
            bench.publisher.request("orders", "error"),
            bench.publisher.request("orders", "silence", timeout=1),
            bench.publisher.request("nowhere", "a"),
            bench.publisher.request("orders", ""),
            return_exceptions=True,
        )
        assert len(outcomes) == 5
        statistics = bench.publisher.statistics()
        assert statistics.requests == 7
        assert statistics.replies == statistics.remote_errors == statistics.timeouts == 1
        assert (statistics.failures, statistics.cancelled, statistics.pending) == (2, 1, 1)
        pending.cancel()


async def test_statistics_are_kept_after_leaving(server: MemoryServer) -> None:
    publisher = Publisher(connect(server))
    assert publisher.statistics().batches == 0
    async with publishing(server, ready=True) as bench:
        await bench.publisher.send("orders", "a")
    assert bench.publisher.statistics().batches == 1
    assert bench.publisher.statistics().unsent == 0
    assert "0 pending" in repr(bench.publisher)


def texts(error: BaseException | None) -> list[str]:
    """What a traceback of *error* says, and of what led to it."""
    found: list[str] = []
    while error is not None:
        found.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


@pytest.mark.parametrize(
    "operation", ["GetQueueUrl", "CreateQueue", "SendMessageBatch", "ReceiveMessage"]
)
async def test_failure_of_many_is_told_once_to_each(server: MemoryServer, operation: str) -> None:
    refusal = AccessDenied("no", operation=operation)
    refusal.__cause__ = KeyError("why")
    async with publishing(server) as bench:
        if operation == "SendMessageBatch":
            await bench.sqs.queue_url("orders")
        bench.faults.fail(operation, refusal, times=None)
        calls: list[Awaitable[Any]] = [bench.publisher.request("orders", n) for n in range(20)]
        if operation in ("GetQueueUrl", "SendMessageBatch"):
            calls += [bench.publisher.send("orders", n) for n in range(20)]
            calls += [bench.publisher.reply(an_address(bench), n) for n in range(20)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert len({id(outcome) for outcome in outcomes}) == len(calls)
    for outcome in outcomes:
        assert isinstance(outcome, AccessDenied)
        assert texts(outcome) == ["no", "'why'"]
        assert outcome.__traceback__ is not None
        assert len(traceback.extract_tb(outcome.__traceback__)) < 8


# ----------------------------------------------------------------- reply, later


def an_address(bench: Bench, **other: Any) -> ReplyTo:
    return ReplyTo(bench.server.url("sqs_orchestrator_reply_" + "0" * 32), "an id", **other)


@pytest.mark.parametrize("form", [str, lambda address: address])
async def test_late_reply_reaches_its_request(
    server: MemoryServer, form: Callable[[ReplyTo], Any]
) -> None:
    kept: list[ReplyTo] = []

    def keep(request: Received, reply_to: wire.ReplyTo) -> list[SendEntry]:
        kept.append(reply_to)
        return []

    async with (
        publishing(server, ready=True) as bench,
        publishing(server) as other,
        working(server, answer=keep),
    ):
        request = bench.task(bench.publisher.request("orders", "a"))
        await asyncio.sleep(1)
        await other.publisher.reply(form(kept[0]), {"done": 1})
        assert (await request).json() == {"done": 1}
        assert other.publisher.statistics().replies_sent == 1


@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        None,
        7,
        ReplyTo(7),  # type: ignore[arg-type]
        ReplyTo("https://sqs.us-east-1.amazonaws.com/123456789012/sqs_orchestrator_reply_x", ""),
        "https://sqs.us-east-1.amazonaws.com/123456789012/orders#id",
        "https://sqs.us-east-1.amazonaws.com/123456789012/sqs_orchestrator_reply_x#",
        "https://sqs.us-east-1.amazonaws.com/123456789012/__RequesterClientQueues__#id",
    ],
)
async def test_late_reply_to_no_reply_address_is_refused_before_any_call(
    server: MemoryServer, address: Any
) -> None:
    async with publishing(server) as bench:
        with pytest.raises(InvalidMessage, match="not a reply address"):
            await bench.publisher.reply(address, "a")
        assert not server.calls


@pytest.mark.parametrize(
    "url",
    [
        "https://sqs.us-east-1.amazonaws.com/999999999999/sqs_orchestrator_reply_x",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/sqs_orchestrator_reply_x",
    ],
)
async def test_late_reply_to_another_account_or_region_is_refused(bench: Bench, url: str) -> None:
    with pytest.raises(InvalidMessage, match="not a reply address"):
        await bench.publisher.reply(ReplyTo(url, "id"), "a")
    assert not bench.server.calls["SendMessageBatch"]


@pytest.mark.parametrize("known", [False, True])
async def test_late_reply_to_an_account_that_is_named_is_sent_there(
    server: MemoryServer, known: bool
) -> None:
    name, theirs = "sqs_orchestrator_reply_" + "0" * 32, "210987654321"
    server.create(theirs, name, {}, {})
    async with (
        connect(server) as sqs,
        Publisher(sqs, reply_accounts=[theirs]) as publisher,
        Publisher(sqs) as other,
    ):
        if known:
            await sqs.create_queue("orders")
        # Whatever host it names: calls go to the connection's own endpoint.
        address = f"https://sqs.us-east-1.amazonaws.com/{theirs}/{name}#id"
        await publisher.reply(address, "a")
        [reply] = server.messages(server.url(name, theirs))
        assert reply.body == "a"
        await sqs.create_queue("more")
        with pytest.raises(InvalidMessage, match="nor one of reply_accounts"):
            await other.reply(address, "a")


@pytest.mark.parametrize("accounts", ["210987654321", [210987654321], 5, None, [""], b"1"])
async def test_accounts_to_answer_to_that_are_none_are_refused(
    server: MemoryServer, accounts: Any
) -> None:
    async with connect(server) as sqs:
        with pytest.raises(ValueError, match="reply_accounts is a tuple of AWS account ids"):
            Publisher(sqs, reply_accounts=accounts)


async def test_late_reply_whose_codec_fails_is_not_taken_for_a_wrong_address(
    server: MemoryServer,
) -> None:
    class Codec(JSONCodec):
        def encode(self, value: Any) -> Any:
            raise ValueError("mine")

    async with publishing(server, codec=Codec()) as bench:
        with pytest.raises(ValueError, match="mine"):
            await bench.publisher.reply(an_address(bench), {})
        assert not server.calls


async def test_late_reply_that_sqs_would_refuse_is_refused_before_any_call(
    server: MemoryServer,
) -> None:
    async with publishing(server) as bench:
        with pytest.raises(MessageTooLarge) as caught:
            await bench.publisher.reply(an_address(bench), "x" * 1_048_577)
        assert caught.value.queue
        assert not server.calls


async def test_late_reply_to_a_queue_that_is_gone_says_so(bench: Bench) -> None:
    with pytest.raises(QueueNotFound):
        await bench.publisher.reply(an_address(bench), "a")


async def test_late_reply_asks_for_no_url_where_a_queue_was_made_before(
    server: MemoryServer,
) -> None:
    async with connect(server) as sqs, Publisher(sqs) as publisher:
        await sqs.create_queue("approvals")
        name = "sqs_orchestrator_reply_" + "0" * 32
        server.create(server.account, name, {}, {})
        server.calls.clear()
        await publisher.reply(f"{server.url(name)}#id", "a")
        assert server.calls == {"SendMessageBatch": 1}


async def test_late_replies_that_fail_have_errors_of_their_own(bench: Bench) -> None:
    bench.faults.fail("SendMessageBatch", AccessDenied)
    address = an_address(bench)
    bench.server.create(bench.server.account, queue_name_of(address.queue_url), {}, {})
    outcomes = await asyncio.gather(
        *(bench.publisher.reply(address, n) for n in range(3)), return_exceptions=True
    )
    assert all(type(outcome) is AccessDenied for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 3


async def test_late_reply_that_hangs_is_given_up(server: MemoryServer) -> None:
    async with publishing(server, ready=True, default_timeout=4) as bench:
        bench.faults.hold("SendMessageBatch")
        began = now()
        with pytest.raises(SendError, match="has not confirmed") as caught:
            await bench.publisher.reply(ReplyTo(bench.live.url, "id"), "a")
        assert caught.value.maybe_sent
        assert now() == began + 4
        bench.assert_nothing_pends()


async def test_cancelled_late_reply_leaves_nothing(bench: Bench) -> None:
    bench.faults.hold("SendMessageBatch")
    task = bench.task(bench.publisher.reply(ReplyTo(bench.live.url, "id"), "a"))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait({task})
    bench.assert_nothing_pends()


# ----------------------------------------------------------- entering and leaving


async def test_publisher_that_is_not_open_says_so(server: MemoryServer) -> None:
    async with connected(server) as bench:
        publisher = Publisher(bench.sqs)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: publisher.send("orders", "a"),
            lambda: publisher.request("orders", "a"),
            lambda: publisher.reply("https://host/1/q#id", "a"),
            publisher.ready,
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="not open"):
                await call()
        async with publisher:
            pass
        for call in calls:
            with pytest.raises(RuntimeError, match="not open any more: it was closed"):
                await call()
        with pytest.raises(RuntimeError, match="entered before"):
            await publisher.__aenter__()


async def test_publisher_that_is_being_left_says_so(bench: Bench) -> None:
    leaving = bench.task(bench.publisher.aclose())
    await asyncio.sleep(0)
    assert not leaving.done()
    with pytest.raises(RuntimeError, match="it was closed"):
        await bench.publisher.send("orders", "a")
    await leaving


async def test_publisher_over_a_connection_that_is_not_open_says_so(server: MemoryServer) -> None:
    tasks = asyncio.all_tasks()
    with pytest.raises(RuntimeError, match="connection is not open"):
        await Publisher(connect(server)).__aenter__()
    assert asyncio.all_tasks() == tasks


async def test_entering_cancelled_leaves_nothing(server: MemoryServer) -> None:
    async with connected(server) as bench:
        tasks = asyncio.all_tasks()
        for turns in range(6):
            entering = asyncio.create_task(Publisher(bench.sqs).__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0)
            entering.cancel()
            await asyncio.wait({entering})
            if entering.cancelled():
                assert asyncio.all_tasks() == tasks, turns
                assert not bench.sqs._dependents
            else:
                await entering.result().aclose()


async def test_pending_requests_fail_at_once_when_leaving(server: MemoryServer) -> None:
    tasks = asyncio.all_tasks()
    async with publishing(server, ready=True) as bench:
        requests = [bench.task(bench.publisher.request("orders", n)) for n in range(20)]
        await asyncio.sleep(1)
        left = now()
    for request in requests:
        with pytest.raises(ReplyQueueClosed) as caught:
            await request
        error = caught.value
        assert error.queue == "orders"
        assert error.correlation_id
    assert now() < left + 0.2
    bench.assert_nothing_pends()
    assert server.queues == ["orders"]
    assert asyncio.all_tasks() == tasks


async def test_pending_requests_do_not_wait_for_the_flush(server: MemoryServer) -> None:
    async with publishing(server, ready=True) as bench:
        request = bench.task(bench.publisher.request("orders", "a"))
        await asyncio.sleep(1)
        bench.faults.hold("SendMessageBatch")
        send = bench.task(bench.publisher.send("orders", "b"))
        await asyncio.sleep(1)
        began = now()
        leaving = bench.task(bench.publisher.aclose())
        assert isinstance(await ended(request), ReplyQueueClosed)
        assert now() == began
        await leaving
        assert isinstance(await ended(send), SendError)


@pytest.mark.parametrize("operation", ["GetQueueUrl", "CreateQueue"])
async def test_request_that_prepares_fails_at_once_when_leaving(
    server: MemoryServer, operation: str
) -> None:
    async with connected(server) as bench:
        bench.publisher = Publisher(bench.sqs)
        await bench.publisher.__aenter__()
        gate = bench.faults.hold(operation)
        request = bench.task(bench.publisher.request("orders", "a"))
        await gate.arrived()
        began = now()
        leaving = bench.task(bench.publisher.aclose())
        assert isinstance(await ended(request), ReplyQueueClosed)
        assert now() == began
        gate.release()
        await leaving
        bench.assert_nothing_pends()
    assert server.queues == ["orders"]


async def test_queued_sends_are_flushed_when_leaving(server: MemoryServer) -> None:
    async with publishing(server, ready=True) as bench:
        bench.faults.fail("SendMessageBatch", Throttled, times=3)
        sends = [bench.task(bench.publisher.send("orders", n)) for n in range(300)]
        await asyncio.sleep(0)
    assert len(await asyncio.gather(*sends)) == 300
    assert len(bench.bodies()) == 300


async def test_send_that_is_being_looked_up_is_flushed_when_leaving(server: MemoryServer) -> None:
    async with publishing(server) as bench:
        bench.faults.delay("GetQueueUrl", 2.0)
        send = bench.task(bench.publisher.send("orders", "a"))
        await asyncio.sleep(0.5)
    assert await send
    assert bench.bodies() == ["a"]


async def test_late_reply_is_flushed_when_leaving(server: MemoryServer) -> None:
    async with publishing(server, ready=True) as bench:
        address = an_address(bench)
        server.create(server.account, queue_name_of(address.queue_url), {}, {})
        bench.faults.fail("SendMessageBatch", Throttled, times=3)
        reply = bench.task(bench.publisher.reply(address, "a"))
        await asyncio.sleep(0)
    await reply
    assert bench.bodies(address.queue_url) == ["a"]


@pytest.mark.parametrize("default_timeout", [30.0, math.inf])
@pytest.mark.parametrize("operation", ["GetQueueUrl", "SendMessageBatch"])
async def test_flushing_is_given_up_after_its_time(
    server: MemoryServer, operation: str, default_timeout: float
) -> None:
    async with connected(server) as bench:
        bench.publisher = Publisher(bench.sqs, default_timeout=default_timeout)
        async with bench.publisher:
            address = an_address(bench)
            server.create(server.account, queue_name_of(address.queue_url), {}, {})
            bench.faults.hold(operation, times=None)
            sends = [bench.task(bench.publisher.send("orders", n)) for n in range(5)]
            sends.append(bench.task(bench.publisher.reply(address, "a")))
            await asyncio.sleep(1)
            began = now()
        assert now() == began + FLUSH_PATIENCE
        for send in sends:
            error = await ended(send)
            assert isinstance(error, SendError)
            assert "was closed" in str(error)
            assert error.maybe_sent is (operation == "SendMessageBatch")
        assert now() == began + FLUSH_PATIENCE
        bench.assert_nothing_pends()


async def test_flushing_in_vain_says_what_went_wrong(server: MemoryServer) -> None:
    async with publishing(server, ready=True) as bench:
        bench.faults.fail("SendMessageBatch", Throttled, times=None)
        send = bench.task(bench.publisher.send("orders", "a"))
        await asyncio.sleep(1)
    assert isinstance(await ended(send), Throttled)


async def test_error_of_the_body_leaves_as_it_is(server: MemoryServer) -> None:
    error = ZeroDivisionError("mine")
    with pytest.raises(ZeroDivisionError) as caught:
        async with publishing(server, ready=True):
            raise error
    assert caught.value is error
    assert server.queues == ["orders"]


async def test_error_of_a_request_leaves_the_body_as_it_is(server: MemoryServer) -> None:
    try:
        async with publishing(server) as bench:
            await bench.publisher.request("orders", "a", timeout=1)
    except ReplyTimeout:
        pass
    else:
        pytest.fail("no error")


async def test_publisher_entered_and_left_in_different_tasks_works(server: MemoryServer) -> None:
    tasks = asyncio.all_tasks()
    client = MemorySQS(server)
    await client.create_queue("orders", {}, {})
    sqs = connect(port=client)
    await asyncio.create_task(sqs.__aenter__())
    publisher = Publisher(sqs)
    await asyncio.create_task(publisher.__aenter__())
    async with working(server):
        reply = await asyncio.create_task(publisher.request("orders", "a"))
        assert reply.body == "a"
    await asyncio.create_task(publisher.__aexit__(None, None, None))
    await asyncio.create_task(sqs.__aexit__(None, None, None))
    assert server.queues == ["orders"]
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize(
    "order",
    [
        ("connection", "replies", "publisher"),
        ("connection", "publisher", "replies"),
        ("replies", "connection", "publisher"),
        ("replies", "publisher", "connection"),
        ("publisher", "connection", "replies"),
        ("publisher", "replies", "connection"),
    ],
)
async def test_things_may_be_left_in_any_order(server: MemoryServer, order: list[str]) -> None:
    tasks = asyncio.all_tasks()
    server.create(server.account, "orders", {}, {})
    sqs = connect(server)
    await sqs.__aenter__()
    replies = ReplyQueue(sqs)
    publisher = Publisher(sqs, reply_queue=replies)
    things: dict[str, Any] = {"connection": sqs, "replies": replies, "publisher": publisher}
    await publisher.__aenter__()
    await replies.__aenter__()
    async with working(server):
        await publisher.request("orders", "a")
    request = asyncio.create_task(publisher.request("orders", "b"))
    await asyncio.sleep(1)
    for name in order:
        await asyncio.create_task(things[name].__aexit__(None, None, None))
    assert isinstance(await ended(request), ReplyQueueClosed)
    with pytest.raises(RuntimeError):
        await publisher.request("orders", "c")
    assert server.queues == ["orders"]
    assert asyncio.all_tasks() == tasks


Cancel = Callable[[Awaitable[None]], Awaitable[None]]


async def _cancelled_natively(leaving: Awaitable[None], times: int) -> None:
    task = asyncio.ensure_future(leaving)
    for _ in range(times):
        await asyncio.sleep(0.5)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _cancelled_once(leaving: Awaitable[None]) -> None:
    await _cancelled_natively(leaving, 1)


async def _cancelled_twice(leaving: Awaitable[None]) -> None:
    await _cancelled_natively(leaving, 2)


async def _cancelled_by_anyio(leaving: Awaitable[None]) -> None:
    with anyio.move_on_after(0.5) as scope:
        await leaving
        await anyio.sleep(1)
    assert scope.cancelled_caught


async def _cancelled_by_timeout(leaving: Awaitable[None]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await leaving


CANCELLATIONS = [_cancelled_once, _cancelled_twice, _cancelled_by_anyio, _cancelled_by_timeout]


@pytest.mark.parametrize("cancelled", CANCELLATIONS)
async def test_leaving_cancelled_flushes_and_deletes_all_the_same(
    server: MemoryServer, cancelled: Cancel
) -> None:
    async with connected(server) as bench:
        bench.publisher = Publisher(bench.sqs)
        await bench.publisher.__aenter__()
        await bench.publisher.ready()
        bench.faults.delay("SendMessageBatch", 2.0)
        bench.faults.delay("DeleteQueue", 1.0)
        send = bench.task(bench.publisher.send("orders", "a"))
        await asyncio.sleep(0.1)

        async def leave() -> None:
            await bench.publisher.__aexit__(None, None, None)

        await cancelled(leave())
        assert await send
        assert bench.bodies() == ["a"]
        assert server.queues == ["orders"]
        bench.assert_nothing_pends()


@pytest.mark.parametrize("cancelled", CANCELLATIONS)
async def test_leaving_cancelled_while_the_reply_queue_is_made_deletes_it(
    server: MemoryServer, cancelled: Cancel
) -> None:
    async with connected(server) as bench:
        bench.publisher = Publisher(bench.sqs)
        await bench.publisher.__aenter__()
        bench.faults.delay("CreateQueue", 2.0, answer=True)
        request = bench.task(bench.publisher.request("orders", "a"))
        await asyncio.sleep(0.2)

        async def leave() -> None:
            await bench.publisher.__aexit__(None, None, None)

        await cancelled(leave())
        assert server.calls["CreateQueue"] == 1
        assert server.queues == ["orders"]
        assert isinstance(await ended(request), ReplyQueueClosed)


async def test_body_cancelled_while_it_requests_leaves_nothing(server: MemoryServer) -> None:
    tasks = asyncio.all_tasks()

    async def body() -> None:
        async with publishing(server) as bench:
            await bench.publisher.request("orders", "a")

    for after in (0.0, 0.01, 0.03, 0.05, 0.07, 1.0):
        task = asyncio.create_task(body())
        await asyncio.sleep(after)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert server.queues in ([], ["orders"])
        assert asyncio.all_tasks() == tasks


async def test_background_failure_does_not_cancel_the_body(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def stumble() -> None:
        raise ZeroDivisionError("a bug")

    request = bench.task(bench.publisher.request("orders", "a"))
    await asyncio.sleep(1)
    bench.publisher._owner.spawn(stumble)
    assert isinstance(await ended(request), ReplyQueueClosed)
    await bench.publisher._owner.wait()
    assert "a bug" in caplog.text
    with pytest.raises(RuntimeError, match="not open any more: it failed"):
        await bench.publisher.send("orders", "a")


async def test_publishers_in_one_stack_leave_nothing(server: MemoryServer) -> None:
    tasks = asyncio.all_tasks()
    server.create(server.account, "orders", {}, {})
    async with AsyncExitStack() as stack:
        sqs = await stack.enter_async_context(connect(server))
        publishers = [await stack.enter_async_context(Publisher(sqs)) for _ in range(5)]
        await stack.enter_async_context(working(server))
        await asyncio.gather(*(publisher.request("orders", "a") for publisher in publishers))
        assert len(server.queues) == 6
    assert server.queues == ["orders"]
    assert asyncio.all_tasks() == tasks
