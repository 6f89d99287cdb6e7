"""Requests both ways between this library and AWS's Temporary Queue Client for Java 2.0.1."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.requester.sweeper import COUNTS
from tests.faults.proxy import Fault, FaultProxy
from tests.processes.conftest import Process

from .conftest import JAVA_PREFIX, Java, Start

MANY: Final = 500

SOON: Final = 60.0
"""Seconds that a sweeper may take, at a period of two."""

FAUXQS: Final = os.environ.get("SQS_SERVER", "fauxqs") == "fauxqs"
"""It refuses characters that SQS takes."""


def allowed() -> list[str]:
    """All characters that SQS allows, in bodies of less than 200 kB."""
    last = 0xFFFD if FAUXQS else 0x10FFFF
    code_points = [9, 10, 13, *range(0x20, 0xD800), *range(0xE000, 0xFFFE)]
    code_points += range(0x10000, last + 1)
    step = 45_000
    return [
        "".join(map(chr, code_points[start : start + step]))
        for start in range(0, len(code_points), step)
    ]


BODIES: Final = ["a", "x" * 200_000, *allowed(), " ", "\t\r\n", " a "]

ATTRIBUTES: Final = {
    "a.text": ("String", "grün"),
    "a.labelled": ("String.uuid", "5f2b6c1e-0000-4000-8000-000000000000"),
    "a.number": ("Number", "38.5"),
    "a.bytes": ("Binary", base64.b64encode(bytes(range(256))).decode()),
}


def there(attributes: dict[str, Any], name: str) -> str:
    """What an attribute of a reply says, as Java saw it."""
    value: str = attributes[name][1]
    return value


# ------------------------------------------------------------- a requester here, Java answers


async def test_java_answers_five_hundred_requests_at_once(
    sqs: so.Connection, java: Java, url: str
) -> None:
    await java.responder(url)
    async with so.Publisher(sqs) as publisher:
        bodies = [f"request {number}" for number in range(MANY)]
        replies = await asyncio.gather(
            *(publisher.request(url, body, timeout=60) for body in bodies)
        )
        assert [reply.body for reply in replies] == bodies
        assert publisher.statistics().replies == MANY


async def test_java_answers_with_the_same_body(sqs: so.Connection, java: Java, url: str) -> None:
    await java.responder(url)
    async with so.Publisher(sqs) as publisher:
        for body in BODIES:
            reply = await publisher.request(url, body, timeout=60)
            assert reply.body == body


async def test_java_answers_with_the_same_attributes(
    sqs: so.Connection, java: Java, url: str
) -> None:
    given: dict[str, Any] = {
        "a.text": "grün",
        "a.labelled": {"DataType": "String.uuid", "StringValue": "5f2b"},
        "a.number": 38.5,
        "a.bytes": bytes(range(256)),
    }
    await java.responder(url)
    async with so.Publisher(sqs) as publisher:
        reply = await publisher.request(url, "x", attributes=given, timeout=60)
    assert reply.attributes == {**given, "a.labelled": "5f2b"}
    assert reply.attribute_labels == {"a.labelled": "uuid"}


async def test_reply_of_java_that_is_too_late_is_dropped_and_disturbs_nobody(
    sqs: so.Connection, java: Java, url: str
) -> None:
    await java.responder(url)
    async with (
        so.ReplyQueue(sqs) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        with pytest.raises(so.ReplyTimeout) as caught:
            await publisher.request(url, "late", attributes={"late": "2.5"}, timeout=1)
        assert caught.value.confirmed
        # The next one waits long enough for the late reply to come before its own.
        reply = await publisher.request(url, "next", attributes={"late": "4"}, timeout=60)
        assert reply.body == "next"
        assert replies.statistics().unmatched == 1


# ------------------------------------------------------------- Java asks, a worker here answers


async def echo(message: so.Message) -> str:
    return message.body


async def test_five_hundred_requests_of_java_at_once_are_answered(
    sqs: so.Connection, java: Java, url: str
) -> None:
    await java.requester()
    async with so.Poller(sqs, url, echo, concurrency=100, wait_time=2):
        bodies = [f"request {number}" for number in range(MANY)]
        answers = await java.ask(url, bodies, timeout=60)
    assert [answer.get("body") for answer in answers] == bodies


async def test_java_gets_the_same_body(sqs: so.Connection, java: Java, url: str) -> None:
    await java.requester()
    async with so.Poller(sqs, url, echo, wait_time=2):
        for body in BODIES:
            (answer,) = await java.ask(url, [body])
            assert answer.get("body") == body


async def test_attributes_of_java_arrive_as_plain_values_and_go_back_as_they_came(
    sqs: so.Connection, java: Java, url: str
) -> None:
    seen: list[so.Message] = []

    async def handle(message: so.Message) -> None:
        seen.append(message)
        message.reply_attributes.update(message.attributes)

    await java.requester()
    async with so.Poller(sqs, url, handle, wait_time=2):
        (answer,) = await java.ask(url, ["x"], attributes=ATTRIBUTES)
    assert seen[0].attributes == {
        "a.text": "grün",
        "a.labelled": "5f2b6c1e-0000-4000-8000-000000000000",
        "a.number": 38.5,
        "a.bytes": bytes(range(256)),
    }
    assert seen[0].attribute_labels == {"a.labelled": "uuid"}
    # What goes back as it came has the same type, with its label.
    assert {name: tuple(answer["attributes"][name]) for name in ATTRIBUTES} == ATTRIBUTES


async def test_java_that_has_given_up_gets_the_next_reply_all_the_same(
    sqs: so.Connection, java: Java, url: str
) -> None:
    async def handle(message: so.Message) -> str:
        if message.body == "slow":
            await asyncio.sleep(3)
        return message.body

    await java.requester()
    async with so.Poller(sqs, url, handle, wait_time=2):
        assert await java.ask(url, ["slow"], timeout=1) == [{"error": "TimeoutException"}]
        await asyncio.sleep(3)
        (answer,) = await java.ask(url, ["next"])
    assert answer["body"] == "next"


async def test_java_gets_the_failure_of_a_handler_as_a_body(
    sqs: so.Connection, java: Java, url: str
) -> None:
    async def handle(message: so.Message) -> None:
        raise so.Reject("sold out", code="sold_out", details={"left": 0})

    await java.requester()
    async with so.Poller(sqs, url, handle, wait_time=2):
        (answer,) = await java.ask(url, ["x"])
    assert json.loads(answer["body"]) == {
        "code": "sold_out",
        "type": "Reject",
        "message": "sold out",
        "details": {"left": 0},
    }
    assert there(answer["attributes"], "ReplyError") == "sold_out"


async def test_java_whose_queue_vanished_is_answered_at_its_new_one_soon(
    sqs: so.Connection, start_java: Start, endpoint_url: str, url: str
) -> None:
    prefix = f"{JAVA_PREFIX}{uuid.uuid4().hex[:8]}"
    with FaultProxy(endpoint_url) as proxy:
        # The servers lack SQS's rule, by which Java comes to listen at another name.
        java = await start_java(proxy.url)
        await java.requester(prefix)
        async with so.Poller(sqs, url, echo, wait_time=2):
            (answer,) = await java.ask(url, ["before"])
            assert answer.get("body") == "before"
            (name,) = [each for each in await names(sqs, prefix) if each.endswith("-0")]
            proxy.inject(Fault.NAME_LOCKED, on=["CreateQueue"], queue=f"{name}$")
            await sqs.client.delete_queue(QueueUrl=await sqs.queue_url(name))
            (answer,) = await java.ask(url, ["after"], timeout=60)
            assert answer.get("body") == "after"
            assert f"{name}-Failover" in await names(sqs, prefix)
            # To look at the old name first takes longer than Java waits now.
            for number in range(3):
                (answer,) = await java.ask(url, [f"again {number}"], timeout=2)
                assert answer.get("body") == f"again {number}"


async def test_java_without_virtual_queues_is_answered(
    sqs: so.Connection, java: Java, url: str
) -> None:
    await java.requester("reply_queue_", virtual=False)
    async with so.Poller(sqs, url, echo, wait_time=2):
        answers = await java.ask(url, ["one", "two", "three"])
    assert [answer.get("body") for answer in answers] == ["one", "two", "three"]


# ------------------------------------------------------------------------- a shared prefix


async def names(sqs: so.Connection, prefix: str) -> set[str]:
    answer = await sqs.client.list_queues(QueueNamePrefix=prefix)
    return {url.rpartition("/")[2] for url in answer.get("QueueUrls", ())}


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SOON):
        while not await reached():  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.2)


StartHere = Callable[..., Awaitable[Process]]

PACE: Final[dict[str, Any]] = {"heartbeat": 1, "retention": 5}
PACE_HERE: Final = {"heartbeat_interval": 1, "idle_retention": 5}


def name_of(url: object) -> str:
    return str(url).rpartition("/")[2]


async def test_dead_queue_of_java_is_swept_here_and_no_live_one(
    sqs: so.Connection, start_java: Start, start_here: StartHere, url: str
) -> None:
    prefix = f"shared-{uuid.uuid4().hex[:8]}-"
    here = await start_here("requester", prefix=prefix, sweep_interval=2, **PACE_HERE)
    mine = name_of((await here.say("url"))[0])
    lives, dies = await start_java(), await start_java()
    async with so.Poller(sqs, url, echo, wait_time=2, reply_queue_prefixes=[prefix]):
        # The queue of each is made by its first request. This one sweeps too, once.
        await lives.requester(prefix, sweep=100_000, **PACE)
        assert (await lives.ask(url, ["x"]))[0].get("body") == "x"
        before = await names(sqs, prefix)
        await dies.requester(prefix, sweep=100_000, **PACE)
        assert (await dies.ask(url, ["x"]))[0].get("body") == "x"
        (dead,) = await names(sqs, prefix) - before
        # A reply that it has and has not deleted yet would keep its queue.
        await until(lambda: _empty(sqs, dead))
        await dies.kill()
        await until(lambda: _gone(sqs, prefix, dead))
        # Java's sweeper has two queues of its own.
        assert {mine, prefix, f"{prefix}_DLQ"} < before
        assert await names(sqs, prefix) == before
        assert (await lives.ask(url, ["still"]))[0].get("body") == "still"


async def test_dead_queue_of_ours_is_swept_by_java_and_no_live_one(
    sqs: so.Connection, java: Java, start_here: StartHere, url: str
) -> None:
    prefix = f"shared-{uuid.uuid4().hex[:8]}-"
    lives = await start_here("client", prefix=prefix, count=0, **PACE_HERE)
    dies = await start_here("client", prefix=prefix, count=0, **PACE_HERE)
    live, dead = [name_of((await each.say("url"))[0]) for each in (lives, dies)]
    async with so.Poller(sqs, url, echo, wait_time=2, reply_queue_prefixes=[prefix]):
        await java.requester(prefix, sweep=2, **PACE)
        assert (await java.ask(url, ["x"]))[0].get("body") == "x"
        before = await names(sqs, prefix)
        assert {live, dead} < before
        await dies.kill()
        await until(lambda: _gone(sqs, prefix, dead))
        assert await names(sqs, prefix) == before - {dead}
        assert (await java.ask(url, ["still"]))[0].get("body") == "still"


async def _gone(sqs: so.Connection, prefix: str, name: str) -> bool:
    return name not in await names(sqs, prefix)


async def _empty(sqs: so.Connection, name: str) -> bool:
    counts = await sqs.port.get_queue_attributes(await sqs.queue_url(name), COUNTS)
    return set(counts.values()) == {"0"}
