"""What goes out is what the conformance vectors say, end to end. What comes in is tested where it
is read, in `tests/unit/core`."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

import sqs_orchestrator as so
from sqs_orchestrator.core import wire
from sqs_orchestrator.requester import reply_queue
from sqs_orchestrator.sqs.port import SendEntry
from sqs_orchestrator.testing import MemoryServer, MemorySQS, connect, run_until_idle
from sqs_orchestrator.testing.queues import StoredMessage
from tests.vectors import VECTORS, unpacked, vectors

URL: Final[str] = VECTORS["reply_queue_url"]
NAME: Final = URL.rpartition("/")[2]
CORRELATION_ID: Final[str] = VECTORS["correlation_id"]


class Opaque(so.JSONCodec):
    """Writes pairs: a body, and its media type."""

    def encode(self, value: Any) -> tuple[str, str | None]:
        return value if isinstance(value, tuple) else super().encode(value)


def body_of(facts: Mapping[str, Any]) -> Any:
    content_type = facts.get("content_type")
    return facts["body"] if content_type is None else (facts["body"], content_type)


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer(region="eu-west-1")


@pytest.fixture(autouse=True)
def names_of_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "new_correlation_id", lambda: CORRELATION_ID)
    monkeypatch.setattr(reply_queue, "new_reply_queue_name", lambda prefix: NAME)


def raw(message: StoredMessage, now: float) -> dict[str, Any]:
    """A message as `SendMessage` has it."""
    attributes = {
        name: {
            field: base64.b64encode(content).decode() if field == "BinaryValue" else content
            for field, content in value.items()
        }
        for name, value in message.attributes.items()
    }
    facts = {
        "MessageBody": message.body,
        "MessageAttributes": attributes,
        "MessageGroupId": message.group_id,
        "MessageDeduplicationId": message.deduplication_id,
        "DelaySeconds": round(message.visible_at - now) or None,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


async def send(publisher: so.Publisher, draft: Mapping[str, Any]) -> None:
    options: dict[str, Any] = {
        name: draft[name]
        for name in ("message_type", "group_id", "deduplication_id", "delay")
        if name in draft
    }
    options["attributes"] = unpacked(draft.get("attributes", {}))
    if draft["kind"] == "send":
        await publisher.send(draft["queue"], body_of(draft), **options)
        return
    timeout = float("inf") if draft["timeout"] is None else draft["timeout"]
    await publisher.request(draft["queue"], body_of(draft), timeout=timeout, **options)


async def sent(server: MemoryServer, draft: Mapping[str, Any]) -> list[StoredMessage]:
    """What is in the queue, once a publisher has sent what *draft* says."""
    async with connect(server) as sqs:
        await sqs.create_queue(draft["queue"], fifo=draft["queue"].endswith(".fifo"))
        async with (
            so.ReplyQueue(sqs, legacy=draft.get("legacy", False)) as replies,
            so.Publisher(sqs, reply_queue=replies, codec=Opaque()) as publisher,
        ):
            await publisher.ready()
            assert replies.url == URL
            sending = asyncio.create_task(send(publisher, draft))
            await asyncio.wait({sending}, timeout=0.5)
            sending.cancel()
            await asyncio.wait({sending})
            if not sending.cancelled():
                await sending
            return server.messages(draft["queue"])


@vectors("drafts")
async def test_publisher_sends_what_is_drafted(vector: Any, server: MemoryServer) -> None:
    (message,) = await sent(server, vector["draft"])
    assert raw(message, message.sent_at) == vector["message"]


@vectors("refused_drafts")
async def test_publisher_refuses_what_sqs_would(vector: Any, server: MemoryServer) -> None:
    with pytest.raises(so.InvalidMessage):
        await sent(server, vector["draft"])


@pytest.mark.parametrize("kind", ["request", "send"])
@pytest.mark.parametrize("name", VECTORS["reserved_names"])
async def test_publisher_refuses_names_that_are_reserved(
    name: str, kind: str, server: MemoryServer
) -> None:
    attributes = {name: {"DataType": "String", "StringValue": "x"}}
    draft = {"kind": kind, "queue": "orders", "body": "x", "timeout": 5.0}
    with pytest.raises(so.InvalidMessage, match="library's own"):
        await sent(server, {**draft, "attributes": attributes})


async def put(server: MemoryServer, attributes: Mapping[str, Any]) -> MemorySQS:
    """Put a message into the queue `orders`, beside the queues of its replies."""
    client = MemorySQS(server)
    for name in ("orders", *{vector["queue_url"] for vector in VECTORS["reply_drafts"]}):
        await client.create_queue(name.rpartition("/")[2], {}, {})
    (done,) = await client.send(server.url("orders"), [SendEntry("1", unpacked(attributes))])
    assert isinstance(done, str)
    return client


@vectors("reply_drafts")
async def test_worker_replies_what_is_drafted(vector: Any, server: MemoryServer) -> None:
    async def handle(message: so.Message) -> Any:
        error = vector.get("error")
        if error is None:
            result = vector["result"]
            message.reply_attributes.update(unpacked(result.get("attributes", {})))
            return body_of(result)
        if error["type"] == "Reject":
            raise so.Reject(error["message"], code=error["code"], details=error["details"])
        raise KeyError(error["message"])

    await put(server, vector["request_attributes"])
    async with connect(server) as sqs:
        await run_until_idle(so.Poller(sqs, "orders", handle, codec=Opaque()))
    replies = server.messages(vector["queue_url"].rpartition("/")[2])
    wanted = [] if vector["message"] is None else [vector["message"]]
    assert [raw(reply, reply.sent_at) for reply in replies] == wanted
    assert sum(len(server.messages(name)) for name in server.queues) == len(wanted)


@vectors("deadlines")
async def test_worker_handles_nothing_that_nobody_waits_for(vector: Any) -> None:
    began = vector["sent_ms"] / 1000 - asyncio.get_running_loop().time()
    server = MemoryServer(region="eu-west-1", epoch=began)
    handled: list[so.Message] = []

    async def handle(message: so.Message) -> None:
        handled.append(message)

    await put(server, vector["attributes"])
    await asyncio.sleep((vector["now_ms"] - vector["sent_ms"]) / 1000)
    async with connect(server) as sqs:
        statistics = await run_until_idle(so.Poller(sqs, "orders", handle))
    assert len(handled) == (0 if vector["expired"] else 1)
    assert statistics.expired == (1 if vector["expired"] else 0)


@vectors("reply_queues")
async def test_requester_creates_its_reply_queue_with_these_tags(vector: Any) -> None:
    owner = vector["owner"]
    began = owner["now_ms"] / 1000 - asyncio.get_running_loop().time()
    server = MemoryServer(region="eu-west-1", epoch=began)
    async with (
        connect(server) as sqs,
        so.ReplyQueue(
            sqs,
            idle_retention=owner["idle_retention"],
            sweep_interval=300 if owner["sweeping"] else None,
            legacy=owner["legacy"],
        ) as replies,
    ):
        await replies.ready()
        queue = server.queue(NAME)
        given = {name: queue.attributes[name] for name in vector["create_queue"]["Attributes"]}
        assert {"Attributes": given, "tags": queue.tags} == vector["create_queue"]


def test_every_vector_is_run() -> None:
    tests = Path(__file__).resolve().parents[1]
    run = {
        kind
        for path in (*(tests / "unit" / "core").glob("test_*.py"), Path(__file__))
        for kind in re.findall(r'^@vectors\("(\w+)"\)', path.read_text("utf-8"), re.MULTILINE)
    }
    kinds = {kind for kind, content in VECTORS.items() if isinstance(content, list)}
    assert run | {"reserved_names"} == kinds
    for kind in run:
        names = [vector["name"] for vector in VECTORS[kind]]
        assert len(names) == len(set(names))
