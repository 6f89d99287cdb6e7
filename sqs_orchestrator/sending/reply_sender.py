"""Replies on their way to a requester's queue, for workers and `Publisher.reply`.

A reply queue that does not exist may just be too young, or be a Java requester's that has
moved. So a reply is tried again for two seconds, then once at the queue's `-Failover` name,
and only then given up. What was found out so is remembered for a while: replies to a queue that
is gone fail at once, and those to one that has moved go to its new name first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal

from ..core.caching import TTLCache
from ..core.names import failover_url
from ..errors import QueueError, QueueNotFound, SendError
from ..logs import about, get_logger
from ..sqs.port import Attributes
from ..tasks import Changed
from .entries import Outgoing
from .lanes import Lanes

logger = get_logger(__name__)

YOUNG_QUEUE_PATIENCE = 2.0
"""Seconds for which a reply queue that does not exist is taken to be too young."""

RETRY_INTERVAL = 0.25

REMEMBERED: Final = 60.0
"""Seconds for which a queue that is gone, or has moved, is remembered as such. So long SQS
refuses the name of a deleted queue (DeleteQueue), so none can be new under it before."""

MOST_REMEMBERED: Final = 10_000
"""Queues remembered; the oldest are forgotten first."""

OnEnd = Callable[[str, QueueError | SendError | None], None]
"""Hears how an answer ended: its message id where SQS has it, or the error."""


class ReplySender:
    """Sends answers, and knows when none is left on its way."""

    def __init__(self, lanes: Lanes[Outgoing]) -> None:
        self._lanes = lanes
        self._loop = asyncio.get_running_loop()
        self._answers: set[Answer] = set()
        self._known: TTLCache[Literal["gone", "moved"]] = TTLCache(REMEMBERED, MOST_REMEMBERED)
        self.held_up = 0
        """Of the answers on their way, those that wait for a queue which may be too young."""
        self._ended = Changed()

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
        on_end: OnEnd,
    ) -> Answer:
        """Send a reply of *size* bytes to the queue at *url*, trying until loop time
        *expires*. *on_end* is called later, never from in here."""
        answer = Answer(self, url, body, attributes, size=size, expires=expires, on_end=on_end)
        self._answers.add(answer)
        known = self._known.get(url, self._loop.time()) if self._known.entries else None
        if known == "gone":
            self._loop.call_soon(self._drop, answer)
            return answer
        if known == "moved":
            answer.go_to_failover()
        self._lanes.add(answer.url, answer)
        return answer

    def withdraw(self, answer: Answer) -> None:
        """Stop trying. It may still arrive where it is in flight."""
        self._lanes.withdraw(answer.url, answer)
        self._remove(answer)

    async def flush(self) -> None:
        """Send all without lingering, and wait until each has ended."""
        await self._lanes.flush()
        await self._ended.until(lambda: not self._answers)

    def known(self, url: str) -> Literal["gone", "moved"] | None:
        """What was found out of the queue at *url* a while ago, where it was not there."""
        return self._known.get(url, self._loop.time())

    def learn(self, url: str, what: Literal["gone", "moved"]) -> None:
        """Remember that the queue at *url* is gone, or has moved to its `-Failover` name."""
        if what == "gone" and self.known(url) != "gone":
            logger.warning(
                "the reply queue %s does not exist: its requester has ended. Replies to it are"
                " dropped",
                url,
                extra=about(url),
            )
        self._known.put(url, what, self._loop.time())

    def forget(self, url: str) -> None:
        """What was found out of the queue at *url* holds no longer."""
        self._known.discard(url)

    def resend_at(self, when: float, answer: Answer) -> None:
        """Try *answer* again at loop time *when*, or earlier."""
        self.held_up += 1
        self._loop.call_at(when, self._resend_held_up, answer)

    def _resend_held_up(self, answer: Answer) -> None:
        self.held_up -= 1
        if self.known(answer.address) == "gone":
            self._drop(answer)
        else:
            self.resend(answer)

    def resend(self, answer: Answer) -> None:
        """Try *answer* again, unless it was withdrawn."""
        if answer in self._answers:
            self._lanes.add(answer.url, answer)

    def _drop(self, answer: Answer) -> None:
        if answer in self._answers:
            gone = QueueNotFound(f"the reply queue {answer.address} is gone", queue=answer.address)
            self.ended(answer, "", gone)

    def ended(
        self, answer: Answer, message_id: str, error: QueueError | SendError | None = None
    ) -> None:
        self._remove(answer)
        answer.on_end(message_id, error)

    def _remove(self, answer: Answer) -> None:
        self._answers.discard(answer)
        self._ended.set()


class Answer(Outgoing):
    """One reply on its way."""

    __slots__ = ("_give_up", "_moved", "_reply_sender", "address", "on_end", "url")

    def __init__(
        self,
        reply_sender: ReplySender,
        url: str,
        body: str,
        attributes: Attributes,
        *,
        size: int,
        expires: float,
        on_end: OnEnd,
    ) -> None:
        super().__init__(body, attributes, size=size, expires=expires)
        self.address = url
        """The queue that it is for."""
        self.url = url
        """Where it is sent to now: there, or to that queue's `-Failover` name."""
        self.on_end = on_end
        self._reply_sender = reply_sender
        self._give_up: float | None = None
        self._moved = False

    def go_to_failover(self) -> None:
        """Be sent to the queue's `-Failover` name."""
        self._moved = True
        self.url = failover_url(self.address)

    def done(self, result: str | None) -> None:
        if self._moved:
            self._reply_sender.learn(self.address, "moved")
        self._reply_sender.ended(self, result or "")

    def failed(self, error: QueueError | SendError) -> None:
        if isinstance(error, QueueNotFound) and self._try_elsewhere():
            return
        self._reply_sender.ended(self, "", error)

    def _try_elsewhere(self) -> bool:
        """Whether there is still a place and time to try a queue that does not exist."""
        reply_sender = self._reply_sender
        now = asyncio.get_running_loop().time()
        if self._moved and self._give_up is None:
            # It was sent there first, by what is remembered and no longer true.
            reply_sender.forget(self.address)
            self._moved = False
            self.url = self.address
            if now >= self.expires:
                return False
            reply_sender.resend(self)
            return True
        if self._give_up is None:
            self._give_up = min(now + YOUNG_QUEUE_PATIENCE, self.expires)
        known = reply_sender.known(self.address)
        if now < self._give_up and not self._moved and known is None:
            # The last time when the patience ends, not before.
            reply_sender.resend_at(min(now + RETRY_INTERVAL, self._give_up), self)
            return True
        if self._moved:
            reply_sender.learn(self.address, "gone")
            return False
        if known == "gone" or now >= self.expires:
            return False
        self.go_to_failover()
        reply_sender.resend(self)
        return True
