"""Workers that are killed, and workers that are asked to stop."""

from __future__ import annotations

import asyncio

import sqs_orchestrator as so

from .conftest import Start


async def test_requests_of_a_killed_worker_are_answered_by_another(
    sqs: so.Connection, queue: str, start: Start
) -> None:
    doomed = await start("worker", queue=queue, work=30)
    await doomed.say("ready")
    async with so.Publisher(sqs) as publisher:
        async with asyncio.TaskGroup() as group:
            requests = [
                group.create_task(publisher.request(queue, {"number": number}, timeout=50))
                for number in range(5)
            ]
            await doomed.say("started", 5)
            await doomed.kill()
            await start("worker", queue=queue)
        replies = [request.result().json() for request in requests]
    assert [reply["number"] for reply in replies] == [0, 1, 2, 3, 4]
    assert all(reply["receive_count"] >= 2 for reply in replies)


async def test_terminated_worker_finishes_what_it_has_begun_and_releases_the_rest(
    sqs: so.Connection, queue: str, start: Start
) -> None:
    stopping = await start("worker", queue=queue, work=2, concurrency=1, visibility_timeout=30)
    await stopping.say("ready")
    async with so.Publisher(sqs) as publisher, asyncio.TaskGroup() as group:
        first = group.create_task(publisher.request(queue, {"number": 1}, timeout=50))
        await stopping.say("started")
        second = group.create_task(publisher.request(queue, {"number": 2}, timeout=50))
        stopping.terminate()
        assert await stopping.ended() == 0
        assert stopping.values("stopped") == [True]
        assert stopping.values("started") == stopping.values("finished") == [1]
        reply = await first
        assert reply.json()["number"] == 1
        # Nothing stays hidden: another worker gets the second long before 30 s are over.
        await start("worker", queue=queue)
        async with asyncio.timeout(25):
            await second
