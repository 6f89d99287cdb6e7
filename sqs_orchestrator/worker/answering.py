"""Sends the replies of a worker, and says when their requests are done with."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

from ..codecs import Codec
from ..core.checks import quoted, text_of
from ..errors import MessageTooLarge, QueueError, QueueNotFound, SendError
from ..lanes import Lanes
from ..logs import get_logger
from ..outgoing import Outgoing
from ..responder import Responder
from ..sqs.port import Attributes
from . import outcomes
from .held import Held
from .outcomes import Answer, Fail
from .statistics import Counts

logger = get_logger(__name__)

PATIENCE: Final = 60.0
"""Seconds for which a reply is tried that has no deadline of its own."""


class Answering:
    """The replies on their way. *ended* hears of each that is over, and whether its request is
    done with; otherwise it should come back."""

    def __init__(
        self,
        lanes: Lanes[Outgoing],
        codec: Codec,
        counts: Counts,
        *,
        expose_errors: bool,
        ended: Callable[[Held, bool], None],
    ) -> None:
        self._responder = Responder(lanes)
        self._codec = codec
        self._counts = counts
        self._expose_errors = expose_errors
        self._ended = ended

    def __len__(self) -> int:
        """Replies on their way."""
        return len(self._responder)

    @property
    def held_up(self) -> int:
        """Of those, the replies that wait for a queue which does not exist, or not yet."""
        return self._responder.held_up

    async def flush(self) -> None:
        """Wait until all have ended."""
        await self._responder.flush()

    def answer(self, held: Held, decision: Answer | Fail) -> None:
        """Send the reply to a request."""
        remaining = held.message.time_remaining()
        if remaining <= 0:
            self._counts.replies_dropped += 1
            logger.debug("dropped a reply past its deadline: %s", held.received.message_id)
            self._ended(held, True)
            return
        loop = asyncio.get_running_loop()
        expires = loop.time() + (PATIENCE if remaining == math.inf else remaining)
        self._post(held, decision, expires, forever=remaining == math.inf)

    def _post(self, held: Held, decision: Answer | Fail, expires: float, *, forever: bool) -> None:
        """Send it until loop time *expires*; *forever* where the requester has no deadline."""
        body, attributes, size = self._rendered(held, decision)

        def settled(error: QueueError | SendError | None) -> None:
            message_id = held.received.message_id
            done = True
            if error is None:
                self._counts.replies += 1
            elif isinstance(error, MessageTooLarge) and (
                smaller := self._smaller(held, decision, error)
            ):
                self._post(held, smaller, expires, forever=forever)
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
            self._ended(held, done)

        assert held.answer_url is not None
        self._responder.post(
            held.answer_url, body, attributes, size=size, expires=expires, settled=settled
        )

    def _smaller(self, held: Held, decision: Answer | Fail, error: MessageTooLarge) -> Fail | None:
        """What to send in place of a reply that is larger than its queue takes: that it is so, or
        the code of a failure alone; `None` where that was it already."""
        if isinstance(decision, Answer):
            return self._unsendable(held, error)
        bare = Fail(decision.code, decision.kind)
        return None if decision == bare else bare

    def _rendered(self, held: Held, decision: Answer | Fail) -> tuple[str, Attributes, int]:
        reply_to = held.request.reply_to
        assert reply_to is not None
        if isinstance(decision, Answer):
            try:
                return outcomes.reply_to_send(self._codec, reply_to, decision.value)
            except Exception as error:
                decision = self._unsendable(held, error)
        return outcomes.failure_to_send(reply_to, decision)

    def _unsendable(self, held: Held, error: Exception) -> Fail:
        self._counts.failed += 1
        logger.error(
            "what the handler %r returned for message %s cannot be sent: %s",
            held.handler,
            held.received.message_id,
            quoted(text_of(error), 300),
        )
        return outcomes.unsendable(error, expose=self._expose_errors)
