"""Works on a batch of messages that somebody else has received, and deletes: AWS Lambda."""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from typing import Final

import anyio

from ..logs import about, get_logger
from ..sqs.port import Received
from .engine import Engine
from .outcomes import RELEASED
from .settings import FLUSH_RESERVE

logger = get_logger(__name__)

MARGIN: Final = 0.5
"""Seconds at the end in which nothing is done any more."""


async def work_off(engine: Engine, batch: Sequence[Received], seconds: float) -> set[str]:
    """Work on *batch* for *seconds* at most; gives the ids of the messages that are done with, so
    that their receiver can delete them. The others are to come back.

    Handlers get all of the time but what is kept for replies, and no more than `max_extension`;
    those that still run then are cancelled, as if they had failed. What was not begun is released.
    Handlers run in copies of the caller's context.
    """
    now = engine.owner.loop.time()
    reserve = min(FLUSH_RESERVE, seconds / 4)
    handlers_end = now + min(seconds - reserve, engine.settings.max_extension)
    end = now + seconds - min(MARGIN, reserve / 4)
    engine.context = contextvars.copy_context()
    taken = engine.take(list(batch))
    left = taken[::-1]

    def over() -> bool:
        """Whether it has been decided and carried out what becomes of each."""
        while left and engine.deliveries.get(left[-1].received.message_id) is not left[-1]:
            left.pop()
        return not left

    with anyio.CancelScope(deadline=handlers_end):
        await engine.changed.until(over)
    if not over():
        _give_up(engine)
    with anyio.CancelScope(deadline=end) as scope:
        await engine.changed.until(over)
        await engine.visibility.flush()
    if scope.cancelled_caught:
        logger.error(
            "the time is over, with handlers, replies or returns of %s on their way: messages may"
            " come back that were worked on",
            engine.url,
            extra=about(engine.url),
        )
    return {delivery.received.message_id for delivery in taken if delivery.deleted}


def _give_up(engine: Engine) -> None:
    """Release what has not begun, and cancel what runs."""
    heads = set(engine.waiting.ready)
    for delivery in engine.waiting.drain():
        if delivery in heads:
            # Of its group, nothing waits for it any more.
            engine.waiting.pass_turn(delivery)
        delivery.turn = False
        engine.carrier.carry_out(delivery, RELEASED)
    for task, delivery in engine.running.items():
        logger.warning(
            "cancelling the handler %r: the time is over, with message %s",
            delivery.handler,
            delivery.received.message_id,
            extra=delivery.log_fields,
        )
        delivery.overdue = True
        task.cancel()
