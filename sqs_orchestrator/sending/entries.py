"""Messages and receipts on their way to SQS: what rides in the lanes of sends and deletes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Sequence

from ..core import wire
from ..core.batching import Policy
from ..errors import AccessDenied, QueueError, SendError
from ..logs import about, get_logger
from ..sqs.port import SQS, Attributes, Failure, SendEntry
from ..tasks import TaskOwner
from .lanes import Entry, Lanes

logger = get_logger(__name__)

SEND_LINGER = 0.02
"""How long a part-filled batch of sends waits while another of its lane is in flight.
Usually that one comes back first and ends the waiting; this bounds it when SQS is slow."""

DELETE_PATIENCE = 30.0
"""How long a failing delete is tried again. A message that is never deleted comes back, and
is then deleted as a duplicate or handled again: at-least-once, as always."""


class Outgoing(Entry):
    """A message to send."""

    __slots__ = ("attributes", "body", "deadline", "deduplication_id", "delay", "group_id")

    def __init__(
        self,
        body: str,
        attributes: Attributes,
        *,
        size: int,
        expires: float,
        deadline: float = math.inf,
        delay: int | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
    ) -> None:
        super().__init__(size, expires)
        self.body = body
        self.attributes = attributes
        self.deadline = deadline
        """Loop time at which nobody waits for a reply any more."""
        self.delay = delay
        self.group_id = group_id
        self.deduplication_id = deduplication_id

    def render(self, now: float) -> SendEntry:
        """The message as it leaves at *now*: only then is the time to live known."""
        attributes = self.attributes
        if self.deadline != math.inf:
            attributes = wire.with_time_to_live(attributes, self.deadline - now)
        return SendEntry(self.body, attributes, self.delay, self.group_id, self.deduplication_id)


_STANDARD = Policy(linger=SEND_LINGER)
_FIFO = Policy(linger=SEND_LINGER, most_in_flight=1)


def send_lanes(owner: TaskOwner, port: SQS) -> Lanes[Outgoing]:
    """Lanes that send."""

    loop = asyncio.get_running_loop()

    def send(url: str, batch: Sequence[Outgoing]) -> Awaitable[Sequence[str | Failure]]:
        now = loop.time()
        return port.send(url, [entry.render(now) for entry in batch])

    return Lanes(
        owner,
        send,
        lambda url: _FIFO if url.endswith(".fifo") else _STANDARD,
        name="SendMessageBatch",
    )


class Deletion(Entry):
    """A received message to delete."""

    __slots__ = ("receipt_handle",)

    def __init__(self, receipt_handle: str, now: float) -> None:
        super().__init__(0, now + DELETE_PATIENCE)
        self.receipt_handle = receipt_handle

    def leave(self) -> str:
        """The receipt handle to delete it by, now."""
        return self.receipt_handle

    def failed(self, error: QueueError | SendError) -> None:
        # Nothing is lost: the message comes back, and at-least-once delivery covers that.
        logger.debug(
            "a message was not deleted and will be delivered again: %s",
            error,
            extra=about(error.queue),
        )


def delete_lanes(owner: TaskOwner, port: SQS, *, linger: float) -> Lanes[Deletion]:
    """Lanes that delete, each delete waiting up to *linger* seconds for company."""

    warned = False

    async def delete(url: str, batch: Sequence[Deletion]) -> Sequence[Failure | None]:
        nonlocal warned
        try:
            return await port.delete(url, [entry.leave() for entry in batch])
        except AccessDenied as error:
            if not warned:
                warned = True
                logger.warning(
                    "messages cannot be deleted, and will come again: %s", error, extra=about(url)
                )
            raise

    policy = Policy(linger=linger, patient=True)
    return Lanes(owner, delete, lambda url: policy, name="DeleteMessageBatch")
