"""A worker behind AWS Lambda's SQS event source: the handlers, replies and middleware of a
`Poller`, in a function that Lambda calls with messages that it has received.

Lambda polls, hides the messages, and deletes those that the function does not name in
`batchItemFailures`. The rest is the poller's own work, and is done by the same code.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol, TypeAlias, TypedDict

import anyio

from .connection import Connection, check_connection, connect
from .core.checks import check_flag, shown
from .core.names import queue_name_of
from .logs import about, get_logger
from .sending.entries import Deletion
from .sqs.clock import Clock
from .sqs.port import Attributes, Received
from .tasks import TaskOwner
from .worker.engine import Engine
from .worker.lent import MARGIN, work_off
from .worker.making import Factory, made
from .worker.poller import Poller

__all__ = ["BatchResponse", "LambdaHandler", "lambda_handler"]

logger = get_logger(__name__)

PollerLike: TypeAlias = Poller | Factory

_ARN = re.compile(r"arn:[a-z0-9-]+:sqs:[a-z0-9-]+:(?P<account>[0-9]+):(?P<name>[A-Za-z0-9_.-]+)")


class Context(Protocol):
    """What of Lambda's context is used."""

    def get_remaining_time_in_millis(self) -> int: ...


class BatchItemFailure(TypedDict):
    itemIdentifier: str


class BatchResponse(TypedDict):
    """What Lambda expects of a function with `ReportBatchItemFailures`."""

    batchItemFailures: list[BatchItemFailure]


def lambda_handler(
    *pollers: PollerLike,
    sqs: Connection | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    report_failures: bool = True,
) -> LambdaHandler:
    """A function for Lambda that does the work of *pollers*, one for each queue that it is mapped
    to.

    The event source mapping must have `ReportBatchItemFailures` among its `FunctionResponseTypes`:
    without it Lambda ignores what the function returns, and deletes the messages that failed, too.
    Where it cannot have that, pass *report_failures* as `False`.

    Args:
        pollers: For each queue a function that gets the connection and returns a `Poller`, as the
            command line's `worker` takes it; it may also be an async context manager of one, which
            opens what the handlers need, once per container. Or a `Poller` itself, whose
            connection is opened when it is first needed. Its `queue` must be a queue of the
            mapping. They are not run: of their settings those that concern receiving
            (`wait_time`, `drain_timeout`) have no meaning here, and *visibility_timeout* only for
            how soon a message comes back that nobody could judge.
        sqs: The connection for the functions; by default `connect()`, whose settings are the
            environment's.
        loop_factory: Makes the event loop, such as `uvloop.new_event_loop`.
        report_failures: Whether the mapping has `ReportBatchItemFailures`. Without it, the only
            way to keep a message is to let the call fail: then, if some messages are to come
            again, the function deletes the others itself, and raises. Lambda then calls fewer
            containers for a while.

    Raises:
        ValueError: There is no poller, or an argument is of a wrong type.

    Example:
        ```python
        def orders(sqs):
            return Poller(sqs, "orders", handle)

        handler = lambda_handler(orders)
        ```
    """
    return LambdaHandler(pollers, sqs, loop_factory, report_failures)


