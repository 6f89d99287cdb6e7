"""`Publisher`: sends messages, and awaits the replies to requests.

The way of one request: its body is encoded and checked here; a `_Request` registers in the
reply queue's table of waiters and joins the next batch of its queue's lane. Whatever ends
it first - the reply, an error of the lane, the loss of the reply queue, its timer, leaving
the publisher - resolves the one future that the caller awaits; then it is taken out of
table and lane. No task is spent on a request, and nothing is left of one that has ended.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import anyio

from .codecs import Codec, CodecError, JSONCodec
from .connection import Connection
from .core import wire
from .core.addresses import DEFAULT_PREFIXES, Refused, check_reply_address
from .errors import (
    InvalidMessage,
    QueueError,
    QueueNotFound,
    RemoteError,
    ReplyQueueClosed,
    ReplyQueueLost,
    ReplyTimeout,
    RequestError,
    SendError,
    again,
)
from .lanes import Lanes
from .message import Reply
from .outgoing import Outgoing, send_lanes
from .reply_queue import Live, ReplyQueue, Waiter
from .responder import Responder
from .sqs.port import NO_ATTRIBUTES, Attributes, Received
from .tasks import Host

T = TypeVar("T")

FLUSH_PATIENCE = 5.0
"""Seconds for which sends that wait are still tried on leaving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherStatistics:
    """A snapshot of a `Publisher`. Counters count from when it was entered.

    Attributes:
        sent: One-way messages that SQS confirmed.
        requests: Requests begun.
        replies: Requests that ended with a reply.
        remote_errors: Requests that ended with a `RemoteError`.
        timeouts: Requests that ended with a `ReplyTimeout`.
        failures: Requests that ended with any other error.
        cancelled: Requests whose caller was cancelled.
        pending: Requests that wait for their reply now.
        unsent: Messages that wait for their batch now.
        batches: SendMessageBatch calls made.
        late_replies: Replies by `reply()` that SQS confirmed.
    """

    sent: int
    requests: int
    replies: int
    remote_errors: int
    timeouts: int
    failures: int
    cancelled: int
    pending: int
    unsent: int
    batches: int
    late_replies: int


