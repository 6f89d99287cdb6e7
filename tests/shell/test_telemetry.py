"""`sqs_orchestrator.opentelemetry`: spans and metrics, on an SQS in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    NoOpTracer,
    NoOpTracerProvider,
    Span,
    SpanKind,
    StatusCode,
    TraceState,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sqs_orchestrator import (
    NO_REPLY,
    InvalidMessage,
    Message,
    MessageTooLarge,
    Poller,
    Publisher,
    QueueError,
    QueueNotFound,
    Reject,
    RemoteError,
    ReplyQueue,
    ReplyTimeout,
    ReplyTo,
    Retry,
    Throttled,
)
from sqs_orchestrator.core.limits import MESSAGE_BYTES
from sqs_orchestrator.opentelemetry import Telemetry
from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.testing import MemoryConnection, MemoryServer, MemorySQS, connect, sent
from tests.shell.workers import text, until
from tests.telemetry import Recorded, facts, links, trace_ids

REPLY = "sqs_orchestrator_reply_{id}"
FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FOREIGN_TRACE, FOREIGN_SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


class Bench:
    """A connection, a publisher and workers, all with one `Telemetry`."""

    def __init__(self, server: MemoryServer, sqs: MemoryConnection, stack: AsyncExitStack) -> None:
        self.server = server
        self.sqs = sqs
        self.recorded: Recorded
        self.publisher: Publisher
        self._stack = stack

    async def work(self, handler: Callable[..., Any], queue: str = "orders", **more: Any) -> Poller:
        poller = Poller(
            self.sqs, queue, handler, middleware=[self.recorded.telemetry], wait_time=5, **more
        )
        return await self._stack.enter_async_context(poller)

    async def send_foreign(self, *bodies: str, **attributes: str) -> None:
        """Send what other programs send, beside the library."""
        entries = [
            SendEntry(body, {name: text(value) for name, value in attributes.items()})
            for body in bodies
        ]
        await MemorySQS(self.server).send(self.server.url("orders"), entries)


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    recorded = Recorded()
    async with (
        connect(server, wrap=recorded.telemetry.wrap) as sqs,
        AsyncExitStack() as stack,
    ):
        await sqs.create_queue("orders")
        made = Bench(server, sqs, stack)
        made.recorded = recorded
        made.publisher = Publisher(sqs, middleware=[recorded.telemetry], default_timeout=20)
        await stack.enter_async_context(made.publisher)
        await made.publisher.ready()
        yield made


Propagators = Callable[..., None]


@pytest.fixture
def propagators() -> Iterator[Propagators]:
    """Configures the propagators of the program, for this test."""
    before = propagate.get_global_textmap()
    yield lambda *several: propagate.set_global_textmap(CompositePropagator(list(several)))
    propagate.set_global_textmap(before)


async def echo(message: Message) -> str:
    return message.body


# --------------------------------------------------------------------- the whole trace


async def test_request_is_one_trace_from_the_caller_through_the_worker_and_back(
    bench: Bench,
) -> None:
    async def handle(message: Message) -> str:
        with recorded.tracer.start_as_current_span("work"):
            return message.body

    recorded = bench.recorded
    await bench.work(handle)
    with recorded.tracer.start_as_current_span("endpoint"):
        await bench.publisher.request("orders", "a", message_type="t")
    await asyncio.sleep(1)
    assert recorded.tree("endpoint") == (
        "endpoint INTERNAL\n"
        "  request orders CLIENT\n"
        "    create orders PRODUCER\n"
        "      SendMessageBatch orders CLIENT\n"
        "      process orders CONSUMER\n"
        "        work INTERNAL\n"
        f"        send {REPLY} PRODUCER\n"
        f"          SendMessageBatch {REPLY} CLIENT"
    )
    request, process = recorded.one("request orders"), recorded.one("process orders")
    created, reply = recorded.one("create orders"), recorded.one(f"send {REPLY}")
    assert links(request) == {reply.context.span_id}
    assert links(process) == {created.context.span_id}
    # Receives have traces of their own, with links to what they brought.
    (first,) = recorded.named("ReceiveMessage orders")
    (second,) = recorded.named(f"ReceiveMessage {REPLY}")
    assert first.parent is None
    assert second.parent is None
    assert links(first) == {created.context.span_id}
    assert links(second) == {reply.context.span_id}
    conversations = {
        facts(span)["messaging.message.conversation_id"]
        for span in (request, created, process, reply)
    }
    assert len(conversations) == 1


async def test_spans_have_the_attributes_of_the_conventions(bench: Bench) -> None:
    await bench.work(echo)
    message_id = await bench.publisher.send("orders", "a", message_type="t")
    await asyncio.sleep(1)
    url = bench.server.url("orders")
    broker = {
        "messaging.system": "aws_sqs",
        "messaging.destination.name": "orders",
        "aws.sqs.queue.url": url,
        "server.address": url.split("/")[2],
    }
    span = bench.recorded.one("send orders")
    assert span.kind is SpanKind.PRODUCER
    assert facts(span) == {
        "messaging.system": "aws_sqs",
        "messaging.destination.name": "orders",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.message.id": message_id,
        "sqs_orchestrator.message.type": "t",
    }
    assert facts(bench.recorded.one("SendMessageBatch orders")) == broker | {
        "messaging.operation.name": "SendMessageBatch",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 1,
    }
    assert facts(bench.recorded.one("ReceiveMessage orders")) == broker | {
        "messaging.operation.name": "ReceiveMessage",
        "messaging.operation.type": "receive",
        "messaging.batch.message_count": 1,
    }
    assert facts(bench.recorded.one("process orders")) == broker | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": message_id,
        "sqs_orchestrator.message.type": "t",
        "sqs_orchestrator.outcome": "handled",
    }
    assert facts(bench.recorded.one("DeleteMessageBatch orders")) == broker | {
        "messaging.operation.name": "DeleteMessageBatch",
        "messaging.operation.type": "settle",
        "messaging.batch.message_count": 1,
    }
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "sqs_orchestrator"


async def test_a_reply_queue_is_named_without_its_id(bench: Bench) -> None:
    await bench.work(echo)
    await bench.publisher.request("orders", "a")
    span = facts(bench.recorded.one(f"send {REPLY}"))
    assert span["messaging.destination.template"] == REPLY
    assert span["messaging.destination.temporary"] is True
    assert span["messaging.destination.name"] in bench.server.queues
    for metric in ("messaging.client.sent.messages", "messaging.client.operation.duration"):
        names = {name for point in bench.recorded.measured(metric) for name, _ in point}
        values = {value for point in bench.recorded.measured(metric) for _, value in point}
        assert REPLY in values
        assert "aws.sqs.queue.url" not in names
        assert span["messaging.destination.name"] not in values


async def test_a_late_answer_joins_the_trace_by_the_attributes_that_it_is_given(
    bench: Bench,
) -> None:
    kept: list[tuple[str, dict[str, Any]]] = []

    async def later(message: Message) -> Any:
        kept.append((str(message.reply_to), dict(message.reply_attributes)))
        return NO_REPLY

    await bench.work(later)
    request = asyncio.create_task(bench.publisher.request("orders", "a"))
    await until(lambda: kept)
    ((reply_to, attributes),) = kept
    await bench.publisher.reply(reply_to, "done", attributes=attributes)
    assert (await request).body == "done"
    answered, process = bench.recorded.one(f"send {REPLY}"), bench.recorded.one("process orders")
    assert answered.parent is not None
    assert answered.parent.span_id == process.context.span_id


# ------------------------------------------------------------------- batches and links


async def test_a_batch_of_several_traces_is_in_none_of_them_and_has_links_to_all(
    bench: Bench,
) -> None:
    await asyncio.gather(*(bench.publisher.send("orders", body) for body in "abc"))
    sends = bench.recorded.named("send orders")
    (batch,) = bench.recorded.named("SendMessageBatch orders")
    assert len(trace_ids(sends)) == 3
    assert batch.parent is None
    assert batch.context.trace_id not in trace_ids(sends)
    assert links(batch) == {span.context.span_id for span in sends}
    assert facts(batch)["messaging.batch.message_count"] == 3
    await bench.work(echo)
    await until(lambda: len(bench.recorded.named("process orders")) == 3)
    (receive,) = bench.recorded.named("ReceiveMessage orders")
    assert links(receive) == links(batch)
    assert receive.parent is None
    assert trace_ids(bench.recorded.named("process orders")) == trace_ids(sends)


async def test_a_batch_of_one_trace_is_in_it(bench: Bench) -> None:
    with bench.recorded.tracer.start_as_current_span("endpoint") as endpoint:
        await asyncio.gather(*(bench.publisher.send("orders", body) for body in "abc"))
    sends = bench.recorded.named("send orders")
    batch = bench.recorded.one("SendMessageBatch orders")
    assert trace_ids([batch]) == {endpoint.get_span_context().trace_id}
    assert batch.parent is not None
    assert batch.parent.span_id in {span.context.span_id for span in sends}
    assert len(links(batch)) == 3


async def test_calls_are_not_in_the_trace_in_which_the_publisher_was_opened(
    server: MemoryServer,
) -> None:
    recorded = Recorded()
    with recorded.tracer.start_as_current_span("start") as start:
        async with connect(server, wrap=recorded.telemetry.wrap) as sqs:
            await sqs.create_queue("orders")
            async with (
                Publisher(sqs, middleware=[recorded.telemetry]) as publisher,
                Poller(sqs, "orders", echo, middleware=[recorded.telemetry], wait_time=1),
            ):
                token = attach(trace.set_span_in_context(trace.INVALID_SPAN))
                await publisher.send("orders", "a")
                detach(token)
                await asyncio.sleep(3)
    mine = start.get_span_context().trace_id
    names = {span.name for span in recorded.spans if span.context.trace_id == mine}
    assert "CreateQueue orders" in names
    assert not names & {
        "SendMessageBatch orders",
        "ReceiveMessage orders",
        "DeleteMessageBatch orders",
        "process orders",
    }


async def test_a_poll_that_brings_nothing_makes_no_span(bench: Bench) -> None:
    await bench.work(echo)
    await asyncio.sleep(60)
    assert bench.recorded.named("ReceiveMessage orders") == []
    polls = bench.recorded.total("sqs_orchestrator.poll.size")
    assert polls == bench.server.calls["ReceiveMessage"] - 1 > 5  # one is under way


# ------------------------------------------------------------------ contexts of others


async def test_messages_of_other_programs_join_the_trace_that_they_carry(bench: Bench) -> None:
    await bench.work(echo)
    await bench.send_foreign("a", traceparent=FOREIGN, tracestate="vendor=1")
    await until(lambda: bench.recorded.named("process orders"))
    process = bench.recorded.one("process orders")
    assert process.context.trace_id == FOREIGN_TRACE
    assert process.parent is not None
    assert process.parent.span_id == FOREIGN_SPAN
    assert process.context.trace_state["vendor"] == "1"
    assert links(process) == {FOREIGN_SPAN}


@pytest.mark.parametrize("kind", ["send", "request"])
async def test_a_context_of_the_callers_own_stays_as_it_is(bench: Bench, kind: str) -> None:
    await bench.work(echo)
    call = getattr(bench.publisher, kind)
    await call("orders", "a", attributes={"traceparent": FOREIGN})
    await until(lambda: bench.recorded.named("process orders"))
    span = bench.recorded.one(f"{kind} orders")
    assert span.kind is SpanKind.CLIENT
    assert FOREIGN_SPAN in links(span)
    assert bench.recorded.named("create orders") == []
    (message,) = sent(bench.sqs, "orders")
    assert message.attributes["traceparent"] == FOREIGN
    assert bench.recorded.one("process orders").context.trace_id == FOREIGN_TRACE


@pytest.mark.parametrize("value", ["", "nonsense", FOREIGN.replace("-01", "-zz"), "x" * 10_000])
async def test_a_context_that_is_none_is_passed_over(bench: Bench, value: str) -> None:
    await bench.work(echo)
    await bench.send_foreign("a", traceparent=value or " ")
    await until(lambda: bench.recorded.named("process orders"))
    process = bench.recorded.one("process orders")
    assert process.parent is None
    assert links(process) == set()


async def test_a_number_in_its_place_is_passed_over(bench: Bench) -> None:
    await bench.work(echo)
    await bench.publisher.send("orders", "a", attributes={"baggage": 5, "tracestate": b"x"})
    await until(lambda: bench.recorded.named("process orders"))
    assert bench.recorded.one("process orders").parent is not None


async def test_baggage_reaches_the_handler_and_does_not_come_back(bench: Bench) -> None:
    seen: list[object] = []

    async def handle(message: Message) -> None:
        seen.append(baggage.get_baggage("tenant"))

    await bench.work(handle)
    token = attach(baggage.set_baggage("tenant", "a"))
    reply = await bench.publisher.request("orders", "a")
    detach(token)
    assert seen == ["a"]
    assert set(reply.attributes) == {"traceparent"}


async def test_what_is_not_sampled_is_not_recorded_by_the_worker(server: MemoryServer) -> None:
    caller, worker = Recorded(ALWAYS_OFF), Recorded()
    async with connect(server) as sqs:
        await sqs.create_queue("orders")
        async with (
            Publisher(sqs, middleware=[caller.telemetry]) as publisher,
            Poller(sqs, "orders", echo, middleware=[worker.telemetry], wait_time=1),
        ):
            await publisher.request("orders", "a")
    assert caller.spans == worker.spans == []
    assert worker.total("messaging.process.duration") == 1


# ------------------------------------------------------------------- room for the context


def attributes(count: int) -> dict[str, str]:
    return {f"mine{number}": "x" for number in range(count)}


OPTIONS: list[tuple[str, dict[str, Any], Any, int]] = [
    ("send", {}, "text", 0),
    ("send", {"message_type": "t"}, "text", 1),
    ("send", {"message_type": "t"}, b"bytes", 2),
    ("request", {}, "text", 2),
    ("request", {"message_type": "t"}, b"bytes", 4),
]


class Bytes:
    """A codec whose bodies have a content type, which is one more attribute."""

    def encode(self, body: Any) -> tuple[str, str | None]:
        text: str = body.decode()
        return text, "application/x-mine"

    def decode(self, body: str, type: Any, content_type: str | None = None) -> Any:  # noqa: A002
        raise NotImplementedError


@pytest.mark.parametrize(("kind", "options", "body", "own"), OPTIONS)
@pytest.mark.parametrize("legacy", [False, True])
async def test_the_context_takes_the_last_attribute_and_goes_where_there_is_none(
    bench: Bench, kind: str, options: dict[str, Any], body: Any, own: int, legacy: bool
) -> None:
    if legacy and kind == "send":
        return
    recorded = bench.recorded
    async with (
        ReplyQueue(bench.sqs, legacy=legacy) as replies,
        Publisher(
            bench.sqs, middleware=[recorded.telemetry], reply_queue=replies, codec=Bytes()
        ) as publisher,
    ):
        room = 10 - own - 2 * legacy
        call = getattr(publisher, kind)
        if kind == "request":
            options = {**options, "timeout": 1}
        for count, carried, dropped in ((room - 1, True, 0), (room, False, 1)):
            with contextlib.suppress(ReplyTimeout):  # nobody answers
                await call("orders", body, attributes=attributes(count), **options)
            message = sent(bench.sqs, "orders")[-1]
            assert ("traceparent" in message.attributes) is carried
            assert attributes(count).items() <= message.attributes.items()
            assert recorded.total("sqs_orchestrator.context.dropped") == dropped
        # One more is the caller's own fault, and is told as that.
        with pytest.raises(InvalidMessage, match=f"which leaves {room} for yours"):
            await call("orders", body, attributes=attributes(room + 1), **options)


async def test_where_there_is_room_for_one_it_is_the_traceparent(bench: Bench) -> None:
    state = TraceState([("vendor", "1")])
    parent = trace.SpanContext(1, 2, True, trace.TraceFlags(1), state)
    token = attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    await bench.publisher.send("orders", "a", attributes=attributes(8))
    await bench.publisher.send("orders", "b", attributes=attributes(9))
    detach(token)
    both, one = sent(bench.sqs, "orders")
    assert {"traceparent", "tracestate"} <= set(both.attributes)
    assert set(one.attributes) - set(attributes(9)) == {"traceparent"}
    assert bench.recorded.total("sqs_orchestrator.context.dropped") == 1


async def test_where_there_is_room_for_one_it_is_the_traceparent_after_baggage_too(
    bench: Bench, propagators: Propagators
) -> None:
    propagators(W3CBaggagePropagator(), TraceContextTextMapPropagator())
    token = attach(baggage.set_baggage("tenant", "a"))
    await bench.publisher.send("orders", "b", attributes=attributes(9))
    detach(token)
    (one,) = sent(bench.sqs, "orders")
    assert set(one.attributes) - set(attributes(9)) == {"traceparent"}


async def test_the_reply_keeps_its_own_attributes_before_the_context(bench: Bench) -> None:
    async def handle(message: Message) -> str:
        message.reply_attributes.update(attributes(int(message.body)))
        return "done"

    await bench.work(handle)
    some = await bench.publisher.request("orders", "8")
    many = await bench.publisher.request("orders", "9")
    assert "traceparent" in some.attributes
    assert "traceparent" not in many.attributes
    assert attributes(9) == many.attributes
    assert bench.recorded.total("sqs_orchestrator.context.dropped") == 1


async def test_a_message_of_the_largest_size_goes_without_the_context(bench: Bench) -> None:
    await bench.publisher.send("orders", "x" * MESSAGE_BYTES)
    (message,) = sent(bench.sqs, "orders")
    assert message.attributes == {}
    assert bench.recorded.total("sqs_orchestrator.context.dropped") == 1
    with pytest.raises(MessageTooLarge):
        await bench.publisher.send("orders", "x" * (MESSAGE_BYTES + 1))
    assert bench.recorded.total("sqs_orchestrator.context.dropped") == 1
    assert len(sent(bench.sqs, "orders")) == 1


# -------------------------------------------------------- what OpenTelemetry's parts do wrong


class Propagator(TextMapPropagator):
    """One of the program's own, which writes what a test says, or fails."""

    def __init__(self, written: dict[str, Any], *, reads: bool = True, writes: bool = True) -> None:
        self._written, self._reads, self._writes = written, reads, writes

    def extract(self, carrier: Any, context: Context | None = None, getter: Any = None) -> Context:
        if not self._reads:
            raise ValueError("it is no hexadecimal number")
        return context or Context()

    def inject(self, carrier: Any, context: Context | None = None, setter: Any = None) -> None:
        if not self._writes:
            raise ValueError("it has no such key")
        carrier.update(self._written)

    @property
    def fields(self) -> set[str]:
        return set(self._written)


