"""What a user's test does with an SQS in memory: answer, run a worker, look at what went out."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from ..codecs import Codec, codec_or_json, encode
from ..connection import Connection
from ..core.attributes import PlainValue
from ..core.checks import check_seconds, check_type
from ..core.wire import Malformed, ReplyTo, Request, parse_request
from ..message import Message
from ..sqs.clock import Clock
from ..sqs.port import Received
from ..worker.poller import Poller, PollerStatistics
from .connecting import MemoryConnection
from .loop import VirtualTimeLoop
from .queues import StoredMessage

__all__ = ["answer", "message", "run_until_idle", "sent"]

PATIENCE: Final = 60.0
"""Seconds for which `run_until_idle` waits at most, in real time. They count in virtual time too,
which a handler that sends to its own queue without end lets pass no faster than real time."""

VIRTUAL_PATIENCE: Final = 3600.0
"""The same in virtual time, in which an hour passes in a moment if nothing happens in it."""

SHORTEST_LOOK: Final = 0.001
LONGEST_LOOK: Final = 1.0
"""Seconds between two looks at a queue. They grow while nothing happens."""

COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


async def run_until_idle(poller: Poller, *, timeout: float | None = None) -> PollerStatistics:
    """Let *poller* work until nothing is left in its queue, then stop it.

    What comes back later is waited for: messages that were sent with a delay, those whose
    handler failed, until they are done or in the dead-letter queue, and those that wait for a
    `Retry`. In virtual time that takes a moment.

    Args:
        poller: A poller that has not run yet.
        timeout: Seconds to wait for that, by the loop's clock. By default an hour in virtual
            time and a minute in real time. In virtual time, a minute in real time ends it too, or
            *timeout* if that is longer and was passed.

    Returns:
        What the poller counted.

    Raises:
        TimeoutError: Something is left in the queue, such as a message whose handler always
            fails, where the queue has no dead-letter queue; or a handler sends to its own queue
            without end. The text tells how often it was received, and how many were handled.
        QueueError: As `Poller.run` says.
        RuntimeError: The poller ran before.

    Cancelling it drains the poller.
    """
    check_type("poller", poller, Poller, "a Poller")
    loop = asyncio.get_running_loop()
    really = PATIENCE
    if timeout is None:
        timeout = VIRTUAL_PATIENCE if isinstance(loop, VirtualTimeLoop) else PATIENCE
    else:
        check_seconds("timeout", timeout)
        really = max(PATIENCE, timeout)
    until, began = loop.time() + timeout, time.monotonic()
    async with poller:
        url = await poller.sqs.queue_url(poller.queue)
        pause, before = SHORTEST_LOOK, poller.statistics()
        while (now := poller.statistics()).failure is None:
            busy = now.running or now.waiting or now.answering
            if not busy and not await _left(poller.sqs, url):
                break
            if loop.time() >= until:
                raise TimeoutError(await _why(poller, url, timeout))
            if time.monotonic() - began >= really:
                raise TimeoutError(await _why(poller, url, really))
            pause = (
                SHORTEST_LOOK if now.received > before.received else min(2 * pause, LONGEST_LOOK)
            )
            before = now
            await asyncio.sleep(min(pause, max(0.0, until - loop.time())))
        # It has nothing to wait for.
        poller.stop(drop_poll=True)
    return poller.statistics()


async def _left(sqs: Connection, url: str) -> int:
    """How many messages the queue holds, hidden ones included."""
    if isinstance(sqs, MemoryConnection):
        return len(sqs.server.messages(url))
    counts = await sqs.port.get_queue_attributes(url, COUNTS)
    return sum(int(counts.get(name, 0)) for name in COUNTS)


async def _why(poller: Poller, url: str, timeout: float) -> str:
    now = poller.statistics()
    text = (
        f"after {timeout:g} s {await _left(poller.sqs, url)} messages are left in"
        f" {poller.queue!r}, {now.running} handlers run, and {now.handled} messages were handled"
    )
    if isinstance(poller.sqs, MemoryConnection):
        stored = poller.sqs.server.messages(url)
        oldest = ", ".join(f"{each.body[:60]!r} {each.receive_count} times" for each in stored[:3])
        if oldest:
            text += f"; received were {oldest}"
    return text


@asynccontextmanager
async def answer(
    sqs: Connection,
    queue: str,
    reply: Any = None,
    *,
    error: BaseException | type[BaseException] | None = None,
    codec: Codec | None = None,
) -> AsyncIterator[list[Message]]:
    """Answer the requests in *queue* while the body of `async with` runs, in the place of a
    worker. Gives the list of the messages that were asked; it grows as they come. Leaving waits
    for the replies on their way, and not for the end of a poll.

    Args:
        sqs: The connection: the fixture's, or any other.
        queue: The queue's name or URL.
        reply: What to answer; or a function of the `Message` that returns or raises it, plain
            or `async`.
        error: What to raise in its place, as a handler would: `Reject("no", code="sold_out")`.
        codec: Encodes the replies; JSON by default.

    Raises:
        ValueError: Both *reply* and *error* were given.
        QueueNotFound: There is no such queue, and it is not created on first use.
    """
    if reply is not None and error is not None:
        raise ValueError("pass a reply or an error, not both")
    asked: list[Message] = []

    async def handle(message: Message) -> Any:
        asked.append(message)
        if error is not None:
            raise error
        result = reply(message) if callable(reply) else reply
        return await result if inspect.isawaitable(result) else result

    async with Poller(sqs, queue, handle, codec=codec) as poller:
        try:
            yield asked
        finally:
            poller.stop(drop_poll=True)


def sent(sqs: Connection, queue: str) -> list[Message]:
    """All messages that were sent to *queue* on the SQS in memory behind *sqs*, in their
    order, whether or not somebody has received or deleted them since. Of a dead-letter queue
    they are what SQS or a worker moved there, too.

    They are as they were sent: `receive_count` is 1.

    Raises:
        ValueError: *sqs* is no connection to an SQS in memory.
        KeyError: There is no such queue. Where first use creates queues, nothing was sent.
    """
    check_type("sqs", sqs, MemoryConnection, "the connection to an SQS in memory")
    assert isinstance(sqs, MemoryConnection)
    try:
        history = sqs.server.queue(queue).history
    except KeyError:
        if sqs.strict_queues:
            raise
        return []
    return [_message(stored) for stored in history]


def _message(stored: StoredMessage) -> Message:
    system = {"SentTimestamp": stored.sent_timestamp}
    if stored.group_id is not None:
        system["MessageGroupId"] = stored.group_id
    received = Received(stored.message_id, "", stored.body, stored.attributes, system)
    try:
        request = parse_request(stored.attributes)
    except Malformed:
        request = Request()
    # By a clock that knows no time none has passed since.
    return Message.received(received, request, Clock())


def message(
    body: Any = "",
    *,
    attributes: Mapping[str, PlainValue] | None = None,
    message_id: str = "",
    message_type: str | None = None,
    receive_count: int = 1,
    sent_at: datetime | None = None,
    group_id: str | None = None,
    reply_to: ReplyTo | None = None,
    time_remaining: float = math.inf,
    codec: Codec | None = None,
) -> Message:
    """A message to call a handler with: `await handle(message({"id": 1}))`.

    As with `Publisher.send`, a `str` is the body as it is, and anything else is encoded by
    *codec*, JSON by default. The rest is what `Message` takes.

    Raises:
        InvalidMessage: *body* cannot be encoded.
        ValueError: An argument is of a wrong type.
    """
    text, content_type = encode(codec_or_json(codec), body)
    return Message(
        text,
        attributes=attributes,
        message_id=message_id,
        message_type=message_type,
        receive_count=receive_count,
        sent_at=sent_at,
        group_id=group_id,
        reply_to=reply_to,
        content_type=content_type,
        time_remaining=time_remaining,
    )