class Publisher:
    """Sends one-way messages and requests. Use it as an async context manager.

    One publisher serves thousands of concurrent calls, to any number of queues; a process
    needs no more than one. It may be entered in one task and left in another.

    On leaving, pending requests fail with `ReplyQueueClosed`, queued sends are flushed for
    up to 5 s, and the reply queue is deleted if the publisher made it. Cancelling does not
    cut that short.

    Args:
        sqs: The connection.
        reply_queue: A reply queue to share. Without one, the publisher makes its own on
            the first `request()`.
        default_timeout: Seconds for a `request()` without a timeout of its own, and for
            which `send()` tries again. `math.inf` for no limit.
        codec: Encodes and decodes bodies; JSON by default.

    Raises:
        ValueError: If *default_timeout* is not positive.
    """

    def __init__(
        self,
        sqs: Connection,
        *,
        reply_queue: ReplyQueue | None = None,
        default_timeout: float = 30.0,
        codec: Codec | None = None,
    ) -> None:
        self._sqs = sqs
        self._default_timeout = _check_timeout("default_timeout", default_timeout)
        self._codec: Codec = codec or JSONCodec()
        self._own_reply_queue = reply_queue is None
        self._replies = reply_queue or ReplyQueue(sqs)
        self._host = Host("sqs_orchestrator publisher", self._closing)
        self._requests: set[_Request] = set()
        self._counts = dict.fromkeys(_COUNTERS, 0)

    def __repr__(self) -> str:
        return f"<Publisher {len(self._requests)} pending, replies to {self._replies!r}>"

    async def __aenter__(self) -> Self:
        if self._own_reply_queue:
            await self._replies.__aenter__()
        port = self._sqs.adopt(self)
        await self._host.start()
        self._lanes: Lanes[Outgoing] = send_lanes(self._host, port)
        self._responder = Responder(self._lanes)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close it; the same as leaving `async with`. Cancelling it does not cut it short."""
        try:
            await self._host.stop()
        finally:
            self._sqs.release(self)

    async def _closing(self) -> None:
        for request in list(self._requests):
            request.lose(ReplyQueueClosed, "the publisher was closed while it waited")
        with anyio.move_on_after(FLUSH_PATIENCE):
            await self._lanes.flush()
            await self._responder.flush()
        for send in list(self._lanes.waiting()):
            if isinstance(send, _Send):
                send.expire("the publisher was closed")
        if self._own_reply_queue:
            await self._replies.aclose()

    async def ready(self) -> None:
        """Create the reply queue now, rather than on the first request.

        Cancelling it leaves the creation to those who still wait for it.

        Raises:
            AccessDenied: If `sqs:CreateQueue` or `sqs:TagQueue` is not allowed.
            QueueError: If SQS cannot be reached, or refuses.
        """
        self._check_open()
        await self._replies.ready()

    def statistics(self) -> PublisherStatistics:
        """A snapshot of the counters."""
        return PublisherStatistics(
            **self._counts,
            pending=len(self._requests),
            unsent=len(self._lanes) if self._host.running else 0,
            batches=self._lanes.batches if self._host.running else 0,
        )

    # -------------------------------------------------------------------- one-way

    async def send(
        self,
        queue: str,
        body: Any,
        *,
        attributes: Mapping[str, Any] | None = None,
        message_type: str | None = None,
        delay: float = 0,
        group_id: str | None = None,
        deduplication_id: str | None = None,
    ) -> str:
        """Send a one-way message; returns its SQS message id once SQS has accepted it.

        Throttling and faults of the server are retried for `default_timeout`. A retried
        message may arrive twice on a standard queue.

        Cancelling withdraws a message that has not left yet; one that has may arrive.

        Args:
            queue: The queue's name or URL.
            body: A `str` travels as it is; anything else is encoded by the codec.
            attributes: Message attributes, by name: text, numbers or bytes.
            message_type: The route: which of a poller's handlers takes it.
            delay: Whole seconds before it becomes visible, at most 900 (SendMessage in
                the SQS API Reference). Not on FIFO queues.
            group_id: The message group; needed on FIFO queues.
            deduplication_id: On FIFO queues, what makes two messages the same one for
                five minutes. Without it, the queue's content-based deduplication decides.

        Raises:
            InvalidMessage: If SQS would refuse it: characters, attributes, counts.
            MessageTooLarge: If it is larger than 1 MiB, attributes included.
            SendError: If SQS refused it, or did not confirm it in time (`maybe_sent`).
            QueueNotFound: If there is no such queue.
            AccessDenied: If `sqs:SendMessage` is not allowed.
            QueueError: If SQS cannot be reached, or fails for `default_timeout`.
            RuntimeError: If the publisher is not open.
        """
        self._check_open()
        with _naming(queue):
            delay_seconds = wire.check_delay(delay)
            text, content_type = self._codec.encode(body)
            whole = wire.one_way_attributes(message_type, content_type)
            if attributes:
                whole.update(wire.to_attributes(attributes))
            size = _check(text, whole)
            _check_fifo(queue, delay_seconds, group_id, deduplication_id)
        loop = asyncio.get_running_loop()
        expires = loop.time() + self._default_timeout
        url = self._sqs.known_url(queue)
        if url is None:
            url = await self._before(expires, self._sqs.queue_url(queue), queue)
        entry = _Send(
            self,
            queue,
            url,
            text,
            whole,
            size=size,
            expires=expires,
            delay=delay_seconds or None,
            group_id=group_id,
            deduplication_id=deduplication_id,
        )
        return await entry.sent(loop)

    # -------------------------------------------------------------------- two-way

    @overload
    async def request(
        self,
        queue: str,
        body: Any,
        *,
        timeout: float | None = None,
        returns: None = None,
        attributes: Mapping[str, Any] | None = None,
        message_type: str | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
    ) -> Reply: ...

    @overload
    async def request(
        self,
        queue: str,
        body: Any,
        *,
        timeout: float | None = None,
        returns: type[T],
        attributes: Mapping[str, Any] | None = None,
        message_type: str | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
    ) -> T: ...

    async def request(
        self,
        queue: str,
        body: Any,
        *,
        timeout: float | None = None,
        returns: type[Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        message_type: str | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
    ) -> Any:
        """Send a request and await its reply.

        Cancelling leaves nothing behind and disturbs no other request: one that has not
        left yet is withdrawn, one in flight may still be handled.

        Args:
            queue: The request queue's name or URL.
            body: A `str` travels as it is; anything else is encoded by the codec.
            timeout: Seconds for everything: resolving the queue, waiting for a batch,
                sending, and waiting for the reply. `None` means `default_timeout`,
                `math.inf` no limit. Past it, no worker starts on the request.
            returns: A type: then the decoded body is returned instead of a `Reply`.
            attributes: Message attributes, by name: text, numbers or bytes. SQS takes 10
                in all, and the library uses two of them, or more for what is asked of it.
            message_type: The route: which of the worker's handlers takes it.
            group_id: The message group; needed on FIFO queues.
            deduplication_id: On FIFO queues; the correlation id where it is not given,
                since two equal questions are two questions.

        Raises:
            ReplyTimeout: If no reply came in time; also a `TimeoutError`.
            RemoteError: If the handler failed.
            ReplyQueueLost: If the reply queue vanished: try again.
            ReplyQueueClosed: If the publisher was closed meanwhile.
            RequestError: If the reply is not of the type that *returns* names.
            InvalidMessage: If SQS would refuse the message: characters, attributes, counts.
            MessageTooLarge: If it is larger than 1 MiB, attributes included.
            SendError: If SQS refused it.
            QueueNotFound: If there is no such queue.
            AccessDenied: If a permission is missing, on either queue.
            QueueError: If SQS cannot be reached, or failed until the timeout.
            RuntimeError: If the publisher is not open.
        """
        self._check_open()
        if timeout is None:
            timeout = self._default_timeout
        else:
            _check_timeout("timeout", timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        with _naming(queue):
            text, content_type = self._codec.encode(body)
            whole = wire.to_attributes(attributes) if attributes else {}
            size = _check(text, whole)
            _check_fifo(queue, 0, group_id, deduplication_id)
        url, live = self._sqs.known_url(queue), self._replies.current
        if url is None or live is None:
            # The request queue first: a wrong name should not cost a reply queue.
            url = await self._before(deadline, self._sqs.queue_url(queue), queue, timeout)
            live = await self._before(deadline, self._replies.live(), queue, timeout)
        correlation_id = wire.new_correlation_id()
        own = wire.request_attributes(
            reply_queue_url=live.url,
            correlation_id=correlation_id,
            message_type=message_type,
            content_type=content_type,
            legacy=self._replies.legacy,
        )
        whole.update(own)
        size += wire.message_bytes("", own) + wire.TIME_TO_LIVE_BYTES
        with _naming(queue):
            wire.check_count(whole, time_to_live=timeout != math.inf)
            wire.check_size(size, queue)
        if deduplication_id is None and url.endswith(".fifo"):
            deduplication_id = correlation_id
        request = _Request(
            self,
            queue,
            url,
            correlation_id,
            text,
            whole,
            size=size,
            timeout=timeout,
            deadline=deadline,
            group_id=group_id,
            deduplication_id=deduplication_id,
        )
        reply = await request.answered(loop, live)
        if returns is None:
            return reply
        try:
            return self._codec.decode(reply.body, returns, reply.content_type)
        except CodecError as error:
            raise RequestError(
                f"the reply from {queue!r} is no {returns!r}: {error}",
                queue=queue,
                correlation_id=correlation_id,
            ) from error

    async def reply(self, reply_to: wire.ReplyTo | str, body: Any) -> None:
        """Answer a request later, from any process; returns once SQS has the reply.

        The handler returned `NO_REPLY` and kept `Message.reply_to`, or the text that it
        turns into. Tried again for `default_timeout`. Cancelling withdraws a reply that has
        not left yet.

        The address is checked as a poller checks it: it must name a reply queue in the
        connection's own account and region.

        Args:
            reply_to: Where to, from `Message.reply_to` or `str` of it.
            body: As the handler would have returned it.

        Raises:
            InvalidMessage: If the address is none that may be answered, or SQS would
                refuse the message.
            MessageTooLarge: If it is larger than 1 MiB, attributes included.
            QueueNotFound: If the requester's queue is gone.
            AccessDenied: If `sqs:SendMessage` is not allowed there.
            QueueError: If SQS cannot be reached, or fails for `default_timeout`.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        expires = loop.time() + self._default_timeout
        prefixes = (*DEFAULT_PREFIXES, self._replies.prefix)
        try:
            to = wire.ReplyTo.parse(reply_to) if isinstance(reply_to, str) else reply_to
            # Against itself first, so that no call goes out for what cannot be an address.
            check_reply_address(to, to.queue_url, region=None, prefixes=prefixes)
            name = wire.queue_name_of(to.queue_url)
            home = await self._before(expires, self._sqs.home_url(name), to.queue_url)
            region = self._sqs.port.region
            url = check_reply_address(to, home, region=region, prefixes=prefixes)
        except (ValueError, Refused) as error:
            raise InvalidMessage(f"not a reply address to answer at: {error}") from error
        text, content_type = self._codec.encode(body)
        attributes = wire.reply_attributes(to, content_type=content_type)
        with _naming(url):
            _check(text, attributes)
        future: asyncio.Future[None] = loop.create_future()

        def settled(error: QueueError | SendError | None) -> None:
            if future.done():
                return
            if error is None:
                self._counts["late_replies"] += 1
                future.set_result(None)
            else:
                future.set_exception(error)

        answer = self._responder.post(url, text, attributes, expires=expires, settled=settled)
        with anyio.move_on_at(expires):
            try:
                return await future
            finally:
                if not future.done() or future.cancelled():
                    self._responder.withdraw(answer)
        raise _unconfirmed(answer, url, f"not within {self._default_timeout} s", left=True)

    # ------------------------------------------------------------------- internals

    def _check_open(self) -> None:
        if not self._host.running or self._host.stopping:
            raise RuntimeError("the publisher is not open; use it inside 'async with Publisher(…)'")

    async def _before(
        self, deadline: float, work: Awaitable[T], queue: str, timeout: float | None = None
    ) -> T:
        """What *work* gives, or an error at *deadline* that says what it hung on."""
        with anyio.move_on_at(deadline):
            return await work
        trouble = self._sqs.trouble
        if trouble is not None:
            raise again(trouble) from trouble
        if timeout is None:
            raise SendError(f"SQS did not answer within {self._default_timeout} s", queue=queue)
        self._counts["timeouts"] += 1
        raise ReplyTimeout(
            f"SQS did not answer within {timeout} s; the request to {queue!r} was not sent",
            queue=queue,
            timeout=timeout,
            confirmed=False,
        )


