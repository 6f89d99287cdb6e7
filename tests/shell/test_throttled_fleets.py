"""Whole fleets of reply queues, where SQS allows fewer tag calls than they would make.

Each is played by several seeds, from which come the names of the queues, hence their order in the
ring, and all jitter. `SQS_FLEETS` is how many; the name of a test tells which one it was.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Final

import pytest

from sqs_orchestrator import ReplyQueue, Throttled, sweep
from sqs_orchestrator.core import names, wire
from sqs_orchestrator.core.names import queue_name_of
from sqs_orchestrator.core.sweeping import verdict
from sqs_orchestrator.testing import Faults, MemoryServer, connect

PREFIX = "reply_"
MINUTE = 60.0
HOUR = 3600.0

REQUESTERS = 200
ALLOWED = 1.0
"""Tag calls per second. The heartbeats of that fleet alone are three times as many; it is to
it as 5 a second, the least that an account has, are to a thousand requesters."""

FEW = 60
"""Requesters, where more show nothing else."""

SEEDS: Final = range(int(os.environ["SQS_FLEETS"])) if "SQS_FLEETS" in os.environ else (2, 280)
"""By the first, a fleet that forgives no throttling loses queues at its start. By the other, some
of the dead were left after six hours when a slow sweeper forgave five times its own silence."""


@pytest.fixture(autouse=True, params=SEEDS, ids="seed-{}".format)
def same_jitter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is random, by one seed."""
    seed: int = request.param
    random.seed(seed)
    namer = random.Random(seed + 1_000_000)
    monkeypatch.setattr(names, "os", SimpleNamespace(urandom=namer.randbytes))


