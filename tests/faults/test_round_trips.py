"""Every fault at ten per cent of all calls for messages, and nothing is lost or mixed up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import sqs_orchestrator as so

from .conftest import WHOLE, Connect, cases
from .proxy import LASTING, MESSAGE_OPERATIONS, PASSING, Fault, FaultProxy
from .rounds import Load, Workers, assert_no_reply_queue, assert_nothing_left, becomes_empty

pytestmark = pytest.mark.server

ALL_AT_ONCE = 5_000 if WHOLE else 60
EACH = 1_000 if WHOLE else 100
LIKELY = 0.1 if WHOLE else 0.3
"""In a usual run there are too few calls for what happens to one of ten."""


class Weather:
    """Round trips while faults happen."""

    def __init__(
        self, proxy: FaultProxy, connect: Connect, direct: so.Connection, queue: str, prefix: str
    ) -> None:
        self.workers = Workers(queue)
        self._proxy = proxy
        self._connect = connect
        self._direct = direct
        self._queue = queue
        self._prefix = prefix

    async def survive(
        self, *faults: Fault, count: int, likely: float = 0.1, also: Any = (), **options: Any
    ) -> Load:
        """Make *count* round trips while each of *faults* happens to calls with a probability
        of *likely*, and check all that must hold. Requests may end with the errors of *also*,
        too."""
        before = asyncio.all_tasks()
        load = Load(self._queue, self._prefix, **options)
        self._proxy.inject(*faults, on=MESSAGE_OPERATIONS, probability=likely)
        async with self._connect() as sqs, self.workers.running(sqs, self._prefix):
            async with self._connect() as requesters:
                await load.run(requesters, range(count))
            await assert_no_reply_queue(self._direct, self._prefix)
            # What SQS still has comes back by itself, and is handled or has expired.
            self._proxy.heal()
            await becomes_empty(self._direct, self._queue)
        print(
            load.outcomes(),
            f"lag {load.lag:.2f} s",
            self._proxy.calls,
            self._proxy.injected,
            sep="\n",
        )
        for fault in faults if WHOLE or len(faults) == 1 else ():
            assert self._proxy.injected[fault], fault
        load.check(range(count), self.workers.handled, self._proxy, *also)
        await assert_nothing_left(self._proxy, before)
        return load


@pytest.fixture
def weather(
    proxy: FaultProxy, connect: Connect, direct: so.Connection, queue: str, prefix: str
) -> Weather:
    return Weather(proxy, connect, direct, queue, prefix)


async def test_requests_survive_all_that_passes_at_once(weather: Weather) -> None:
    # Seldom needed, but luck varies: at full length more than half of all calls fail.
    likely = 0.1 if WHOLE else 0.05
    load = await weather.survive(
        *PASSING, count=ALL_AT_ONCE, likely=likely, at_once=300, timeout=60.0
    )
    assert not weather.workers.failures
    assert load.outcomes()["reply"] > ALL_AT_ONCE / 2


@pytest.mark.parametrize(
    "fault",
    cases(PASSING, Fault.DUPLICATED, Fault.PARTLY_FAILED),
    ids=lambda fault: fault.name.lower(),
)
async def test_requests_survive_what_passes(weather: Weather, fault: Fault) -> None:
    # They happen only to receives that bring something, and those are few.
    rare = fault in (Fault.DUPLICATED, Fault.REORDERED)
    load = await weather.survive(fault, count=EACH, likely=0.5 if rare else LIKELY)
    assert not weather.workers.failures
    # All but the rejected ones, and those that are in a hurry.
    assert load.outcomes()["reply"] >= EACH * 0.85


@pytest.mark.parametrize(
    "fault",
    cases(LASTING, Fault.PARTLY_REFUSED),
    ids=lambda fault: fault.name.lower(),
)
async def test_requests_survive_what_sqs_refuses(weather: Weather, fault: Fault) -> None:
    refusal = so.SendError if fault is Fault.PARTLY_REFUSED else so.AccessDenied
    # A reply that is refused is given up, and its request waits in vain.
    likely = LIKELY if fault is Fault.PARTLY_REFUSED else 0.1
    await weather.survive(fault, count=EACH, likely=likely, also=(refusal,), timeout=5.0)
    assert all(isinstance(failure, refusal) for failure in weather.workers.failures)
