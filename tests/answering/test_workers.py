"""`request()` of this library, answered by programs that do not have it."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.sqs.port import Attributes, SendEntry

from .conftest import HANGS, MakeQueue, Queue, Start

MANY: Final = 100
FAUXQS: Final = os.environ.get("SQS_SERVER") in (None, "fauxqs")
"""It refuses characters beyond U+FFFF, which SQS takes."""

TEXTS: Final = [
    "grün, 你好, עברית",
    'quotes " and \\ and </script>',
    "a line\nanother\r\n\tand one more\u2028",
    "\u0000\u001b as JSON escapes them",
    "e\u0301 is two, é is one",
    *([] if FAUXQS else ["😀, 𝄞"]),
]

OWN: Final = "sqs_orchestrator_reply_" + "0123456789abcdef" * 2


def text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


async def send(sqs: so.Connection, queue: Queue, body: str, attributes: Attributes) -> None:
    (sent,) = await sqs.port.send(queue.url, [SendEntry(body, attributes)])
    assert isinstance(sent, str)


async def test_hundred_requests_at_once_get_their_own_replies(
    sqs: so.Connection, queue: Queue, start: Start, command: list[str]
) -> None:
    await start(*command, queue.name)
    async with so.Publisher(sqs, default_timeout=HANGS) as publisher:
        replies = await asyncio.gather(
            *(publisher.request(queue.url, {"id": number}) for number in range(MANY))
        )
        assert [reply.json() for reply in replies] == [{"done": number} for number in range(MANY)]
        assert all(reply.attributes == {} for reply in replies)
        assert publisher.statistics().replies == MANY
    await queue.until(0, 0)


async def test_bodies_are_json_with_any_text_in_it(
    sqs: so.Connection, queue: Queue, start: Start, command: list[str]
) -> None:
    values: list[Any] = [*TEXTS, "", None, True, 1.5, -12, [1, ["a"]], {"a": {"b": []}}]
    await start(*command, queue.name)
    async with so.Publisher(sqs, default_timeout=HANGS) as publisher:
        replies = await asyncio.gather(
            *(publisher.request(queue.url, {"id": value}) for value in values)
        )
    assert [reply.json()["done"] for reply in replies] == values


@pytest.mark.parametrize("body", [{"no": "id"}, "no JSON"])
async def test_failure_of_a_handler_is_a_remote_error_and_the_worker_goes_on(
    sqs: so.Connection, queue: Queue, start: Start, command: list[str], body: Any
) -> None:
    await start(*command, queue.name)
    async with so.Publisher(sqs, default_timeout=HANGS) as publisher:
        with pytest.raises(so.RemoteError) as caught:
            await publisher.request(queue.url, body)
        error = caught.value
        assert (error.code, error.message, error.details) == ("handler_error", "", None)
        # The name of a class, where the language has one.
        assert error.type is None or error.type.endswith("Error")
        assert (await publisher.request(queue.url, {"id": 1})).json() == {"done": 1}
    await queue.until(0, 0)


async def test_one_way_message_is_handled_and_one_that_fails_is_left(
    sqs: so.Connection, queue: Queue, start: Start, command: list[str]
) -> None:
    async with so.Publisher(sqs, default_timeout=HANGS) as publisher:
        for body in ({"id": 1}, {"no": "id"}, {"id": 2}):
            await publisher.send(queue.url, body)
        await start(*command, queue.name)
        await queue.until(0, 1)
        # It is hidden for a minute, and then comes back.
        assert (await publisher.request(queue.url, {"id": 3})).json() == {"done": 3}
    await queue.until(0, 1)


async def test_request_without_a_timeout_is_answered(
    sqs: so.Connection, queue: Queue, start: Start, command: list[str]
) -> None:
    await start(*command, queue.name)
    async with asyncio.timeout(HANGS), so.Publisher(sqs) as publisher:
        reply = await publisher.request(queue.url, {"id": 1}, timeout=float("inf"))
    assert reply.json() == {"done": 1}


async def test_request_that_nobody_waits_for_any_more_is_deleted_unhandled(
    sqs: so.Connection, queue: Queue, make_queue: MakeQueue, start: Start, command: list[str]
) -> None:
    replies = await make_queue(OWN)
    address = {"ResponseQueueUrl": text(f"{replies.url}#late")}
    time_to_live = {"RequestTimeToLive": {"DataType": "Number", "StringValue": "1"}}
    # A one-way message cannot expire, and shows by its failure that both were looked at.
    await send(sqs, queue, "{}", {**address, **time_to_live})
    await send(sqs, queue, "{}", {})
    await start(*command, queue.name)
    await queue.until(0, 1)
    assert await replies.counts() == (0, 0)


async def test_reply_goes_to_reply_queues_of_this_account_alone(
    sqs: so.Connection, queue: Queue, make_queue: MakeQueue, start: Start, command: list[str]
) -> None:
    replies = await make_queue(OWN)
    others = [
        await make_queue(name)
        for name in ("payments", "sqs_orchestrator_reply__DLQ", f"{OWN}_DLQ", f"x{OWN}")
    ]
    beside = queue.url.rpartition("/")[0]
    account = beside.rpartition("/")[2]
    addresses = [
        *(f"{other.url}#c1" for other in others),
        replies.url,
        f"{replies.url}#",
        f"#{replies.url}#c1",
        f"{beside}/{OWN}/../payments#c1",
        f"{beside}/payments?/{OWN}#c1",
        f"{beside}/payments#/{OWN}#c1",
        f"{beside.removesuffix(account)}999900001111/{OWN}#c1",
        f"{beside}/sqs_orchestrator_reply_#c1",
        "reply please",
    ]
    for address in addresses:
        await send(sqs, queue, '{"id":1}', {"ResponseQueueUrl": text(address)})
    # The host does not matter: nobody contacts it.
    anywhere = f"https://nowhere.invalid/{account}/{OWN}#a#b"
    await send(sqs, queue, '{"id":2}', {"ResponseQueueUrl": text(anywhere)})
    await start(*command, queue.name)
    await queue.until(0, len(addresses))
    async with so.Publisher(sqs) as publisher:
        # It takes no more before it has done with these.
        await publisher.request(queue.url, {"id": 3}, timeout=HANGS)
    assert [await other.counts() for other in others] == [(0, 0)] * len(others)
    (reply,) = await sqs.port.receive(replies.url, wait_time=0)
    assert reply.body.replace(" ", "") == '{"done":2}'
    assert reply.attributes["__AmazonSQSVirtualQueuesClient.QueueName"]["StringValue"] == "a#b"


async def test_worker_that_is_terminated_finishes_what_it_has_and_leaves_the_rest(
    sqs: so.Connection, queue: Queue, start: Start, command: list[str]
) -> None:
    async with so.Publisher(sqs, default_timeout=HANGS) as publisher:
        requests = [
            asyncio.create_task(publisher.request(queue.url, {"id": number}))
            for number in range(2 * MANY)
        ]
        await queue.until(2 * MANY, 0)
        first = await start(*command, queue.name)
        await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        first.terminate()
        assert await first.wait() == 0
        # Nothing is hidden, so the next worker can do the rest at once.
        assert (await queue.counts())[1] == 0
        await start(*command, queue.name)
        replies = await asyncio.gather(*requests)
    assert [reply.json() for reply in replies] == [{"done": number} for number in range(2 * MANY)]
