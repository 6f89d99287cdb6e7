"""Replies on their way to a requester's queue, for workers and `Publisher.reply`.

A reply queue that does not exist may just be too young, or be a Java requester's that has
moved. So a reply is tried again for two seconds, then once at the queue's `-Failover` name,
and only then given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .core.names import failover_url
from .errors import QueueError, QueueNotFound, SendError
from .lanes import Lanes
from .outgoing import Outgoing
from .sqs.port import Attributes

YOUNG_QUEUE_PATIENCE = 2.0
"""Seconds for which a reply queue that does not exist is taken to be too young."""

RETRY_INTERVAL = 0.25

Settled = Callable[[QueueError | SendError | None], None]
"""Hears how an answer ended: `None` where SQS has it."""


class Responder:
    """Sends answers, and knows when none is left on its way."""

    def __init__(self, lanes: Lanes[Outgoing]) -> None:
        self._lanes = lanes
        self._answers: set[Answer] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        """Answers on their way."""
        return len(self._answers)

    def post(
        self,
        url: str,
        body: str,
        attributes: Attributes,
        *,
        size: int,
        expires: float,
        settled: Settled,
    ) -> Answer:
        """Send a reply of *size* bytes to the queue at *url*, trying until loop time
        *expires*."""
        answer = Answer(self, url, body, attributes, size=size, expires=expires, settled=settled)
        self._answers.add(answer)
        self._empty.clear()
        self._lanes.add(url, answer)
        return answer

    def withdraw(self, answer: Answer) -> None:
        """Stop trying. It may still arrive where it is in flight."""
        self._lanes.withdraw(answer.url, answer)
        self._remove(answer)

    async def flush(self) -> None:
        """Send all without lingering, and wait until each has ended."""
        await self._lanes.flush()
        await self._empty.wait()

    def resend(self, answer: Answer) -> None:
        if answer in self._answers:
            self._lanes.add(answer.url, answer)

    def ended(self, answer: Answer, error: QueueError | SendError | None) -> None:
        self._remove(answer)
        answer.settled(error)

    def _remove(self, answer: Answer) -> None:
        self._answers.discard(answer)
        if not self._answers:
            self._empty.set()


class Answer(Outgoing):
    """One reply on its way."""

    __slots__ = ("_give_up", "_moved", "_responder", "settled", "url")

    def __init__(
        self,
        responder: Responder,
        url: str,
        body: str,
        attributes: Attributes,
        *,
        size: int,
        expires: float,
        settled: Settled,
    ) -> None:
        super().__init__(body, attributes, size=size, expires=expires)
        self.url = url
        self.settled = settled
        self._responder = responder
        self._give_up: float | None = None
        self._moved = False

    def done(self, result: str | None) -> None:
        self._responder.ended(self, None)

    def failed(self, error: QueueError | SendError) -> None:
        if isinstance(error, QueueNotFound) and self._try_elsewhere():
            return
        self._responder.ended(self, error)

    def _try_elsewhere(self) -> bool:
        """Whether there is still a place and time to try a queue that does not exist."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._give_up is None:
            self._give_up = min(now + YOUNG_QUEUE_PATIENCE, self.expires)
        if now < self._give_up and not self._moved:
            # The last time when the patience ends, not before.
            at = min(now + RETRY_INTERVAL, self._give_up)
            loop.call_at(at, self._responder.resend, self)
            return True
        if self._moved or now >= self.expires:
            return False
        self._moved = True
        self.url = failover_url(self.url)
        self._responder.resend(self)
        return True