class Allowance(Faults):
    """Throttles all tag calls beyond so many a second; all of them while it is *closed*."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.closed = False
        self._left = 1.0
        self._at = 0.0

    async def happen(self, operation: str, queue: str | None, *, before: bool) -> None:
        tags = operation in {"TagQueue", "UntagQueue", "ListQueueTags"}
        if tags and before and not self._take():
            raise Throttled("too many", operation=operation, queue=queue, transient=True)
        await super().happen(operation, queue, before=before)

    def _take(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._left = min(self._left + (now - self._at) * self.rate, max(self.rate, 1.0))
        self._at = now
        if self.closed or self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Fleet:
    """Requesters that start at once, and then have nothing to do."""

    def __init__(self, server: MemoryServer, allowed: float) -> None:
        self.server = server
        self.allowance = server.faults = Allowance(allowed)
        self.living: dict[ReplyQueue, str] = {}
        """Requesters, with the names of their first queues."""

    @property
    def lost(self) -> list[str]:
        """Queues of the living that are no longer there."""
        return sorted(set(self.living.values()) - self.left)

    @property
    def dead(self) -> dict[str, float]:
        """Queues that are left of the dead, with their retention."""
        tags = {name: self.server.queue(name).tags for name in self.left}
        lifetimes = {name: wire.parse_lifetime(each) for name, each in tags.items()}
        living = set(self.living.values())
        return {
            name: each.retention
            for name, each in lifetimes.items()
            if name not in living and each is not None
        }

    @property
    def left(self) -> set[str]:
        return {name for name in self.server.queues if name.startswith(PREFIX)}

    @property
    def idle(self) -> set[str]:
        """Queues that are idle by what their tags say."""
        now_ms = int(self.server.now() * 1000)
        return {
            name for name in self.left if verdict(self.server.queue(name).tags, now_ms) == "idle"
        }

    def kill(self, part: float) -> None:
        """So many die, and delete nothing."""
        for queue in random.sample(list(self.living), round(part * len(self.living))):
            live = queue.current
            assert live is not None
            live.neglect()
            del self.living[queue]


@asynccontextmanager
async def starting(
    server: MemoryServer,
    requesters: int = REQUESTERS,
    *,
    allowed: float = ALLOWED,
    sweep_interval: float | None = 300.0,
) -> AsyncIterator[Fleet]:
    fleet = Fleet(server, allowed)
    async with AsyncExitStack() as stack:
        queues = []
        for _ in range(requesters):
            sqs = await stack.enter_async_context(connect(server))
            queue = ReplyQueue(sqs, prefix=PREFIX, sweep_interval=sweep_interval)
            queues.append(await stack.enter_async_context(queue))
        await asyncio.gather(*(queue.ready() for queue in queues))
        fleet.living = {queue: queue_name_of(str(queue.url)) for queue in queues}
        yield fleet
        server.faults = Faults()


async def test_throttled_fleet_that_starts_at_once_loses_no_queue(server: MemoryServer) -> None:
    async with starting(server) as fleet:
        await asyncio.sleep(5 * MINUTE)
        assert len(fleet.idle) > REQUESTERS / 10  # by their tags alone, many would be deleted
        await asyncio.sleep(55 * MINUTE)
        assert fleet.lost == []


async def test_throttled_fleet_finds_a_pace_at_which_its_heartbeats_get_through(
    server: MemoryServer,
) -> None:
    async with starting(server) as fleet:
        await asyncio.sleep(20 * MINUTE)
        for _ in range(40):
            await asyncio.sleep(MINUTE)
            assert fleet.idle == set()


async def test_throttled_fleet_that_does_not_sweep_finds_its_pace_too(
    server: MemoryServer,
) -> None:
    async with starting(server, sweep_interval=None) as fleet:
        await asyncio.sleep(20 * MINUTE)
        assert "ListQueues" not in server.calls
        for _ in range(40):
            await asyncio.sleep(MINUTE)
            assert fleet.idle == set()


async def test_dead_of_a_throttled_fleet_are_gone_in_the_end(server: MemoryServer) -> None:
    async with starting(server) as fleet:
        await asyncio.sleep(3 * MINUTE)  # most have not got a heartbeat through
        fleet.kill(0.3)
        await asyncio.sleep(20 * MINUTE)
        fleet.kill(0.3)
        # So long they are forgiven, by a sweeper whose own heartbeat was not late lately.
        await asyncio.sleep(max(*fleet.dead.values(), 2 * HOUR))
        # The slowest sweep every 66 minutes, and one sweep or the other is throttled.
        await asyncio.sleep(3 * HOUR)
        assert fleet.dead == {}
        assert fleet.lost == []


async def test_cron_job_deletes_no_live_queue_of_a_throttled_fleet(server: MemoryServer) -> None:
    async with starting(server, sweep_interval=None) as fleet, connect(server) as cron:
        for _ in range(60):
            await asyncio.sleep(MINUTE)
            with suppress(Throttled):
                await sweep(cron, PREFIX)
        assert fleet.lost == []


@pytest.mark.parametrize("what", ["TagQueue", "*"])
async def test_fleet_loses_no_queue_to_an_outage_longer_than_its_retention(
    server: MemoryServer, what: str
) -> None:
    # At its end all look idle, and some sweep before the others' heartbeats are back.
    async with starting(server, FEW, allowed=1e6) as fleet:
        await asyncio.sleep(20 * MINUTE)
        server.faults.fail(what, times=None)
        await asyncio.sleep(20 * MINUTE)
        assert len(fleet.idle) == FEW
        server.faults.clear()
        await asyncio.sleep(20 * MINUTE)
        assert fleet.lost == []


async def test_fleet_loses_no_queue_where_others_use_up_the_tag_calls(
    server: MemoryServer,
) -> None:
    async with starting(server, FEW, allowed=3.0) as fleet:
        await asyncio.sleep(20 * MINUTE)
        fleet.allowance.closed = True
        await asyncio.sleep(HOUR)
        fleet.allowance.closed = False
        await asyncio.sleep(HOUR)
        assert fleet.lost == []
        assert fleet.idle == set()
