"""Races: what meets what at which moment is drawn, played in virtual time, and the same each time
for the same numbers.

Two things are drawn. The *plan* (`Plan`, by Hypothesis) says what happens, on a grid of times that
is as coarse as SQS's latencies, so that what may meet often does. The *dice* (a seed) say how long
each call takes, and in what order, and how many turns of the loop apart, things happen that happen
at the same moment (`ChanceLoop`).

What must hold after each run, whatever was drawn:

1. Every request ends once: with its own reply or its own handler's error; at its timeout, neither
   before nor after; cancelled if it was cancelled; with the loss of the reply queue if that was
   lost; when the publisher closes, at once. Where none of these kept it from it, with its reply.
   What was to be sent one-way when the publisher closes is sent.
2. What has ended before it left is not sent, and not tried again.
3. Every message that SQS accepted is handled or expires; what is answered was handled.
4. No message is deleted that was neither handled nor expired, and none whose requester still
   waits before its reply is with SQS.
5. When a worker has stopped gracefully, nothing that it received and did not start is hidden, and
   nothing that it handled is handled again. Asked a second time, it stops at once.
6. On a FIFO queue, messages of one group are first started in the order in which SQS took them.
7. Nothing is left: no entry in any table or lane, no timer, no task, no reply queue. A worker whose
   queue is empty holds nothing. Whoever has left something, even while being cancelled, left it
   closed; and what was cancelled while it was entered has ended.
8. Nothing is complained of: no exception that nobody retrieved, no error in the log but those of
   handlers, nothing that the loop had to report.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import random
from asyncio import TimerHandle
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVarTuple, Unpack

import sqs_orchestrator as so
from sqs_orchestrator.core import wire
from sqs_orchestrator.core.names import DEFAULT_PREFIX, queue_name_of
from sqs_orchestrator.logs import COUNT
from sqs_orchestrator.requester.live_queue import LiveQueue
from sqs_orchestrator.requester.session import FLUSH_PATIENCE
from sqs_orchestrator.sending.lanes import Lanes
from sqs_orchestrator.sqs.port import Failure, Received, SendEntry
from sqs_orchestrator.testing import Faults, MemoryServer, MemorySQS, VirtualTimeLoop, connect
from sqs_orchestrator.testing.queues import Queue, StoredMessage
from sqs_orchestrator.worker.draining import UNWIND
from sqs_orchestrator.worker.engine import Engine
from tests.faults.rounds import TABLES

GRID: Final = 0.01
"""Seconds. Whatever is drawn happens at a multiple of it, the latencies included."""

MOMENT: Final = 0.002
"""Seconds that do not count: times to live are whole milliseconds."""

LONG: Final = 30.0
"""A timeout that leaves time for all that may go wrong."""

PREFIX: Final = DEFAULT_PREFIX

_Ts = TypeVarTuple("_Ts")


class ChanceLoop(VirtualTimeLoop):
    """A loop in which things that happen at the same moment happen in any order.

    What asyncio promises stays true: callbacks run in the order in which they were called for, no
    timer is early, and timers of different times keep their order. What it does not promise is
    drawn: the order of timers of the same time, and how many turns of the loop go by between
    them. Since all that comes from outside (the answers of SQS, and what the test does) comes by
    a timer, it meets what is going on inside at any turn.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.complaints: list[dict[str, Any]] = []
        """What the loop had to report, for want of anybody to tell."""
        super().__init__()
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        handle: TimerHandle

        def run() -> None:
            if handle.cancelled():
                return
            if self._dice.random() < 0.5:
                self.call_soon(run, context=context)
            else:
                callback(*args)

        # So that a timer that is left tells what it was for.
        run.__qualname__ = f"{callback!r}"
        handle = super().call_at(when, run, context=context)
        return handle

    @property
    def timers(self) -> list[TimerHandle]:
        """Those that are set."""
        scheduled: list[TimerHandle] = vars(self)["_scheduled"]
        return [timer for timer in scheduled if not timer.cancelled()]


# ---------------------------------------------------------------------------- the plan


