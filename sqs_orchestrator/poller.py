"""`Poller`: receives, dispatches to handlers, answers, deletes.

The way of one message: a receive brings it (`_receive`), it is judged (`_take`), waits for a
place (`_start`), runs (`_handle`), and its outcome is carried out (`_conclude`): a reply, a
delete, a release. From receive to outcome it is *held*: its visibility is extended. A reply
is confirmed by SQS before its request is deleted, so a crash at any point repeats work and
loses none.

Nothing waits for a batch to end: whenever a place becomes free, the next message takes it,
and whenever there is room, the next receive goes out.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import anyio

from .codecs import Codec, CodecError, JSONCodec
from .connection import Connection
from .core import wire
from .core.addresses import DEFAULT_PREFIXES, Refused, check_reply_address
from .core.backoff import Backoff
from .core.batching import Policy
from .core.groups import Groups
from .core.limits import VISIBILITY_TIMEOUT, WAIT_TIME
from .core.polling import Intake, Receivers
from .core.redrive import dead_letter_queue
from .core.visibility import Keeper
from .errors import MessageTooLarge, QueueError, SendError
from .handlers import NO_REPLY, Handler, Handlers, Reject, Retry
from .lanes import Entry, Lanes
from .message import Message
from .outgoing import Deletion, Outgoing, delete_lanes, send_lanes
from .responder import Responder
from .signals import on_signal
from .sqs.port import SQS, Failure, Received
from .tasks import Flights, Host

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

DELETE_LINGER = 0.1
"""Seconds that the delete of a request waits for company: a crash meanwhile repeats work."""

EXTEND_LINGER = 0.02

FLUSH_RESERVE = 2.0
"""Seconds of the drain timeout that are kept for flushing replies and deletes."""

REPLY_PATIENCE = 60.0
"""Seconds for which a reply is tried that has no deadline of its own."""

UNWIND = 0.5
"""Seconds that a cancelled handler has to unwind when draining."""

SUSPICION = 600.0
"""Seconds for which a message group that failed here is taken one message at a time."""

LONGEST_DELAY = VISIBILITY_TIMEOUT - 60.0
"""The most seconds of `Retry(delay=…)`, less where the message was held for long: SQS counts
twelve hours from the receive."""

LONGEST_RETURN = 3600.0
"""The most seconds after which a message comes back that nobody could judge."""

MOST_ANSWERING = 1_000
"""Replies on their way beyond which no more messages are taken."""

MOST_IN_LANES = 100
"""Messages that wait for others of their group beyond which no more are taken."""

DEAD_LETTERS_KEPT = 60.0
"""Seconds for which the queue's redrive policy is not asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerStatistics:
    """A snapshot of a `Poller`. Counters count from when it started.

    Attributes:
        received: Messages received.
        redelivered: Of those, how many had been received before, here or elsewhere.
        handled: Handlers that returned.
        failed: Handlers that raised, `Reject` and `Retry` apart.
        rejected: Messages that handlers rejected, and those that the library itself did.
        retried: Messages that handlers wanted again later.
        expired: Requests deleted unhandled, since nobody waits for their reply any more.
        replies: Replies that SQS confirmed.
        replies_dropped: Replies that came too late, or that SQS refused for good.
        deleted: Messages for whose delete SQS was asked.
        running: Handlers that run now.
        waiting: Messages that wait for a place now.
        answering: Replies on their way now.
        receives: ReceiveMessage calls made.
        seconds_since_poll: Seconds since a receive last succeeded; `None` before the first.
        consecutive_failures: Receives that have failed since.
    """

    received: int
    redelivered: int
    handled: int
    failed: int
    rejected: int
    retried: int
    expired: int
    replies: int
    replies_dropped: int
    deleted: int
    receives: int
    running: int
    waiting: int
    answering: int
    seconds_since_poll: float | None
    consecutive_failures: int


