"""Carries out what was decided: replies, deletes, dead letters, and messages that come back.

A reply is confirmed by SQS before its request is deleted, so a crash at any point repeats work and
loses none. A delete takes the newest receipt handle, since SQS may hand out again what is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ..codecs import Codec
from ..connection import Connection
from ..core.checks import quoted
from ..core.limits import VISIBILITY_TIMEOUT
from ..errors import QueueError, SendError
from ..logs import get_logger
from ..middleware import Middleware
from ..sending.entries import Deletion, delete_lanes, send_lanes
from ..tasks import Changed, TaskOwner
from .dead_letters import DeadLetters, MoveResult
from .delivery import Deliveries, Delivery
from .judging import Judge
from .outcomes import RELEASED, Abandon, DeadLetter, Delete, Judgement, Release, SendReply
from .replies import Replies
from .settings import Settings
from .statistics import Counts
from .visibility import Visibility
from .waiting import Waiting

logger = get_logger(__name__)

DELETE_LINGER: Final = 0.1
"""Seconds that the delete of a request waits for company: a crash meanwhile repeats work."""

LATEST_RETURN: Final = VISIBILITY_TIMEOUT - 30.0
"""Seconds after its receive at which a message comes back at the latest: SQS refuses more
than twelve hours, which began before the receive ended."""

LONGEST_UNJUDGED: Final = 3600.0
"""The most seconds after which a message comes back that nobody could judge."""

MOST_UNFINISHED: Final = 300
"""Replies, dead letters or deletes on their way beyond which no more messages are taken. More
would only be more to do again after a crash: all the batches of a lane that may be in flight
at once hold half as many."""

MOST_HELD_UP: Final = 10 * MOST_UNFINISHED
"""The same for all replies, those included that wait for a queue which may be too young."""


class Carrier:
    """Carries out the outcomes of one queue's messages.

    *changed* is set when something has ended. *go_on* is called when a message may be started, or
    received, that had to wait. *widest* gives the loop time at which the last receive of several
    messages ends. Unless it *deletes* them itself, whoever received the messages does.
    """

    def __init__(
        self,
        owner: TaskOwner,
        sqs: Connection,
        url: str,
        settings: Settings,
        codec: Codec,
        middleware: Sequence[Middleware],
        *,
        judge: Judge,
        counts: Counts,
        deliveries: Deliveries,
        waiting: Waiting,
        visibility: Visibility,
        changed: Changed,
        go_on: Callable[[], None],
        widest: Callable[[], float],
        deletes: bool = True,
    ) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._url = url
        self._settings = settings
        self._counts = counts
        self._deliveries = deliveries
        self._waiting = waiting
        self._visibility = visibility
        self._changed = changed
        self._go_on = go_on
        self._widest = widest
        self._deletes = deletes
        self.sends = send_lanes(owner, sqs.port)
        self.replies = Replies(
            owner,
            self.sends,
            codec,
            middleware,
            judge=judge,
            counts=counts,
            changed=changed,
            ended=self._replied,
            instead=self.carry_out,
        )
        self.deletes = delete_lanes(owner, sqs.port, linger=DELETE_LINGER)
        self.moves = 0
        """Dead letters on their way."""
        self.clogged = False
        """Whether there was too much on its way, when somebody asked for the last time."""
        self._dead_letters = DeadLetters(owner, sqs, sqs.port, url, self.sends)

    def is_clogged(self) -> bool:
        """Whether replies, dead letters or deletes do not get off: to take more messages would
        only make it worse. Replies to a queue that is gone hold nobody else up, as long as they
        are not too many to keep."""
        replies = self.replies
        self.clogged = (
            self.moves + replies.on_way - replies.sender.held_up > MOST_UNFINISHED
            or replies.on_way > MOST_HELD_UP
            or len(self.deletes) > MOST_UNFINISHED
        )
        return self.clogged

    def carry_out(self, delivery: Delivery, judgement: Judgement) -> None:
        """Do what was decided of a message."""
        outcome, counted, fault, _ = judgement
        if counted is not None:
            self._counts[counted] += 1
        if fault is not None:
            code, reason = fault
            logger.warning(
                "rejected message %s (%s): %s",
                delivery.received.message_id,
                code,
                reason,
                extra={**delivery.log_fields, "kind": code},
            )
        match outcome:
            case SendReply():
                # The group need not wait for the reply.
                if delivery.turn:
                    self._waiting.pass_turn(delivery)
                self.replies.send(delivery, outcome)
            case Delete():
                self._delete(delivery)
            case Abandon(delay):
                self._abandon(delivery, delay)
            case Release():
                self._let_go(delivery)
                self._visibility.change(delivery, 0)
            case DeadLetter():
                self.moves += 1
                self._owner.spawn(self._dead_letter, delivery, outcome)

    async def flush(self) -> None:
        """Wait until all that was decided has been carried out."""
        await self._changed.until(lambda: not self.moves)
        await self.replies.flush()
        await self._visibility.flush()
        await self.deletes.flush()

    def _let_go(self, delivery: Delivery) -> None:
        self._visibility.let_go(delivery)
        self._deliveries.forget(delivery)

    def _abandon(self, delivery: Delivery, delay: float | None = None) -> None:
        """Let it come back, after *delay* or when its visibility runs out."""
        now = self._loop.time()
        returns = self._visibility.hidden_until(delivery, now)
        self._let_go(delivery)
        if delay is not None:
            returns = now + min(delay, delivery.since + LATEST_RETURN - now)
        rest, later = self._waiting.fail(delivery, returns, self._widest())
        for other in rest:
            self.carry_out(other, RELEASED)
        if delay is not None or later > returns:
            self._visibility.change(delivery, max(0.0, later - now))

    # ---------------------------------------------------------------------- replies

    def _replied(self, delivery: Delivery, done: bool) -> None:
        """Its reply has left, or never will; if it is not *done*, it should come back."""
        if done:
            self._delete(delivery)
        else:
            self._let_go(delivery)
        if self.clogged:
            self._go_on()

    # ---------------------------------------------------------------------- deletes

    def _delete(self, delivery: Delivery) -> None:
        if delivery.turn:
            self._waiting.pass_turn(delivery)
        self._counts["deleted"] += 1
        delivery.deleted = True
        self.erase(delivery)

    def erase(self, delivery: Delivery) -> None:
        """Delete what has been dealt with, by its newest receipt handle."""
        if not self._deletes:
            self._let_go(delivery)
            return
        self.deletes.add(self._url, _Delete(delivery, self._loop.time(), self._erased))

    def _erased(self, delete: _Delete, *, confirmed: bool) -> None:
        delivery, now = delete.delivery, self._loop.time()
        if delete.receipt_handle != delivery.handle:
            # SQS confirms a delete by an older handle too, and deletes nothing.
            self.erase(delivery)
            return
        self._visibility.let_go(delivery)
        if confirmed and now < delivery.hidden_until:
            self._deliveries.forget(delivery)
        else:
            self._deliveries.remember(delivery, now)
        if self.clogged:
            self._go_on()

    # ----------------------------------------------------------------- dead letters

    async def _dead_letter(self, delivery: Delivery, letter: DeadLetter) -> None:
        message_id = delivery.received.message_id
        try:
            result = await self._dead_letters.take(delivery, letter.code, letter.reason)
        except Exception:
            logger.exception(
                "message %s stays: it could not be moved", message_id, extra=delivery.log_fields
            )
            result = MoveResult.FAILED
        finally:
            self.moves -= 1
            self._changed.set()
        # What the library itself rejects has had its line.
        why = letter.code, quoted(letter.reason, 300)
        if result is MoveResult.MOVED:
            if letter.judged:
                logger.warning(
                    "moved message %s to the dead letters (%s): %s",
                    message_id,
                    *why,
                    extra=delivery.log_fields,
                )
            self._counts["dead_lettered"] += 1
            self._delete(delivery)
        elif result is MoveResult.NO_QUEUE and letter.judged:
            logger.warning(
                "deleted message %s, rejected (%s): %s", message_id, *why, extra=delivery.log_fields
            )
            self._delete(delivery)
        else:
            doublings = min(delivery.message.receive_count - 1, 20)
            delay = min(self._settings.visibility_timeout * 2.0**doublings, LONGEST_UNJUDGED)
            logger.warning(
                "message %s comes back in %.0f s", message_id, delay, extra=delivery.log_fields
            )
            self._abandon(delivery, delay)
        self._go_on()


class _Delete(Deletion):
    """The delete of a message, by its newest receipt handle; says how it ended."""

    __slots__ = ("_ended", "delivery")

    def __init__(self, delivery: Delivery, now: float, ended: Callable[..., None]) -> None:
        super().__init__(delivery.handle, now)
        self.delivery = delivery
        self._ended = ended

    def leave(self) -> str:
        self.receipt_handle = self.delivery.handle
        return self.receipt_handle

    def done(self, result: str | None) -> None:
        self._ended(self, confirmed=True)

    def failed(self, error: QueueError | SendError) -> None:
        super().failed(error)
        self._ended(self, confirmed=False)