class LambdaHandler:
    """What Lambda calls. Made by `lambda_handler()`.

    One event loop lives for as long as the container, and in it the connection and whatever the
    pollers' functions have opened: a warm start makes no new connection.
    """

    def __init__(
        self,
        pollers: Sequence[PollerLike],
        sqs: Connection | None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
        report_failures: bool,
    ) -> None:
        if not pollers:
            raise ValueError("lambda_handler() takes at least one poller")
        for each in pollers:
            if not isinstance(each, Poller) and (isinstance(each, type) or not callable(each)):
                raise ValueError(
                    "lambda_handler() takes pollers, or functions that get the connection and"
                    f" return one, not {shown(each)}"
                )
        if sqs is not None:
            check_connection(sqs)
        if loop_factory is not None and not callable(loop_factory):
            raise ValueError(f"loop_factory makes an event loop, and is not {shown(loop_factory)}")
        check_flag("report_failures", report_failures)
        self._pollers = tuple(pollers)
        self._sqs = sqs
        self._loop_factory = loop_factory
        self._report_failures = report_failures
        # What lives from call to call must not live in the context of the first one.
        self._context = contextvars.copy_context()
        self._runner: asyncio.Runner | None = None
        self._workshop: _Workshop | None = None
        self._turn = asyncio.Lock()

    def __call__(self, event: Mapping[str, Any], context: Context | None = None) -> BatchResponse:
        """Work on the messages of *event*; returns which of them should come again.

        Replies have been sent when it returns. It ends before the time of *context* is over,
        unless a handler blocks the event loop, or opening what the pollers need takes longer.

        Raises:
            ValueError: *event* is none of SQS, or of a queue that no poller is for. Lambda then
                lets all of its messages come again.
            QueueError: SQS cannot be reached, or refuses what must be asked first.
            RuntimeError: Messages are to come again, and *report_failures* is false; or an event
                loop runs in this thread.
        """
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=self._loop_factory)
        # Each call has its own context, with its trace perhaps.
        own = contextvars.copy_context()
        work = self.handle(event, context)
        try:
            return self._runner.run(work, context=own)
        finally:
            work.close()  # if the runner did not take it

    async def handle(
        self, event: Mapping[str, Any], context: Context | None = None
    ) -> BatchResponse:
        """The same in an event loop that runs already, as in tests: always in the same one.

        Calls at the same time take turns, as those of Lambda do. The time of one that waits runs.
        """
        seconds = math.inf
        if context is not None:
            seconds = context.get_remaining_time_in_millis() / 1000
        end = asyncio.get_running_loop().time() + seconds
        batches = _batches(event)
        failures: list[BatchItemFailure] = []
        async with self._turn:
            if batches:
                failures = await self._work(batches, end)
        return {"batchItemFailures": failures}

    async def _work(
        self, batches: Mapping[str, Sequence[Mapping[str, Any]]], end: float
    ) -> list[BatchItemFailure]:
        """Work on batches until *end*; gives what should come again, or raises if that is not
        reported."""
        now = asyncio.get_running_loop().time
        workshop = await self._open()
        failures: list[BatchItemFailure] = []
        for arn, records in batches.items():
            failures += await workshop.work(arn, records, max(0.0, end - now()))
        if failures and not self._report_failures:
            failed = {failure["itemIdentifier"] for failure in failures}
            # Lambda kills a function that does not end in time.
            with anyio.move_on_after(end - now() - MARGIN / 2):
                for arn, records in batches.items():
                    done = [each for each in records if each["messageId"] not in failed]
                    await workshop.delete(arn, done)
            raise RuntimeError(
                f"{len(failures)} of {sum(map(len, batches.values()))} messages are to come again"
                " (with ReportBatchItemFailures this would be no error)"
            )
        return failures

    def close(self) -> None:
        """Close what was opened, and the event loop. Lambda does not: it ends the process."""
        if self._runner is not None:
            try:
                self._runner.run(self.aclose())
            finally:
                self._runner.close()
                self._runner = None

    async def aclose(self) -> None:
        """Close what `handle` has opened."""
        workshop, self._workshop = self._workshop, None
        if workshop is not None:
            await workshop.owner.stop()

    async def _open(self) -> _Workshop:
        if self._workshop is not None and self._workshop.owner.stopping:
            # Something in it has failed, and the log has why.
            await self.aclose()
        if self._workshop is None:
            workshop = _Workshop(self._pollers, self._sqs)
            loop = asyncio.get_running_loop()
            await self._context.copy().run(loop.create_task, workshop.open())
            self._workshop = workshop
        self._workshop.owner.check_loop()
        return self._workshop


