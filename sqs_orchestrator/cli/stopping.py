"""SIGTERM, for commands that have something to put back: it ends them as Ctrl-C does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from ..tasks import finished

__all__ = ["Terminated", "in_any_case", "terminable"]

T = TypeVar("T")


class Terminated(Exception):
    """SIGTERM has ended the command."""


@contextlib.asynccontextmanager
async def terminable() -> AsyncIterator[None]:
    """SIGTERM cancels what runs inside, and becomes `Terminated`. A second one ends the process
    at once.

    Not for what waits without the event loop, such as for standard input: nobody would hear it.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield  # whoever started this wants it so
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    heard = False

    def hear() -> None:
        nonlocal heard
        heard = True
        loop.remove_signal_handler(signal.SIGTERM)
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, hear)
    try:
        yield
    except asyncio.CancelledError:
        if heard:
            raise Terminated from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def in_any_case(work: Coroutine[Any, Any, T]) -> T:
    """Do *work* to its end, also when the caller is cancelled meanwhile, which is raised then."""
    task = asyncio.ensure_future(work)
    try:
        await finished(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what counts
        raise
    return task.result()
