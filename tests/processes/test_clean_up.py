"""Reply queues whose owner is gone, however it went."""

from __future__ import annotations

import asyncio
import signal
import uuid

import pytest

import sqs_orchestrator as so

from .conftest import HANGS, Start


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}-"


async def queues(sqs: so.Connection, prefix: str) -> set[str]:
    return set((await sqs.port.list_queues(prefix)).urls)


async def test_survivor_deletes_the_queue_of_a_killed_requester_and_no_other(
    sqs: so.Connection, prefix: str, start: Start
) -> None:
    doomed = await start("requester", prefix=prefix)
    survivor = await start("requester", prefix=prefix)
    (dead_url,) = await doomed.say("url")
    (live_url,) = await survivor.say("url")
    assert await queues(sqs, prefix) == {dead_url, live_url}
    await doomed.kill()
    async with asyncio.timeout(HANGS):
        while not (await survivor.say("swept", len(survivor.values("swept")) + 1))[-1]:
            pass
    assert await queues(sqs, prefix) == {live_url}


async def test_requester_leaves_no_queue_after_a_clean_exit(
    sqs: so.Connection, prefix: str, start: Start
) -> None:
    process = await start("requester", prefix=prefix)
    await process.say("url")
    assert len(await queues(sqs, prefix)) == 1
    process.interrupt()
    assert await process.ended() in {1, -signal.SIGINT}
    assert await queues(sqs, prefix) == set()