class _Workshop:
    """What lives from one call to the next."""

    def __init__(self, pollers: Sequence[PollerLike], sqs: Connection | None) -> None:
        self.owner = TaskOwner("the Lambda handler", self._closing)
        self._given = pollers
        self._sqs = sqs
        self._pollers: dict[str, Poller] = {}
        self._engines: dict[str, Engine] = {}
        self._clock = Clock()
        self._end = asyncio.Event()

    async def open(self) -> None:
        """Make the pollers, and open what they need."""
        await self.owner.start()
        opened: asyncio.Future[None] = self.owner.loop.create_future()
        # In a task of its own, since what it opens has to be closed in the task that opened it.
        self._host = self.owner.spawn(self._keep_open, opened)
        try:
            await opened
        except BaseException:
            await self.owner.stop()
            raise

    async def _keep_open(self, opened: asyncio.Future[None]) -> None:
        async with AsyncExitStack() as stack:
            try:
                for each in self._given:
                    poller = await self._made(stack, each)
                    name = queue_name_of(poller.queue)
                    if name in self._pollers:
                        raise ValueError(f"there are two pollers of the queue {name!r}")
                    self._pollers[name] = poller
            except BaseException as error:  # whatever it is, somebody waits to hear of it
                if not opened.done():
                    opened.set_exception(error)
                return
            if not opened.done():
                opened.set_result(None)
            await self._end.wait()

    async def _made(self, stack: AsyncExitStack, given: PollerLike) -> Poller:
        if isinstance(given, Poller):
            await _enter(stack, given.sqs)
            return given
        if self._sqs is None:
            self._sqs = connect()
        await _enter(stack, self._sqs)
        return await made(stack, given, self._sqs)

    async def _closing(self) -> None:
        self._end.set()
        await asyncio.wait({self._host})

    async def work(
        self, arn: str, records: Sequence[Mapping[str, Any]], seconds: float
    ) -> list[BatchItemFailure]:
        """Work on the records of one queue; gives those that should come again, in their order."""
        loop = self.owner.loop
        end = loop.time() + seconds
        engine = self._engines.get(arn)
        if engine is None:
            engine = self._engines[arn] = await self._engine(arn)
        batch: list[Received] = []
        for record in records:
            try:
                batch.append(received(record))
            except Exception:
                logger.exception(
                    "message %s is unreadable and stays",
                    record["messageId"],
                    extra=about(engine.url, record["messageId"]),
                )
        self._tell_time(engine, batch)
        done = await work_off(engine, batch, max(0.0, end - loop.time()))
        failures: list[BatchItemFailure] = []
        groups = {each.message_id: each.system.get("MessageGroupId") for each in batch}
        broken: set[str] = set()
        for record in records:
            group = groups.get(record["messageId"])
            if record["messageId"] in done and group not in broken:
                continue
            failures.append({"itemIdentifier": record["messageId"]})
            if group is not None and arn.endswith(".fifo"):
                # What follows in the group has to come after it.
                broken.add(group)
        return failures

    async def delete(self, arn: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Delete what Lambda will not."""
        engine, now = self._engines[arn], self.owner.loop.time()
        for record in records:
            engine.carrier.deletes.add(engine.url, Deletion(record["receiptHandle"], now))
        await engine.carrier.deletes.flush()

    async def _engine(self, arn: str) -> Engine:
        match = _ARN.fullmatch(arn)
        poller = None if match is None else self._pollers.get(match["name"])
        if match is None or poller is None:
            raise ValueError(
                f"the event is of the queue {shown(arn)}, and there are pollers of"
                f" {', '.join(map(repr, self._pollers))}: map the function to these, or pass a"
                " poller of that queue to lambda_handler()"
            )
        sqs, name, account = poller.sqs, match["name"], match["account"]
        url = poller.queue
        if "/" not in url:
            # The queue may be in another account than the function.
            url = await sqs.patiently(lambda: sqs.port.get_queue_url(name, account), about=name)
        engine = poller.engine(self.owner, url, receives=False)
        engine.clock = self._clock
        return engine

    def _tell_time(self, engine: Engine, batch: Sequence[Received]) -> None:
        """Learn SQS's time from the messages as well: on a cold start no answer has shown it."""
        times = [each.system.get(_FIRST_RECEIVED, "") for each in batch]
        known = [int(time) / 1000 for time in times if time.isdecimal() and len(time) < 15]
        port = engine.port.clock.now()
        if port is not None:
            known.append(port)
        if known:
            self._clock.observe_epoch(max(known))


_FIRST_RECEIVED: Final = "ApproximateFirstReceiveTimestamp"


async def _enter(stack: AsyncExitStack, sqs: Connection) -> None:
    if not sqs.is_open:
        await stack.enter_async_context(sqs)


# ------------------------------------------------------------------ Lambda's shapes


def _batches(event: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The records of an event, by the ARNs of their queues.

    Raises:
        ValueError: It is no event of SQS.
    """
    try:
        batches: dict[str, list[Mapping[str, Any]]] = {}
        for record in event["Records"]:
            arn, name = record["eventSourceARN"], record["messageId"]
            if record["eventSource"] != "aws:sqs" or not (
                isinstance(arn, str) and isinstance(name, str)
            ):
                raise KeyError("eventSource")
            batches.setdefault(arn, []).append(record)
    except (KeyError, TypeError) as error:
        raise ValueError(
            "the event is none of Lambda's event source for SQS: it has no 'Records' with"
            " 'eventSource': 'aws:sqs'"
        ) from error
    return batches


def received(record: Mapping[str, Any]) -> Received:
    """A record of the event as SQS would have handed it out.

    Raises:
        Exception: It is not of Lambda's form, such as one that was written by hand.
    """
    system: Mapping[str, Any] = record.get("attributes") or {}
    return Received(
        record["messageId"],
        _text(record.get("receiptHandle", "")),
        _text(record["body"]),
        _attributes(record.get("messageAttributes") or {}),
        {name: _text(value) for name, value in system.items()},
    )


def _attributes(attributes: Mapping[str, Mapping[str, Any]]) -> Attributes:
    found: dict[str, dict[str, Any]] = {}
    for name, given in attributes.items():
        value = found[name] = {"DataType": _text(given["dataType"])}
        # Both may be there, and null.
        if given.get("stringValue") is not None:
            value["StringValue"] = _text(given["stringValue"])
        if given.get("binaryValue") is not None:
            value["BinaryValue"] = base64.b64decode(given["binaryValue"], validate=True)
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"there should be text, and is {shown(value)}")
    return value
