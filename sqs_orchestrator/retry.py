"""Trying an operation again while it fails for passing reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .core.backoff import Backoff
from .errors import QueueError
from .sqs.attempts import attempt

T = TypeVar("T")

Until = float | Callable[[QueueError], float]
"""A loop time, or what makes one of the error that a call has just failed with."""


async def retrying(call: Callable[[], Awaitable[T]], *, until: Until) -> T:
    """What *call* returns, called again while its errors are `transient`.

    Raises the last error once the next attempt would be later than *until*, or at
    once one that is not transient. Cancelling ends it.
    """
    backoff = Backoff()
    loop = asyncio.get_running_loop()
    first = attempt.get()
    try:
        while True:
            try:
                return await call()
            except QueueError as error:
                delay = backoff.next()
                latest = until(error) if callable(until) else until
                if not error.transient or loop.time() + delay > latest:
                    raise
            attempt.set(1 + backoff.attempts)
            await asyncio.sleep(delay)
    finally:
        if backoff.attempts:
            attempt.set(first)