_COUNTERS = (
    "sent",
    "requests",
    "replies",
    "remote_errors",
    "timeouts",
    "failures",
    "cancelled",
    "late_replies",
)


class _Send(Outgoing):
    """A one-way message, and who awaits SQS's answer to it."""

    __slots__ = ("_future", "_publisher", "_queue", "_url")

    def __init__(self, publisher: Publisher, queue: str, url: str, *rest: Any, **more: Any) -> None:
        super().__init__(*rest, **more)
        self._publisher = publisher
        self._queue = queue
        self._url = url

    async def sent(self, loop: asyncio.AbstractEventLoop) -> str:
        """Join the lane; the message id once SQS has the message."""
        lanes = self._publisher._lanes  # noqa: SLF001 - one module
        self._future: asyncio.Future[str] = loop.create_future()
        timer = None
        if self.expires != math.inf:
            timer = loop.call_at(self.expires, self.expire, "in time")
        lanes.add(self._url, self)
        try:
            return await self._future
        finally:
            if timer is not None:
                timer.cancel()
            if self._future.cancelled():
                lanes.withdraw(self._url, self)

    def expire(self, why: str) -> None:
        """End the wait: SQS has not confirmed the message."""
        if self._future.done():
            return
        left = not self._publisher._lanes.withdraw(self._url, self)  # noqa: SLF001
        self._future.set_exception(_unconfirmed(self, self._queue, why, left))

    def done(self, result: str | None) -> None:
        if not self._future.done():
            self._publisher._counts["sent"] += 1  # noqa: SLF001
            self._future.set_result(result or "")

    def failed(self, error: QueueError | SendError) -> None:
        if isinstance(error, QueueNotFound):
            self._publisher._sqs.forget_url(self._queue)  # noqa: SLF001
        if not self._future.done():
            self._future.set_exception(_own(error, self._queue))


