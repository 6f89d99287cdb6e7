from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from sqs_orchestrator.errors import AccessDenied, QueueError
from sqs_orchestrator.retry import retrying
from sqs_orchestrator.sqs.attempts import attempt


def failing(times: int, error: QueueError) -> tuple[Callable[[], Awaitable[str]], list[float]]:
    """A call that fails so often, and when it was made."""
    moments: list[float] = []

    async def call() -> str:
        moments.append(asyncio.get_running_loop().time())
        if len(moments) <= times:
            raise error
        return "done"

    return call, moments


async def test_call_that_works_is_made_once() -> None:
    call, moments = failing(0, QueueError())
    assert await retrying(call, until=0.0) == "done"
    assert moments == [0.0]


async def test_passing_failures_are_tried_again() -> None:
    call, moments = failing(3, QueueError(transient=True))
    assert await retrying(call, until=10.0) == "done"
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    for gap, most in zip(gaps, (0.1, 0.2, 0.4), strict=True):
        assert most / 2 <= gap <= most


async def test_attempts_are_counted_while_it_is_tried_again_and_no_longer() -> None:
    attempts: list[int] = []
    fails = 3

    async def call() -> None:
        attempts.append(attempt.get())
        if len(attempts) <= fails:
            raise QueueError(transient=True)

    await retrying(call, until=10.0)
    assert attempts == [1, 2, 3, 4]
    assert attempt.get() == 1
    attempts.clear()
    fails = 1000
    with pytest.raises(QueueError):
        await retrying(call, until=10.0)
    assert attempt.get() == 1


async def test_lasting_failure_is_raised_before_the_time_is_over() -> None:
    error = QueueError("still down", transient=True)
    call, moments = failing(1000, error)
    with pytest.raises(QueueError) as raised:
        await retrying(call, until=30.0)
    assert raised.value is error
    assert 20.0 <= moments[-1] <= 30.0
    assert asyncio.get_running_loop().time() == moments[-1]
    # A few in the first second, and then ever fewer.
    assert len(moments) <= 15


async def test_refusal_is_raised_at_once() -> None:
    call, moments = failing(1, AccessDenied())
    with pytest.raises(AccessDenied):
        await retrying(call, until=30.0)
    assert moments == [0.0]


async def test_cancelling_ends_the_pause() -> None:
    call, moments = failing(1000, QueueError(transient=True))
    task = asyncio.create_task(retrying(call, until=1e9))
    await asyncio.sleep(100)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    made = len(moments)
    await asyncio.sleep(100)
    assert len(moments) == made