@dataclass(frozen=True, slots=True)
class Ask:
    """A message, and what happens to it. Seconds."""

    at: float = 0.0
    timeout: float = LONG
    cancel_after: float | None = None
    cancel_on_reply: float | None = None
    """How long after SQS has handed out its reply it is cancelled."""
    work: float = 0.0
    outcome: Literal["returns", "rejects", "fails"] = "returns"
    one_way: bool = False


Who = Literal["connection", "replies", "publisher", "poller"]


@dataclass(frozen=True, slots=True)
class Abandon:
    """Who is left, when, and how long after that the one who leaves is cancelled."""

    who: Who
    at: float
    cancel_after: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens. Times in seconds from the start."""

    asks: Sequence[Ask]
    seed: int = 0
    fifo: bool = False
    ready: bool = True
    """Whether the queues are known before the first request."""
    concurrency: int = 10
    visibility_timeout: float = 30.0
    drain_timeout: float = 25.0
    age: float = 0.0
    """How long the reply queue has been there, where it is ready: a young one that does not exist
    may still come."""
    lose_at: float | None = None
    """When the reply queue is deleted by hand."""
    stops: Sequence[tuple[Literal["stop", "signal", "cancel"], float]] = ()
    """How the first worker is asked to stop; another takes over."""
    enters: Sequence[Who] = ("replies", "publisher", "poller")
    """In which order those over the connection are entered, all at the same moment."""
    cancel_entering: tuple[Who, float] | None = None
    """Whose start is cancelled, how long after it began."""
    leaves: Sequence[Abandon] = ()
    faults: int = 0
    """How many calls fail, or lose their answer."""

    @property
    def stops_at_once(self) -> bool:
        """Whether the first worker may have no time to end in good order."""
        return sum(how != "stop" for how, _ in self.stops) > 1 or self.drain_timeout < 20.0

    @property
    def queue(self) -> str:
        return "orders.fifo" if self.fifo else "orders"

    def group(self, number: int) -> str | None:
        return str(number % 2) if self.fifo else None


# ----------------------------------------------------------------------------- the SQS


class Whims(Faults):
    """Each call takes as long as the dice say, and as many fail as the plan says."""

    def __init__(self, dice: random.Random, faults: int) -> None:
        super().__init__()
        self._dice = dice
        self._left = faults

    async def happen(self, operation: str, queue: str | None, *, before: bool) -> None:
        await asyncio.sleep(self._dice.choice((0.0, GRID, GRID, 2 * GRID)))
        if self._left and self._dice.random() < 0.2:
            self._left -= 1
            raise so.QueueError(
                f"{operation}: the connection broke off",
                operation=operation,
                queue=queue,
                code="ConnectionClosedError",
                transient=True,
                maybe_done=not before,
            )
        await super().happen(operation, queue, before=before)


class Witness(MemoryServer):
    """The SQS, and what it saw."""

    def __init__(self, played: Played, dice: random.Random, faults: int) -> None:
        super().__init__()
        self.faults = Whims(dice, faults)
        self.accepted: dict[int, float] = {}
        """When each message was first accepted, in that order."""
        self.replied: set[int] = set()
        """Whose replies were accepted."""
        self._played = played
        self._numbers: dict[str, int] = {}

    def send(self, queue: Queue, entry: SendEntry) -> str | Failure:
        result = super().send(queue, entry)
        if isinstance(result, str):
            if queue.name == self._played.plan.queue:
                number = number_of(entry)
                self.accepted.setdefault(number, now())
                reply_to = wire.parse_request(entry.attributes).reply_to
                if reply_to is not None and reply_to.correlation_id is not None:
                    self._numbers[reply_to.correlation_id] = number
            else:
                correlation_id = wire.parse_reply(entry.attributes).correlation_id
                self.replied.add(self._numbers[correlation_id or ""])
        return result

    async def poll(
        self, queue: Queue, count: int, wait_time: int, visibility: int
    ) -> list[Received]:
        taken = await super().poll(queue, count, wait_time, visibility)
        if queue.name != self._played.plan.queue:
            for reply in taken:
                correlation_id = wire.parse_reply(reply.attributes).correlation_id
                self._played.note_reply(self._numbers[correlation_id or ""])
        return taken

    def delete(self, queue: Queue, receipt_handle: str) -> Failure | None:
        message = queue._handles[receipt_handle]
        gone = message.gone
        result = super().delete(queue, receipt_handle)
        if message.gone and not gone and queue.name == self._played.plan.queue:
            self._played.note_deleted(message)
        return result


class Client(MemorySQS):
    """A requester's client of it."""

    def __init__(self, played: Played) -> None:
        super().__init__(played.server)
        self._played = played

    async def send(self, queue_url: str, entries: Sequence[SendEntry]) -> list[str | Failure]:
        # The worker's replies go through here, too, where they share the connection.
        requests = entries if queue_url.endswith(f"/{self._played.plan.queue}") else ()
        for entry in requests:
            number = number_of(entry)
            ended = self._played.ended.get(number)
            # What left its lane in the moment of its end is in flight.
            if ended is not None and now() > ended.at + MOMENT:
                self._played.wrong.append(f"{number} was sent after it had ended: {ended}")
        return await super().send(queue_url, entries)