class Processor(SpanProcessor):
    """One of the program's own, which fails at the start or at the end of each span."""

    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._at == "start":
            raise ValueError("the processor is broken")

    def on_end(self, span: ReadableSpan) -> None:
        if self._at == "end":
            raise ValueError("the processor is broken")


@pytest.mark.parametrize(
    "written",
    [{"uberctx-user id": "5"}, {"user": "a\x00b"}, {"user": ["5"]}, {"user": ""}],
    ids=["name", "character", "type", "empty"],
)
async def test_what_no_attribute_can_carry_is_left_out(
    bench: Bench, propagators: Propagators, written: dict[str, Any]
) -> None:
    propagators(TraceContextTextMapPropagator(), Propagator(written))
    await bench.work(echo)
    reply = await bench.publisher.request("orders", "one", timeout=5)
    (message,) = sent(bench.sqs, "orders")
    assert set(message.attributes) == set(reply.attributes) == {"traceparent"}


@pytest.mark.parametrize("fault", [{"reads": False}, {"writes": False}])
async def test_propagator_that_fails_breaks_no_request(
    bench: Bench, propagators: Propagators, caplog: pytest.LogCaptureFixture, fault: dict[str, bool]
) -> None:
    propagators(TraceContextTextMapPropagator(), Propagator({}, **fault))
    poller = await bench.work(echo)
    assert (await bench.publisher.request("orders", "one", timeout=5)).body == "one"
    await until(lambda: poller.statistics().deleted == 1)
    assert poller.statistics().redelivered == 0
    assert {each.name for each in caplog.records} == {"sqs_orchestrator.opentelemetry.sparing"}
    assert "a propagator could not" in caplog.text


