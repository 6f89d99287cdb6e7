"""`Poller`: a worker on one queue. What it does with messages is in `worker`; here are its
settings, and how it starts and stops."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import anyio

from ..codecs import Codec, check_readable, codec_or_json
from ..connection import Connection, check_connection
from ..core.addresses import DEFAULT_PREFIXES
from ..core.checks import check_flag
from ..errors import QueueError
from ..health import Ailment, Health, Vitals, said
from ..logs import about, get_logger
from ..middleware import Middleware, checked_middleware
from ..queues import check_queue
from ..retry import retrying
from ..tasks import TaskOwner
from .draining import drain
from .engine import Engine
from .handlers import Handler, Handlers
from .settings import checked_settings
from .signals import on_signal
from .statistics import PollerStatistics

__all__ = ["Poller", "PollerStatistics"]

logger = get_logger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


class Poller:
    """Takes messages from a queue and runs handlers on them.

    Give it a handler, or several by route, then `await run()`; or use it as an async context
    manager to work in the background. Use a poller once.

    Any exception of a handler is its failure, `SystemExit` included; only `KeyboardInterrupt`
    ends the program.

    Args:
        sqs: The connection.
        queue: The queue's name or URL.
        handler: The default handler; the same as `poller.handler` as a decorator.
        concurrency: Handlers that run at once. On FIFO queues one per message group.
        visibility_timeout: Seconds that a message stays hidden after a worker died with
            it. It is extended for as long as it is held, half-way through, so it need not
            cover the handler; but what blocks the event loop for longer than half of it may
            let messages out. The default leaves a request with the default timeout time for
            a second try. SQS knows whole seconds only, in *wait_time* too.
        max_extension: Seconds for which a message is held at most; then its handler is
            cancelled, as if it had failed. At most 12 h together with *visibility_timeout*
            (ChangeMessageVisibility in the SQS API Reference).
        wait_time: Seconds of a long poll, at most 20 (ReceiveMessage). Stopping an idle
            poller takes that long, since a poll in flight is awaited unless SIGINT or
            `stop(drop_poll=True)` drops it. With 0, polls do not
            wait for messages, and one that brought none is followed by a pause of 0.5 s: a
            message may lie for so long, and an idle poller makes two calls a second.
        drain_timeout: Seconds for stopping, the last two of them kept for replies and
            deletes. Where it is shorter than *wait_time* and two seconds, a poll in flight
            may be dropped, and what it brings comes back after *visibility_timeout*; a
            warning in the log says so when the poller starts.
        reply_queue_prefixes: With what the names of reply queues begin; others are not
            answered. `None` drops this check, and lets whoever may write to the queue
            choose to which queue of the account the replies go.
        reply_accounts: AWS accounts to answer to beside the queue's own.
        expose_errors: Send the text of any exception of a handler to the requester, not
            only that of `Reject`.
        sns_topics: ARNs of SNS topics that the queue is subscribed to without raw delivery:
            their messages are taken out of SNS's envelope.
        codec: Encodes and decodes bodies; JSON by default.
        middleware: Objects with `async incoming(message, call_next)`, which stands around each
            call of a handler, with `async outgoing(draft, call_next)`, which stands around each
            reply, or with both. The first is the outermost. Without any, nothing stands in the
            way. Several pollers and publishers may share them.

    Raises:
        ValueError: If the settings contradict each other or SQS's limits, the handler
            is none, or *middleware* holds what is none.
    """

    def __init__(
        self,
        sqs: Connection,
        queue: str,
        handler: Callable[..., Any] | None = None,
        *,
        concurrency: int = 10,
        visibility_timeout: float = 10.0,
        max_extension: float = 3600.0,
        wait_time: float = 20.0,
        drain_timeout: float = 25.0,
        reply_queue_prefixes: Sequence[str] | None = DEFAULT_PREFIXES,
        reply_accounts: Collection[str] = (),
        expose_errors: bool = False,
        sns_topics: Collection[str] = (),
        codec: Codec | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        check_connection(sqs)
        check_queue(queue)
        self.queue = queue
        """The queue's name or URL, as it was given."""
        self.sqs = sqs
        """The connection."""
        self._settings = checked_settings(
            concurrency=concurrency,
            visibility_timeout=visibility_timeout,
            max_extension=max_extension,
            wait_time=wait_time,
            drain_timeout=drain_timeout,
            reply_queue_prefixes=reply_queue_prefixes,
            reply_accounts=reply_accounts,
            expose_errors=expose_errors,
            sns_topics=sns_topics,
            read_timeout=sqs.read_timeout,
        )
        self._codec = codec_or_json(codec)
        self._middleware = checked_middleware(middleware)
        self._handlers = Handlers()
        if handler is not None:
            self._register(handler)
        self._owner = TaskOwner(f"the poller of {queue}", self._closing)
        self._work: _Search | Engine = _Search(self._owner, sqs, queue)
        self._vitals = Vitals(self._owner, "the poller")
        self._failure: BaseException | None = None
        self._used = False
        self._asked_to_stop = False
        self._abort = asyncio.Event()
        self._drop_poll = asyncio.Event()

    def __repr__(self) -> str:
        if self._owner.ended:
            return f"<Poller of {self.queue!r}, stopped>"
        return f"<Poller of {self.queue!r}: {self._work}>"

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
            ValueError: If it is no such function, or the route has a handler already; or if
                no body can be read as the type, for want of pydantic or msgspec perhaps.
        """
        if not isinstance(route, str):
            self._register(route)
            return route

        def register(function: F) -> F:
            self._register(function, route)
            return function

        return register

    def _register(self, function: Callable[..., Any], route: str | None = None) -> None:
        handler = Handler(function, route)
        if handler.streams:
            raise ValueError(
                f"the handler {handler.name} is an async generator, and streamed replies are"
                " not supported yet: return one value, such as a list of the parts"
            )
        if handler.body_type is not None:
            check_readable(self._codec, handler.body_type, f"the handler {handler.name}")
        self._handlers.register(function, route)

    # -------------------------------------------------------------- starting, stopping

    async def run(self, *, handle_signals: bool = True) -> None:
        """Work until `stop()`, cancellation, SIGINT or SIGTERM, then drain.

        What may pass (throttling, a fault of SQS, an endpoint out of reach) is tried again
        for ever, with one warning, and shows in `statistics()`. `async with poller:` does
        the same once it has found its queue, and raises where it does not within 30 s, or
        3 s where the endpoint has never answered.

        Draining: no new poll; the poll in flight is awaited, and what it brings goes back;
        handlers finish until `drain_timeout`, of which the last two seconds are kept for
        replies and deletes; handlers still running then are cancelled, and their messages
        go back. A second signal or cancellation stops at once: messages come back after
        their visibility timeout, late but not lost. SIGINT (Ctrl-C) does not await a poll
        that has brought nothing yet: see `stop`.

        Handlers of signals that the program has set before are called too, whether by
        `signal.signal` or by the event loop. One that raises `SystemExit` or
        `KeyboardInterrupt` does so once the pollers have drained. Only Python's own ways to
        end at Ctrl-C are put off: they are back when the last `run` has ended. One that the
        program sets while this runs takes its place. Inside a web application use
        `async with poller:` instead, which leaves signals to the server.

        Args:
            handle_signals: Let SIGINT and SIGTERM stop it, in the main thread.

        Raises:
            QueueNotFound: If there is no such queue, or it was deleted.
            AccessDenied: If `sqs:ReceiveMessage` is not allowed, or credentials are bad.
            QueueError: If SQS refuses for another reason that will not heal by itself.
            ValueError: If it has no handler, or *handle_signals* is no bool.
            RuntimeError: If it ran before, or is at work, as inside `async with`.
        """
        check_flag("handle_signals", handle_signals)
        # A signal may come while it starts, too.
        with on_signal(self._signal) if handle_signals else nullcontext():
            await self._start(keep_trying=True)
            try:
                await self._owner.wait()
            except asyncio.CancelledError:
                self._ask_to_stop("it was cancelled")
                await self._ended()
                raise
            finally:
                self.sqs.release(self)
        self._raise_failure()

    def stop(self, *, drop_poll: bool = False) -> None:
        """Ask for a drain, as `run` describes it, and return at once.

        Args:
            drop_poll: Do not await a poll that has brought nothing yet. What SQS hands to it
                all the same comes back after `visibility_timeout`, received once more often.
                A poll whose answer has begun to arrive is awaited; on the stock client's
                path, where nobody sees that, it is dropped too. Handlers get their time as
                ever. It may be asked for while the poller drains already.
        """
        check_flag("drop_poll", drop_poll)
        if drop_poll:
            self._drop_poll.set()
        self._owner.request_stop()

    async def __aenter__(self) -> Self:
        await self._start(keep_trying=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            self._ask_to_stop("it was cancelled")
        else:
            self.stop()
        try:
            await self._ended()
        finally:
            self.sqs.release(self)
        if error is None:
            self._raise_failure()

    async def aclose(self) -> None:
        """Drain and wait until that is done. Cancelling it does not cut it short."""
        await self._owner.stop()

    def statistics(self) -> PollerStatistics:
        """A snapshot of the counters."""
        return self._work.statistics()

    def health(self) -> Health:
        """Whether it works. Cheap, without a call to SQS, and callable from any thread.

        It is healthy from when it has found its queue until it is asked to stop, unless its
        receives have failed for 10 s or longer. It is not alive if it failed, which ends it, or
        if its event loop has not turned for 10 s, as where a handler blocks it. That begins to
        count when somebody asks, so ask every few seconds. While it looks for its queue, while
        SQS is out of reach, and while it drains, it is alive.
        """
        vitals, work = self._vitals, self._work
        if isinstance(work, _Search):
            return vitals.health(vitals.ailment(self._failure) or work.ailment())
        in_work = work.in_work()
        return vitals.health(
            vitals.ailment(work.receive_loop.failure) or work.receive_loop.ailment(),
            streaks=(work.receive_loop.streak,),
            since=work.began,
            last_poll=work.receive_loop.polled,
            oldest=min((each.since for each in in_work), default=None),
            pending=len(in_work) + len(work.waiting),
        )

    # -------------------------------------------------------------------- internals

    async def _start(self, *, keep_trying: bool) -> None:
        self._check_handlers()
        if self._used:
            if self._owner.ended:
                raise RuntimeError(f"the poller of {self.queue!r} ran before: make a new one")
            raise RuntimeError(
                f"the poller of {self.queue!r} is at work already: both run() and 'async with'"
                " start it, so use one of them; in the body of 'async with', await whatever"
                " should end it"
            )
        self.sqs.adopt(self)
        self._used = True
        try:
            await self._owner.start()
            with self._owner.until_stop():
                search = self._work
                if isinstance(search, _Search) and not self._owner.stopping:
                    self._begin(await search.url(keep_trying))
        except BaseException as error:
            if isinstance(error, Exception):
                self._failure = error
            self.sqs.release(self)
            await self._owner.stop()
            raise

    def _begin(self, url: str) -> None:
        """The queue is found: work on it."""
        engine = self._work = self.engine(self._owner, url)
        logger.info("polling %s with %d places", url, self._settings.concurrency, extra=about(url))
        unwise = self._settings.unwise()
        if unwise is not None:
            logger.warning("the poller of %s: %s", url, unwise, extra=about(url))
        engine.start()

    def _check_handlers(self) -> None:
        if not self._handlers:
            raise ValueError(
                f"the poller of {self.queue!r} has no handler: pass one, or use @poller.handler"
            )

    def engine(self, owner: TaskOwner, url: str, *, receives: bool = True) -> Engine:
        """What works on the messages of the queue at *url* as this poller does, in tasks of
        *owner*. For the library's own use."""
        self._check_handlers()
        return Engine(
            owner,
            self.sqs,
            url,
            self._settings,
            self._handlers,
            self._codec,
            self._middleware,
            receives=receives,
        )

    async def _closing(self) -> None:
        if self.sqs.drop_polls:
            self._drop_poll.set()
        if isinstance(self._work, Engine):
            await drain(self._work, self._abort, self._drop_poll)

    async def _ended(self) -> None:
        """Wait until it has ended, whatever cancels the caller; that is raised afterwards."""
        cancelled: asyncio.CancelledError | None = None
        # The shield is for anyio's scopes, which cancel again and again; the loop for others.
        with anyio.CancelScope(shield=True):
            while not self._owner.ended:
                try:
                    await self._owner.wait()
                except asyncio.CancelledError as error:
                    cancelled = cancelled or error
                    self._ask_to_stop("it was cancelled")
        if cancelled is not None:
            raise cancelled

    def _signal(self, name: str) -> None:
        if name == "SIGINT":
            # A person waits.
            self._drop_poll.set()
        self._ask_to_stop(name)

    def _ask_to_stop(self, why: str) -> None:
        """Drain; when asked a second time, stop at once."""
        if self._asked_to_stop:
            logger.warning(
                "the poller of %s stops at once: %s, again",
                self.queue,
                why,
                extra=about(self.queue),
            )
            self._abort.set()
        else:
            self._asked_to_stop = True
            logger.info("the poller of %s stops: %s", self.queue, why, extra=about(self.queue))
            self.stop()

    def _raise_failure(self) -> None:
        failure = self.statistics().failure
        if failure is not None:
            raise failure