_COUNTERS = (
    "received",
    "redelivered",
    "handled",
    "failed",
    "rejected",
    "retried",
    "expired",
    "replies",
    "replies_dropped",
    "deleted",
    "receives",
)


class _Held:
    """A message between its receive and its outcome."""

    __slots__ = (
        "answer_url",
        "fault",
        "given_up",
        "handler",
        "message",
        "overdue",
        "received",
        "request",
        "scope",
        "settled",
    )

    def __init__(
        self, received: Received, request: wire.Request, message: Message, fault: str | None
    ) -> None:
        self.received = received
        self.request = request
        self.message = message
        self.fault = fault
        """What breaks the wire format, if anything does."""
        self.handler: Handler | None = None
        self.answer_url: str | None = None
        """Where the reply goes; `None` where none is wanted."""
        self.scope: anyio.CancelScope | None = None
        """Cancels the handler while it runs."""
        self.overdue = False
        """It was held for `max_extension`."""
        self.given_up = False
        """Its handler was cancelled by the drain."""
        self.settled = False
        """Its message group, on a FIFO queue, has gone on without it."""


class _Change(Entry):
    """A change of visibility: an extension, a release, a delay."""

    __slots__ = ("receipt_handle", "seconds")

    def __init__(self, receipt_handle: str, seconds: int, expires: float) -> None:
        super().__init__(0, expires)
        self.receipt_handle = receipt_handle
        self.seconds = seconds

    def failed(self, error: QueueError | SendError) -> None:
        # It was deleted or ran out: in either case SQS has already done what is right.
        logger.debug("the visibility of a message was not changed: %s", error)