@pytest.mark.parametrize("at", ["start", "end"])
async def test_span_processor_that_fails_breaks_no_request(
    bench: Bench, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    bench.recorded.tracer_provider.add_span_processor(Processor(at))
    poller = await bench.work(echo)
    assert (await bench.publisher.request("orders", "one", timeout=5)).body == "one"
    await until(lambda: poller.statistics().deleted == 1)
    assert poller.statistics().redelivered == 0
    assert bench.recorded.total("sqs_orchestrator.requests.pending") == 0
    assert bench.recorded.total("sqs_orchestrator.handlers.running") == 0
    assert {each.name for each in caplog.records} == {"sqs_orchestrator.opentelemetry.sparing"}


async def test_error_without_a_text_is_still_that_error(bench: Bench) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("it has no text")

    async def handle(message: Message) -> None:
        raise Mute

    await bench.work(handle)
    with pytest.raises(RemoteError, match="Mute"):
        await bench.publisher.request("orders", "one", timeout=5)
    assert facts(bench.recorded.one("process orders"))["error.type"] == "Mute"


# ----------------------------------------------------------------------------- failures


async def fail(message: Message) -> None:
    raise LookupError("no such order")


async def reject(message: Message) -> None:
    raise Reject("sold out", code="sold_out")


async def test_a_failed_handler_shows_on_both_sides(bench: Bench) -> None:
    await bench.work(fail)
    with pytest.raises(RemoteError):
        await bench.publisher.request("orders", "a")
    process, request = bench.recorded.one("process orders"), bench.recorded.one("request orders")
    assert facts(process)["error.type"] == "LookupError"
    assert facts(process)["sqs_orchestrator.outcome"] == "failed"
    assert process.status.status_code is StatusCode.ERROR
    assert [event.name for event in process.events] == ["exception"]
    assert facts(request)["error.type"] == "handler_error"
    assert facts(request)["sqs_orchestrator.outcome"] == "remote_error"
    assert request.status.status_code is StatusCode.ERROR
    # Error replies belong to the trace too.
    assert trace_ids([bench.recorded.one(f"send {REPLY}")]) == trace_ids([request])
    recorded = bench.recorded
    assert recorded.total("messaging.process.duration", error__type="LookupError") == 1
    remote = {"sqs_orchestrator__outcome": "remote_error", "error__type": "handler_error"}
    assert recorded.total("sqs_orchestrator.request.duration", **remote) == 1


async def test_a_rejected_request_is_no_error_of_the_worker(bench: Bench) -> None:
    await bench.work(reject)
    with pytest.raises(RemoteError):
        await bench.publisher.request("orders", "a")
    process, request = bench.recorded.one("process orders"), bench.recorded.one("request orders")
    assert process.status.status_code is StatusCode.UNSET
    assert facts(process)["sqs_orchestrator.outcome"] == "rejected"
    assert facts(process)["sqs_orchestrator.error.code"] == "sold_out"
    assert "error.type" not in facts(process)
    assert facts(request)["error.type"] == "sold_out"


async def test_a_message_that_comes_again_has_a_span_for_each_time(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        if message.receive_count == 1:
            raise Retry(delay=3)

    await bench.work(handle)
    await bench.publisher.send("orders", "a")
    await until(lambda: len(bench.recorded.named("process orders")) == 2)
    first, second = bench.recorded.named("process orders")
    assert facts(first)["sqs_orchestrator.outcome"] == "retried"
    assert first.status.status_code is StatusCode.UNSET
    assert facts(second)["sqs_orchestrator.message.receive_count"] == 2
    assert first.parent == second.parent


async def test_requests_that_get_no_reply_say_how_they_ended(bench: Bench) -> None:
    with pytest.raises(ReplyTimeout):
        await bench.publisher.request("orders", "a", timeout=1)
    task = asyncio.create_task(bench.publisher.request("orders", "b"))
    await asyncio.sleep(1)
    assert bench.recorded.total("sqs_orchestrator.requests.pending") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(QueueError):
        await bench.publisher.request("nowhere", "c", timeout=1)
    ended = [
        (facts(span)["sqs_orchestrator.outcome"], facts(span)["error.type"])
        for name in ("orders", "nowhere")
        for span in bench.recorded.named(f"request {name}")
    ]
    assert ended == [
        ("timeout", "ReplyTimeout"),
        ("cancelled", "CancelledError"),
        ("failure", "QueueNotFound"),
    ]
    assert bench.recorded.total("sqs_orchestrator.requests.pending") == 0


async def test_a_call_that_fails_says_why_and_which_attempt_it_was(bench: Bench) -> None:
    bench.server.faults.fail("SendMessageBatch", Throttled, times=1)
    await bench.publisher.send("orders", "a")
    first, second = bench.recorded.named("SendMessageBatch orders")
    assert facts(first)["error.type"] == "Throttled"
    assert first.status.status_code is StatusCode.ERROR
    assert facts(second)["sqs_orchestrator.attempt"] == 2
    assert second.status.status_code is StatusCode.UNSET
    sent_messages = bench.recorded.measured("messaging.client.sent.messages")
    assert sorted(sent_messages.values()) == [1, 1]


async def test_a_queue_that_is_asked_for_and_not_there_is_no_error_of_the_call(
    bench: Bench,
) -> None:
    with pytest.raises(QueueNotFound):
        await bench.publisher.send("nowhere", "a")
    asked = bench.recorded.one("GetQueueUrl nowhere")
    assert asked.status.status_code is StatusCode.UNSET
    assert "error.type" not in facts(asked)
    (sent,) = bench.recorded.named("send nowhere")
    assert sent.status.status_code is StatusCode.ERROR
    bench.server.faults.fail("GetQueueUrl", Throttled, times=1)
    await bench.sqs.create_queue("later")
    await bench.publisher.send("later", "b")
    refused, answered = bench.recorded.named("GetQueueUrl later")
    assert facts(refused)["error.type"] == "Throttled"
    assert answered.status.status_code is StatusCode.UNSET


# ------------------------------------------------------------------------------ metrics


async def test_metrics_of_the_conventions(bench: Bench) -> None:
    await bench.work(echo)
    await asyncio.gather(*(bench.publisher.send("orders", body) for body in "abc"))
    await bench.publisher.request("orders", "d")
    await asyncio.sleep(1)
    recorded = bench.recorded
    orders = {"messaging__system": "aws_sqs", "messaging__destination__name": "orders"}
    replies = {"messaging__system": "aws_sqs", "messaging__destination__template": REPLY}
    assert recorded.total("messaging.client.sent.messages", **orders) == 4
    assert recorded.total("messaging.client.consumed.messages", **orders) == 4
    assert recorded.total("messaging.client.sent.messages", **replies) == 1
    assert recorded.total("messaging.client.consumed.messages", **replies) == 1
    async with Publisher(bench.sqs) as another:
        await another.request("orders", "e")
    points = recorded.measured("messaging.client.sent.messages")
    assert [count for point, count in points.items() if REPLY in dict(point).values()] == [2]
    assert recorded.total("messaging.process.duration", **orders) == 5
    for operation, type_ in (
        ("SendMessageBatch", "send"),
        ("ReceiveMessage", "receive"),
        ("DeleteMessageBatch", "settle"),
    ):
        count = recorded.total(
            "messaging.client.operation.duration",
            messaging__operation__name=operation,
            messaging__operation__type=type_,
        )
        under_way = operation == "ReceiveMessage"
        assert count == bench.server.calls[operation] - under_way > 0
    assert recorded.total("sqs_orchestrator.request.duration") == 1


async def test_handlers_are_counted_while_they_run(bench: Bench) -> None:
    async def handle(message: Message) -> None:
        await asyncio.sleep(float(message.body))

    await bench.work(handle)
    await bench.publisher.send("orders", "5")
    await bench.publisher.send("orders", "15")
    await asyncio.sleep(2)
    recorded = bench.recorded
    assert recorded.total("sqs_orchestrator.handlers.running") == 2
    assert recorded.total("sqs_orchestrator.handlers.oldest") > 0
    await asyncio.sleep(20)
    assert recorded.total("sqs_orchestrator.handlers.running") == 0
    assert recorded.total("sqs_orchestrator.handlers.oldest") == 0


async def test_observed_objects_are_asked_for_their_statistics(bench: Bench) -> None:
    async def slow(message: Message) -> None:
        await asyncio.sleep(25)

    recorded = bench.recorded
    poller = await bench.work(slow)
    recorded.telemetry.observe(poller, bench.publisher)
    url = bench.publisher.reply_queue.statistics().url
    assert url is not None
    await bench.publisher.send("orders", "a")
    request = asyncio.create_task(bench.publisher.request("orders", "b", timeout=60))
    await asyncio.sleep(1)
    await bench.publisher.reply(ReplyTo(url, "nobody's"), "x")
    await request
    await asyncio.sleep(5)
    statistics = poller.statistics()
    assert statistics.extensions > 0
    orders = {"messaging__destination__name": "orders"}
    assert (
        recorded.total("sqs_orchestrator.visibility.extensions", **orders) == statistics.extensions
    )
    assert recorded.total("sqs_orchestrator.replies.unmatched") == 1
    assert recorded.total("sqs_orchestrator.messages.unsent") == 0
    assert recorded.total("sqs_orchestrator.reply_queues.fleet") == 1
    assert recorded.measured("sqs_orchestrator.poll.age")


async def test_health_of_observed_objects_is_measured(bench: Bench) -> None:
    def healthy() -> list[float]:
        return [
            recorded.total("sqs_orchestrator.publisher.healthy"),
            recorded.total(
                "sqs_orchestrator.poller.healthy", messaging__destination__name="orders"
            ),
        ]

    recorded = bench.recorded
    poller, another = await bench.work(echo), Poller(bench.sqs, "orders", echo)
    recorded.telemetry.observe(bench.publisher, poller)
    assert healthy() == [1, 1]
    bench.server.faults.fail("ReceiveMessage", times=None)
    await asyncio.sleep(30)
    assert healthy() == [1, 0]
    bench.server.faults.clear()
    await asyncio.sleep(60)
    assert healthy() == [1, 1]
    # Several pollers of one queue are healthy if all of them are.
    recorded.telemetry.observe(another)
    assert healthy() == [1, 0]


async def test_ages_of_several_pollers_are_not_added_up(bench: Bench) -> None:
    recorded = bench.recorded
    pollers = [await bench.work(echo) for _ in range(2)]
    recorded.telemetry.observe(*pollers)
    await asyncio.sleep(7)
    ages = [poller.statistics().seconds_since_poll or 0.0 for poller in pollers]
    assert recorded.total("sqs_orchestrator.poll.age") == max(ages) > 0


async def test_observing_keeps_nothing_alive(bench: Bench) -> None:
    replies = ReplyQueue(bench.sqs)
    bench.recorded.telemetry.observe(replies)
    assert bench.recorded.measured("sqs_orchestrator.reply_queues.fleet")
    del replies
    gc.collect()
    assert not bench.recorded.measured("sqs_orchestrator.reply_queues.fleet")


def test_only_what_has_statistics_is_observed() -> None:
    with pytest.raises(TypeError, match="a Publisher, Poller or ReplyQueue"):
        Recorded().telemetry.observe("orders")  # type: ignore[arg-type]


# -------------------------------------------------------------------------- without an SDK


class OldTracer(NoOpTracer):
    """That of the API before its version 1.40, which lost the context."""

    def start_span(self, *_: Any, **__: Any) -> Span:
        return trace.INVALID_SPAN


class OldTracerProvider(NoOpTracerProvider):
    def get_tracer(self, *_: Any, **__: Any) -> OldTracer:
        return OldTracer()


@pytest.mark.parametrize("provider", [NoOpTracerProvider, OldTracerProvider])
async def test_without_an_sdk_nothing_is_sent_along_and_nothing_breaks(
    server: MemoryServer, provider: type[NoOpTracerProvider]
) -> None:
    telemetry = Telemetry(provider(), NoOpMeterProvider())
    async with connect(server, wrap=telemetry.wrap) as sqs:
        await sqs.create_queue("orders")
        async with (
            Publisher(sqs, middleware=[telemetry]) as publisher,
            Poller(sqs, "orders", echo, middleware=[telemetry], wait_time=1) as poller,
        ):
            telemetry.observe(publisher, poller)
            reply = await publisher.request("orders", "a")
            assert (reply.body, reply.attributes) == ("a", {})
            (message,) = sent(sqs, "orders")
            assert message.attributes == {}
            # A context that comes from elsewhere is handed on all the same.
            parent = trace.SpanContext(FOREIGN_TRACE, FOREIGN_SPAN, True, trace.TraceFlags(1))
            token = attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
            reply = await publisher.request("orders", "b")
            detach(token)
            assert reply.attributes == {"traceparent": FOREIGN}
