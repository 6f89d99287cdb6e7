"""Moves messages to the dead-letter queue that their queue's redrive policy names."""

from __future__ import annotations

import asyncio
import enum
import math

from ..connection import Connection
from ..core import wire
from ..core.checks import message_bytes
from ..core.names import url_beside
from ..core.redrive import dead_letter_queue
from ..errors import QueueError, SendError
from ..logs import about, get_logger
from ..sending.entries import Outgoing
from ..sending.lanes import Lanes
from ..sqs.port import SQS
from ..tasks import SingleFlight, TaskOwner
from .delivery import Delivery

logger = get_logger(__name__)

KEPT = 60.0
"""Seconds for which the redrive policy, or why it could not be read, is not asked for again."""

PATIENCE = 60.0
"""Seconds for which a move is tried."""


class MoveResult(enum.Enum):
    """What became of a message that should go to the dead-letter queue."""

    MOVED = enum.auto()
    NO_QUEUE = enum.auto()
    """There is no dead-letter queue."""
    FAILED = enum.auto()
    """There may be one, but it was not found or did not take the message."""


class DeadLetters:
    """The dead-letter queue of one queue."""

    def __init__(
        self, owner: TaskOwner, sqs: Connection, port: SQS, url: str, lanes: Lanes[Outgoing]
    ) -> None:
        self._sqs = sqs
        self._port = port
        self._url = url
        self._lanes = lanes
        self._lookups: SingleFlight[None] = SingleFlight(owner)
        self._found: str | None = None
        """Its URL; empty where there is none, `None` where that could not be found out."""
        self._known = -math.inf

    async def take(self, delivery: Delivery, code: str, reason: str) -> MoveResult:
        """Move a message, with word of why; returns once SQS has it, and never raises."""
        if asyncio.get_running_loop().time() >= self._known + KEPT:
            await self._lookups.run("", self._look_up)
        url = self._found
        if url is None:
            return MoveResult.FAILED
        if not url:
            return MoveResult.NO_QUEUE
        move = _Move(delivery, code, reason, fifo=url.endswith(".fifo"))
        self._lanes.add(url, move)
        error = await move.outcome
        if error is None:
            return MoveResult.MOVED
        logger.warning(
            "message %s stays: its dead-letter queue does not take it: %s",
            delivery.received.message_id,
            error,
            extra=delivery.log_fields,
        )
        return MoveResult.FAILED

    async def _look_up(self) -> None:
        port = self._port
        try:
            attributes = await self._sqs.patiently(
                lambda: port.get_queue_attributes(self._url, ["RedrivePolicy"])
            )
        except QueueError as error:
            logger.warning(
                "the dead-letter queue of %s is not known: %s",
                self._url,
                error,
                extra=about(self._url),
            )
            self._found = None
        else:
            target = dead_letter_queue(attributes.get("RedrivePolicy"))
            # A queue's dead-letter queue is in its region, so at the same endpoint.
            self._found = "" if target is None else url_beside(self._url, *target)
        self._known = asyncio.get_running_loop().time()


class _Move(Outgoing):
    """A dead letter on its way: the message as it was received, and why it is one."""

    __slots__ = ("outcome",)

    def __init__(self, delivery: Delivery, code: str, reason: str, *, fifo: bool) -> None:
        loop = asyncio.get_running_loop()
        received = delivery.received
        attributes = wire.dead_letter_attributes(
            received.attributes,
            received.body,
            code=code,
            reason=reason,
            message_id=received.message_id,
            handler="" if delivery.handler is None else delivery.handler.name,
        )
        super().__init__(
            received.body,
            attributes,
            size=message_bytes(received.body, attributes),
            expires=loop.time() + PATIENCE,
            # A standard queue may have groups, too: a fair queue shares its receives among them.
            group_id=delivery.group or ("rejected" if fifo else None),
            deduplication_id=received.message_id if fifo else None,
        )
        self.outcome: asyncio.Future[QueueError | SendError | None] = loop.create_future()

    def done(self, result: str | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(None)

    def failed(self, error: QueueError | SendError) -> None:
        if not self.outcome.done():
            self.outcome.set_result(error)