class _Request(Outgoing, Waiter):
    """A request: a message in a lane, and a waiter in the reply queue's table."""

    __slots__ = (
        "_confirmed",
        "_future",
        "_live",
        "_publisher",
        "_queue",
        "_timeout",
        "_url",
        "correlation_id",
    )

    def __init__(
        self,
        publisher: Publisher,
        queue: str,
        url: str,
        correlation_id: str,
        body: str,
        attributes: Attributes,
        *,
        size: int,
        timeout: float,
        deadline: float,
        group_id: str | None,
        deduplication_id: str | None,
    ) -> None:
        super().__init__(
            body,
            attributes,
            size=size,
            expires=deadline,
            deadline=deadline,
            group_id=group_id,
            deduplication_id=deduplication_id,
        )
        self.correlation_id = correlation_id
        self._publisher = publisher
        self._queue = queue
        self._url = url
        self._timeout = timeout
        self._confirmed = False

    async def answered(self, loop: asyncio.AbstractEventLoop, live: Live) -> Reply:
        """Register, join the lane, and await whatever ends the request first."""
        publisher = self._publisher
        self._future: asyncio.Future[Reply] = loop.create_future()
        timer = None
        if self.deadline != math.inf:
            timer = loop.call_at(self.deadline, self._time_out)
        publisher._counts["requests"] += 1  # noqa: SLF001 - one module
        publisher._requests.add(self)  # noqa: SLF001
        live.register(self)
        publisher._lanes.add(self._url, self)  # noqa: SLF001
        try:
            return await self._future
        finally:
            if timer is not None:
                timer.cancel()
            publisher._requests.discard(self)  # noqa: SLF001
            live.forget(self)
            if not self._confirmed:
                publisher._lanes.withdraw(self._url, self)  # noqa: SLF001
            if self._future.cancelled():
                publisher._counts["cancelled"] += 1  # noqa: SLF001

    # What its lane says.

    def done(self, result: str | None) -> None:
        self._confirmed = True
        # Ten thousand may wait for their replies: what has left is not kept.
        self.body, self.attributes = "", NO_ATTRIBUTES

    def failed(self, error: QueueError | SendError) -> None:
        if isinstance(error, QueueNotFound):
            self._publisher._sqs.forget_url(self._queue)  # noqa: SLF001
        self._end("failures", _own(error, self._queue))

    # What its reply queue says.

    def resolve(self, head: wire.ReplyHead, received: Received) -> bool:
        if self._future.done():
            return True
        if head.error_code is None:
            self._publisher._counts["replies"] += 1  # noqa: SLF001
            self._future.set_result(Reply.received(received, head))
            return True
        code, kind, message, details = wire.parse_error(received.body, head.error_code)
        error = RemoteError(
            message,
            code=code,
            type=kind,
            details=details,
            queue=self._queue,
            correlation_id=self.correlation_id,
        )
        self._end("remote_errors", error)
        return True

    def lose(self, kind: type[ReplyQueueLost | ReplyQueueClosed], why: str) -> None:
        error = kind(
            f"the request to {self._queue!r} got no reply: {why}",
            queue=self._queue,
            correlation_id=self.correlation_id,
        )
        self._end("failures", error)

    def fail(self, error: QueueError) -> None:
        self._end("failures", again(error))

    # What the clock says.

    def _time_out(self) -> None:
        if self._future.done():
            return
        if not self._confirmed and self.last_error is not None:
            # It was tried, and what went wrong says more than that time is up.
            self._end("failures", _own(self.last_error, self._queue))
            return
        if self._confirmed:
            why = (
                "SQS has the request. Either no worker took it in time, or the worker is"
                " slower than the timeout, or it may not answer: its log says so where it"
                " refuses the reply address (reply_queue_prefixes, reply_accounts, region)"
            )
        else:
            why = "SQS had not confirmed the request by then"
        error = ReplyTimeout(
            f"no reply from {self._queue!r} within {self._timeout} s: {why}",
            queue=self._queue,
            correlation_id=self.correlation_id,
            timeout=self._timeout,
            confirmed=self._confirmed,
        )
        self._end("timeouts", error)

    def _end(self, counter: str, error: Exception) -> None:
        if not self._future.done():
            self._publisher._counts[counter] += 1  # noqa: SLF001
            self._future.set_exception(error)


