"""`Telemetry`: the middleware that makes spans of messages, and the wrap that makes them of calls.

One request makes this trace, from the caller through the worker and back. In brackets the kind of
the span, and who makes it.

    request orders             (client, outgoing)
    └ create orders            (producer, outgoing): its context travels in the request
      ├ SendMessageBatch orders (client, wrap)
      └ process orders         (consumer, incoming)
        └ send <reply queue>   (producer, outgoing): its context travels in the reply
          └ SendMessageBatch <reply queue>

A call may carry messages of several traces. Then it belongs to none of them: it has a trace of its
own, with links to the messages. A receive always has, since it begins before it knows what it will
bring.

A handler's reply is sent after the handler has ended, elsewhere. So `incoming` puts the context of
its span among the attributes of the reply, where `outgoing` finds it, as the parent.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from .._version import __version__
from ..drafts import Draft
from ..errors import InvalidMessage, MessageTooLarge, QueueNotFound, RemoteError, ReplyTimeout
from ..message import Message, Reply
from ..results import Reject, Retry
from ..sqs.wrapping import Call
from . import conventions as names
from .carriers import (
    attempts,
    attributes_for,
    context_in,
    for_want_of_room,
    span_context_in,
    without_context,
)
from .conventions import Attributes, Destination, destination
from .instruments import Instruments, Observed
from .sparing import begin, end, record

__all__ = ["Telemetry"]


class Telemetry:
    """Traces and metrics of connections, publishers and pollers. One serves them all.

    ```python
    telemetry = Telemetry()
    async with connect(wrap=telemetry.wrap) as sqs:
        publisher = Publisher(sqs, middleware=[telemetry])
        poller = Poller(sqs, "orders", handle, middleware=[telemetry])
        telemetry.observe(publisher, poller)
    ```

    Each of the three doors works without the others: the middleware makes the spans of messages,
    the wrap those of API calls, and `observe` adds metrics that only `statistics()` and `health()`
    have.

    Args:
        tracer_provider: Where spans go; the global provider by default.
        meter_provider: Where metrics go; the global provider by default.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(
            "sqs_orchestrator", __version__, tracer_provider, schema_url=names.SCHEMA
        )
        self._measures = Instruments(
            metrics.get_meter(
                "sqs_orchestrator", __version__, meter_provider, schema_url=names.SCHEMA
            )
        )

    def observe(self, *objects: Observed) -> None:
        """Export what `statistics()` of publishers, pollers and reply queues count, and whether
        pollers and publishers are healthy.

        Of a `Publisher` its reply queue is observed too. Whoever is observed is not kept alive by
        that. Several make one value, pollers by queue, the others all together: what they count is
        added up; of ages, of failures in a row and of sizes of the fleet the largest counts; and
        they are healthy if all of them are. One that has ended is not healthy.

        Raises:
            TypeError: One of them is something else.
        """
        for each in objects:
            if not isinstance(each, Observed):
                raise TypeError(f"a Publisher, Poller or ReplyQueue is observed, not {each!r}")
            self._measures.observe(each)
            reply_queue = getattr(each, "reply_queue", None)
            if reply_queue is not None:
                self._measures.observe(reply_queue)

    # --------------------------------------------------------------------- messages

    async def outgoing(self, draft: Draft, call_next: Callable[[Draft], Awaitable[Any]]) -> Any:
        """The middleware around what goes out: a span for a send or a reply, two for a request."""
        to = destination(draft.queue)
        if draft.kind == "request":
            return await self._request(draft, call_next, to)
        carrier: dict[str, str] = {}
        given = span_context_in(draft.attributes)
        if given is not None and draft.kind == "send":
            # The caller's own creation context, which stays as it is.
            span = self._start("send", to, SpanKind.CLIENT, None, draft, links=[Link(given)])
            context = _within(span)
        else:
            parent = None
            if given is not None:
                # That of the handler whose reply it is.
                parent = trace.set_span_in_context(trace.NonRecordingSpan(given))
                draft = draft.replace(attributes=without_context(draft.attributes))
            span = self._start("send", to, SpanKind.PRODUCER, parent, draft)
            context = _within(span, parent)
            carrier = attributes_for(context)
        token = attach(context)
        try:
            message_id = await self._send(draft, carrier, call_next, to)
            span.set_attribute(names.MESSAGE_ID, message_id)
        except BaseException as error:
            _fail(span, error)
            raise
        else:
            return message_id
        finally:
            detach(token)
            end(span)

    async def _request(
        self, draft: Draft, call_next: Callable[[Draft], Awaitable[Any]], to: Destination
    ) -> Any:
        span = self._start("request", to, SpanKind.CLIENT, None, draft)
        context = _within(span)
        carrier: dict[str, str] = {}
        given = span_context_in(draft.attributes)
        if given is not None:
            # The caller's own creation context, which stays as it is.
            span.add_link(given)
        else:
            created = self._start("create", to, SpanKind.PRODUCER, context, draft)
            carrier = attributes_for(_within(created, context))
            end(created)
        measures, facts = self._measures, to.for_metrics
        measures.request_began(to)
        began, token = time.perf_counter(), attach(context)
        outcome, failed = "reply", None
        try:
            reply = await self._send(draft, carrier, call_next, to)
            if isinstance(reply, Reply):
                answered = span_context_in(reply.attributes)
                if answered is not None:
                    span.add_link(answered)
        except BaseException as error:
            outcome = _outcome_of_request(error)
            failed = error.code if isinstance(error, RemoteError) else None
            failed = _fail(span, error, failed)
            raise
        else:
            return reply
        finally:
            detach(token)
            span.set_attribute(names.OUTCOME, outcome)
            end(span)
            measures.request_ended(to)
            more: Attributes = {names.OUTCOME: outcome}
            if failed is not None:
                more[names.ERROR_TYPE] = failed
            measures.request_duration.record(time.perf_counter() - began, {**facts, **more})

    async def _send(
        self,
        draft: Draft,
        carrier: dict[str, str],
        call_next: Callable[[Draft], Awaitable[Any]],
        to: Destination,
    ) -> Any:
        """Send *draft* with as much of the context as there is room for."""
        if not carrier:
            return await call_next(draft)
        for number, (each, part) in enumerate(attempts(draft, carrier)):
            if number == 1:
                self._measures.context_dropped.add(1, to.for_metrics)
            try:
                return await call_next(each)
            except (InvalidMessage, MessageTooLarge) as error:
                if not for_want_of_room(error, draft, part):
                    raise
        raise AssertionError("the last attempt either returned or raised")

    # --------------------------------------------------------------------- handlers

    async def incoming(
        self, message: Message, call_next: Callable[[Message], Awaitable[Any]]
    ) -> Any:
        """The middleware around a handler: the span of its work, in the trace of its message."""
        to = destination(message.queue_url or "")
        parent = context_in(message.attributes)
        creator = trace.get_current_span(parent).get_span_context()
        facts: Attributes = {
            **to.for_spans,
            names.OPERATION_NAME: "process",
            names.OPERATION_TYPE: "process",
            names.MESSAGE_ID: message.message_id,
        }
        if message.correlation_id is not None:
            facts[names.CONVERSATION_ID] = message.correlation_id
        if message.message_type is not None:
            facts[names.MESSAGE_TYPE] = message.message_type
        if message.receive_count > 1:
            facts[names.RECEIVE_COUNT] = message.receive_count
        span = begin(
            self._tracer,
            to.named("process"),
            parent,
            SpanKind.CONSUMER,
            facts,
            [Link(creator)] if creator.is_valid else None,
        )
        context = _within(span, parent)
        if message.reply_to is not None:
            message.reply_attributes.update(attributes_for(context))
        measures = self._measures
        working = measures.handler_began(to)
        began, token = time.perf_counter(), attach(context)
        outcome, failed = "handled", None
        try:
            return await call_next(message)
        except Reject as error:
            outcome = "rejected"
            span.set_attribute(names.ERROR_CODE, error.code)
            raise
        except Retry:
            outcome = "retried"
            raise
        except BaseException as error:
            outcome, failed = "failed", _fail(span, error)
            raise
        finally:
            detach(token)
            span.set_attribute(names.OUTCOME, outcome)
            end(span)
            measures.handler_ended(to, working)
            more: Attributes = {names.OPERATION_NAME: "process"}
            if failed is not None:
                more[names.ERROR_TYPE] = failed
            measures.process_duration.record(
                time.perf_counter() - began, {**to.for_metrics, **more}
            )

    # ------------------------------------------------------------------------ calls

    async def wrap(self, call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        """The wrap around each API call: its span and its metrics."""
        if call.operation == "ReceiveMessage":
            return await self._receive(call, call_next)
        to = destination(call.queue_url or call.queue_name or "")
        batch = call.operation.endswith("Batch")
        context: Context | None = None
        links: list[Link] = []
        if batch:
            found = [span_context_in(each) for each in call.message_attributes]
            links = [Link(each) for each in found if each is not None]
            # A call for messages of one trace belongs to that; else to none, also not to that of
            # the task that happens to make it.
            context = Context()
            if len({each.context.trace_id for each in links}) == 1:
                parent = trace.NonRecordingSpan(links[0].context)
                context = trace.set_span_in_context(parent, context)
        span = begin(
            self._tracer,
            to.named(call.operation),
            context,
            SpanKind.CLIENT,
            _facts_of(call, to),
            links,
        )
        began, token = time.perf_counter(), attach(_within(span, context))
        failed: str | None = None
        results: Sequence[Any] = ()
        try:
            result = await call_next(call)
            if batch:
                results = result
                failed = _mark_failures(span, results)
        except BaseException as error:
            # That there is no such queue is what was asked. Whether it is an error, whoever asked
            # says: a reply queue's name is asked for before it exists, for SQS's time.
            if call.operation != "GetQueueUrl" or not isinstance(error, QueueNotFound):
                failed = _fail(span, error)
            raise
        else:
            return result
        finally:
            detach(token)
            end(span)
            self._measure(call, to, time.perf_counter() - began, failed)
            if batch:
                self._measure_batch(call, to, results, failed)

    async def _receive(self, call: Call, call_next: Callable[[Call], Awaitable[Any]]) -> Any:
        """A poll. Only one that brings messages, or fails, makes a span: most bring none."""
        to = destination(call.queue_url or "")
        started, began = time.time_ns(), time.perf_counter()
        received: Sequence[Any] = ()
        failure: BaseException | None = None
        failed: str | None = None
        try:
            received = await call_next(call)
        except BaseException as error:
            failure, failed = error, type(error).__name__
            raise
        else:
            return received
        finally:
            if received or isinstance(failure, Exception):
                span = begin(
                    self._tracer,
                    to.named(call.operation),
                    Context(),
                    SpanKind.CLIENT,
                    {**_facts_of(call, to), names.BATCH_COUNT: len(received)},
                    start_time=started,
                )
                if span.is_recording():
                    for each in received:
                        creator = span_context_in(each.attributes)
                        if creator is not None:
                            span.add_link(creator)
                if failure is not None:
                    _fail(span, failure)
                end(span)
            self._measure(call, to, time.perf_counter() - began, failed)
            if failure is None:
                facts = {**to.for_metrics, names.OPERATION_NAME: call.operation}
                self._measures.poll_size.record(len(received), facts)
                self._measures.consumed[to, call.operation, None] += len(received)

    def _measure(self, call: Call, to: Destination, seconds: float, failed: str | None) -> None:
        facts = {**to.for_metrics, names.OPERATION_NAME: call.operation}
        kind = names.OPERATION_TYPES.get(call.operation)
        if kind is not None:
            facts[names.OPERATION_TYPE] = kind
        if failed is not None:
            facts[names.ERROR_TYPE] = failed
        self._measures.operation_duration.record(seconds, facts)

    def _measure_batch(
        self, call: Call, to: Destination, results: Sequence[Any], failed: str | None
    ) -> None:
        facts = {**to.for_metrics, names.OPERATION_NAME: call.operation}
        self._measures.batch_size.record(call.entries, facts)
        if call.operation != "SendMessageBatch":
            return
        sent = self._measures.sent
        if not results:
            sent[to, call.operation, failed or "_OTHER"] += call.entries
        for result in results:
            sent[to, call.operation, _code(result)] += 1

    # ------------------------------------------------------------------------ spans

    def _start(
        self,
        operation: str,
        to: Destination,
        kind: SpanKind,
        context: Context | None,
        draft: Draft,
        links: Sequence[Link] = (),
    ) -> Span:
        facts: Attributes = {**to.for_spans, names.OPERATION_NAME: operation}
        if operation != "request":  # for which the conventions have no type
            facts[names.OPERATION_TYPE] = operation
        if draft.correlation_id is not None:
            facts[names.CONVERSATION_ID] = draft.correlation_id
        if draft.message_type is not None:
            facts[names.MESSAGE_TYPE] = draft.message_type
        return begin(self._tracer, to.named(operation), context, kind, facts, links)


def _within(span: Span, context: Context | None = None) -> Context:
    """*context*, by default the current one, with *span* in it."""
    if span.get_span_context().is_valid:
        return trace.set_span_in_context(span, context)
    # Without an SDK. From its version 1.40 on, the API itself hands on the parent's then.
    return get_current() if context is None else context


def _facts_of(call: Call, to: Destination) -> Attributes:
    facts: Attributes = {**to.for_spans, names.OPERATION_NAME: call.operation}
    kind = names.OPERATION_TYPES.get(call.operation)
    if kind is not None:
        facts[names.OPERATION_TYPE] = kind
    if call.operation.endswith("Batch"):
        facts[names.BATCH_COUNT] = call.entries
    if call.attempt > 1:
        facts[names.ATTEMPT] = call.attempt
    return facts


def _code(result: Any) -> str | None:
    """Why SQS refused an entry of a batch; `None` where it did not."""
    code: str | None = getattr(result, "code", None)
    return code


def _mark_failures(span: Span, results: Sequence[Any]) -> str | None:
    """Say how many entries of a batch failed; gives why, where all did."""
    codes = [code for code in map(_code, results) if code is not None]
    if not codes:
        return None
    span.set_attribute(names.FAILED, len(codes))
    if len(codes) < len(results):
        return None
    span.set_attribute(names.ERROR_TYPE, codes[0])
    span.set_status(Status(StatusCode.ERROR, codes[0]))
    return codes[0]


def _outcome_of_request(error: BaseException) -> str:
    if isinstance(error, RemoteError):
        return "remote_error"
    if isinstance(error, ReplyTimeout):
        return "timeout"
    return "failure" if isinstance(error, Exception) else "cancelled"


def _fail(span: Span, error: BaseException, kind: str | None = None) -> str:
    """Let *span* end with *error*; gives its type, or *kind* in its place."""
    name = type(error).__name__
    if span.is_recording():
        span.set_attribute(names.ERROR_TYPE, kind or name)
        span.set_status(Status(StatusCode.ERROR, name))
        record(span, error)
    return kind or name