class _Search:
    """A poller that has not found its queue yet."""

    def __init__(self, owner: TaskOwner, sqs: Connection, queue: str) -> None:
        self._owner = owner
        self._sqs = sqs
        self._queue = queue
        self._failures = 0
        self._trouble: QueueError | None = None

    def __repr__(self) -> str:
        return "not running"

    def statistics(self) -> PollerStatistics:
        """A snapshot: all that there is to count is failures."""
        failing = self._sqs.trouble(self._queue) is not None
        return PollerStatistics(
            consecutive_failures=self._failures + failing, failure=self._owner.failure
        )

    async def url(self, keep_trying: bool) -> str:
        """The URL of the queue."""
        if keep_trying:
            return await retrying(self._sought, until=math.inf)
        return await self._sqs.queue_url(self._queue)

    def ailment(self) -> Ailment:
        """Why it does not work yet."""
        trouble = self._sqs.trouble(self._queue) or self._trouble
        why = "" if trouble is None else f": {said(trouble)}"
        return Ailment(f"the poller has not found its queue yet{why}", self._owner.started)

    async def _sought(self) -> str:
        """The URL, or one more failure."""
        try:
            return await self._sqs.queue_url(self._queue)
        except QueueError as error:
            if error.transient:
                self._failures += 1
                self._trouble = error
                log = logger.warning if self._failures == 1 else logger.debug
                log(
                    "finding the queue %r failed and is tried again: %s",
                    self._queue,
                    error,
                    extra=about(self._queue),
                )
            raise