def number_of(message: SendEntry | StoredMessage) -> int:
    number: int = json.loads(message.body)["number"]
    return number


def now() -> float:
    return asyncio.get_running_loop().time()


# ------------------------------------------------------------------------ what happened


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request or a send ended. Times by the loop's clock."""

    began: float
    at: float
    result: so.Reply | str | None = None
    error: BaseException | None = None


@dataclass
class Played:
    """A plan, and what came of it."""

    plan: Plan
    ended: dict[int, Ended] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=dict)
    started: Counter[int] = field(default_factory=Counter)
    finished: Counter[int] = field(default_factory=Counter)
    order: list[int] = field(default_factory=list)
    """In which order messages were first started."""
    handling: Counter[int] = field(default_factory=Counter)
    """Whose handlers run."""
    buried: set[int] = field(default_factory=set)
    """What was deleted when nobody waited for its reply any more."""
    closed_at: float = math.inf
    """When the publisher was left, before all requests had ended."""
    closed_from: float = math.inf
    """From when on it might be closed."""
    lost_at: float | None = None
    asking: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    """The tasks of requests that have not ended."""
    cancelled: dict[int, float] = field(default_factory=dict)
    """When requests were to be cancelled."""
    timers: list[TimerHandle] = field(default_factory=list)
    """What cancels them."""
    wrong: list[str] = field(default_factory=list)
    """What was seen to be wrong at once."""
    things: list[object] = field(default_factory=list)
    """What has tables."""
    logged: list[logging.LogRecord] = field(default_factory=list)
    server: Witness = field(init=False)
    loop: ChanceLoop = field(init=False)

    def __post_init__(self) -> None:
        dice = random.Random(self.plan.seed)
        self.loop = ChanceLoop(dice)
        self.server = Witness(self, dice, self.plan.faults)

    def ask(self, number: int) -> Ask:
        return self.plan.asks[number]

    def expired(self, number: int) -> bool:
        return not self.ask(number).one_way and (
            now() >= self.began[number] + self.ask(number).timeout - MOMENT
        )

    @property
    def shared(self) -> bool:
        """Whether the reply queue is shared, and is left by itself."""
        return any(leave.who == "replies" for leave in self.plan.leaves)

    # -------------------------------------------------------------- requester and worker

    async def request(self, publisher: so.Publisher, number: int) -> None:
        """Send message *number*, and note how that ended."""
        ask, plan = self.ask(number), self.plan
        self.began[number] = began = now()
        result: so.Reply | str | None = None
        failure: BaseException | None = None
        body = {"number": number}
        try:
            if ask.one_way:
                deduplication_id = f"{number}" if plan.fifo else None
                result = await publisher.send(
                    plan.queue,
                    body,
                    group_id=plan.group(number),
                    deduplication_id=deduplication_id,
                )
            else:
                result = await publisher.request(
                    plan.queue, body, timeout=ask.timeout, group_id=plan.group(number)
                )
        except BaseException as error:
            failure = error
        assert number not in self.ended
        self.ended[number] = Ended(began, now(), result, failure)
        self.things.append(publisher._replies.current)

    async def handle(self, message: so.Message) -> object:
        """The handler."""
        number = message.json()["number"]
        ask = self.ask(number)
        if not self.started[number]:
            self.order.append(number)
        self.started[number] += 1
        self.handling[number] += 1
        try:
            await asyncio.sleep(ask.work)
        finally:
            self.handling[number] -= 1
        self.finished[number] += 1
        if ask.outcome == "rejects":
            raise so.Reject("an odd one", code="odd", details={"number": number})
        # One-way it comes back, until it succeeds.
        if ask.outcome == "fails" and not (ask.one_way and self.finished[number] > 1):
            raise LookupError(f"number {number}")
        return {"number": number}

    def poller(self, sqs: so.Connection) -> so.Poller:
        plan = self.plan
        poller = so.Poller(
            sqs,
            plan.queue,
            self.handle,
            concurrency=plan.concurrency,
            visibility_timeout=plan.visibility_timeout,
            drain_timeout=plan.drain_timeout,
            wait_time=1,
            expose_errors=True,
        )
        self.things.append(poller)
        return poller

    # ------------------------------------------------------------------ seen at once

    def note_reply(self, number: int) -> None:
        """SQS has handed out the reply to request *number*."""
        after, task = self.ask(number).cancel_on_reply, self.asking.get(number)
        if after is not None and task is not None:
            self.cancelled[number] = min(now() + after, self.cancelled.get(number, math.inf))
            self.timers.append(self.loop.call_later(after, task.cancel))

    def note_deleted(self, message: StoredMessage) -> None:
        """A message of the request queue is deleted."""
        number = number_of(message)
        if self.expired(number):
            self.buried.add(number)
            return
        if not self.finished[number]:
            self.wrong.append(f"{number} is deleted unhandled")
        elif not self.ask(number).one_way and number not in self.server.replied:
            to = wire.parse_request(message.attributes).reply_to
            assert to is not None
            if queue_name_of(to.queue_url) in self.server.queues:
                self.wrong.append(f"{number} is deleted before its reply is sent")

    def check_stopped(self) -> None:
        """A worker has stopped gracefully."""
        for message in self.server.messages(self.plan.queue):
            number = number_of(message)
            ask = self.ask(number)
            may_come_back = ask.one_way and ask.outcome == "fails"
            if message.in_flight(now()) and not may_come_back:
                # It was received: then it was either handled and deleted, or released.
                self.wrong.append(f"{number} stays hidden, started {self.started[number]} times")
            elif self.finished[number] and not may_come_back:
                self.wrong.append(f"{number} was handled, and will be handled again")

    def check_holds_nothing(self, poller: so.Poller) -> None:
        """The worker's queue is empty."""
        engine = poller._work
        if not isinstance(engine, Engine):
            # All has ended before it had found its queue.
            return
        if engine.running or engine.waiting:
            self.wrong.append(f"the queue is empty, and there is still {engine!r}")
        if engine.deliveries:
            self.wrong.append(
                f"the queue is empty, and {list(engine.deliveries.values())} are held"
            )
        if kept := len(engine.visibility):
            self.wrong.append(f"the queue is empty, and {kept} messages are kept hidden")

    def check_nothing_pends(self, publisher: so.Publisher) -> None:
        """All requests have ended, and the publisher is still open."""
        self.things.append(publisher)
        for thing in self.things:
            if isinstance(thing, so.Publisher | LiveQueue) and (left := left_in(thing)):
                self.wrong.append(f"all have ended, and there is still {left}")
        if publisher.statistics().pending:
            self.wrong.append(f"all have ended, and counted is {publisher.statistics()}")


