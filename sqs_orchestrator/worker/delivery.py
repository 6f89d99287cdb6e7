"""A message between its receive and its outcome."""

from __future__ import annotations

import asyncio
from typing import Any

from ..core import wire
from ..core.wire import Request
from ..message import Message
from ..sqs.clock import Clock
from ..sqs.port import Received
from .handlers import Handler


class Delivery:
    """A message that a poller holds, and how far it has come."""

    __slots__ = (
        "answer_url",
        "deleted",
        "fault",
        "given_up",
        "handle",
        "handler",
        "hidden_until",
        "judged",
        "message",
        "overdue",
        "received",
        "request",
        "settled",
        "since",
        "started",
        "task",
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
        self.hidden_until = since
        """Until when it is hidden from others, by what SQS has confirmed."""
        self.judged = False
        """It waits for no place any more."""
        self.handler: Handler | None = None
        self.task: asyncio.Task[Any] | None = None
        self.started = 0.0
        """When its handler was started, by the loop's time."""
        self.answer_url: str | None = None
        """Where the reply goes; `None` where none is wanted."""
        self.overdue = False
        """It was held for `max_extension`."""
        self.given_up = False
        """Its handler was cancelled by the drain."""
        self.deleted = False
        """It has been dealt with, and SQS was asked to delete it."""
        self.settled = False
        """Its message group, on a FIFO queue, has gone on without it."""

    def __repr__(self) -> str:
        return f"<Held {self.received.message_id}>"

    @property
    def group(self) -> str:
        """Its message group, on a FIFO queue."""
        return self.message.group_id or ""


def read(received: Received, clock: Clock, now: float) -> Delivery:
    """A message that has just been received, and what its attributes say."""
    fault: str | None = None
    try:
        request = wire.parse_request(received.attributes)
    except wire.Malformed as malformed:
        request = wire.Request(malformed.reply_to)
        fault = malformed.reason
    return Delivery(received, request, Message.received(received, request, clock), fault, now)
