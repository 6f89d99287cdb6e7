"""Lambda's event and SNS's deliveries, by moto's server over HTTP."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiobotocore.session
import pytest
import pytest_asyncio

from sqs_orchestrator import Connection, Message, Poller, Publisher, connect
from sqs_orchestrator.aws_lambda import LambdaHandler, lambda_handler
from sqs_orchestrator.core import wire
from sqs_orchestrator.testing import moto_server
from tests.lambda_events import event
from tests.servers import CREDENTIALS

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest_asyncio.fixture
async def sqs(endpoint_url: str) -> AsyncIterator[Connection]:
    async with connect(endpoint_url=endpoint_url, **CREDENTIALS) as opened:
        yield opened


@pytest_asyncio.fixture
async def queue(sqs: Connection) -> str:
    name = f"orders-{uuid.uuid4().hex[:8]}"
    await sqs.create_queue(name)
    return name


# ------------------------------------------------------------------------- Lambda


def called(handler: LambdaHandler, events: list[Any]) -> list[Any]:
    """What the function returns, called as Lambda does it: without a running loop."""
    try:
        return [handler(event, Context()) for event in events]
    finally:
        handler.close()


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 20_000


async def events(sqs: Connection, queue: str, count: int) -> list[Any]:
    """An event for each of the next *count* messages."""
    url = await sqs.queue_url(queue)
    found: list[Any] = []
    while len(found) < count:
        batch = await sqs.port.receive(url, max_messages=1, wait_time=1)
        if batch:
            found.append(event(f"arn:aws:sqs:us-east-1:123456789012:{queue}", batch))
    return found


async def test_function_answers_requests_at_cold_and_warm_starts(
    endpoint_url: str, sqs: Connection, queue: str
) -> None:
    opened: list[Connection] = []
    loops: set[asyncio.AbstractEventLoop] = set()

    async def handle(message: Message) -> Any:
        loops.add(asyncio.get_running_loop())
        if message.body == "fails":
            raise ValueError("x")
        return message.json()["id"] + 1

    @asynccontextmanager
    async def orders(own: Connection) -> AsyncIterator[Poller]:
        opened.append(own)
        yield Poller(own, queue, handle)

    handler = lambda_handler(orders, sqs=connect(endpoint_url=endpoint_url, **CREDENTIALS))
    async with Publisher(sqs) as publisher:
        asked = [
            asyncio.ensure_future(publisher.request(queue, {"id": n}, timeout=20)) for n in (1, 2)
        ]
        requests = await events(sqs, queue, 2)
        await publisher.send(queue, "fails")
        requests += await events(sqs, queue, 1)
        answers = await asyncio.to_thread(called, handler, requests)
        assert [(await reply).json() for reply in asked] == [2, 3]
    failed = requests[-1]["Records"][0]["messageId"]
    assert answers[:2] == [{"batchItemFailures": []}] * 2
    assert answers[2] == {"batchItemFailures": [{"itemIdentifier": failed}]}
    assert len(opened) == len(loops) == 1
    assert not opened[0].is_open


# ---------------------------------------------------------------------------- SNS


@asynccontextmanager
async def topic(
    endpoint_url: str, sqs: Connection, queue: str, *, raw: bool
) -> AsyncIterator[tuple[Any, str]]:
    """A client of SNS, and a topic that the queue is subscribed to."""
    session = aiobotocore.session.get_session()
    async with session.create_client("sns", endpoint_url=endpoint_url, **CREDENTIALS) as sns:
        arn = (await sns.create_topic(Name=queue))["TopicArn"]
        url = await sqs.queue_url(queue)
        found = await sqs.port.get_queue_attributes(url, ["QueueArn"])
        await sns.subscribe(
            TopicArn=arn,
            Protocol="sqs",
            Endpoint=found["QueueArn"],
            Attributes={"RawMessageDelivery": "true" if raw else "false"},
        )
        yield sns, arn


@pytest.mark.parametrize("raw", [True, False])
async def test_request_through_a_topic_is_the_same_message_raw_or_wrapped(
    endpoint_url: str, sqs: Connection, queue: str, raw: bool
) -> None:
    replies = await sqs.create_queue(f"sqs_orchestrator_reply_{uuid.uuid4().hex}")
    own = wire.request_attributes(
        reply_queue_url=replies, correlation_id="c1", message_type="price"
    )
    own["RequestTimeToLive"] = {"DataType": "Number", "StringValue": "60000"}
    own["tenant"] = {"DataType": "String", "StringValue": "a"}
    expected: dict[str, Any] = {"tenant": "a"}
    if not raw:  # moto fails with it otherwise
        own["photo"] = {"DataType": "Binary", "BinaryValue": b"\x00\xff"}
        expected["photo"] = b"\x00\xff"
    seen: list[Message] = []
    async with topic(endpoint_url, sqs, queue, raw=raw) as (sns, arn):
        poller = Poller(sqs, queue, sns_topics=[arn], wait_time=1)

        @poller.handler("price")
        async def price(order: dict[str, Any], message: Message) -> Any:
            seen.append(message)
            return order["id"] + 1

        async with poller:
            await sns.publish(TopicArn=arn, Message='{"id": 1}', MessageAttributes=own)
            found: list[Any] = []
            async with asyncio.timeout(20):
                while not found:
                    found = await sqs.port.receive(replies, wait_time=1)
    (reply,) = found
    assert json.loads(reply.body) == 2
    assert wire.parse_reply(reply.attributes).correlation_id == "c1"
    (message,) = seen
    assert message.body == '{"id": 1}'
    assert message.attributes == expected
    assert message.message_type == "price"
    assert 0 < message.time_remaining() <= 60
    assert message.topic_arn == (None if raw else arn)
