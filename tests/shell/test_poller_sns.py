"""`Poller(sns_topics=…)`: messages that came through a topic."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from sqs_orchestrator import Message, Poller, Reject
from sqs_orchestrator.testing import MemoryServer
from tests.shell.workers import REPLIES, Bench, bench_on, until

TOPIC = "arn:aws:sns:us-east-1:123456789012:prices"


@pytest_asyncio.fixture
async def bench(server: MemoryServer) -> AsyncIterator[Bench]:
    async with bench_on(server, dead_letter_queue=True) as bench:
        yield bench


def envelope(body: str, topic: str = TOPIC, **attributes: str) -> str:
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "m",
            "TopicArn": topic,
            "Message": body,
            "MessageAttributes": {
                name: {"Type": "Number" if value.isdecimal() else "String", "Value": value}
                for name, value in attributes.items()
            },
        }
    )


async def handled(bench: Bench, *topics: str, error: Exception | None = None) -> list[Message]:
    """The messages that the handler of `price` gets, and that of all others, until none is left."""
    seen: list[Message] = []
    poller = Poller(bench.sqs, "orders", sns_topics=topics)

    async def handle(message: Message) -> Any:
        seen.append(message)
        if error is not None:
            raise error
        return message.body

    poller.handler("price")(handle)
    async with poller:
        await until(lambda: bench.empty)
    return seen


async def test_message_in_an_envelope_is_as_it_was_published(bench: Bench) -> None:
    await bench.send(envelope('{"id":1}', MessageType="price", tenant="a"))
    (message,) = await handled(bench, TOPIC)
    assert message.json() == {"id": 1}
    assert message.message_type == "price"
    assert message.attributes == {"tenant": "a"}
    assert message.topic_arn == TOPIC
    assert message.message_id != "m"


async def test_raw_message_is_the_same_without_the_topic(bench: Bench) -> None:
    await bench.send('{"id":1}', route="price")
    (message,) = await handled(bench, TOPIC)
    assert (message.json(), message.topic_arn) == ({"id": 1}, None)


async def test_request_in_an_envelope_is_answered(bench: Bench) -> None:
    address = f"{bench.server.url(REPLIES)}#c1"
    wrapped = envelope("hello", MessageType="price", ResponseQueueUrl=address)
    await bench.send(wrapped)
    (message,) = await handled(bench, TOPIC)
    assert message.correlation_id == "c1"
    assert [reply.body for reply in bench.at(REPLIES)] == ["hello"]


async def test_expired_request_in_an_envelope_is_dropped(bench: Bench) -> None:
    address = f"{bench.server.url(REPLIES)}#c1"
    wrapped = envelope("x", MessageType="price", ResponseQueueUrl=address, RequestTimeToLive="0")
    await bench.send(wrapped)
    assert await handled(bench, TOPIC) == []
    assert bench.at(REPLIES) == []


async def test_bodies_of_other_topics_are_the_senders_own(bench: Bench) -> None:
    body = envelope("inner", topic=f"{TOPIC}2", MessageType="other")
    await bench.send(body, route="price")
    (message,) = await handled(bench, TOPIC)
    assert (message.body, message.topic_arn) == (body, None)


async def test_without_topics_nothing_is_opened(bench: Bench) -> None:
    body = envelope("inner", MessageType="other")
    await bench.send(body, route="price")
    (message,) = await handled(bench)
    assert (message.body, message.topic_arn) == (body, None)


async def test_dead_letter_stays_in_its_envelope(bench: Bench) -> None:
    body = envelope("inner", MessageType="price")
    await bench.send(body)
    await handled(bench, TOPIC, error=Reject("no", code="sold_out"))
    (letter,) = bench.at("orders_dlq")
    assert letter.body == body
    assert letter.attributes["sqs_orchestrator.code"]["StringValue"] == "sold_out"
