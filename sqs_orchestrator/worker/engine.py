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
from ..logs import get_logger
from ..message import Message
from ..results import Reject, Retry
from ..sending.entries import Deletion, delete_lanes, send_lanes
from ..sqs.port import SQS, Received
from ..tasks import TaskOwner
from . import outcomes
from .dead_letters import DeadLetters, MoveResult
from .delivery import Delivery, read
from .handlers import Handler, Handlers
from .outcomes import Abandon, Answer, BadBody, DeadLetter, Decision, Delete, Exited, Fail
from .receive_loop import ReceiveLoop
from .replies import Replies
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
        owner: TaskOwner,
        sqs: Connection,
        url: str,
        settings: Settings,
        handlers: Handlers,
        codec: Codec,
    ) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._port: SQS = sqs.port
        self._url = url
        self._fifo = url.endswith(".fifo")
        self._settings = settings
        self._handlers = handlers
        self._codec = codec
        self._counts = Counts()
        sends = send_lanes(owner, self._port)
        self._replies = Replies(
            sends,
            codec,
            self._counts,
            expose_errors=settings.expose_errors,
            ended=self._answered,
        )
        self._dead_letters = DeadLetters(owner, sqs, self._port, url, sends)
        self._deletes = delete_lanes(owner, self._port, linger=DELETE_LINGER)
        self._visibility = Visibility(
            owner,
            self._port,
            url,
            self._counts,
            timeout=settings.visibility_timeout,
            max_extension=settings.max_extension,
            overdue=self._overdue,
        )
        # What is held, by message id: what has been dealt with stays until its delete is certain.
        self._deliveries: dict[str, Delivery] = {}
        self._dealt_with: deque[tuple[float, Delivery]] = deque()
        # Where it is.
        self._waiting: deque[Delivery] = deque()
        self._running: dict[asyncio.Task[Any], Delivery] = {}
        self._groups: Groups[Delivery] = Groups()
        self._errands = 0
        # How much to take.
        self._intake = Intake(settings.concurrency)
        self._receive_loop = ReceiveLoop(
            owner,
            self._port,
            url,
            settings.visibility_timeout,
            self._counts,
            allowance=self._allowance,
            take=self._take_all,
        )
        sends.leaving = self._receive_loop.refill.hurry
        self._wake = asyncio.Event()
        self._clogged = False

    def __repr__(self) -> str:
        waiting = len(self._waiting) + self._groups.waiting
        return f"<Engine of {self._url}: {len(self._running)} running, {waiting} waiting>"

    def start(self) -> None:
        """Begin to receive."""
        self._receive_loop.refill_now()

    def statistics(self) -> PollerStatistics:
        """A snapshot of the counters."""
        polled = self._receive_loop.polled
        # Not the running loop: a health check may ask from a thread.
        now = self._loop.time()
        return PollerStatistics(
            **self._counts.as_dict(),
            running=len(self._running),
            waiting=len(self._waiting) + self._groups.waiting,
            answering=len(self._replies),
            seconds_since_poll=None if polled is None else now - polled,
            consecutive_failures=self._receive_loop.consecutive_failures,
            failure=self._receive_loop.failure or self._owner.failure,
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
        answering = len(self._replies)
        return (
            self._errands + answering - self._replies.held_up > MOST_UNFINISHED
            or answering > MOST_HELD_UP
            or len(self._deletes) > MOST_UNFINISHED
            or self._groups.waiting > BATCH_ENTRIES * self._settings.concurrency
        )

    def _unclog(self) -> None:
        if self._clogged:
            self._receive_loop.refill()

    def _take_all(self, batch: list[Received]) -> None:
        now = self._loop.time()
        while self._dealt_with and self._dealt_with[0][0] <= now:
            _, delivery = self._dealt_with.popleft()
            # It may have come again meanwhile.
            if delivery.hidden_until + REMEMBERED <= now:
                self._forget(delivery)
        for received in batch:
            self._take(received, now)
        self._start_waiting()
        self._wake.set()

    def _take(self, received: Received, now: float) -> None:
        """Hold a message that has just been received, and let it wait for its turn."""
        counts = self._counts
        counts.received += 1
        known = self._deliveries.get(received.message_id)
        if known is not None and (known.judged or not known.overdue):
            self._take_again(known, received, now)
            return
        try:
            delivery = read(received, self._port.clock, now)
            if delivery.message.receive_count > 1:
                counts.redelivered += 1
        except Exception:
            # Its own affair, whatever it is: it must not end the receiver.
            logger.exception("message %s is unreadable and stays", received.message_id)
            return
        self._visibility.hold(delivery, now)
        if self._owner.stopping:
            self._release(delivery)
            return
        self._deliveries[received.message_id] = delivery
        if not self._fifo or self._groups.enter(delivery.group, delivery):
            self._waiting.append(delivery)

    def _take_again(self, delivery: Delivery, received: Received, now: float) -> None:
        """SQS has handed out once more what is in work here, or was. Its visibility ran out, or
        SQS delivers twice, as it may. From now on only the newest receipt handle counts."""
        self._counts.redelivered += 1
        self._counts.duplicates += 1
        delivery.handle = received.receipt_handle
        logger.debug("message %s came again, and is not begun again", received.message_id)
        if delivery.deleted and delivery not in self._visibility:
            self._visibility.hold(delivery, now)
            self._erase(delivery)
        else:
            self._visibility.renew(delivery, now)

    def _forget(self, delivery: Delivery) -> None:
        """If it comes again, it is a new one."""
        if self._deliveries.get(delivery.received.message_id) is delivery:
            del self._deliveries[delivery.received.message_id]

    # --------------------------------------------------------------------- handling

    def _start_waiting(self) -> None:
        """Start what waits, as far as there are places."""
        concurrency = self._settings.concurrency
        while self._waiting and len(self._running) < concurrency and not self._owner.stopping:
            delivery = self._waiting.popleft()
            delivery.judged = True
            try:
                handler = self._judge(delivery)
            except Exception:
                logger.exception("message %s cannot be judged", delivery.received.message_id)
                self._leave(delivery)
                continue
            if handler is not None:
                self._run(delivery, handler)

    def _judge(self, delivery: Delivery) -> Handler | None:
        """The handler for a message; `None` where it has been dealt with without one."""
        request = delivery.request
        if delivery.overdue:
            self._leave(delivery)
            return None
        if request.reply_to is not None and delivery.message.time_remaining() <= 0:
            self._counts.expired += 1
            logger.debug("deleted an expired request: %s", delivery.received.message_id)
            self._delete(delivery)
            return None
        if request.reply_to is not None:
            try:
                delivery.answer_url = check_reply_address(
                    request.reply_to,
                    self._url,
                    region=self._port.region,
                    prefixes=self._settings.prefixes,
                    accounts=self._settings.accounts,
                )
            except Refused as refused:
                delivery.fault = refused.reason
        if delivery.fault is not None:
            self._reject(delivery, "bad_attribute", delivery.fault)
            return None
        handler = self._handlers.lookup(request.message_type)
        if handler is None:
            route = request.message_type
            named = "none is named" if route is None else quoted(route)
            self._reject(delivery, "unknown_route", f"no handler for its route: {named}")
        return handler

    def _run(self, delivery: Delivery, handler: Handler) -> None:
        delivery.handler = handler
        delivery.started = self._loop.time()
        try:
            task = delivery.task = self._owner.task(_called(handler, delivery.message, self._codec))
        except KeyboardInterrupt as interrupt:
            # It began eagerly. Who ends the program is the loop, not whoever received the message.
            self._owner.request_stop()
            self._release(delivery)
            self._loop.call_soon(_raise, interrupt)
            return
        self._running[task] = delivery
        task.add_done_callback(self._ran, context=self._owner.context)

    def _ran(self, task: asyncio.Task[Any]) -> None:
        """A handler has ended: carry out what it decided, and go on."""
        delivery = self._running.pop(task)
        self._intake.finished(self._loop.time() - delivery.started)
        error: BaseException | None = None
        result: Any = None
        try:
            result = task.result()
        except Exited as exited:
            error = exited.__cause__
        except BaseException as raised:
            error = raised
        try:
            self._conclude(delivery, result, error)
        except Exception:
            logger.exception("the outcome of message %s got lost", delivery.received.message_id)
            self._leave(delivery)
        self._wake.set()
        self._start_waiting()
        self._receive_loop.refill()

    def _conclude(self, delivery: Delivery, result: Any, error: BaseException | None) -> None:
        wanted, expose = delivery.answer_url is not None, self._settings.expose_errors
        if error is None:
            self._counts.handled += 1
            self._carry_out(delivery, outcomes.of_result(result, wanted=wanted))
            return
        if isinstance(error, BadBody):
            self._reject(delivery, "bad_body", quoted(str(error), 300))
            return
        error = outcomes.asked(error)
        if isinstance(error, Retry):
            self._counts.retried += 1
        elif isinstance(error, Reject):
            self._counts.rejected += 1
        elif isinstance(error, KeyboardInterrupt):
            self._owner.request_stop()
            self._release(delivery)
            return
        elif delivery.given_up or (self._owner.cancelled and isinstance(error, CancelledError)):
            # Not the handler's doing, but that of whoever stops the worker.
            self._release(delivery)
            return
        else:
            if delivery.overdue and isinstance(error, CancelledError):
                error = TimeoutError("it ran past max_extension")
            self._counts.failed += 1
            logger.error(
                "the handler %r failed on message %s",
                delivery.handler,
                delivery.received.message_id,
                exc_info=error,
            )
        self._carry_out(delivery, outcomes.of_error(error, wanted=wanted, expose=expose))

    def _reject(self, delivery: Delivery, code: str, reason: str) -> None:
        """The library itself rejects the message. *reason* is safe to log."""
        self._counts.rejected += 1
        logger.warning(
            "rejected message %s (%s): %s",
            delivery.received.message_id,
            code,
            reason,
            extra={"kind": code},
        )
        wanted, expose = delivery.answer_url is not None, self._settings.expose_errors
        self._carry_out(delivery, outcomes.of_fault(code, reason, wanted=wanted, expose=expose))

    # ------------------------------------------------------------- carrying it out

    def _carry_out(self, delivery: Delivery, decision: Decision) -> None:
        match decision:
            case Delete():
                self._delete(delivery)
            case Answer() | Fail():
                # The group need not wait for the reply.
                self._settle(delivery)
                self._replies.answer(delivery, decision)
            case Abandon(delay):
                self._leave(delivery, delay)
            case DeadLetter():
                self._errands += 1
                self._owner.spawn(self._dead_letter, delivery, decision)

    def _answered(self, delivery: Delivery, done: bool) -> None:
        """Its reply has left, or never will; where it is not *done*, it should come back."""
        if done:
            self._delete(delivery)
        else:
            self._visibility.let_go(delivery)
            self._forget(delivery)
        self._receive_loop.refill()

    async def _dead_letter(self, delivery: Delivery, decision: DeadLetter) -> None:
        message_id = delivery.received.message_id
        try:
            result = await self._dead_letters.take(delivery, decision.code, decision.reason)
        except Exception:
            logger.exception("message %s stays: it could not be moved", message_id)
            result = MoveResult.FAILED
        finally:
            self._errands -= 1
            self._wake.set()
        # What the library itself rejects has had its line.
        why = decision.code, quoted(decision.reason, 300)
        if result is MoveResult.MOVED:
            if decision.judged:
                logger.warning("moved message %s to the dead letters (%s): %s", message_id, *why)
            self._counts.dead_lettered += 1
            self._delete(delivery)
        elif result is MoveResult.NO_QUEUE and decision.judged:
            logger.warning("deleted message %s, rejected (%s): %s", message_id, *why)
            self._delete(delivery)
        else:
            doublings = min(delivery.message.receive_count - 1, 20)
            delay = min(self._settings.visibility_timeout * 2.0**doublings, LONGEST_UNJUDGED)
            logger.warning("message %s comes back in %.0f s", message_id, delay)
            self._leave(delivery, delay)
        self._start_waiting()
        self._receive_loop.refill()

    def _delete(self, delivery: Delivery) -> None:
        self._settle(delivery)
        self._counts.deleted += 1
        delivery.deleted = True
        self._erase(delivery)

    def _erase(self, delivery: Delivery) -> None:
        self._deletes.add(self._url, _Delete(delivery, self._loop.time(), self._erased))

    def _erased(self, delete: _Delete, *, confirmed: bool) -> None:
        delivery, now = delete.delivery, self._loop.time()
        if delete.receipt_handle != delivery.handle:
            # SQS confirms a delete by an older handle too, and deletes nothing.
            self._erase(delivery)
            return
        self._visibility.let_go(delivery)
        if confirmed and now < delivery.hidden_until:
            self._forget(delivery)
        else:
            self._dealt_with.append((max(now, delivery.hidden_until) + REMEMBERED, delivery))
        self._unclog()

    def _leave(self, delivery: Delivery, delay: float | None = None) -> None:
        """Let it come back, after *delay* or when its visibility runs out."""
        now = self._loop.time()
        returns = self._visibility.hidden_until(delivery, now)
        self._visibility.let_go(delivery)
        self._forget(delivery)
        if delay is not None:
            returns = now + min(delay, delivery.since + LATEST_RETURN - now)
        later = self._fail_group(delivery, returns)
        if delay is not None or later > returns:
            self._visibility.change(delivery, max(0.0, later - now))

    def _release(self, delivery: Delivery) -> None:
        """Let it come back at once."""
        self._counts.released += 1
        self._visibility.let_go(delivery)
        self._forget(delivery)
        self._visibility.change(delivery, 0)

    def _overdue(self, delivery: Delivery) -> None:
        """It has been held for `max_extension`, and is extended no more."""
        delivery.overdue = True
        if delivery.task is not None and not delivery.task.done():
            logger.warning(
                "cancelling the handler %r: it ran past max_extension with message %s",
                delivery.handler,
                delivery.received.message_id,
            )
            delivery.task.cancel()

    # --------------------------------------------------------------- message groups

    def _settle(self, delivery: Delivery) -> None:
        """On a FIFO queue, let the next message of the group run: this one is done with."""
        if not self._fifo or delivery.settled:
            return
        delivery.settled = True
        following = self._groups.succeeded(delivery.group)
        if following is not None:
            self._waiting.append(following)

    def _fail_group(self, delivery: Delivery, returns: float) -> float:
        """On a FIFO queue, send the rest of the group back: this message will come again. Gives
        when it may, if not at *returns*."""
        if not self._fifo or delivery.settled:
            return returns
        delivery.settled = True
        rest, returns = self._groups.failed(delivery.group, returns, self._receive_loop.wide_until)
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
                    await self._receive_loop.drop()

                group.start_soon(cut_short)
                if drop_poll.is_set():
                    await self._receive_loop.drop()
                else:
                    group.start_soon(drop)
                await self._wind_up()
                group.cancel_scope.cancel()
        finally:
            self._visibility.close()
            await self._cancel_handlers(UNWIND)
            for delivery in self._running.values():
                logger.error(
                    "the handler %r ignores that it was cancelled, and is left behind with"
                    " message %s",
                    delivery.handler,
                    delivery.received.message_id,
                )

    async def _wind_up(self) -> None:
        now = self._loop.time()
        end, handlers_end = now + self._settings.drain_timeout, now + self._settings.patience
        for delivery in [*self._waiting, *self._groups.drain()]:
            self._release(delivery)
        self._waiting.clear()
        if self._running or self._receive_loop.in_flight:
            logger.info(
                "draining %s: waiting up to %.0f s for %s",
                self._url,
                self._settings.patience,
                self._awaited(),
            )
        with anyio.CancelScope(deadline=handlers_end):
            await self._until(lambda: not self._running and not self._receive_loop.in_flight)
        if self._running or self._receive_loop.in_flight:
            logger.warning(
                "draining %s took too long; given up, and their messages come back: %s",
                self._url,
                self._awaited(),
            )
            await self._cancel_handlers(min(UNWIND, end - handlers_end))
        with anyio.CancelScope(deadline=end):
            await self._until(lambda: not self._errands)
            await self._replies.flush()
            await self._visibility.flush()
            await self._deletes.flush()
            return
        logger.warning(
            "draining %s took too long; given up, and their messages come back: %d replies,"
            " %d deletes",
            self._url,
            len(self._replies) + self._errands,
            len(self._deletes),
        )

    async def _cancel_handlers(self, patience: float) -> None:
        """Cancel the handlers that still run, and give them *patience* seconds to unwind."""
        if not self._running:
            return
        for task, delivery in self._running.items():
            delivery.given_up = True
            task.cancel()
        await asyncio.wait(self._running, timeout=patience)
        # Their outcomes are taken a turn of the loop later.
        await asyncio.sleep(0)

    def _awaited(self) -> str:
        names = Counter(
            delivery.handler.name for delivery in self._running.values() if delivery.handler
        )
        handlers = ", ".join(f"{count} of {name}" for name, count in names.items())
        return f"handlers ({handlers or 'none'}) and {self._receive_loop.in_flight} polls"

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._wake.clear()
            await self._wake.wait()


class _Delete(Deletion):
    """The delete of a message, by its newest receipt handle; says how it ended."""

    __slots__ = ("_ended", "delivery")

    def __init__(self, delivery: Delivery, now: float, ended: Callable[..., None]) -> None:
        super().__init__(delivery.handle, now)
        self.delivery = delivery
        self._ended = ended

    def leave(self) -> str:
        self.receipt_handle = self.delivery.handle
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
