"""The work of a poller: receive, dispatch, answer, delete.

The way of one message: a receive brings it (`_take`), it waits for a place, it is judged
(`_judge`) and its handler started, and what that decides (`outcomes`) is carried out: a
reply, a delete, a release. From receive to the end of its delete it is *held*: its visibility
is extended, and where SQS hands it out once more all the same, it is not begun again. A reply is
confirmed by SQS before its request is deleted, so a crash at any point repeats
work and loses none.

Nothing waits for a batch to end: whenever a place becomes free, the next message takes it,
and whenever there is room, the next receive goes out.

Each handler runs in a task of its own, not in the host's task group: a group could not end
before a handler that ignores its cancellation, and would cancel the clean-up of those that
heed theirs. The engine keeps them all, and `drain` ends them.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

import anyio

from ..codecs import Codec, CodecError
from ..connection import Connection
from ..core.addresses import Refused, check_reply_address
from ..core.checks import quoted
from ..core.groups import Ask, Groups
from ..core.limits import BATCH_ENTRIES, VISIBILITY_TIMEOUT
from ..core.polling import Intake
from ..errors import QueueError, SendError
from ..handlers import Handler, Handlers, Reject, Retry
from ..logs import get_logger
from ..message import Message
from ..outgoing import Deletion, delete_lanes, send_lanes
from ..sqs.port import SQS, Received
from ..tasks import Host
from . import outcomes
from .answering import Answering
from .dead_letters import DeadLetters, Fate
from .held import Held, read
from .outcomes import Answer, BadBody, Bury, Decision, Delete, Exited, Fail, Leave
from .receiving import Receiving
from .settings import Settings
from .statistics import Counts, PollerStatistics
from .visibility import Visibility

logger = get_logger(__name__)

DELETE_LINGER: Final = 0.1
"""Seconds that the delete of a request waits for company: a crash meanwhile repeats work."""

UNWIND: Final = 0.5
"""Seconds that a cancelled handler has to unwind."""

LATEST_RETURN: Final = VISIBILITY_TIMEOUT - 30.0
"""Seconds after its receive at which a message comes back at the latest: SQS refuses more
than twelve hours, which began before the receive ended."""

LONGEST_UNJUDGED: Final = 3600.0
"""The most seconds after which a message comes back that nobody could judge."""

REMEMBERED: Final = 60.0
"""Seconds, from when it may come back, for which a message is remembered that was dealt with and
whose delete is not certain. It is deleted then, not done again."""

MOST_UNFINISHED: Final = 300
"""Replies, dead letters or deletes on their way beyond which no more messages are taken. More
would only be more to do again after a crash: all the batches of a lane that may be in flight
at once hold half as many."""

MOST_HELD_UP: Final = 10 * MOST_UNFINISHED
"""The same for all replies, those included that wait for a queue which may be too young."""


class Engine:
    """What works on the messages of one queue; *host* runs its calls."""

    def __init__(
        self,
        host: Host,
        sqs: Connection,
        url: str,
        settings: Settings,
        handlers: Handlers,
        codec: Codec,
    ) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._port: SQS = sqs.port
        self._url = url
        self._fifo = url.endswith(".fifo")
        self._settings = settings
        self._handlers = handlers
        self._codec = codec
        self._counts = Counts()
        sends = send_lanes(host, self._port)
        self._answering = Answering(
            sends,
            codec,
            self._counts,
            expose_errors=settings.expose_errors,
            ended=self._answered,
        )
        self._dead_letters = DeadLetters(host, sqs, self._port, url, sends)
        self._deletes = delete_lanes(host, self._port, linger=DELETE_LINGER)
        self._visibility = Visibility(
            host,
            self._port,
            url,
            self._counts,
            timeout=settings.visibility_timeout,
            max_extension=settings.max_extension,
            overdue=self._overdue,
        )
        # What is held, by message id: what has been dealt with stays until its delete is certain.
        self._held: dict[str, Held] = {}
        self._dealt_with: deque[tuple[float, Held]] = deque()
        # Where it is.
        self._waiting: deque[Held] = deque()
        self._running: dict[asyncio.Task[Any], Held] = {}
        self._groups: Groups[Held] = Groups()
        self._errands = 0
        # How much to take.
        self._intake = Intake(settings.concurrency)
        self._receiving = Receiving(
            host,
            self._port,
            url,
            settings.visibility_timeout,
            self._counts,
            allowance=self._allowance,
            take=self._take_all,
        )
        self._wake = asyncio.Event()
        self._clogged = False

    def __repr__(self) -> str:
        waiting = len(self._waiting) + self._groups.waiting
        return f"<Engine of {self._url}: {len(self._running)} running, {waiting} waiting>"

    def start(self) -> None:
        """Begin to receive."""
        self._receiving.refill()

    def statistics(self) -> PollerStatistics:
        """A snapshot of the counters."""
        polled = self._receiving.polled
        # Not the running loop: a health check may ask from a thread.
        now = self._loop.time()
        return PollerStatistics(
            **self._counts.as_dict(),
            running=len(self._running),
            waiting=len(self._waiting) + self._groups.waiting,
            answering=len(self._answering),
            seconds_since_poll=None if polled is None else now - polled,
            consecutive_failures=self._receiving.consecutive_failures,
            failure=self._receiving.failure or self._host.failure,
        )

    # -------------------------------------------------------------------- receiving

    def _allowance(self, asked: int) -> Ask:
        """What one more receive may ask for, where those in flight have asked for *asked*."""
        self._clogged = self._is_clogged()
        if self._clogged:
            return Ask(0, 0)
        ask = Ask(BATCH_ENTRIES, self._settings.wait_time)
        if self._fifo:
            ask = self._groups.ask(self._loop.time(), ask.wait)
        room = self._intake.room(len(self._running), len(self._waiting), asked)
        return Ask(min(room, ask.most), ask.wait)

    def _is_clogged(self) -> bool:
        """Whether replies, dead letters or deletes do not get off: to take more messages would
        only make it worse. What gets off refills. Replies to a queue that is gone hold nobody
        else up, as long as they are not too many to keep."""
        answering = len(self._answering)
        return (
            self._errands + answering - self._answering.held_up > MOST_UNFINISHED
            or answering > MOST_HELD_UP
            or len(self._deletes) > MOST_UNFINISHED
            or self._groups.waiting > BATCH_ENTRIES * self._settings.concurrency
        )

    def _unclog(self) -> None:
        if self._clogged:
            self._receiving.refill()

    def _take_all(self, batch: list[Received]) -> None:
        now = self._loop.time()
        while self._dealt_with and self._dealt_with[0][0] <= now:
            _, held = self._dealt_with.popleft()
            # It may have come again meanwhile.
            if held.hidden_until + REMEMBERED <= now:
                self._forget(held)
        for received in batch:
            self._take(received, now)
        self._start_waiting()
        self._wake.set()

    def _take(self, received: Received, now: float) -> None:
        """Hold a message that has just been received, and let it wait for its turn."""
        counts = self._counts
        counts.received += 1
        known = self._held.get(received.message_id)
        if known is not None and (known.judged or not known.overdue):
            self._take_again(known, received, now)
            return
        try:
            held = read(received, self._port.clock, now)
            if held.message.receive_count > 1:
                counts.redelivered += 1
        except Exception:
            # Its own affair, whatever it is: it must not end the receiver.
            logger.exception("message %s is unreadable and stays", received.message_id)
            return
        self._visibility.hold(held, now)
        if self._host.stopping:
            self._release(held)
            return
        self._held[received.message_id] = held
        if not self._fifo or self._groups.enter(held.group, held):
            self._waiting.append(held)

    def _take_again(self, held: Held, received: Received, now: float) -> None:
        """SQS has handed out once more what is in work here, or was. Its visibility ran out, or
        SQS delivers twice, as it may. From now on only the newest receipt handle counts."""
        self._counts.redelivered += 1
        self._counts.duplicates += 1
        held.handle = received.receipt_handle
        logger.debug("message %s came again, and is not begun again", received.message_id)
        if held.deleted and held not in self._visibility:
            self._visibility.hold(held, now)
            self._erase(held)
        else:
            self._visibility.renew(held, now)

    def _forget(self, held: Held) -> None:
        """If it comes again, it is a new one."""
        if self._held.get(held.received.message_id) is held:
            del self._held[held.received.message_id]

    # --------------------------------------------------------------------- handling

    def _start_waiting(self) -> None:
        """Start what waits, as far as there are places."""
        concurrency = self._settings.concurrency
        while self._waiting and len(self._running) < concurrency and not self._host.stopping:
            held = self._waiting.popleft()
            held.judged = True
            try:
                handler = self._judge(held)
            except Exception:
                logger.exception("message %s cannot be judged", held.received.message_id)
                self._leave(held)
                continue
            if handler is not None:
                self._run(held, handler)

    def _judge(self, held: Held) -> Handler | None:
        """The handler for a message; `None` where it has been dealt with without one."""
        request = held.request
        if held.overdue:
            self._leave(held)
            return None
        if request.reply_to is not None and held.message.time_remaining() <= 0:
            self._counts.expired += 1
            logger.debug("deleted an expired request: %s", held.received.message_id)
            self._delete(held)
            return None
        if request.reply_to is not None:
            try:
                held.answer_url = check_reply_address(
                    request.reply_to,
                    self._url,
                    region=self._port.region,
                    prefixes=self._settings.prefixes,
                    accounts=self._settings.accounts,
                )
            except Refused as refused:
                held.fault = refused.reason
        if held.fault is not None:
            self._reject(held, "bad_attribute", held.fault)
            return None
        handler = self._handlers.lookup(request.message_type)
        if handler is None:
            route = request.message_type
            named = "none is named" if route is None else quoted(route)
            self._reject(held, "unknown_route", f"no handler for its route: {named}")
        return handler

    def _run(self, held: Held, handler: Handler) -> None:
        held.handler = handler
        held.started = self._loop.time()
        try:
            task = held.task = self._host.task(_called(handler, held.message, self._codec))
        except KeyboardInterrupt as interrupt:
            # It began eagerly. Who ends the program is the loop, not whoever received the message.
            self._host.request_stop()
            self._release(held)
            self._loop.call_soon(_raise, interrupt)
            return
        self._running[task] = held
        task.add_done_callback(self._ran, context=self._host.context)

    def _ran(self, task: asyncio.Task[Any]) -> None:
        """A handler has ended: carry out what it decided, and go on."""
        held = self._running.pop(task)
        self._intake.finished(self._loop.time() - held.started)
        error: BaseException | None = None
        result: Any = None
        try:
            result = task.result()
        except Exited as exited:
            error = exited.__cause__
        except BaseException as raised:
            error = raised
        try:
            self._conclude(held, result, error)
        except Exception:
            logger.exception("the outcome of message %s got lost", held.received.message_id)
            self._leave(held)
        self._wake.set()
        self._start_waiting()
        self._receiving.refill()

    def _conclude(self, held: Held, result: Any, error: BaseException | None) -> None:
        wanted, expose = held.answer_url is not None, self._settings.expose_errors
        if error is None:
            self._counts.handled += 1
            self._carry_out(held, outcomes.of_result(result, wanted=wanted))
            return
        if isinstance(error, BadBody):
            self._reject(held, "bad_body", quoted(str(error), 300))
            return
        error = outcomes.asked(error)
        if isinstance(error, Retry):
            self._counts.retried += 1
        elif isinstance(error, Reject):
            self._counts.rejected += 1
        elif isinstance(error, KeyboardInterrupt):
            self._host.request_stop()
            self._release(held)
            return
        elif held.given_up or (self._host.cancelled and isinstance(error, CancelledError)):
            # Not the handler's doing, but that of whoever stops the worker.
            self._release(held)
            return
        else:
            if held.overdue and isinstance(error, CancelledError):
                error = TimeoutError("it ran past max_extension")
            self._counts.failed += 1
            logger.error(
                "the handler %r failed on message %s",
                held.handler,
                held.received.message_id,
                exc_info=error,
            )
        self._carry_out(held, outcomes.of_error(error, wanted=wanted, expose=expose))

    def _reject(self, held: Held, code: str, reason: str) -> None:
        """The library itself rejects the message. *reason* is safe to log."""
        self._counts.rejected += 1
        logger.warning(
            "rejected message %s (%s): %s",
            held.received.message_id,
            code,
            reason,
            extra={"kind": code},
        )
        wanted, expose = held.answer_url is not None, self._settings.expose_errors
        self._carry_out(held, outcomes.of_fault(code, reason, wanted=wanted, expose=expose))

    # ------------------------------------------------------------- carrying it out

    def _carry_out(self, held: Held, decision: Decision) -> None:
        match decision:
            case Delete():
                self._delete(held)
            case Answer() | Fail():
                # The group need not wait for the reply.
                self._settle(held)
                self._answering.answer(held, decision)
            case Leave(delay):
                self._leave(held, delay)
            case Bury():
                self._errands += 1
                self._host.spawn(self._bury, held, decision)

    def _answered(self, held: Held, done: bool) -> None:
        """Its reply has left, or never will; where it is not *done*, it should come back."""
        if done:
            self._delete(held)
        else:
            self._visibility.let_go(held)
            self._forget(held)
        self._receiving.refill()

    async def _bury(self, held: Held, decision: Bury) -> None:
        message_id = held.received.message_id
        try:
            fate = await self._dead_letters.take(held, decision.code, decision.reason)
        except Exception:
            logger.exception("message %s stays: it could not be moved", message_id)
            fate = Fate.FAILED
        finally:
            self._errands -= 1
            self._wake.set()
        # What the library itself rejects has had its line.
        why = decision.code, quoted(decision.reason, 300)
        if fate is Fate.MOVED:
            if decision.judged:
                logger.warning("moved message %s to the dead letters (%s): %s", message_id, *why)
            self._counts.dead_lettered += 1
            self._delete(held)
        elif fate is Fate.NO_QUEUE and decision.judged:
            logger.warning("deleted message %s, rejected (%s): %s", message_id, *why)
            self._delete(held)
        else:
            doublings = min(held.message.receive_count - 1, 20)
            delay = min(self._settings.visibility_timeout * 2.0**doublings, LONGEST_UNJUDGED)
            logger.warning("message %s comes back in %.0f s", message_id, delay)
            self._leave(held, delay)
        self._start_waiting()
        self._receiving.refill()

    def _delete(self, held: Held) -> None:
        self._settle(held)
        self._counts.deleted += 1
        held.deleted = True
        self._erase(held)

    def _erase(self, held: Held) -> None:
        self._deletes.add(self._url, _Delete(held, self._loop.time(), self._erased))

    def _erased(self, delete: _Delete, *, confirmed: bool) -> None:
        held, now = delete.held, self._loop.time()
        if delete.receipt_handle != held.handle:
            # SQS confirms a delete by an older handle too, and deletes nothing.
            self._erase(held)
            return
        self._visibility.let_go(held)
        if confirmed and now < held.hidden_until:
            self._forget(held)
        else:
            self._dealt_with.append((max(now, held.hidden_until) + REMEMBERED, held))
        self._unclog()

    def _leave(self, held: Held, delay: float | None = None) -> None:
        """Let it come back, after *delay* or when its visibility runs out."""
        now = self._loop.time()
        returns = self._visibility.hidden_until(held, now)
        self._visibility.let_go(held)
        self._forget(held)
        if delay is not None:
            returns = now + min(delay, held.since + LATEST_RETURN - now)
        later = self._fail_group(held, returns)
        if delay is not None or later > returns:
            self._visibility.change(held, max(0.0, later - now))

    def _release(self, held: Held) -> None:
        """Let it come back at once."""
        self._counts.released += 1
        self._visibility.let_go(held)
        self._forget(held)
        self._visibility.change(held, 0)

    def _overdue(self, held: Held) -> None:
        """It has been held for `max_extension`, and is extended no more."""
        held.overdue = True
        if held.task is not None and not held.task.done():
            logger.warning(
                "cancelling the handler %r: it ran past max_extension with message %s",
                held.handler,
                held.received.message_id,
            )
            held.task.cancel()

    # --------------------------------------------------------------- message groups

    def _settle(self, held: Held) -> None:
        """On a FIFO queue, let the next message of the group run: this one is done with."""
        if not self._fifo or held.settled:
            return
        held.settled = True
        following = self._groups.succeeded(held.group)
        if following is not None:
            self._waiting.append(following)

    def _fail_group(self, held: Held, returns: float) -> float:
        """On a FIFO queue, send the rest of the group back: this message will come again. Gives
        when it may, if not at *returns*."""
        if not self._fifo or held.settled:
            return returns
        held.settled = True
        rest, returns = self._groups.failed(held.group, returns, self._receiving.wide_until)
        for other in rest:
            other.settled = True
            self._release(other)
        return returns

    # --------------------------------------------------------------------- draining

    async def drain(self, abort: asyncio.Event, drop_poll: asyncio.Event) -> None:
        """Stop in the order that loses nothing: what has not started goes back, handlers
        finish, their replies go out, and only then are their messages deleted. *abort* cuts
        it short; *drop_poll* drops polls that have brought nothing yet."""
        try:
            async with anyio.create_task_group() as group:

                async def cut_short() -> None:
                    await abort.wait()
                    group.cancel_scope.cancel()

                async def drop() -> None:
                    await drop_poll.wait()
                    await self._receiving.drop()

                group.start_soon(cut_short)
                if drop_poll.is_set():
                    await self._receiving.drop()
                else:
                    group.start_soon(drop)
                await self._wind_up()
                group.cancel_scope.cancel()
        finally:
            self._visibility.close()
            await self._cancel_handlers(UNWIND)
            for held in self._running.values():
                logger.error(
                    "the handler %r ignores that it was cancelled, and is left behind with"
                    " message %s",
                    held.handler,
                    held.received.message_id,
                )

    async def _wind_up(self) -> None:
        now = self._loop.time()
        end, handlers_end = now + self._settings.drain_timeout, now + self._settings.patience
        for held in [*self._waiting, *self._groups.drain()]:
            self._release(held)
        self._waiting.clear()
        if self._running or self._receiving.in_flight:
            logger.info(
                "draining %s: waiting up to %.0f s for %s",
                self._url,
                self._settings.patience,
                self._awaited(),
            )
        with anyio.CancelScope(deadline=handlers_end):
            await self._until(lambda: not self._running and not self._receiving.in_flight)
        if self._running or self._receiving.in_flight:
            logger.warning(
                "draining %s took too long; given up, and their messages come back: %s",
                self._url,
                self._awaited(),
            )
            await self._cancel_handlers(min(UNWIND, end - handlers_end))
        with anyio.CancelScope(deadline=end):
            await self._until(lambda: not self._errands)
            await self._answering.flush()
            await self._visibility.flush()
            await self._deletes.flush()
            return
        logger.warning(
            "draining %s took too long; given up, and their messages come back: %d replies,"
            " %d deletes",
            self._url,
            len(self._answering) + self._errands,
            len(self._deletes),
        )

    async def _cancel_handlers(self, patience: float) -> None:
        """Cancel the handlers that still run, and give them *patience* seconds to unwind."""
        if not self._running:
            return
        for task, held in self._running.items():
            held.given_up = True
            task.cancel()
        await asyncio.wait(self._running, timeout=patience)
        # Their outcomes are taken a turn of the loop later.
        await asyncio.sleep(0)

    def _awaited(self) -> str:
        names = Counter(held.handler.name for held in self._running.values() if held.handler)
        handlers = ", ".join(f"{count} of {name}" for name, count in names.items())
        return f"handlers ({handlers or 'none'}) and {self._receiving.in_flight} polls"

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._wake.clear()
            await self._wake.wait()


class _Delete(Deletion):
    """The delete of a message, by its newest receipt handle; says how it ended."""

    __slots__ = ("_ended", "held")

    def __init__(self, held: Held, now: float, ended: Callable[..., None]) -> None:
        super().__init__(held.handle, now)
        self.held = held
        self._ended = ended

    def leave(self) -> str:
        self.receipt_handle = self.held.handle
        return self.receipt_handle

    def done(self, result: str | None) -> None:
        self._ended(self, confirmed=True)

    def failed(self, error: QueueError | SendError) -> None:
        super().failed(error)
        self._ended(self, confirmed=False)


def _raise(error: BaseException) -> None:
    raise error


async def _called(handler: Handler, message: Message, codec: Codec) -> Any:
    """What the handler returns."""
    try:
        awaitable = handler.begin(message, codec)
    except CodecError as error:
        raise BadBody(str(error)) from error
    try:
        return await awaitable
    except CodecError as error:
        # What `message.json()` says of this very message is no failure of the handler's.
        if error.source is message:
            raise BadBody(str(error)) from error
        raise
    except SystemExit as error:
        # From a task it would end the event loop, and with it every other handler.
        raise Exited from error
