"""Sends the replies of a worker, and says when their requests are done with."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

from ..codecs import Codec
from ..core.checks import quoted, text_of
from ..errors import MessageTooLarge, QueueError, QueueNotFound, SendError
from ..logs import get_logger
from ..sending.entries import Outgoing
from ..sending.lanes import Lanes
from ..sending.reply_sender import ReplySender
from ..sqs.port import Attributes
from . import outcomes
from .delivery import Delivery
from .outcomes import Answer, Fail
from .statistics import Counts

logger = get_logger(__name__)

PATIENCE: Final = 60.0
"""Seconds for which a reply is tried that has no deadline of its own."""


class Replies:
    """The replies on their way. *ended* hears of each that is over, and whether its request is
    done with; otherwise it should come back."""

    def __init__(
        self,
        lanes: Lanes[Outgoing],
        codec: Codec,
        counts: Counts,
        *,
        expose_errors: bool,
        ended: Callable[[Delivery, bool], None],
    ) -> None:
        self._reply_sender = ReplySender(lanes)
        self._codec = codec
        self._counts = counts
        self._expose_errors = expose_errors
        self._ended = ended

    def __len__(self) -> int:
        """Replies on their way."""
        return len(self._reply_sender)

    @property
    def held_up(self) -> int:
        """Of those, the replies that wait for a queue which does not exist, or not yet."""
        return self._reply_sender.held_up

    async def flush(self) -> None:
        """Wait until all have ended."""
        await self._reply_sender.flush()

    def answer(self, delivery: Delivery, decision: Answer | Fail) -> None:
        """Send the reply to a request."""
        remaining = delivery.message.time_remaining()
        if remaining <= 0:
            self._counts.replies_dropped += 1
            logger.debug("dropped a reply past its deadline: %s", delivery.received.message_id)
            self._ended(delivery, True)
            return
        loop = asyncio.get_running_loop()
        expires = loop.time() + (PATIENCE if remaining == math.inf else remaining)
        self._post(delivery, decision, expires, forever=remaining == math.inf)

    def _post(
        self, delivery: Delivery, decision: Answer | Fail, expires: float, *, forever: bool
    ) -> None:
        """Send it until loop time *expires*; *forever* where the requester has no deadline."""
        body, attributes, size = self._rendered(delivery, decision)

        def ended(_: str, error: QueueError | SendError | None) -> None:
            message_id = delivery.received.message_id
            done = True
            if error is None:
                self._counts.replies += 1
            elif isinstance(error, MessageTooLarge) and (
                smaller := self._smaller(delivery, decision, error)
            ):
                self._post(delivery, smaller, expires, forever=forever)
                return
            elif forever and asyncio.get_running_loop().time() >= expires:
                # It was never refused, and somebody may still wait: let it be done again.
                done = False
                logger.warning(
                    "the reply to message %s could not be sent, and the message comes back: %s",
                    message_id,
                    error,
                )
            else:
                self._counts.replies_dropped += 1
                # A queue that is gone has a line of its own, once.
                log = logger.debug if isinstance(error, QueueNotFound) else logger.warning
                log("dropped the reply to message %s: %s", message_id, error)
            self._ended(delivery, done)

        assert delivery.answer_url is not None
        self._reply_sender.post(
            delivery.answer_url, body, attributes, size=size, expires=expires, on_end=ended
        )

    def _smaller(
        self, delivery: Delivery, decision: Answer | Fail, error: MessageTooLarge
    ) -> Fail | None:
        """What to send in place of a reply that is larger than its queue takes: that it is so, or
        the code of a failure alone; `None` where that was it already."""
        if isinstance(decision, Answer):
            return self._unsendable(delivery, error)
        bare = Fail(decision.code, decision.kind)
        return None if decision == bare else bare

    def _rendered(self, delivery: Delivery, decision: Answer | Fail) -> tuple[str, Attributes, int]:
        reply_to = delivery.request.reply_to
        assert reply_to is not None
        if isinstance(decision, Answer):
            try:
                return outcomes.reply_to_send(self._codec, reply_to, decision.value)
            except Exception as error:
                decision = self._unsendable(delivery, error)
        return outcomes.failure_to_send(reply_to, decision)

    def _unsendable(self, delivery: Delivery, error: Exception) -> Fail:
        self._counts.failed += 1
        logger.error(
            "what the handler %r returned for message %s cannot be sent: %s",
            delivery.handler,
            delivery.received.message_id,
            quoted(text_of(error), 300),
        )
        return outcomes.unsendable(error, expose=self._expose_errors)