def _unconfirmed(entry: Outgoing, queue: str, why: str, left: bool) -> QueueError | SendError:
    """The error for a message that SQS has not confirmed."""
    if entry.last_error is not None:
        return _own(entry.last_error, queue)
    return SendError(
        f"SQS has not confirmed the message to {queue!r}: {why}", queue=queue, maybe_sent=left
    )


def _own(error: QueueError | SendError, queue: str) -> QueueError | SendError:
    """An instance of *error* for one caller, naming the queue as the caller does."""
    own = again(error)
    own.queue = queue
    return own


@contextmanager
def _naming(queue: str) -> Iterator[None]:
    """Refusals of a message name the queue that it was for."""
    try:
        yield
    except SendError as error:
        error.queue = queue
        raise


def _check(body: str, attributes: Attributes) -> int:
    """The size of a message, whose own parts SQS would take."""
    wire.check_body(body)
    wire.check_count(attributes)
    size = wire.message_bytes(body, attributes)
    wire.check_size(size)
    return size


def _check_fifo(queue: str, delay: int, group_id: str | None, deduplication_id: str | None) -> None:
    if group_id is not None:
        wire.check_group_id(group_id)
    if deduplication_id is not None:
        wire.check_deduplication_id(deduplication_id)
    if queue.endswith(".fifo"):
        if group_id is None:
            raise InvalidMessage("a message to a FIFO queue needs a group_id")
        if delay:
            raise InvalidMessage("a FIFO queue takes no delay for one message: set the queue's")
    elif deduplication_id is not None:
        raise InvalidMessage("deduplication_id is for FIFO queues, whose names end in '.fifo'")


def _check_timeout(name: str, timeout: float) -> float:
    if not timeout > 0:
        raise ValueError(f"{name} must be a positive number of seconds, not {timeout!r}")
    return timeout
