"""Stops the work of a poller in the order that loses nothing.

What has not started goes back, handlers finish, their replies go out, and only then are their
messages deleted. The poll in flight is awaited, since SQS would hide what it hands to a dropped
connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

import anyio

from ..logs import about, get_logger
from .engine import Engine
from .outcomes import RELEASED

logger = get_logger(__name__)

UNWIND: Final = 0.5
"""Seconds that a cancelled handler has to unwind."""


async def drain(engine: Engine, abort: asyncio.Event, drop_poll: asyncio.Event) -> None:
    """Stop the work. *abort* cuts it short; *drop_poll* drops polls that have brought nothing
    yet."""
    try:
        async with anyio.create_task_group() as group:

            async def cut_short() -> None:
                await abort.wait()
                group.cancel_scope.cancel()

            async def drop() -> None:
                await drop_poll.wait()
                await engine.receive_loop.drop()

            group.start_soon(cut_short)
            if drop_poll.is_set():
                await engine.receive_loop.drop()
            else:
                group.start_soon(drop)
            await _wind_up(engine)
            group.cancel_scope.cancel()
    finally:
        engine.visibility.close()
        await _cancel_handlers(engine, UNWIND)
        for delivery in engine.running.values():
            logger.error(
                "the handler %r ignores that it was cancelled, and is left behind with message %s",
                delivery.handler,
                delivery.received.message_id,
                extra=delivery.log_fields,
            )


async def _wind_up(engine: Engine) -> None:
    carrier, settings = engine.carrier, engine.settings
    now = engine.owner.loop.time()
    end, handlers_end = now + settings.drain_timeout, now + settings.patience
    for delivery in engine.waiting.drain():
        carrier.carry_out(delivery, RELEASED)
    if _is_at_work(engine):
        logger.info(
            "draining %s: waiting up to %.0f s for %s",
            engine.url,
            settings.patience,
            _awaited(engine),
            extra=about(engine.url),
        )
    with anyio.CancelScope(deadline=handlers_end):
        await engine.changed.until(lambda: not _is_at_work(engine))
    if _is_at_work(engine):
        logger.warning(
            "draining %s took too long; given up, and their messages come back: %s",
            engine.url,
            _awaited(engine),
            extra=about(engine.url),
        )
        await _cancel_handlers(engine, min(UNWIND, end - handlers_end))
    with anyio.CancelScope(deadline=end):
        await carrier.flush()
        return
    logger.warning(
        "draining %s took too long; given up, and their messages come back: %d replies, %d deletes",
        engine.url,
        carrier.replies.on_way + carrier.moves,
        len(carrier.deletes),
        extra=about(engine.url),
    )


def _is_at_work(engine: Engine) -> bool:
    return bool(engine.running or engine.receive_loop.in_flight)


async def _cancel_handlers(engine: Engine, patience: float) -> None:
    """Cancel the handlers that still run, and give them *patience* seconds to unwind."""
    if not engine.running:
        return
    for task, delivery in engine.running.items():
        delivery.given_up = True
        task.cancel()
    await asyncio.wait(engine.running, timeout=patience)
    # Their outcomes are taken a turn of the loop later.
    await asyncio.sleep(0)


def _awaited(engine: Engine) -> str:
    names = Counter(
        delivery.handler.name for delivery in engine.running.values() if delivery.handler
    )
    handlers = ", ".join(f"{count} of {name}" for name, count in names.items())
    return f"handlers ({handlers or 'none'}) and {engine.receive_loop.in_flight} polls"
