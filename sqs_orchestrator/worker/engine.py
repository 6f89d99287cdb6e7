"""The work of a poller: receive, judge, run, carry out.

The way of one message: a receive brings it (`receive_loop`), and from then on it is *held*: its
visibility is extended (`visibility`), and if SQS hands it out once more all the same, it is not
begun again. It waits for a place (`waiting`), it is judged (`judging`), and its handler runs. What
that returns or raises is judged too, and what was decided is carried out (`carrying`): a reply, a
delete, a return to its queue. The message is held until the end of its delete.

Nothing waits for a batch to end: whenever a place becomes free, the next message takes it,
and whenever there is room, the next receive goes out.

Each handler runs in a task of its own, not in a task group: a group could not end before a handler
that ignores its cancellation. The engine keeps these tasks, and `draining` ends them.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Sequence
from typing import Any

from ..codecs import Codec
from ..connection import Connection
from ..core.groups import Ask
from ..core.limits import BATCH_ENTRIES, VISIBILITY_TIMEOUT
from ..core.polling import Intake
from ..logs import about, get_logger
from ..middleware import Middleware
from ..sqs.port import SQS, Received
from ..tasks import Changed, TaskOwner
from .carrying import Carrier
from .delivery import Deliveries, Delivery, read
from .handlers import Exited, Handler, Handlers, called
from .judging import Judge
from .outcomes import ABANDONED, RELEASED, Judgement
from .receive_loop import ReceiveLoop
from .settings import Settings
from .statistics import Counts, PollerStatistics
from .visibility import Visibility
from .waiting import Waiting

logger = get_logger(__name__)


class Engine:
    """What works on the messages of one queue, in tasks of *owner*.

    If it *receives* none itself, somebody else receives them, gives them to `take`, and deletes
    those that are `deleted`: they stay hidden for as long as that one has seen to.
    """

    def __init__(
        self,
        owner: TaskOwner,
        sqs: Connection,
        url: str,
        settings: Settings,
        handlers: Handlers,
        codec: Codec,
        middleware: Sequence[Middleware],
        *,
        receives: bool = True,
    ) -> None:
        self.owner = owner
        self.url = url
        self.settings = settings
        self.changed = Changed()
        """Set when a handler, a receive or an outcome has ended."""
        self.running: dict[asyncio.Task[Any], Delivery] = {}
        self._beginning: Delivery | None = None
        self.waiting = Waiting(fifo=url.endswith(".fifo"))
        self.deliveries = Deliveries()
        self.context = owner.context
        """The context that handlers run in, each in a copy."""
        self._loop = owner.loop
        self.began = owner.loop.time()
        """When it had found its queue."""
        self.port: SQS = sqs.port
        self.clock = self.port.clock
        """The clock that tells which requests have expired."""
        self._receives = receives
        self._codec = codec
        self._incoming = [
            each for each in middleware if getattr(each, "incoming", None) is not None
        ]
        self._counts = Counts()
        self._intake = Intake(settings.concurrency)
        self._judge = Judge(url, sqs.port.region, settings, handlers)
        self.visibility = Visibility(
            owner,
            self.port,
            url,
            self._counts,
            timeout=settings.visibility_timeout if receives else VISIBILITY_TIMEOUT,
            max_extension=settings.max_extension,
            overdue=self._overdue,
        )
        if not receives:
            self.visibility.close()
        self.receive_loop = ReceiveLoop(
            owner,
            self.port,
            url,
            settings.visibility_timeout,
            self._counts,
            allowance=self._allowance,
            take=self.take,
        )
        self.carrier = Carrier(
            owner,
            sqs,
            url,
            settings,
            codec,
            middleware,
            judge=self._judge,
            counts=self._counts,
            deliveries=self.deliveries,
            waiting=self.waiting,
            visibility=self.visibility,
            changed=self.changed,
            go_on=self._go_on,
            widest=self.receive_loop.widest,
            deletes=receives,
        )
        self.carrier.sends.leaving = self.receive_loop.refill.hurry

    def __repr__(self) -> str:
        running, waiting = len(self.in_work()), len(self.waiting)
        return f"<Engine of {self.url}: {running} running, {waiting} waiting>"

    def start(self) -> None:
        """Begin to receive."""
        self.receive_loop.refill_now()

    def statistics(self) -> PollerStatistics:
        """A snapshot of the counters."""
        polled = self.receive_loop.polled
        # Not the running loop: a health check may ask from a thread.
        now = self._loop.time()
        return PollerStatistics(
            **{str(name): count for name, count in self._counts.items()},
            running=len(self.in_work()),
            waiting=len(self.waiting),
            answering=self.carrier.replies.on_way,
            seconds_since_poll=None if polled is None else now - polled,
            consecutive_failures=self.receive_loop.consecutive_failures,
            failure=self.receive_loop.failure or self.owner.failure,
        )

    def in_work(self) -> list[Delivery]:
        """The messages whose handlers run. Another thread may ask: a handler whose task begins
        eagerly, and which blocks, is not in `running` yet."""
        # This first: in between it may move there.
        beginning = self._beginning
        running = list(self.running.values())
        if beginning is not None and beginning not in running:
            running.append(beginning)
        return running

    # -------------------------------------------------------------------- receiving

    def _allowance(self, asked: int) -> Ask:
        """What one more receive may ask for, if those in flight have asked for *asked*."""
        waiting = self.waiting
        most_in_line = BATCH_ENTRIES * self.settings.concurrency
        if not self._receives:
            return Ask(0, 0)
        if self.carrier.is_clogged() or waiting.groups.waiting > most_in_line:
            return Ask(0, 0)
        ask = Ask(BATCH_ENTRIES, self.settings.wait_time)
        if waiting.fifo:
            ask = waiting.groups.ask(self._loop.time(), ask.wait)
        room = self._intake.room(len(self.running), len(waiting.ready), asked)
        return Ask(min(room, ask.most), ask.wait)

    def take(self, batch: list[Received]) -> list[Delivery]:
        """Hold messages that have just been received, and let them wait for their turn."""
        taken: list[Delivery] = []
        now = self._loop.time()
        if self.deliveries.remembered:
            self.deliveries.forget_old(now)
        counts = self._counts
        for received in batch:
            counts["received"] += 1
            known = self.deliveries.get(received.message_id)
            if known is not None and (known.judged or not known.overdue):
                self._take_again(known, received, now)
                taken.append(known)
                continue
            try:
                delivery = read(received, self.clock, now, self.url, self.settings.topics)
                if received.system.get("ApproximateReceiveCount", "1") != "1":
                    counts["redelivered"] += delivery.message.receive_count > 1
            except Exception:
                # Its own affair, whatever it is: it must not end the receiver.
                logger.exception(
                    "message %s is unreadable and stays",
                    received.message_id,
                    extra=about(self.url, received.message_id),
                )
                continue
            taken.append(delivery)
            self.visibility.hold(delivery, now)
            if self.owner.stopping:
                self.carrier.carry_out(delivery, RELEASED)
                continue
            self.deliveries[received.message_id] = delivery
            self.waiting.add(delivery)
        self._start_waiting()
        self.changed.set()
        return taken

    def _take_again(self, delivery: Delivery, received: Received, now: float) -> None:
        """SQS has handed out once more what is in work here, or was. Its visibility ran out, or
        SQS delivers twice, as it may. From now on only the newest receipt handle counts."""
        self._counts["redelivered"] += 1
        self._counts["duplicates"] += 1
        delivery.handle = received.receipt_handle
        logger.debug(
            "message %s came again, and is not begun again",
            received.message_id,
            extra=delivery.log_fields,
        )
        if delivery.deleted and delivery not in self.visibility:
            self.visibility.hold(delivery, now)
            self.carrier.erase(delivery)
        else:
            self.visibility.renew(delivery, now)

    # --------------------------------------------------------------------- handling

    def _go_on(self) -> None:
        """Start and receive what had to wait."""
        self._start_waiting()
        self.receive_loop.refill()

    def _start_waiting(self) -> None:
        """Start what waits, as far as there are places."""
        concurrency = self.settings.concurrency
        ready = self.waiting.ready
        while ready and len(self.running) < concurrency and not self.owner.stopping:
            delivery = ready.popleft()
            delivery.judged = True
            try:
                self._start(delivery)
            except Exception:
                logger.exception(
                    "message %s cannot be judged",
                    delivery.received.message_id,
                    extra=delivery.log_fields,
                )
                self.carrier.carry_out(delivery, ABANDONED)

    def _start(self, delivery: Delivery) -> None:
        """Judge a message, and start its handler if it is to run."""
        if delivery.overdue:
            self.carrier.carry_out(delivery, ABANDONED)
            return
        decision = self._judge.of_message(
            delivery.request, delivery.fault, expired=delivery.expires <= self._loop.time()
        )
        if isinstance(decision, Judgement):
            self.carrier.carry_out(delivery, decision)
            return
        handler, delivery.reply_queue = decision
        delivery.handler = handler
        delivery.started = self._loop.time()
        self._beginning = delivery
        try:
            self._run(handler, delivery)
        finally:
            self._beginning = None

    def _run(self, handler: Handler, delivery: Delivery) -> None:
        """Run its handler, in a task of its own."""
        try:
            task = delivery.task = self.owner.task(
                called(handler, delivery.message, self._codec, self._incoming), self.context
            )
        except KeyboardInterrupt as interrupt:
            # It began eagerly. Who ends the program is the loop, not whoever received the message.
            self.owner.request_stop()
            self.carrier.carry_out(delivery, RELEASED)
            self._loop.call_soon(_raise, interrupt)
            return
        self.running[task] = delivery
        task.add_done_callback(self._ran, context=self.owner.context)

    def _ran(self, task: asyncio.Task[Any]) -> None:
        """A handler has ended: carry out what that means, and go on."""
        delivery = self.running.pop(task)
        self._intake.finished(self._loop.time() - delivery.started)
        try:
            try:
                result = task.result()
            except Exited as exited:
                judgement = self._judged_error(delivery, exited.__cause__ or exited)
            except BaseException as error:
                judgement = self._judged_error(delivery, error)
            else:
                judgement = self._judge.of_result(
                    result, delivery.reply_queue, delivery.request.reply_to
                )
            self.carrier.carry_out(delivery, judgement)
        except Exception:
            logger.exception(
                "the outcome of message %s got lost",
                delivery.received.message_id,
                extra=delivery.log_fields,
            )
            self.carrier.carry_out(delivery, ABANDONED)
        self.changed.set()
        self._start_waiting()
        self.receive_loop.refill()

    def _judged_error(self, delivery: Delivery, error: BaseException) -> Judgement:
        if isinstance(error, KeyboardInterrupt):
            self.owner.request_stop()
        # Not the handler's doing, but that of whoever stops the worker.
        cancelled = self.owner.cancelled and isinstance(error, CancelledError)
        judgement = self._judge.of_error(
            error,
            delivery.reply_queue,
            message_id=delivery.received.message_id,
            overdue=delivery.overdue,
            withdrawn=delivery.given_up or cancelled,
        )
        if judgement.error is not None:
            logger.error(
                "the handler %r failed on message %s",
                delivery.handler,
                delivery.received.message_id,
                exc_info=judgement.error,
                extra=delivery.log_fields,
            )
        return judgement

    def _overdue(self, delivery: Delivery) -> None:
        """It has been held for `max_extension`, and is extended no more."""
        delivery.overdue = True
        if delivery.task is not None and not delivery.task.done():
            logger.warning(
                "cancelling the handler %r: it ran past max_extension with message %s",
                delivery.handler,
                delivery.received.message_id,
                extra=delivery.log_fields,
            )
            delivery.task.cancel()


def _raise(error: BaseException) -> None:
    raise error
