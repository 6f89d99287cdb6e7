"""A program without this library asks its `Poller`."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import sqs_orchestrator as so
from sqs_orchestrator.core import sweeping

from .conftest import HANGS, Queue, Start
from .programs import python
from .test_workers import MANY, TEXTS

PIPE = asyncio.subprocess.PIPE


async def handle(message: so.Message) -> Any:
    body = message.json()
    if "reject" in body:
        raise so.Reject(body["reject"], code="sold_out")
    return {"done": body["id"]}


async def asked(start: Start, queue: Queue, bodies: list[str]) -> list[dict[str, Any]]:
    """Ask; what the requester prints, in the order of *bodies*."""
    process = await start(*python("requester.py"), queue.name, *bodies, stdout=PIPE)
    async with asyncio.timeout(HANGS):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    lines = {line["request"]: line for line in map(json.loads, printed.splitlines())}
    return [lines[body] for body in bodies]


async def test_poller_answers_a_hundred_requests_at_once(
    sqs: so.Connection, queue: Queue, start: Start
) -> None:
    bodies = [json.dumps({"id": number}) for number in range(MANY)]
    async with so.Poller(sqs, queue.url, handle, wait_time=1):
        replies = await asked(start, queue, bodies)
    assert [json.loads(each["reply"]) for each in replies] == [{"done": n} for n in range(MANY)]
    assert {each["error"] for each in replies} == {None}
    await queue.until(0, 0)


async def test_replies_have_any_text_in_them(
    sqs: so.Connection, queue: Queue, start: Start
) -> None:
    bodies = [json.dumps({"id": text}, ensure_ascii=False) for text in TEXTS]
    async with so.Poller(sqs, queue.url, handle, wait_time=1):
        replies = await asked(start, queue, bodies)
    assert [json.loads(each["reply"])["done"] for each in replies] == TEXTS


async def test_failure_of_a_handler_is_told_by_its_code(
    sqs: so.Connection, queue: Queue, start: Start
) -> None:
    async with so.Poller(sqs, queue.url, handle, wait_time=1):
        (reply,) = await asked(start, queue, ['{"reject":"we have 99"}'])
    assert reply["error"] == "sold_out"
    assert json.loads(reply["reply"]) == {
        "code": "sold_out",
        "type": "Reject",
        "message": "we have 99",
        "details": None,
    }


async def reply_queues(sqs: so.Connection) -> set[str]:
    return set((await sqs.port.list_queues("sqs_orchestrator_reply_")).urls)


async def test_reply_queue_goes_with_its_requester_or_is_swept_an_hour_later(
    sqs: so.Connection, queue: Queue, start: Start
) -> None:
    before = await reply_queues(sqs)
    async with so.Poller(sqs, queue.url, handle, wait_time=1):
        await asked(start, queue, ['{"id":1}'])
    assert await reply_queues(sqs) == before
    requester = await start(*python("requester.py"), queue.name, '{"id":1}')
    await queue.until(1, 0)
    requester.kill()
    await requester.wait()
    (left,) = await reply_queues(sqs) - before
    tags = await sqs.port.list_queue_tags(left)
    await sqs.port.delete_queue(left)
    now_ms, hour_ms = int(time.time() * 1000), 3_600_000
    assert sweeping.verdict(tags, now_ms + hour_ms - 120_000) == "live"
    assert sweeping.verdict(tags, now_ms + hour_ms) == "idle"
    prefix, name = "sqs_orchestrator_reply_", left.rpartition("/")[2]
    assert sweeping.sweep_decision(prefix, name, "idle", empty=False) == "delete"
