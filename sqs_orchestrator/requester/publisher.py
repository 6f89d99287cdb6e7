"""`Publisher`: sends messages, and awaits the replies to requests.

The way of one request: its body is encoded and checked here; a `PendingRequest` registers in the
reply queue's table of waiters and joins the next batch of its queue's lane. Whatever ends
it first - the reply, an error of the lane, the loss of the reply queue, its timer, leaving
the publisher - resolves the one future that the caller awaits; then it is taken out of
table and lane. No task is spent on a request, and nothing is left of one that has ended.

The first request to a queue has to wait before that: until its URL is known, and a reply
queue made. Those waits are shared with others (`SingleFlight`), so one who gives up disturbs none.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

import anyio

from ..codecs import Codec, CodecError, check_readable, codec_or_json, encode
from ..connection import Connection, check_connection
from ..core import wire
from ..core.addresses import DEFAULT_PREFIXES, Refused, check_reply_address, checked_accounts
from ..core.attributes import check_count, to_attributes
from ..core.checks import (
    check_body,
    check_deduplication_id,
    check_delay,
    check_group_id,
    check_seconds,
    check_size,
    check_type,
    message_bytes,
    shown,
)
from ..core.names import account_of, queue_name_of
from ..errors import (
    InvalidMessage,
    QueueError,
    RemoteError,
    ReplyQueueClosed,
    ReplyTimeout,
    RequestError,
    SendError,
    fresh_copy,
)
from ..message import Reply
from ..queues import check_is_text
from ..sending.entries import send_lanes
from ..sending.reply_sender import ReplySender
from ..sqs.port import Attributes, AttributeValue
from ..tasks import TaskOwner
from .pending import PendingRequest, PendingSend, PublisherSession, not_sent, refused, unconfirmed
from .reply_queue import ReplyQueue

if TYPE_CHECKING:
    # Type checkers know both, so that the program need not have them. Checkers that do not know
    # type forms (PEP 747) take the default: then what `returns` names is `Any`.
    from typing_extensions import TypeForm, TypeVar

    T = TypeVar("T", default=Any)

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
        replies_sent: Answers by `reply()` that SQS confirmed.
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
    replies_sent: int


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
        reply_accounts: AWS accounts to answer to by `reply()` beside the connection's own.
        codec: Encodes and decodes bodies; JSON by default.

    Raises:
        ValueError: If *default_timeout* is not positive, or an argument is of a wrong type.
    """

    def __init__(
        self,
        sqs: Connection,
        *,
        reply_queue: ReplyQueue | None = None,
        default_timeout: float = 30.0,
        reply_accounts: Collection[str] = (),
        codec: Codec | None = None,
    ) -> None:
        check_connection(sqs)
        if reply_queue is not None:
            check_type("reply_queue", reply_queue, ReplyQueue, "a ReplyQueue")
        self._sqs = sqs
        self._default_timeout = _check_timeout("default_timeout", default_timeout)
        self._accounts = checked_accounts(reply_accounts)
        self._codec = codec_or_json(codec)
        self._own_reply_queue = reply_queue is None
        self._replies = ReplyQueue(sqs) if reply_queue is None else reply_queue
        self._owner = TaskOwner("sqs_orchestrator publisher", self._closing)
        self._unfinished: set[anyio.CancelScope] = set()
        self._finished = asyncio.Event()
        self._counts = dict.fromkeys(_COUNTERS, 0)

    def __repr__(self) -> str:
        return f"<Publisher {self.statistics().pending} pending, replies to {self._replies!r}>"

    async def __aenter__(self) -> Self:
        port = self._sqs.port
        await self._owner.start()
        lanes = send_lanes(self._owner, port)
        self._session = PublisherSession(self._owner, self._sqs, lanes)
        self._reply_sender = ReplySender(lanes)
        try:
            if self._own_reply_queue:
                await self._replies.__aenter__()
            self._sqs.adopt(self)
        except BaseException:
            await self.aclose()
            raise
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
            await self._owner.stop()
        finally:
            self._sqs.release(self)

    async def _closing(self) -> None:
        for request in list(self._session.requests):
            request.lose(ReplyQueueClosed, "the publisher was closed while it waited")
        with anyio.move_on_after(FLUSH_PATIENCE):
            while self._unfinished:
                self._finished.clear()
                await self._finished.wait()
            await self._session.lanes.flush()
        for scope in list(self._unfinished):
            scope.cancel()
        for send in list(self._session.sends):
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
        counts = self._counts
        return PublisherStatistics(
            **counts,
            pending=counts["requests"] - sum(counts[outcome] for outcome in _OUTCOMES),
            sent=self._session.sent if self._owner.entered else 0,
            unsent=len(self._session.lanes) if self._owner.running else 0,
            batches=self._session.lanes.batches if self._owner.entered else 0,
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
            MessageTooLarge: If it is larger than 1 MiB with attributes, or than its queue takes.
            SendError: If SQS refused it, or did not confirm it in time (`maybe_sent`).
            QueueNotFound: If there is no such queue.
            AccessDenied: If `sqs:SendMessage` is not allowed.
            QueueError: If SQS cannot be reached, or fails for `default_timeout`.
            ValueError: If *queue* can be no queue.
            RuntimeError: If the publisher is not open.
        """
        self._check_open()
        try:
            delay_seconds = check_delay(delay)
            _check_fifo(queue, delay_seconds, group_id, deduplication_id)
            text, content_type = encode(self._codec, body)
            whole = wire.one_way_attributes(message_type, content_type)
            if attributes is not None:
                whole.update(to_attributes(attributes, wire.RESERVED))
            size = _check(text, whole)
        except SendError as error:
            error.queue = queue
            raise
        loop = asyncio.get_running_loop()
        expires = loop.time() + self._default_timeout
        url = self._sqs.queues.known_url(queue)
        if url is None:
            url = await self._resolved(queue, self._sqs.queue_url(queue), expires)
        entry = PendingSend(
            self._session,
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
        entry.begin(loop)
        try:
            return await entry.future
        finally:
            entry.end()
            del entry  # its future may hold the exception that holds this frame

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
        returns: TypeForm[T],
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
        returns: Any = None,
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
            returns: A type, such as `Order`, `Order | None` or `list[Order]`: then the decoded
                body is returned instead of a `Reply`.
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
            RequestError: If the reply is not of the type that *returns* names, or the codec
                failed on it, which is then the error's `__cause__`.
            InvalidMessage: If SQS would refuse the message: characters, attributes, counts.
            MessageTooLarge: If it is larger than 1 MiB with attributes, or than its queue takes.
            SendError: If SQS refused it.
            QueueNotFound: If there is no such queue.
            AccessDenied: If a permission is missing, on either queue.
            QueueError: If SQS cannot be reached, or failed until the timeout.
            ValueError: If *queue* can be no queue, *timeout* is no number of seconds, or no body
                can be read as *returns*, for want of pydantic or msgspec perhaps.
            RuntimeError: If the publisher is not open.
        """
        self._check_open()
        if timeout is None:
            timeout = self._default_timeout
        else:
            check_seconds("timeout", timeout)
        if returns is not None:
            check_readable(self._codec, returns, "returns")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        counts = self._counts
        counts["requests"] += 1
        try:
            _check_fifo(queue, 0, group_id, deduplication_id)
            url, live = self._sqs.queues.known_url(queue), self._replies.current
            if url is None or live is None or timeout <= 0:
                # What SQS would refuse should cost neither a call nor a reply queue; then the
                # request queue first, since neither should a wrong name.
                self._compose(_SOME_URL, body, attributes, message_type, timeout)
                if timeout <= 0:
                    raise not_sent(queue, timeout)
                url = await self._before(
                    deadline, timeout, queue, self._sqs.queue_url(queue), queue
                )
                live = await self._before(
                    deadline, timeout, queue, self._replies.live(), self._replies.prefix
                )
            request = PendingRequest(
                self._session,
                queue,
                url,
                live,
                *self._compose(live.url, body, attributes, message_type, timeout),
                timeout=timeout,
                deadline=deadline,
                group_id=group_id,
                deduplication_id=deduplication_id,
            )
            request.begin(loop)
            try:
                reply = await request.future
            finally:
                request.end()
                correlation_id = request.correlation_id
                del request  # its future may hold the exception that holds this frame
            result = (
                reply if returns is None else self._decoded(reply, returns, queue, correlation_id)
            )
        except BaseException as error:
            counts[_outcome(error)] += 1
            if isinstance(error, SendError):
                error.queue = queue
            raise
        counts["replies"] += 1
        return result

    def _compose(
        self,
        reply_queue_url: str,
        body: Any,
        attributes: Mapping[str, Any] | None,
        message_type: str | None,
        timeout: float,
    ) -> tuple[str, str, dict[str, AttributeValue], int]:
        """Correlation id, body, attributes and size of a request that SQS would take."""
        text, content_type = encode(self._codec, body)
        correlation_id = wire.new_correlation_id()
        whole = wire.request_attributes(
            reply_queue_url=reply_queue_url,
            correlation_id=correlation_id,
            message_type=message_type,
            content_type=content_type,
            legacy=self._replies.legacy,
        )
        if attributes is not None:
            whole.update(to_attributes(attributes, wire.RESERVED))
        size = _check(text, whole, time_to_live=timeout != math.inf)
        return correlation_id, text, whole, size

    def _decoded(self, reply: Reply, type_: Any, queue: str, correlation_id: str) -> Any:
        try:
            return self._codec.decode(reply.body, type_, reply.content_type)
        except CodecError as error:
            raise RequestError(
                f"the reply from {queue!r} is no {type_!r}: {error}",
                queue=queue,
                correlation_id=correlation_id,
            ) from error
        except Exception as error:  # the codec is the user's own, and so are its errors
            raise RequestError(
                f"the reply from {queue!r} could not be decoded as {type_!r}:"
                f" {type(error).__name__}: {error}",
                queue=queue,
                correlation_id=correlation_id,
            ) from error

    async def reply(self, reply_to: wire.ReplyTo | str, body: Any) -> None:
        """Answer a request later, from any process; returns once SQS has the reply.

        The handler returned `NO_REPLY` and kept `Message.reply_to`, or the text that it
        turns into. Tried again for `default_timeout`. Cancelling withdraws a reply that has
        not left yet.

        The address is checked as a poller checks it: it must name a reply queue in the
        connection's own account, or one of `reply_accounts`, and in its region. Which account
        is the connection's own, the URL of any queue tells that it has made or found by name;
        where there is none yet, SQS is asked for that of the reply queue.

        Args:
            reply_to: Where to, from `Message.reply_to` or `str` of it.
            body: As the handler would have returned it.

        Raises:
            InvalidMessage: If the address is none that may be answered, or SQS would
                refuse the message.
            MessageTooLarge: If it is larger than 1 MiB with attributes, or than its queue takes.
            QueueNotFound: If the requester's queue is gone.
            AccessDenied: If `sqs:SendMessage`, or `sqs:GetQueueUrl` where it is needed, is not
                allowed there.
            QueueError: If SQS cannot be reached, or fails for `default_timeout`.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        expires = loop.time() + self._default_timeout
        prefixes = (*DEFAULT_PREFIXES, self._replies.prefix)
        try:
            to = _address(reply_to)
            # Against itself first, so that no call goes out for what cannot be an address.
            check_reply_address(to, to.queue_url, region=None, prefixes=prefixes)
        except (ValueError, Refused) as error:
            raise _no_address(error) from error
        try:
            text, content_type = encode(self._codec, body)
            attributes = wire.reply_attributes(to, content_type=content_type)
            size = _check(text, attributes)
        except SendError as error:
            error.queue = str(to)
            raise
        name, account = queue_name_of(to.queue_url), account_of(to.queue_url)
        foreign = account if account in self._accounts else None
        home = await self._resolved(name, self._sqs.queues.home_url(name, foreign), expires)
        try:
            region = self._sqs.port.region
            url = check_reply_address(
                to, home, region=region, prefixes=prefixes, accounts=self._accounts
            )
        except Refused as error:
            raise _no_address(error) from error
        future: asyncio.Future[None] = loop.create_future()

        def settled(error: QueueError | SendError | None) -> None:
            if future.done():
                return
            if error is None:
                self._counts["replies_sent"] += 1
                future.set_result(None)
            else:
                future.set_exception(refused(answer, error, url))

        answer = self._reply_sender.post(
            url, text, attributes, size=size, expires=expires, settled=settled
        )
        with self._flushable(expires):
            try:
                return await future
            finally:
                if future.cancelled():
                    self._reply_sender.withdraw(answer)
        raise unconfirmed(answer, url, self._out_of_time(), left=True)

    # ------------------------------------------------------------------- internals

    def _check_open(self) -> None:
        self._owner.check_loop()
        if not self._owner.running or self._owner.stopping:
            raise self._owner.not_open("the publisher", "Publisher(…)")

    async def _before(
        self, deadline: float, timeout: float, queue: str, work: Awaitable[T], about: str
    ) -> T:
        """What *work* gives, or why a request cannot wait for it any longer."""
        with self._owner.until_stop(deadline):
            return await work
        raise self._unready(timeout, queue, about)

    def _unready(self, timeout: float, queue: str, about: str) -> Exception:
        if self._owner.stopping:
            return ReplyQueueClosed(
                f"the request to {queue!r} was not sent: the publisher was closed", queue=queue
            )
        trouble = self._sqs.trouble(about)
        return not_sent(queue, timeout) if trouble is None else fresh_copy(trouble)

    async def _resolved(self, queue: str, work: Awaitable[str], expires: float) -> str:
        """What *work* gives, the URL of *queue*, for a one-way message."""
        with self._flushable(expires):
            return await work
        raise self._unresolved(queue)

    def _unresolved(self, queue: str) -> Exception:
        trouble = self._sqs.trouble(queue)
        if trouble is not None:
            return fresh_copy(trouble)
        why = self._out_of_time()
        return SendError(f"the message to {queue!r} was not sent: {why}", queue=queue)

    @contextmanager
    def _flushable(self, expires: float) -> Iterator[None]:
        """A scope for a wait to which leaving the publisher gives time to end."""
        with anyio.CancelScope() as scope:
            self._owner.limit(scope, expires)
            self._unfinished.add(scope)
            try:
                yield
            finally:
                self._unfinished.discard(scope)
                self._finished.set()

    def _out_of_time(self) -> str:
        if self._owner.stopping:
            return "the publisher was closed"
        return f"SQS did not answer within {self._default_timeout} s"


_OUTCOMES = ("replies", "remote_errors", "timeouts", "failures", "cancelled")

_COUNTERS = ("replies_sent", "requests", *_OUTCOMES)

_SOME_URL = f"https://sqs.eu-central-1.amazonaws.com/123456789012/{'-' * 80}"
"""Stands for the URL of a reply queue that does not exist yet."""


def _address(reply_to: object) -> wire.ReplyTo:
    if not isinstance(reply_to, wire.ReplyTo):
        return wire.ReplyTo.parse(reply_to)
    try:
        # By way of its text: that shows whether it has what an address is made of.
        text = str(reply_to)
    except TypeError:
        raise ValueError(f"it is made of more than text: {shown(reply_to)}") from None
    return wire.ReplyTo.parse(text)


def _no_address(error: Exception) -> InvalidMessage:
    return InvalidMessage(f"not a reply address to answer at: {error}")


def _outcome(error: BaseException) -> str:
    """Under what a request that ended with *error* is counted."""
    if isinstance(error, ReplyTimeout):
        return "timeouts"
    if isinstance(error, RemoteError):
        return "remote_errors"
    return "failures" if isinstance(error, Exception) else "cancelled"


def _check(body: str, attributes: Attributes, *, time_to_live: bool = False) -> int:
    """The size of a message that SQS would take, *time_to_live* yet to come."""
    check_body(body)
    check_count(attributes, wire.RESERVED, time_to_live=time_to_live)
    size = message_bytes(body, attributes)
    if time_to_live:
        size += wire.TIME_TO_LIVE_BYTES
    check_size(size)
    return size


def _check_fifo(queue: str, delay: int, group_id: str | None, deduplication_id: str | None) -> None:
    check_is_text(queue)
    if group_id is not None:
        check_group_id(group_id)
    if deduplication_id is not None:
        check_deduplication_id(deduplication_id)
    if queue.endswith(".fifo"):
        if group_id is None:
            raise InvalidMessage("a message to a FIFO queue needs a group_id")
        if delay:
            raise InvalidMessage("a FIFO queue takes no delay for one message: set the queue's")
    elif deduplication_id is not None:
        raise InvalidMessage("deduplication_id is for FIFO queues, whose names end in '.fifo'")


def _check_timeout(name: str, timeout: float) -> float:
    check_seconds(name, timeout)
    if not timeout > 0:
        raise ValueError(f"{name} must be a positive number of seconds, not {shown(timeout)}")
    return timeout
