"""Round trips under load, and what must hold of them whatever goes wrong.

`Load` makes requests that all differ, and notes how each ended; `Workers` answers them, and
notes what it handled. `Load.check` then compares the two with what SQS itself had accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import sqs_orchestrator as so
from sqs_orchestrator.requester.live_queue import LiveQueue
from sqs_orchestrator.requester.session import PublisherSession
from sqs_orchestrator.sending.entries import Deletion
from sqs_orchestrator.sending.lanes import Lanes
from sqs_orchestrator.sending.reply_sender import ReplySender
from sqs_orchestrator.worker.carrying import Carrier
from sqs_orchestrator.worker.engine import Engine
from sqs_orchestrator.worker.replies import Replies

from .proxy import FaultProxy

LATE: Final = 1.0
"""Seconds by which no request may outlive its timeout."""

REJECTED: Final = 7
"""Of ten requests, the one that is rejected."""

HURRIED: Final = 3
"""Of twenty requests, the one whose timeout is so short that some replies come too late."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request ended."""

    number: int
    seconds: float
    timeout: float
    reply: so.Reply | None = None
    error: Exception | None = None


def own_answer(ended: Ended) -> bool:
    """Whether a request got what `answer` gives, and for itself: a number of another request's
    would come of a reply that went astray."""
    if ended.number % 10 == REJECTED:
        error = ended.error
        return (
            isinstance(error, so.RemoteError)
            and error.code == "odd"
            and error.details == {"number": ended.number}
        )
    return ended.reply is not None and ended.reply.json() == {
        "number": ended.number,
        "echo": f"text {ended.number}",
    }


def own_number(ended: Ended) -> bool:
    """The same for workers that are processes, which answer with the number."""
    return ended.reply is not None and ended.reply.json()["number"] == ended.number


@dataclass
class Load:
    """Requests to *queue*, *at_once* of them at a time. *hurried*: some with so short a timeout
    that their replies may come too late. *own* tells whether an answer is the right one."""

    queue: str
    prefix: str
    at_once: int = 100
    timeout: float = 30.0
    hurried: bool = True
    own: Callable[[Ended], bool] = own_answer
    kept: list[object] = field(default_factory=list)
    """What was used, for `assert_nothing_left`."""
    lag: float = 0.0
    """The longest for which the event loop stood still, in seconds: what was late by that was
    late for want of a processor."""
    ended: dict[int, Ended] = field(default_factory=dict)

    async def run(self, sqs: so.Connection, numbers: Collection[int]) -> None:
        """Make the requests; what they raise is noted."""
        places = asyncio.Semaphore(self.at_once)
        watching = asyncio.create_task(self._watch_the_loop())
        async with (
            so.ReplyQueue(sqs, prefix=self.prefix, sweep_interval=None) as replies,
            so.Publisher(sqs, reply_queue=replies) as publisher,
        ):
            await replies.ready()
            self.kept += [publisher, replies.current]
            async with asyncio.TaskGroup() as group:
                for number in numbers:
                    await places.acquire()
                    task = group.create_task(self._request(publisher, number))
                    task.add_done_callback(lambda _: places.release())
            # Leaving would clear the tables that should be empty by themselves.
            assert replies.statistics().pending == 0
            assert publisher.statistics().pending == publisher.statistics().unsent == 0
        watching.cancel()
        await asyncio.wait({watching})

    async def _watch_the_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(0.01)
            self.lag = max(self.lag, loop.time() - began - 0.01)

    async def _request(self, publisher: so.Publisher, number: int) -> None:
        timeout = 0.3 if self.hurried and number % 20 == HURRIED else self.timeout
        loop = asyncio.get_running_loop()
        began = loop.time()
        reply: so.Reply | None = None
        failure: Exception | None = None
        try:
            reply = await publisher.request(
                self.queue, {"number": number, "text": f"text {number}"}, timeout=timeout
            )
        except Exception as error:
            failure = error
        assert number not in self.ended
        self.ended[number] = Ended(number, loop.time() - began, timeout, reply, failure)

    # --------------------------------------------------------------- what must hold

    def check(
        self,
        numbers: Collection[int],
        handled: Counter[int],
        proxy: FaultProxy,
        *also: type[Exception],
    ) -> None:
        """Check all that must hold of the requests. Those may also have ended with *also*."""
        assert sorted(self.ended) == sorted(numbers)
        wrong = [each for each in self.ended.values() if not self._ended_well(each, also)]
        assert not wrong, wrong[:5]
        most = LATE + self.lag
        late = [each for each in self.ended.values() if each.seconds > each.timeout + most]
        assert not late, (self.lag, late[:5])
        accepted = {
            json.loads(message.body)["number"]
            for message in proxy.accepted
            if message.queue.endswith(f"/{self.queue}")
        }
        lost = [
            each
            for number, each in self.ended.items()
            if number in accepted
            and not handled[number]
            and not (number % 20 == HURRIED or isinstance(each.error, so.ReplyTimeout))
        ]
        assert not lost, lost[:5]
        # What was answered had been asked, and handled.
        answered = {number for number, each in self.ended.items() if each.reply is not None}
        assert answered <= accepted
        assert answered <= set(handled)

    def _ended_well(self, ended: Ended, also: tuple[type[Exception], ...]) -> bool:
        error = ended.error
        if error is None or isinstance(error, so.RemoteError):
            return self.own(ended)
        # At its timeout a request that SQS has not taken ends with what SQS said, if anything.
        in_time = isinstance(error, so.ReplyTimeout | so.QueueError | so.SendError)
        return (in_time and ended.seconds >= ended.timeout - 0.01) or isinstance(error, also)

    def outcomes(self) -> Counter[str]:
        """How many ended in which way."""
        return Counter(
            "reply" if each.error is None else type(each.error).__name__
            for each in self.ended.values()
        )