class Poller:
    """Takes messages from a queue and runs handlers on them.

    Give it a handler, or several by route, then `await run()`; or use it as an async context
    manager to work in the background. Use a poller once.

    Args:
        sqs: The connection.
        queue: The queue's name or URL.
        handler: The default handler; the same as `poller.handler` as a decorator.
        concurrency: Handlers that run at once. On FIFO queues one per message group.
        visibility_timeout: Seconds that a message stays hidden after a worker died with
            it. It is extended for as long as it is held, so it need not cover the handler.
        max_extension: Seconds for which a message is held at most; then its handler is
            cancelled, as if it had failed. At most 12 h together with *visibility_timeout*
            (ChangeMessageVisibility in the SQS API Reference).
        wait_time: Seconds of a long poll, at most 20 (ReceiveMessage). Stopping an idle
            poller takes that long, since a poll in flight is awaited.
        drain_timeout: Seconds for stopping, the last two of them kept for replies and
            deletes.
        reply_queue_prefixes: With what the names of reply queues begin; others are not
            answered. `None` drops this check, and lets whoever may write to the queue
            choose to which queue of the account the replies go.
        reply_accounts: AWS accounts to answer to beside the queue's own.
        expose_errors: Send the text of any exception of a handler to the requester, not
            only that of `Reject`.
        codec: Encodes and decodes bodies; JSON by default.

    Raises:
        ValueError: If the settings contradict each other or SQS's limits, or the handler
            is none.
    """

    def __init__(
        self,
        sqs: Connection,
        queue: str,
        handler: Callable[..., Any] | None = None,
        *,
        concurrency: int = 10,
        visibility_timeout: float = 30.0,
        max_extension: float = 3600.0,
        wait_time: float = 20.0,
        drain_timeout: float = 25.0,
        reply_queue_prefixes: Sequence[str] | None = DEFAULT_PREFIXES,
        reply_accounts: Collection[str] = (),
        expose_errors: bool = False,
        codec: Codec | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        if not 1 <= visibility_timeout <= VISIBILITY_TIMEOUT:
            raise ValueError(
                f"visibility_timeout must be 1 to {VISIBILITY_TIMEOUT:.0f} seconds,"
                f" not {visibility_timeout}"
            )
        if not visibility_timeout <= max_extension <= VISIBILITY_TIMEOUT - visibility_timeout:
            raise ValueError(
                "max_extension must be at least visibility_timeout, and with it at most 12 h,"
                f" not {max_extension} s with {visibility_timeout} s"
            )
        if not 0 <= wait_time <= WAIT_TIME:
            raise ValueError(f"wait_time must be 0 to {WAIT_TIME:.0f} seconds, not {wait_time}")
        if not drain_timeout > 0:
            raise ValueError(f"drain_timeout must be positive, not {drain_timeout}")
        if sqs.read_timeout <= wait_time:
            raise ValueError(
                f"the client's read timeout ({sqs.read_timeout} s) must be longer than wait_time"
                f" ({wait_time} s), or it would end long polls and hide their messages: raise"
                " read_timeout in the config given to connect(), or lower wait_time"
            )
        if isinstance(reply_queue_prefixes, str) or isinstance(reply_accounts, str):
            raise ValueError("reply_queue_prefixes and reply_accounts take several: pass a tuple")
        self.queue = queue
        self._sqs = sqs
        self._handlers = Handlers()
        if handler is not None:
            self._handlers.register(handler)
        self._visibility_timeout = math.ceil(visibility_timeout)
        self._wait_time = round(wait_time)
        self._drain_timeout = drain_timeout
        self._prefixes = None if reply_queue_prefixes is None else tuple(reply_queue_prefixes)
        self._accounts = frozenset(reply_accounts)
        self._expose_errors = expose_errors
        self._codec: Codec = codec or JSONCodec()
        self._host = Host(f"sqs_orchestrator poller of {queue}", self._closing)
        self._dead_letters: Flights[str] = Flights(self._host)
        self._dead_letter_url = ""
        self._dead_letters_known = -math.inf
        self._url = ""
        self._failure: BaseException | None = None
        self._abort = asyncio.Event()
        self._wake = asyncio.Event()
        self._draining = False
        # What is held, and where it is.
        self._concurrency = concurrency
        self._keeper: Keeper[_Held] = Keeper(self._visibility_timeout, max_extension)
        self._waiting: deque[_Held] = deque()
        self._running: set[_Held] = set()
        self._groups: Groups[_Held] = Groups()
        self._in_lanes = 0
        self._errands = 0
        self._tend_timer: asyncio.TimerHandle | None = None
        # How much to take.
        self._intake = Intake(concurrency)
        self._receivers = Receivers()
        self._asked = 0
        self._backoff = Backoff()
        self._counts = dict.fromkeys(_COUNTERS, 0)
        self._polled: float | None = None
        self._consecutive_failures = 0

    def __repr__(self) -> str:
        return (
            f"<Poller of {self.queue!r}: {len(self._running)} running,"
            f" {len(self._waiting) + self._in_lanes} waiting>"
        )

    # --------------------------------------------------------------------- handlers

    @overload
    def handler(self, route: F, /) -> F: ...

    @overload
    def handler(self, route: str, /) -> Callable[[F], F]: ...

    def handler(self, route: Any, /) -> Any:
        """Register a handler: `@poller.handler` the default one, `@poller.handler("route")`
        the one for messages of that `message_type`.

        A handler is a coroutine function. It takes a `Message`; or its first parameter is
        annotated with another type and takes the decoded body, and a further parameter
        annotated with `Message` takes the message.

        Raises:
            ValueError: If it is no such function, or the route has a handler already.
        """
        if not isinstance(route, str):
            self._handlers.register(route)
            return route

        def register(function: F) -> F:
            self._handlers.register(function, route)
            return function

        return register

    # -------------------------------------------------------------- starting, stopping

    async def run(self, *, handle_signals: bool = True) -> None:
        """Work until `stop()`, cancellation, SIGINT or SIGTERM, then drain.

        Draining: no new poll; the poll in flight is awaited, and what it brings goes back;
        handlers finish until `drain_timeout`, of which the last two seconds are kept for
        replies and deletes; handlers still running then are cancelled, and their messages
        go back. A second signal or cancellation stops at once: messages come back after
        their visibility timeout, late but not lost.

        Args:
            handle_signals: Let SIGINT and SIGTERM stop it, in the main thread.

        Raises:
            QueueNotFound: If there is no such queue, or it was deleted.
            AccessDenied: If `sqs:ReceiveMessage` is not allowed, or credentials are bad.
            QueueError: If SQS refuses for another reason that will not heal by itself.
            ValueError: If it has no handler.
            RuntimeError: If it ran before.
        """
        await self._start()
        try:
            with on_signal(self._signal) if handle_signals else nullcontext():
                try:
                    await self._host.wait()
                except asyncio.CancelledError:
                    self.stop()
                    await self._drained(patience=0)
                    raise
        finally:
            self._sqs.release(self)
        self._raise_failure()

    def stop(self) -> None:
        """Ask for a drain, as `run` describes it, and return at once."""
        self._host.request_stop()

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        # A cancellation that ended the body was the first; the next one stops at once.
        patience = 0 if isinstance(error, asyncio.CancelledError) else 1
        try:
            await self._drained(patience=patience)
        finally:
            self._sqs.release(self)
        if error is None:
            self._raise_failure()

    async def aclose(self) -> None:
        """Drain and wait until that is done. Cancelling it does not cut it short."""
        await self._host.stop()

    async def _drained(self, *, patience: int) -> None:
        """Wait until the host has ended. More cancellations than *patience* end the drain."""
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not self._host.ended:
                try:
                    await self._host.wait()
                except asyncio.CancelledError as error:
                    cancelled = cancelled or error
                    if patience <= 0:
                        self._abort.set()
                    patience -= 1
        if cancelled is not None:
            raise cancelled

    def _signal(self, name: str) -> None:
        if self._host.stopping:
            logger.warning("%s again: stopping at once", name)
            self._abort.set()
        else:
            logger.info("%s: draining", name)
            self.stop()

    def _raise_failure(self) -> None:
        failure = self._failure or self._host.failure
        if failure is not None:
            raise failure

    async def _start(self) -> None:
        if not self._handlers:
            raise ValueError(
                f"the poller of {self.queue!r} has no handler: pass one, or use @poller.handler"
            )
        self._port: SQS = self._sqs.adopt(self)
        try:
            await self._host.start()
            self._url = await self._sqs.queue_url(self.queue)
        except BaseException:
            self._sqs.release(self)
            await self._host.stop()
            raise
        self._fifo = self._url.endswith(".fifo")
        sends: Lanes[Outgoing] = send_lanes(self._host, self._port)
        self._dead_letter_sends = sends
        self._responder = Responder(sends)
        self._deletes = delete_lanes(self._host, self._port, linger=DELETE_LINGER)
        self._changes = _change_lanes(self._host, self._port)
        logger.info("polling %s with %d places", self._url, self._concurrency)
        self._refill()

    async def _closing(self) -> None:
        self._draining = True
        if not self._url:
            return
        async with anyio.create_task_group() as group:

            async def abort() -> None:
                await self._abort.wait()
                group.cancel_scope.cancel()

            group.start_soon(abort)
            await self._drain()
            group.cancel_scope.cancel()
        if self._tend_timer is not None:
            self._tend_timer.cancel()

    async def _drain(self) -> None:
        """Stop in the order that loses nothing: what has not started goes back, handlers
        finish, their replies go out, and only then are their messages deleted."""
        end = asyncio.get_running_loop().time() + self._drain_timeout
        reserve = min(FLUSH_RESERVE, self._drain_timeout / 2)
        for held in [*self._waiting, *self._groups.drain()]:
            self._release(held)
        self._waiting.clear()
        self._in_lanes = 0
        if self._running or self._receivers.in_flight:
            logger.info(
                "draining %s: waiting for %d handlers and %d polls, for up to %.0f s",
                self._url,
                len(self._running),
                self._receivers.in_flight,
                self._drain_timeout - reserve,
            )
        with anyio.move_on_at(end - reserve):
            await self._until(lambda: not self._running and not self._receivers.in_flight)
        for held in list(self._running):
            logger.warning(
                "cancelling the handler of message %s, which outlasts the drain timeout;"
                " the message goes back",
                held.received.message_id,
            )
            self._cancel(held)
        with anyio.move_on_at(min(end, end - reserve + UNWIND)):
            await self._until(lambda: not self._running)
        with anyio.move_on_at(end):
            await self._until(lambda: not self._errands)
            await self._responder.flush()
            await self._changes.flush()
            await self._deletes.flush()

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._wake.clear()
            await self._wake.wait()

    def statistics(self) -> PollerStatistics:
        """A snapshot of the counters."""
        polled = self._polled
        now = asyncio.get_running_loop().time() if polled is not None else 0.0
        return PollerStatistics(
            **self._counts,
            running=len(self._running),
            waiting=len(self._waiting) + self._in_lanes,
            answering=len(self._responder) if self._url else 0,
            seconds_since_poll=None if polled is None else now - polled,
            consecutive_failures=self._consecutive_failures,
        )

    # -------------------------------------------------------------------- receiving

    def _refill(self) -> None:
        """Start the receives that should be in flight."""
        while not self._draining and self._host.running:
            if len(self._responder) > MOST_ANSWERING or self._in_lanes > MOST_IN_LANES:
                return
            room = self._intake.room(len(self._running), len(self._waiting), self._asked)
            if self._fifo and self._groups.one_at_a_time(asyncio.get_running_loop().time()):
                room = min(room, 1)
            asked = self._receivers.ask(room)
            if not asked:
                return
            self._receivers.started()
            self._asked += asked
            self._host.spawn(self._receive, asked)

    async def _receive(self, asked: int) -> None:
        """One receive, and what comes of it."""
        self._counts["receives"] += 1
        try:
            batch = await self._port.receive(
                self._url,
                max_messages=asked,
                wait_time=self._wait_time,
                visibility_timeout=self._visibility_timeout,
            )
        except QueueError as error:
            await self._receive_failed(error)
            self._receivers.failed()
            self._asked -= asked
        else:
            now = asyncio.get_running_loop().time()
            self._polled = now
            self._consecutive_failures = 0
            self._backoff.reset()
            self._receivers.ended(asked, len(batch))
            self._asked -= asked
            for received in batch:
                self._take(received, now)
            self._start_waiting()
        self._refill()
        self._wake.set()

    async def _receive_failed(self, error: QueueError) -> None:
        self._consecutive_failures += 1
        if not error.transient:
            logger.error("the poller of %s stops: %s", self._url, error)
            self._failure = self._failure or error
            self.stop()
            return
        log = logger.warning if self._consecutive_failures == 1 else logger.debug
        log("polling %s failed and is tried again: %s", self._url, error)
        # One receiver finds out when it works again; the pause ends early when draining.
        self._receivers.target = 1
        await self._host.pause(self._backoff.next())

    def _take(self, received: Received, now: float) -> None:
        """Hold a message that has just been received, and let it wait for its turn."""
        fault: str | None = None
        try:
            request = wire.parse_request(received.attributes)
        except wire.Malformed as malformed:
            request = wire.Request(malformed.reply_to)
            fault = malformed.reason
        message = Message.received(received, request, self._port.clock)
        held = _Held(received, request, message, fault)
        self._counts["received"] += 1
        if message.receive_count > 1:
            self._counts["redelivered"] += 1
        if self._draining:
            self._release(held)
            return
        self._keeper.hold(held, now)
        if self._tend_timer is None:
            self._tend(now)
        if self._fifo and not self._groups.enter(message.group_id or "", held):
            self._in_lanes += 1
        else:
            self._waiting.append(held)

    # --------------------------------------------------------------------- handling

    def _start_waiting(self) -> None:
        """Start what waits, as far as there are places."""
        while self._waiting and len(self._running) < self._concurrency:
            held = self._waiting.popleft()
            if self._judge(held):
                self._running.add(held)
                self._host.spawn(self._handle, held)

    def _judge(self, held: _Held) -> bool:
        """Whether the message should be handled; what should not is dealt with."""
        request = held.request
        if held.overdue:
            self._leave(held)
            return False
        if request.reply_to is not None:
            try:
                held.answer_url = check_reply_address(
                    request.reply_to,
                    self._url,
                    region=self._port.region,
                    prefixes=self._prefixes,
                    accounts=self._accounts,
                )
            except Refused as refused:
                held.fault = refused.reason
        if held.fault is not None:
            self._refuse(held, "bad_attribute", held.fault)
            return False
        if held.message.time_remaining() <= 0:
            self._counts["expired"] += 1
            logger.debug("deleted an expired request: %s", held.received.message_id)
            self._delete(held)
            return False
        handler = self._handlers.lookup(request.message_type)
        if handler is None:
            self._refuse(
                held, "unknown_route", f"no handler for {wire.quoted(request.message_type)}"
            )
            return False
        held.handler = handler
        return True

    async def _handle(self, held: _Held) -> None:
        """Run the handler, and carry out what it decided."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome: Any = None
        error: BaseException | None = None
        assert held.handler is not None
        try:
            with anyio.CancelScope() as held.scope:
                try:
                    coroutine = held.handler.begin(held.message, self._codec)
                except CodecError as bad:
                    error = _BadBody(str(bad))
                else:
                    outcome = await coroutine
            if held.scope.cancelled_caught:
                error = TimeoutError("it ran past max_extension")
        except asyncio.CancelledError as cancelled:
            if not self._host.running:
                raise
            error = cancelled  # the handler's own doing: something that it awaited was cancelled
        except Exception as raised:
            error = raised
        finally:
            self._running.discard(held)
        self._intake.finished(loop.time() - started)
        if held.given_up:
            self._release(held)
        else:
            self._conclude(held, outcome, error)
        self._start_waiting()
        self._refill()
        self._wake.set()

    def _conclude(self, held: _Held, outcome: Any, error: BaseException | None) -> None:
        """Carry out what the handler decided: the table of the contract."""
        wanted = held.answer_url is not None
        if error is None:
            self._counts["handled"] += 1
            if wanted and outcome is not NO_REPLY:
                self._answer(held, outcome)
            else:
                self._delete(held)
        elif isinstance(error, _BadBody):
            self._refuse(held, "bad_body", str(error))
        elif isinstance(error, Retry):
            self._counts["retried"] += 1
            self._leave(held, delay=error.delay)
        elif isinstance(error, Reject):
            self._counts["rejected"] += 1
            if wanted:
                self._answer_error(held, error.code, error, error.message, error.details)
            else:
                reason = f"{error.code}: {error.message}"
                self._errand(self._to_dead_letters, held, reason, True)
        else:
            self._counts["failed"] += 1
            logger.error(
                "the handler of %r failed on message %s",
                held.handler,
                held.received.message_id,
                exc_info=error,
            )
            if wanted:
                text = str(error) if self._expose_errors else ""
                self._answer_error(held, "handler_error", error, text)
            else:
                self._leave(held)

    def _refuse(self, held: _Held, code: str, reason: str) -> None:
        """The library itself rejects the message."""
        self._counts["rejected"] += 1
        logger.warning("rejected message %s (%s): %s", held.received.message_id, code, reason)
        if held.answer_url is not None:
            self._answer_error(held, code, None, reason if self._expose_errors else "")
        else:
            self._errand(self._to_dead_letters, held, f"{code}: {reason}", False)

    # --------------------------------------------------------------------- answering

    def _answer(self, held: _Held, outcome: Any) -> None:
        assert held.request.reply_to is not None
        try:
            body, content_type = self._codec.encode(outcome)
            wire.check_body(body)
            attributes = wire.reply_attributes(held.request.reply_to, content_type=content_type)
            wire.check_size(wire.message_bytes(body, attributes))
        except Exception as error:
            code = "reply_too_large" if isinstance(error, MessageTooLarge) else "bad_reply"
            logger.error(
                "what the handler of message %s returned cannot be sent: %s",
                held.received.message_id,
                wire.quoted(error, 300),
            )
            self._answer_error(held, code, error, str(error) if self._expose_errors else "")
            return
        self._post(held, body, attributes)

    def _answer_error(
        self,
        held: _Held,
        code: str,
        error: BaseException | None,
        message: str = "",
        details: Any = None,
    ) -> None:
        assert held.request.reply_to is not None
        kind = None if error is None else type(error).__name__
        attributes = wire.reply_attributes(held.request.reply_to, error_code=code)
        self._post(held, wire.error_body(code, kind, message, details), attributes)

    def _post(self, held: _Held, body: str, attributes: Any) -> None:
        """Send the reply, and delete the request once SQS has it."""
        assert held.answer_url is not None
        remaining = held.message.time_remaining()
        self._settle_group(held, succeeded=True)
        if remaining <= 0:
            self._counts["replies_dropped"] += 1
            logger.debug("dropped a reply past its deadline: %s", held.received.message_id)
            self._delete(held)
            return
        patience = REPLY_PATIENCE if remaining == math.inf else remaining
        expires = asyncio.get_running_loop().time() + patience

        def settled(error: QueueError | SendError | None) -> None:
            if error is None:
                self._counts["replies"] += 1
            elif remaining == math.inf and getattr(error, "transient", False):
                # Somebody may still wait for it: let the message come back.
                self._let_go(held)
                return
            else:
                self._counts["replies_dropped"] += 1
                logger.warning(
                    "dropped the reply to message %s: %s", held.received.message_id, error
                )
            self._delete(held)
            self._refill()

        self._responder.post(held.answer_url, body, attributes, expires=expires, settled=settled)

    # ------------------------------------------------------ what becomes of a message

    def _delete(self, held: _Held) -> None:
        self._let_go(held)
        self._settle_group(held, succeeded=True)
        self._counts["deleted"] += 1
        self._deletes.add(self._url, Deletion(held.received.receipt_handle))

    def _leave(self, held: _Held, delay: float | None = None) -> None:
        """Let it come back, after *delay* or when its visibility runs out."""
        self._let_go(held)
        if delay is not None:
            self._change(held, min(delay, LONGEST_DELAY))
        self._settle_group(held, succeeded=False)

    def _release(self, held: _Held) -> None:
        """Let it come back at once."""
        self._let_go(held)
        self._change(held, 0)

    def _let_go(self, held: _Held) -> None:
        self._keeper.let_go(held)

    def _settle_group(self, held: _Held, *, succeeded: bool) -> None:
        """On a FIFO queue, let the next message of the group run, or send the rest back."""
        if not self._fifo or held.settled:
            return
        held.settled = True
        group = held.message.group_id or ""
        if succeeded:
            following = self._groups.succeeded(group)
            if following is not None:
                self._in_lanes -= 1
                self._waiting.append(following)
            return
        until = asyncio.get_running_loop().time() + SUSPICION
        for rest in self._groups.failed(group, until):
            self._in_lanes -= 1
            rest.settled = True
            self._release(rest)

    def _cancel(self, held: _Held) -> None:
        held.given_up = True
        if held.scope is not None:
            held.scope.cancel()

    # ------------------------------------------------------------------- dead letters

    def _errand(self, function: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Something to do for a message that takes calls of its own; drained like handlers."""
        self._errands += 1

        async def run() -> None:
            try:
                await function(*arguments)
            finally:
                self._errands -= 1
                self._wake.set()

        self._host.spawn(run)

    async def _to_dead_letters(self, held: _Held, reason: str, judged: bool) -> None:
        """Move a one-way message to the dead-letter queue. Where there is none, one that a
        handler has judged is deleted, any other comes back later and later."""
        message_id = held.received.message_id
        try:
            url = await self._dead_letters.run("", self._find_dead_letters)
        except QueueError as error:
            logger.warning("message %s stays: no dead-letter queue found: %s", message_id, error)
            self._leave(held)
            return
        if url:
            self._move(held, url)
        elif judged:
            logger.warning("deleted message %s, rejected: %s", message_id, wire.quoted(reason, 300))
            self._delete(held)
        else:
            doublings = min(held.message.receive_count - 1, 10)
            delay = min(self._visibility_timeout * 2.0**doublings, LONGEST_RETURN)
            logger.warning(
                "message %s comes back in %.0f s: there is no dead-letter queue for it",
                message_id,
                delay,
            )
            self._leave(held, delay=delay)
        self._start_waiting()
        self._refill()

    async def _find_dead_letters(self) -> str:
        """The URL of the dead-letter queue; empty where the queue has none."""
        now = asyncio.get_running_loop().time()
        if now < self._dead_letters_known + DEAD_LETTERS_KEPT:
            return self._dead_letter_url
        port = self._port
        found = await self._sqs.patiently(
            lambda: port.get_queue_attributes(self._url, ["RedrivePolicy"])
        )
        target = dead_letter_queue(found.get("RedrivePolicy"))
        url = ""
        if target is not None:
            name, account = target.name, target.account
            url = await self._sqs.patiently(lambda: port.get_queue_url(name, account))
        self._dead_letter_url, self._dead_letters_known = url, now
        return url

    def _move(self, held: _Held, url: str) -> None:
        def settled(error: QueueError | SendError | None) -> None:
            if error is None:
                self._delete(held)
            else:
                logger.warning(
                    "message %s stays: its dead-letter queue does not take it: %s",
                    held.received.message_id,
                    error,
                )
                self._leave(held)
            self._start_waiting()
            self._refill()

        fifo = url.endswith(".fifo")
        self._responder.post(
            url,
            held.received.body,
            held.received.attributes,
            expires=asyncio.get_running_loop().time() + REPLY_PATIENCE,
            settled=settled,
            group_id=(held.message.group_id or "rejected") if fifo else None,
            deduplication_id=held.received.message_id if fifo else None,
        )

    # --------------------------------------------------------------------- visibility

    def _tend(self, now: float | None = None) -> None:
        """Extend what is due, end what was held for too long, and come back in time."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for held in self._keeper.overdue(now):
            held.overdue = True
            if held.scope is not None:
                held.scope.cancel()
        for held in self._keeper.to_extend(now):
            self._change(held, self._visibility_timeout)
        at = self._keeper.next_at()
        self._tend_timer = None if at is None else loop.call_at(at, self._tend)

    def _change(self, held: _Held, seconds: float) -> None:
        expires = asyncio.get_running_loop().time() + max(self._visibility_timeout / 2, 5.0)
        change = _Change(held.received.receipt_handle, math.ceil(seconds), expires)
        self._changes.add(self._url, change)


class _BadBody(Exception):
    """The body is not what the handler takes."""


def _change_lanes(host: Host, port: SQS) -> Lanes[_Change]:
    async def change(url: str, batch: Sequence[_Change]) -> Sequence[Failure | None]:
        return await port.change_visibility(
            url, [(entry.receipt_handle, entry.seconds) for entry in batch]
        )

    policy = Policy(linger=EXTEND_LINGER)
    return Lanes(host, change, lambda url: policy)
