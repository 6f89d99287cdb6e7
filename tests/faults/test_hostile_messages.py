"""Messages that somebody wrote to do harm, on the request queue and on the reply queue.

The proxy hands them out itself, so that no server behind it can refuse what SQS, or an attacker
in some other way, might let through.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.sqs.port import SendEntry

from .conftest import Connect
from .proxy import FaultProxy
from .rounds import DONE, becomes_empty

pytestmark = pytest.mark.server

RESPONSE_QUEUE_URL: Final = "ResponseQueueUrl"
QUEUE_NAME: Final = "__AmazonSQSVirtualQueuesClient.QueueName"
REQUEST_MESSAGE_ID: Final = "RequestMessageId"
REPLY_ERROR: Final = "ReplyError"
REPLY_STREAM: Final = "ReplyStream"
REPLY_SEQUENCE: Final = "ReplySequence"
REPLY_END: Final = "ReplyEnd"

REQUEST_NAMES: Final = (
    RESPONSE_QUEUE_URL,
    "RequestTimeToLive",
    "MessageType",
    "ContentType",
    "ReplyTo",
    REQUEST_MESSAGE_ID,
    "traceparent",
    "tracestate",
)
REPLY_NAMES: Final = (REPLY_ERROR, REPLY_STREAM, REPLY_SEQUENCE, REPLY_END)

FORGED: Final = "\nFORGED\r\nFORGED\u2028FORGED\x85FORGED\x0bFORGED\x1b[2J"
"""What would begin a line of the log, were it logged as it is."""

HUGE: Final = "x" * 1_000_000

DEEP: Final = (
    "[" * 200_000,
    '{"a":' * 100_000,
    "[" * 100_000 + "]" * 100_000,
    "9" * 10_000,
    "NaN",
    "-" + "1" * 5_000 + "e" + "9" * 20,
    '"\\ud800"',
    "\ud800",
    "",
    "\x00",
    f"{{{FORGED}",
    "\ufeff{}",
)
"""Bodies that parsers stumble over."""


def text(value: str) -> dict[str, Any]:
    return {"DataType": "String", "StringValue": value}


def number(value: str) -> dict[str, Any]:
    return {"DataType": "Number", "StringValue": value}


def binary(value: bytes) -> dict[str, Any]:
    return {"DataType": "Binary", "BinaryValue": base64.b64encode(value).decode()}


def malformed(value: str = "1") -> Iterator[dict[str, Any]]:
    """Attributes of other types and shapes than the one that is due."""
    yield binary(b"\xff\xfe\x00")
    yield binary(value.encode())
    yield number("7")
    yield text("")
    yield text(FORGED)
    yield text(HUGE)
    yield text("\ud800")
    yield {"DataType": "String"}
    yield {"DataType": "Binary"}
    yield {"DataType": f"String.{FORGED}", "StringValue": value}
    yield {"DataType": "Number.int", "StringValue": value}
    yield {"DataType": "Strange", "StringValue": value}
    yield {"StringValue": value}
    yield {}


NUMBERS: Final = ("", "abc", "-1", "1e999", "NaN", "Infinity", "9" * 4_999, "0x10", "\u0661", "1.5")


def addresses(good: str) -> Iterator[str]:
    """Reply addresses at which nobody may be answered; *good* is one that may."""
    host, account, name = good.partition("#")[0].rsplit("/", 2)
    yield from ("#", "#id", good.partition("#")[0] + "#", "nowhere#1", "/#1", "//#1", "http://#1")
    yield f"{host}/999999999999/{name}#1"
    yield f"{host}/{account}/orders#1"
    yield f"{host}/{account}/{name[:-33]}#1"
    yield f"{host}/{account}/{name}/../orders#1"
    yield f"{host}/{account}/{name}%2f..%2forders#1"
    yield f"{host}/{account}/{name}?queue=orders#1"
    yield f"{host}/{account}/{name}{FORGED}#1"
    yield f"https://sqs.eu-west-3.amazonaws.com/{account}/{name}#1"
    yield f"https://sqs.us-east-1.amazonaws.com/999999999999/{name}#1"
    yield f"https://{account}.queue.amazonaws.com.evil.example/{name}"
    yield f"file:///{account}/{name}_DLQ#1"
    yield f"{host}/{account}/__RequesterClientQueues__#1"
    yield f"{host}/{account}/__RequesterClientQueues___DLQ#1"
    yield f"{host}/{account}/{'n' * 1_000}#1"


async def planted_is_dealt_with(proxy: FaultProxy, queue_url: str, poller: so.Poller) -> None:
    """Wait until all that was planted has been handed out, and nothing is left of it here."""
    async with asyncio.timeout(DONE):
        while True:
            statistics = poller.statistics()
            busy = statistics.running or statistics.waiting or statistics.answering
            if not busy and not proxy.planted_left(queue_url):
                return
            await asyncio.sleep(0.05)


def assert_log_is_not_forged(caplog: pytest.LogCaptureFixture) -> None:
    lines = caplog.text.splitlines()
    assert not [line for line in lines if line.startswith("FORGED")]
    assert "\x1b" not in caplog.text


async def test_worker_survives_every_hostile_request(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    queue_url = await direct.queue_url(queue)
    reply_url = await direct.create_queue(f"{prefix}{'0' * 32}")
    good = f"{reply_url}#good"
    address = {RESPONSE_QUEUE_URL: text(good)}
    hostile: list[dict[str, Any]] = []
    for name in REQUEST_NAMES:
        for attribute in malformed():
            hostile.append({"MessageAttributes": {name: attribute}})
            hostile.append({"MessageAttributes": {**address, name: attribute}})
    for value in NUMBERS:
        hostile += [
            {"MessageAttributes": {**address, "RequestTimeToLive": attribute}}
            for attribute in (number(value), text(value), binary(value.encode()))
        ]
    for wrong in addresses(good):
        hostile.append({"MessageAttributes": {"ResponseQueueUrl": text(wrong)}})
        hostile.append({"MessageAttributes": {"ReplyTo": text(wrong.partition("#")[0])}})
    for body in DEEP:
        hostile.append({"Body": body})
        hostile.append({"Body": body, "MessageAttributes": address})
        hostile.append(
            {"Body": body, "MessageAttributes": {**address, "MessageType": text("typed")}}
        )
    for value in (*NUMBERS, "9" * 30, str(2**63)):
        hostile += [
            {"Attributes": {name: value}, "MessageAttributes": address}
            for name in ("SentTimestamp", "ApproximateReceiveCount", "MessageGroupId")
        ]
    hostile.append({"MessageAttributes": {FORGED: text(FORGED), "x" * 300: text("x")}})
    hostile.append({"MessageAttributes": {f"a{n}": text("x") for n in range(1_000)}})
    hostile.append({"MessageAttributes": {name: binary(b"\xff") for name in REQUEST_NAMES}})

    async def handle(message: so.Message) -> Any:
        repr(message)
        return message.json()

    async def typed(order: dict[str, int], message: so.Message) -> Any:
        return order

    async with connect() as sqs:
        poller = so.Poller(
            sqs,
            queue,
            handle,
            reply_queue_prefixes=(prefix,),
            wait_time=1,
            drain_timeout=5,
            visibility_timeout=30,
        )
        poller.handler("typed")(typed)
        async with poller, so.ReplyQueue(sqs, prefix=prefix) as replies:
            proxy.plant(queue_url, *hostile)
            await planted_is_dealt_with(proxy, queue_url, poller)
            async with so.Publisher(sqs, reply_queue=replies) as publisher:
                assert (await publisher.request(queue, {"still": "there"})).json() == {
                    "still": "there"
                }
                own_url = replies.url
        statistics = poller.statistics()
    assert statistics.failure is None
    assert statistics.received >= len(hostile)
    assert statistics.rejected > 50
    # What nobody could judge stays; all else was answered, or deleted.
    assert len(proxy.deleted) >= 50
    # It has answered at the good address, and nowhere else.
    answered = {message.queue for message in proxy.accepted}
    assert answered == {reply_url, own_url, queue_url}
    assert_log_is_not_forged(caplog)
    await direct.port.delete_queue(reply_url)


@pytest.mark.parametrize("kind", [so.Reject, RuntimeError])
async def test_handlers_failure_cannot_forge_the_log(
    kind: type[Exception],
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(message: so.Message) -> Any:
        if kind is so.Reject:
            raise so.Reject(f"not acceptable: {message.body}", code=f"odd{FORGED}")
        raise kind(message.body)

    queue_url = await direct.queue_url(queue)
    reply_url = await direct.create_queue(f"{prefix}{'0' * 32}")
    address = {RESPONSE_QUEUE_URL: text(f"{reply_url}#1")}
    async with connect() as sqs:
        poller = so.Poller(
            sqs, queue, handle, reply_queue_prefixes=(prefix,), wait_time=1, drain_timeout=5
        )
        async with poller:
            proxy.plant(queue_url, {"Body": FORGED}, {"Body": FORGED, "MessageAttributes": address})
            await planted_is_dealt_with(proxy, queue_url, poller)
    statistics = poller.statistics()
    assert statistics.rejected + statistics.failed >= 2
    assert_log_is_not_forged(caplog)
    await direct.port.delete_queue(reply_url)


ERROR_BODIES: Final = (
    *DEEP,
    "null",
    "7",
    "[]",
    "{}",
    '{"code": 7, "type": [], "message": {}, "details": 1e999}',
    '{"code": null, "type": null, "message": null}',
    json.dumps({"code": FORGED, "type": FORGED, "message": FORGED}),
    json.dumps({"code": HUGE, "message": HUGE}),
)


async def test_requester_survives_every_hostile_reply(
    proxy: FaultProxy,
    connect: Connect,
    direct: so.Connection,
    queue: str,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    go_on = asyncio.Event()

    async def handle(message: so.Message) -> Any:
        await go_on.wait()
        return message.json()

    async with (
        connect() as sqs,
        so.ReplyQueue(sqs, prefix=prefix) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
        connect() as working,
        so.Poller(
            working,
            queue,
            handle,
            concurrency=200,
            reply_queue_prefixes=(prefix,),
            wait_time=1,
            drain_timeout=5,
        ),
    ):
        await replies.ready()
        assert replies.url is not None
        count = len(ERROR_BODIES) + 50
        requests = [asyncio.create_task(publisher.request(queue, n)) for n in range(count)]
        async with asyncio.timeout(DONE):
            while len(proxy.accepted) < count:  # noqa: ASYNC110 - it is in another thread
                await asyncio.sleep(0.02)
        ids = {
            int(message.body): message.attributes["ResponseQueueUrl"]["StringValue"].partition("#")[
                2
            ]
            for message in proxy.accepted
        }
        forged: list[dict[str, Any]] = [{}, {"MessageAttributes": {}}]
        for name in (QUEUE_NAME, REQUEST_MESSAGE_ID):
            forged += [{"MessageAttributes": {name: text(each)}} for each in ("unknown", "#", " ")]
            forged += [{"MessageAttributes": {name: each}} for each in malformed()]
        for name in REPLY_NAMES:
            forged += [{"MessageAttributes": {name: each}} for each in malformed()]
        # Each of these is answered by what somebody else wrote, whatever that is.
        for index, body in enumerate(ERROR_BODIES):
            attributes = {
                QUEUE_NAME: text(ids[index]),
                REPLY_ERROR: text(FORGED if index % 2 else "code"),
            }
            forged += [{"Body": body, "MessageAttributes": attributes}] * 2
        proxy.plant(replies.url, *forged)
        # A reply that comes ends the poll that is under way, and what was planted comes next.
        await direct.port.send(replies.url, [SendEntry("forged", {QUEUE_NAME: text("unknown")})])
        async with asyncio.timeout(DONE):
            errors = await asyncio.gather(*requests[: len(ERROR_BODIES)], return_exceptions=True)
        assert {type(error) for error in errors} == {so.RemoteError}
        for error in errors:
            assert isinstance(str(error) + repr(error), str)
        go_on.set()
        async with asyncio.timeout(DONE):
            answers = await asyncio.gather(*requests[len(ERROR_BODIES) :])
        assert [each.json() for each in answers] == list(range(len(ERROR_BODIES), count))
        assert replies.statistics().unmatched >= len(forged) - len(ERROR_BODIES)
        assert replies.statistics().consecutive_failures == 0
        await becomes_empty(direct, queue)
    assert_log_is_not_forged(caplog)
