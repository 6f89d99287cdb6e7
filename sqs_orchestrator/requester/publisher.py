"""`Publisher`: sends messages, and awaits the replies to requests.

Here stands what programs call. Each call becomes a `Draft`; the `PublisherSession` carries it out.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from ..codecs import Codec, CodecError, check_readable, codec_or_json
from ..connection import Connection, check_connection
from ..core import wire
from ..core.addresses import checked_accounts
from ..core.checks import check_seconds, check_type, shown
from ..drafts import Draft
from ..errors import RemoteError, ReplyTimeout, RequestError
from ..health import Ailment, Health, Vitals, said
from ..message import Reply
from ..middleware import Middleware, checked_middleware
from ..tasks import TaskOwner
from .reply_queue import ReplyQueue
from .session import PublisherSession

if TYPE_CHECKING:
    # Type checkers know both, so that the program need not have them. Checkers that do not know
    # type forms (PEP 747) take the default: then what `returns` names is `Any`.
    from typing_extensions import TypeForm, TypeVar

    T = TypeVar("T", default=Any)


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

    One publisher serves thousands of concurrent calls, to any number of queues. A process
    needs no more than one. You may enter it in one task and leave it in another.

    Leaving it fails the pending requests with `ReplyQueueClosed`, flushes the sends that wait for
    up to 5 s, and deletes the reply queue if the publisher made it. Cancelling does not cut that
    short.

    Args:
        sqs: The connection.
        reply_queue: A reply queue to share. Without one, the publisher makes its own on
            the first `request()`.
        default_timeout: Seconds for a `request()` without a timeout of its own. `send()` and
            `reply()` try again for so long. `math.inf` for no limit.
        reply_accounts: AWS accounts that `reply()` may answer, beside the connection's own.
        codec: Encodes and decodes bodies; JSON by default.
        middleware: A list of objects with `async outgoing(draft, call_next)`. That stands around
            each send, request and reply. The first in the list is the outermost. Several
            publishers and pollers may share one object. It sees the `Draft` before that is
            encoded and checked, and may pass on another. It sees the result come back, and may
            return another: a `Reply` for a request (`Reply.replace`), a message id for a send.
            What it raises is what the call raises, and counts as a failure. It may call
            `call_next` not at all, or several times: each time sends one message, a request
            under a correlation id of its own. Its time counts towards the timeout of the
            request. It is not interrupted when that is over; but `call_next` then raises
            `ReplyTimeout` at once. So it is with a send or a reply after `default_timeout`, by a
            `SendError`; and once the publisher closes, nothing more is sent. Cancelling the call
            cancels it.

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
        middleware: Sequence[Middleware] = (),
    ) -> None:
        check_connection(sqs)
        if reply_queue is not None:
            check_type("reply_queue", reply_queue, ReplyQueue, "a ReplyQueue")
        self._sqs = sqs
        self._default_timeout = _check_timeout("default_timeout", default_timeout)
        self._accounts = checked_accounts(reply_accounts)
        self._codec = codec_or_json(codec)
        self._middleware = checked_middleware(middleware)
        self._own_reply_queue = reply_queue is None
        self._replies = ReplyQueue(sqs) if reply_queue is None else reply_queue
        self._owner = TaskOwner("sqs_orchestrator publisher", self._closing)
        self._vitals = Vitals(self._owner, "the publisher")
        self._session: PublisherSession | None = None
        self._counts = _Counts()

    def __repr__(self) -> str:
        return f"<Publisher {self.statistics().pending} pending, replies to {self._replies!r}>"

    async def __aenter__(self) -> Self:
        _ = self._sqs.port  # it is open
        await self._owner.start()
        self._session = PublisherSession(
            self._owner,
            self._sqs,
            self._replies,
            codec=self._codec,
            middleware=self._middleware,
            patience=self._default_timeout,
            accounts=self._accounts,
        )
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
        if self._session is not None:
            await self._session.close()
        if self._own_reply_queue:
            await self._replies.aclose()

    @property
    def reply_queue(self) -> ReplyQueue:
        """The reply queue: the one that it was given, or its own."""
        return self._replies

    async def ready(self) -> None:
        """Create the reply queue now, rather than on the first request.

        Cancelling it leaves the creation to those who still wait for it.

        Raises:
            AccessDenied: If `sqs:CreateQueue` or `sqs:TagQueue` is not allowed.
            QueueError: If SQS cannot be reached, or refuses.
        """
        self._opened()
        await self._replies.ready()

    def statistics(self) -> PublisherStatistics:
        """A snapshot of the counters."""
        counts, session = self._counts, self._session
        return PublisherStatistics(
            **dataclasses.asdict(counts),
            pending=counts.pending,
            sent=session.sent if session is not None else 0,
            replies_sent=session.replies_sent if session is not None else 0,
            unsent=len(session.lanes) if session is not None and self._owner.running else 0,
            batches=session.lanes.batches if session is not None else 0,
        )

    def health(self) -> Health:
        """Whether it works. Cheap, without a call to SQS, and callable from any thread.

        It is not healthy before it is entered and from when it is left, and while for longer
        than 10 s batches of messages have failed, or the reply queue could not be created or
        read; if a permission is missing, at once. What failed is forgotten 60 s after the last
        try, since without requests nothing is tried. It is not alive if it failed, or if its
        event loop has not turned for 10 s. That begins to count when somebody asks, so ask
        every few seconds.
        """
        vitals, session, replies = self._vitals, self._session, self._replies
        ailment = vitals.ailment()
        if session is None:
            return vitals.health(ailment or vitals.not_started())
        now = self._owner.loop.time()
        sending = session.lanes.streak
        if ailment is None:
            ailment = replies.ailment(now)
        since = sending.since(now)
        if ailment is None and since is not None and sending.error is not None:
            ailment = Ailment(f"messages cannot be sent: {said(sending.error)}", since)
        live = replies.current
        # Copied at once: this may be another thread.
        waiters = [] if live is None else list(live.waiters.values())
        mine = (each.began for each in waiters if each in session.pending)
        return vitals.health(
            ailment,
            streaks=(sending, replies.creating, replies.receiving),
            last_poll=None if live is None else live.polled,
            oldest=next((began for began in mine if began is not None), None),
            pending=self._counts.pending,
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
        session = self._opened()
        began = session.loop.time()
        draft = Draft(
            kind="send",
            queue=queue,
            body=body,
            attributes=attributes,
            message_type=message_type,
            group_id=group_id,
            deduplication_id=deduplication_id,
            delay=delay,
        )
        if session.middleware:
            message_id: str = await session.through_middleware(draft, began)
            return message_id
        with await session.pending_send(draft, began) as send:
            del draft  # many may be pending at once: what has left is not kept
            return await send.future

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
                `math.inf` no limit. Past it, no worker starts on the request. With 0 or less,
                which may be what is left of another limit, nothing is sent.
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
        session = self._opened()
        if timeout is None:
            timeout = self._default_timeout
        else:
            check_seconds("timeout", timeout)
        if returns is not None:
            check_readable(self._codec, returns, "returns")
        began = session.loop.time()
        correlation_id = wire.new_correlation_id()
        draft = Draft(
            kind="request",
            queue=queue,
            body=body,
            attributes=attributes,
            message_type=message_type,
            group_id=group_id,
            deduplication_id=deduplication_id,
            timeout=timeout,
            correlation_id=correlation_id,
        )
        counts = self._counts
        counts.requests += 1
        try:
            if session.middleware:
                reply = await session.through_middleware(draft, began)
            else:
                with await session.pending_request(draft, began) as request:
                    del draft  # many may be pending at once: what has left is not kept
                    reply = await request.future
            if returns is None:
                result = reply
            else:
                result = self._decoded(reply, returns, queue, correlation_id)
        except ReplyTimeout:
            counts.timeouts += 1
            raise
        except RemoteError:
            counts.remote_errors += 1
            raise
        except Exception:
            counts.failures += 1
            raise
        except BaseException:
            counts.cancelled += 1
            raise
        counts.replies += 1
        return result

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

    async def reply(
        self,
        reply_to: wire.ReplyTo | str,
        body: Any,
        *,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Answer a request later, from any process; returns once SQS has the reply.

        The handler returned `NO_REPLY` and kept `Message.reply_to`, or the text that it
        turns into. The publisher tries again for `default_timeout`. Cancelling withdraws a
        reply that has not left yet.

        The publisher checks the address as a poller does: it must name a reply queue in the
        connection's own account, or one of `reply_accounts`, and in its region. The URL of any
        queue that the connection has made or found by name tells which account is its own. If
        there is none yet, the publisher asks SQS for the URL of the reply queue.

        Args:
            reply_to: Where to, from `Message.reply_to` or `str` of it.
            body: As the handler would have returned it; or a `Reject`: then the requester gets a
                `RemoteError` with its code, message and details.
            attributes: Message attributes, by name: text, numbers or bytes.

        Raises:
            InvalidMessage: If the address is none that may be answered, or SQS would
                refuse the message.
            MessageTooLarge: If it is larger than 1 MiB with attributes, or than its queue takes.
            QueueNotFound: If the requester's queue is gone.
            AccessDenied: If `sqs:SendMessage`, or `sqs:GetQueueUrl` where it is needed, is not
                allowed there.
            QueueError: If SQS cannot be reached, or fails for `default_timeout`.
        """
        session = self._opened()
        began = session.loop.time()
        to = session.checked_reply_to(reply_to)
        draft = Draft(
            kind="reply",
            queue=to.queue_url,
            body=body,
            attributes=attributes,
            correlation_id=to.id,
        )
        if session.middleware:
            await session.through_middleware(draft, began, to)
        else:
            await session.reply(draft, began, to)

    def _opened(self) -> PublisherSession:
        """The session, while it takes calls."""
        owner, session = self._owner, self._session
        if session is not None and asyncio.get_running_loop() is not session.loop:
            owner.check_loop()
        if session is None or not owner.running or owner.stopping:
            raise owner.not_open("the publisher", "Publisher(…)")
        return session


@dataclass(slots=True)
class _Counts:
    """The calls of `request()`, and how they ended."""

    requests: int = 0
    replies: int = 0
    remote_errors: int = 0
    timeouts: int = 0
    failures: int = 0
    cancelled: int = 0

    @property
    def pending(self) -> int:
        ended = self.replies + self.remote_errors + self.timeouts + self.failures
        return self.requests - ended - self.cancelled


def _check_timeout(name: str, timeout: float) -> float:
    check_seconds(name, timeout)
    if not timeout > 0:
        raise ValueError(f"{name} must be a positive number of seconds, not {shown(timeout)}")
    return timeout