def left_in(thing: object) -> str:
    """What is left in the tables of a publisher, poller or reply queue, and of what they own."""
    things: list[object] = [thing]
    if isinstance(thing, so.Publisher) and thing._session is not None:
        session = thing._session
        things += [session, session.reply_sender, session.lanes]
    elif isinstance(thing, so.Poller) and isinstance(thing._work, Engine):
        engine = thing._work
        carrier = engine.carrier
        reply_sender = carrier.replies.sender
        things += [
            engine,
            reply_sender,
            reply_sender._lanes,
            carrier,
            carrier.replies,
            carrier.deletes,
            engine.visibility._lanes,
        ]
    left = []
    for each in things:
        tables = TABLES.get(type(each), ())
        left += [f"{table} of {each!r}" for table in tables if getattr(each, table)]
        if isinstance(each, Lanes):
            entries = [entry for lane in each._lanes.values() for entry in lane.waiting]
            left += [f"{entry!r} in a lane" for entry in entries if not entry.withdrawn]
    return ", ".join(left)


# ----------------------------------------------------------------------------- playing


class _Log(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.ERROR)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        # What is counted was logged before.
        if record.msg not in ("the handler %r failed on message %s", COUNT):
            self._records.append(record)


def play(plan: Plan) -> Played:
    """Play a plan to its end."""
    played = Played(plan)
    log = _Log(played.logged)
    loggers = [logging.getLogger(name) for name in ("sqs_orchestrator", "asyncio")]
    for logger in loggers:
        logger.addHandler(log)
        # A play is one of many, and its log is long.
        logger.propagate = False
    try:
        with asyncio.Runner(loop_factory=lambda: played.loop) as runner:
            runner.run(_play(played))
        # An exception that nobody retrieved is complained of when it is collected.
        gc.collect()
    finally:
        for logger in loggers:
            logger.removeHandler(log)
            logger.propagate = True
    return played


