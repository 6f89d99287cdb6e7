"""A message between its receive and its outcome, and all those that a poller holds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Any, Final

from ..core import sns, wire
from ..core.wire import Request
from ..logs import about
from ..message import Message
from ..sqs.clock import Clock
from ..sqs.port import Received
from .handlers import Handler

REMEMBERED: Final = 60.0
"""Seconds, from when it may come back, for which a message is remembered that was dealt with and
whose delete is not certain. It is deleted then, not done again."""


class Delivery:
    """A message that a poller holds, and how far it has come."""

    __slots__ = (
        "deleted",
        "expires",
        "fault",
        "given_up",
        "handle",
        "handler",
        "hidden_until",
        "judged",
        "message",
        "overdue",
        "received",
        "reply_queue",
        "request",
        "since",
        "started",
        "task",
        "turn",
    )

    def __init__(
        self,
        received: Received,
        request: Request,
        message: Message,
        fault: str | None,
        since: float,
    ) -> None:
        self.received = received
        self.handle = received.receipt_handle
        """The newest receipt handle: SQS may hand it out again while it is held."""
        self.request = request
        self.message = message
        self.fault = fault
        """What breaks the wire format, if anything does."""
        self.since = since
        """When it was received, by the loop's time."""
        self.expires = since + message.time_remaining()
        """Until when its requester waits, by the loop's time; `math.inf` if it waits for ever."""
        self.hidden_until = since
        """Until when it is hidden from others, by what SQS has confirmed."""
        self.turn = False
        """On a FIFO queue: the other messages of its group wait for this one."""
        self.judged = False
        """It waits for no place any more."""
        self.handler: Handler | None = None
        self.task: asyncio.Task[Any] | None = None
        self.started = 0.0
        """When its handler was started, by the loop's time."""
        self.reply_queue: str | None = None
        """The URL of the queue that the reply goes to; `None` if none is wanted."""
        self.overdue = False
        """It was held for `max_extension`."""
        self.given_up = False
        """Its handler was cancelled by the drain."""
        self.deleted = False
        """It has been dealt with, and SQS was asked to delete it."""

    def __repr__(self) -> str:
        return f"<Delivery {self.received.message_id}>"

    @property
    def log_fields(self) -> dict[str, str]:
        """What a line of the log about it carries."""
        message = self.message
        return about(message.queue_url, self.received.message_id, message.correlation_id)

    @property
    def group(self) -> str:
        """Its message group, on a FIFO queue."""
        return self.message.group_id or ""


def read(
    received: Received,
    clock: Clock,
    now: float,
    queue_url: str | None = None,
    topics: Collection[str] = (),
) -> Delivery:
    """A message that has just been received from that queue, and what its attributes say. It may
    be in an envelope of one of *topics*; a dead letter stays in it."""
    fault: str | None = None
    published = sns.open_envelope(received.body, topics) if topics else None
    said = received
    if published is not None:
        said = received._replace(
            body=published.body,
            attributes=published.attributes,
            system={**received.system, sns.TOPIC_ARN: published.topic_arn},
        )
    try:
        request = wire.parse_request(said.attributes)
    except wire.Malformed as malformed:
        request = wire.Request(malformed.reply_to)
        fault = malformed.reason
    message = Message.received(said, request, clock, queue_url)
    return Delivery(received, request, message, fault, now)


class Deliveries(dict[str, Delivery]):
    """The deliveries that a poller holds, by message id.

    What has been dealt with stays among them until SQS cannot hand it out again. If its delete is
    not certain, it is remembered for `REMEMBERED` after it may come back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.remembered: deque[tuple[float, Delivery]] = deque()
        """Those whose delete is not certain, and until when."""

    def forget(self, delivery: Delivery) -> None:
        """If it comes again, it is a new one."""
        if self.get(delivery.received.message_id) is delivery:
            del self[delivery.received.message_id]

    def remember(self, delivery: Delivery, now: float) -> None:
        """Its delete is not certain."""
        self.remembered.append((max(now, delivery.hidden_until) + REMEMBERED, delivery))

    def forget_old(self, now: float) -> None:
        """Forget those that were remembered for long enough."""
        while self.remembered and self.remembered[0][0] <= now:
            _, delivery = self.remembered.popleft()
            # It may have come again meanwhile.
            if delivery.hidden_until + REMEMBERED <= now:
                self.forget(delivery)