async def answer(message: so.Message) -> dict[str, Any]:
    """The handler: what it answers tells which request it answers."""
    asked = message.json()
    if asked["number"] % 10 == REJECTED:
        raise so.Reject("an odd one", code="odd", details={"number": asked["number"]})
    return {"number": asked["number"], "echo": asked["text"]}


class Workers:
    """A worker that is started again whenever it ends, as a container is."""

    def __init__(self, queue: str) -> None:
        self.handled: Counter[int] = Counter()
        """How often each request was handled, by number."""
        self.failures: list[Exception] = []
        """With what the workers ended."""
        self.pollers: list[so.Poller] = []
        self._queue = queue

    async def _handle(self, message: so.Message) -> dict[str, Any]:
        self.handled[message.json()["number"]] += 1
        return await answer(message)

    @contextlib.asynccontextmanager
    async def running(self, sqs: so.Connection, prefix: str) -> AsyncIterator[None]:
        """Works while the body runs, then drains."""
        over = False

        async def work() -> None:
            while not over:
                poller = so.Poller(
                    sqs,
                    self._queue,
                    self._handle,
                    concurrency=50,
                    visibility_timeout=3,
                    wait_time=1,
                    reply_queue_prefixes=(prefix,),
                )
                self.pollers.append(poller)
                try:
                    await poller.run(handle_signals=False)
                except so.SQSOrchestratorError as error:
                    self.failures.append(error)
                    await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            try:
                yield
            finally:
                over = True
                self.pollers[-1].stop()


# --------------------------------------------------------------- what must be left

DONE: Final = 30.0
"""Seconds after which what does not come is taken never to come."""


TABLES: Final[dict[type, tuple[str, ...]]] = {
    PublisherSession: ("pending", "waits"),
    LiveQueue: ("waiters",),
    ReplySender: ("_answers",),
    Engine: ("waiting", "running"),
    Carrier: ("moves",),
    Replies: ("on_way",),
}
"""Where the library keeps what is under way. Looked up by type, since many objects say that
they are an instance of anything."""


async def becomes_empty(sqs: so.Connection, queue: str) -> None:
    """Wait until the queue has no message, visible or not."""
    url = await sqs.queue_url(queue)
    names = ("", "NotVisible", "Delayed")
    wanted = {f"ApproximateNumberOfMessages{name}": "0" for name in names}
    async with asyncio.timeout(DONE):
        while await sqs.port.get_queue_attributes(url, list(wanted)) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def assert_no_reply_queue(sqs: so.Connection, prefix: str) -> None:
    assert not (await sqs.port.list_queues(prefix)).urls


async def assert_nothing_left(proxy: FaultProxy, before: Collection[asyncio.Task[Any]]) -> None:
    """No task beside those of *before*, no entry in any table or lane, no connection."""
    assert asyncio.all_tasks() <= set(before)
    gc.collect()
    seen = set()
    for thing in gc.get_objects():
        seen.add(type(thing))
        for table in TABLES.get(type(thing), ()):
            assert not getattr(thing, table), f"{table} of {thing!r}"
        if type(thing) is Lanes:
            # The deletes of replies go with their queue.
            entries = [entry for lane in thing._lanes.values() for entry in lane.waiting]
            assert all(isinstance(entry, Deletion) for entry in entries), entries[:5]
    # Whoever calls this has kept what he used: what is gone shows nothing.
    assert seen >= set(TABLES)
    async with asyncio.timeout(DONE):
        while proxy.connections:  # noqa: ASYNC110 - it is in another thread
            await asyncio.sleep(0.05)