async def _play(played: Played) -> None:
    plan, server = played.plan, played.server
    attributes = {"FifoQueue": "true"} if plan.fifo else {}
    server.create(server.account, plan.queue, attributes, {})
    async with connect(server) as far:
        if any(leave.who != "publisher" for leave in plan.leaves):
            await _come_and_go(played)
            await _work(played, far, asyncio.create_task(asyncio.sleep(0)))
        else:
            await _work(played, far, asyncio.create_task(_ask(played)))
    # What is done when leaving has been awaited: from here on nothing is under way.
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        played.wrong.append(f"tasks are left: {tasks}")
    if played.loop.timers:
        played.wrong.append(f"timers are left: {played.loop.timers}")


async def _work(played: Played, far: so.Connection, asking: asyncio.Task[None]) -> None:
    """Let workers work until *asking* has ended and all messages are gone."""
    plan, loop = played.plan, played.loop
    if plan.stops:
        poller = played.poller(far)
        task = asyncio.create_task(poller.run(handle_signals=False))
        began = now()
        timers = [loop.call_later(at, _stop, how, poller, task) for how, at in plan.stops]
        await asyncio.wait({task})
        for timer in timers:
            timer.cancel()
        # For asyncio, cancellations at the same moment are one.
        signals = [at for how, at in plan.stops if how == "signal"]
        asked = sorted([*signals, *{at for how, at in plan.stops if how == "cancel"}])
        if len(asked) > 1 and now() > began + asked[1] + UNWIND + MOMENT:
            played.wrong.append(f"the worker was asked twice to stop, and went on until {now()}")
        if not task.cancelled() and (error := task.exception()) is not None:
            played.wrong.append(f"the worker ended with {error!r}")
        if plan.stops_at_once:
            # What is cut short stays where it is, and goes with the poller.
            played.things.remove(poller)
        elif not plan.faults:
            played.check_stopped()
    poller = played.poller(far)
    task = asyncio.create_task(poller.run(handle_signals=False))
    await asking
    await _until_empty(played)
    if not plan.faults:
        # The last delete is done, and the worker has yet to hear of it.
        await asyncio.sleep(1)
        played.check_holds_nothing(poller)
    poller.stop()
    await task


def _stop(how: str, poller: so.Poller, task: asyncio.Task[None]) -> None:
    if how == "stop":
        poller.stop()
    elif how == "signal":
        poller._signal("SIGTERM")
    else:
        task.cancel()


async def _until_empty(played: Played) -> None:
    until = now() + 10 * LONG
    while messages := played.server.messages(played.plan.queue):
        if now() > until:
            played.wrong.append(f"still in the queue: {[number_of(each) for each in messages]}")
            return
        await asyncio.sleep(0.1)


async def _ask(played: Played) -> None:
    """Make the requests, all over one publisher."""
    plan, loop = played.plan, played.loop
    async with connect(port=Client(played)) as sqs, so.Publisher(sqs) as publisher:
        if plan.ready:
            await publisher.ready()
            await sqs.queue_url(plan.queue)
            await asyncio.sleep(plan.age)
        losing: TimerHandle | None = None
        if plan.lose_at is not None:
            losing = loop.call_later(plan.lose_at, _lose, played)
        leaving = [asyncio.create_task(_leave(played, publisher, each)) for each in plan.leaves]
        await _ask_all(played, publisher)
        if losing is not None:
            losing.cancel()
        if not leaving:
            played.check_nothing_pends(publisher)
        await _all(leaving)


async def _ask_all(played: Played, publisher: so.Publisher) -> None:
    played.things.append(publisher)

    async def ask(number: int) -> None:
        ask = played.ask(number)
        await asyncio.sleep(ask.at)
        task = asyncio.current_task()
        assert task is not None
        played.asking[number] = task
        if ask.cancel_after is not None:
            played.cancelled[number] = now() + ask.cancel_after
            played.timers.append(played.loop.call_later(ask.cancel_after, task.cancel))
        await played.request(publisher, number)
        del played.asking[number]

    await _all([asyncio.create_task(ask(number)) for number in range(len(played.plan.asks))])
    for timer in played.timers:
        timer.cancel()


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()


def _lose(played: Played) -> None:
    for name in played.server.queues:
        if name.startswith(PREFIX):
            played.lost_at = now()
            played.server.drop(name)


async def _leave(played: Played, thing: Any, leave: Abandon) -> None:
    """Leave *thing*, in a task of its own."""
    await asyncio.sleep(leave.at)
    if leave.who == "publisher":
        played.closed_at = now()
    if leave.who != "poller":
        # Leaving the connection closes the others in their turn.
        played.closed_from = min(played.closed_from, now())
    task = asyncio.create_task(thing.__aexit__(None, None, None))
    timer: TimerHandle | None = None
    if leave.cancel_after is not None:
        timer = played.loop.call_later(leave.cancel_after, task.cancel)
    await asyncio.wait({task})
    if timer is not None:
        timer.cancel()
    if not thing._owner.ended:
        played.wrong.append(f"the {leave.who} was left, and has not ended")
    if not task.cancelled() and (error := task.exception()) is not None:
        played.wrong.append(f"leaving the {leave.who} raised {error!r}")
    elif leave.who == "poller" and not played.plan.faults:
        played.check_stopped()


async def _come_and_go(played: Played) -> None:
    """Enter everything, each in a task of its own, and leave it as planned, in tasks of their
    own."""
    plan = played.plan
    sqs = connect(port=Client(played))
    replies = so.ReplyQueue(sqs)
    publisher = so.Publisher(sqs, reply_queue=replies)
    things: dict[str, Any] = {
        "connection": sqs,
        "replies": replies,
        "publisher": publisher,
        "poller": played.poller(sqs),
    }
    await asyncio.create_task(sqs.__aenter__())
    entering = {name: asyncio.create_task(things[name].__aenter__()) for name in plan.enters}
    timer: TimerHandle | None = None
    if plan.cancel_entering is not None:
        who, after = plan.cancel_entering
        timer = played.loop.call_later(after, entering[who].cancel)
    await asyncio.wait(entering.values())
    if timer is not None:
        timer.cancel()
    for name, task in entering.items():
        if task.cancelled():
            assert plan.cancel_entering is not None
            if name != plan.cancel_entering[0]:
                played.wrong.append(f"entering the {name} was cancelled by nobody")
            if not things[name]._owner.ended:
                played.wrong.append(f"entering the {name} was cancelled, and it has not ended")
        else:
            task.result()
    leaving = [
        asyncio.create_task(_leave(played, things[leave.who], leave)) for leave in plan.leaves
    ]
    await _ask_all(played, publisher)
    await _all(leaving)


# ------------------------------------------------------------------------ what must hold


def assert_invariants(played: Played) -> None:
    """All that this module's docstring says."""
    plan, server, wrong = played.plan, played.server, list(played.wrong)
    if sorted(played.ended) != list(range(len(plan.asks))):
        wrong.append(f"only these have ended: {sorted(played.ended)}")
    for number, ended in played.ended.items():
        complaint = _ended_wrongly(played, number, ended)
        if complaint is not None:
            wrong.append(f"{number} {complaint}: {ended}")
    # Accepted, handled, answered.
    finished = {number for number, times in played.finished.items() if times}
    lost = server.accepted.keys() - finished - played.buried
    if lost:
        wrong.append(f"accepted, and neither handled nor expired: {lost}")
    if invented := played.started.keys() - server.accepted.keys():
        wrong.append(f"handled, and never accepted: {invented}")
    if invented := server.replied - finished:
        wrong.append(f"answered, and never handled: {invented}")
    if running := +played.handling:
        wrong.append(f"handlers still run: {running}")
    for group in {plan.group(number) for number in server.accepted} - {None}:
        started = [number for number in played.order if plan.group(number) == group]
        if started != [number for number in server.accepted if number in started]:
            wrong.append(f"accepted as {list(server.accepted)}, and started as {started}")
    # Nothing is left.
    if server.queues != [plan.queue]:
        wrong.append(f"queues are left: {server.queues}")
    wrong += [f"there is still {left}" for thing in played.things if (left := left_in(thing))]
    wrong += [f"the loop reports {complaint}" for complaint in played.loop.complaints]
    wrong += [f"the log says {record.getMessage()}" for record in played.logged]
    assert not wrong, "\n".join(wrong)


def _ended_wrongly(played: Played, number: int, ended: Ended) -> str | None:
    """What is wrong with how a request or a send ended."""
    plan, ask, error = played.plan, played.ask(number), ended.error
    took = ended.at - ended.began
    closed_at, closed_from = played.closed_at, played.closed_from
    # On a FIFO queue one that fails keeps the others of its group waiting. What a worker drops
    # that stops at once comes back after its visibility timeout.
    held_up = plan.fifo and any(each.one_way and each.outcome == "fails" for each in plan.asks)
    held_up |= plan.stops_at_once and plan.visibility_timeout >= LONG
    calm = not (plan.faults or held_up or closed_from < math.inf)
    cancelled = played.cancelled.get(number, math.inf)
    if ended.at > cancelled + MOMENT:
        return "went on although it was cancelled"
    if not ask.one_way and took > ask.timeout + MOMENT:
        return "outlived its timeout"
    at_most = closed_at + (FLUSH_PATIENCE if ask.one_way else 0.0) + MOMENT
    if ended.began < closed_at and ended.at > at_most:
        return "went on although the publisher closed"
    match error:
        case None if ask.one_way:
            return None if number in played.server.accepted else "was never accepted"
        case None:
            assert isinstance(ended.result, so.Reply)
            own = ask.outcome == "returns" and ended.result.json() == {"number": number}
            return None if own else "got another's reply"
        case so.RemoteError(code="odd"):
            own = ask.outcome == "rejects" and error.details == {"number": number}
            return None if own else "got another's error"
        case so.RemoteError(code="handler_error"):
            own = ask.outcome == "fails" and str(number) in error.message.split()
            return None if own else "got another's error"
        case asyncio.CancelledError():
            due = ended.at >= cancelled - MOMENT
            return None if due else "was cancelled by nobody"
        case so.ReplyTimeout():
            if took < ask.timeout - MOMENT:
                return "timed out too early"
            return "got no reply" if calm and ask.timeout >= LONG else None
        case so.ReplyQueueLost():
            lost = played.lost_at is not None and ended.at >= played.lost_at
            return None if lost else "lost a queue that was there"
        case so.ReplyQueueClosed():
            return None if ended.at >= closed_from else "was closed out too early"
        case so.SendError():
            # What is under way when the publisher closes is flushed.
            return None if plan.faults else "was not sent"
        case so.QueueError():
            return None if plan.faults else "failed for no reason"
        case RuntimeError():
            # A reply queue that was shared, and left, is not open any more.
            since = closed_from if ended.at < closed_at else closed_at
            return None if ended.began >= since or played.shared else "was refused"
    return "ended in a way that it should not"
