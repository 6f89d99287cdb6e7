"""Requests both ways between this library and the synchronous package."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Mapping
from typing import Any, Final

import pytest

import sqs_orchestrator as so

from .conftest import Old, response, working
from .package import Requester, TimedOut

MANY: Final = 200

PRIORITY: Final = {"Priority": {"DataType": "String", "StringValue": "HIGH"}}


def allowed() -> list[str]:
    """All characters that SQS allows and this server takes, in bodies of less than 200 kB."""
    code_points = [9, 10, 13, *range(0x20, 0xD800), *range(0xE000, 0xFFFE)]
    step = 45_000
    return [
        "".join(map(chr, code_points[start : start + step]))
        for start in range(0, len(code_points), step)
    ]


BODIES: Final = ["a", "x" * 200_000, " ", "\t\r\n", *allowed()]


async def echo(message: so.Message) -> str:
    return message.body


def echoing(body: str, attributes: Mapping[str, Any]) -> str:
    return body


async def ask(requester: Requester, url: str, body: str, **options: Any) -> str:
    request_id = await asyncio.to_thread(requester.ask, url, body, **options)
    return await response(requester, request_id)


# ----------------------------------------------------- it asks, a worker here answers


async def test_hundreds_of_its_requests_at_once_are_answered(
    sqs: so.Connection, old: Old, url: str
) -> None:
    requester = await old.requester()
    bodies = [f"request {number}" for number in range(MANY)]
    async with working(sqs, url, echo, concurrency=50) as poller:
        ids = await asyncio.to_thread(lambda: [requester.ask(url, body) for body in bodies])
        assert [await response(requester, each) for each in ids] == bodies
        assert poller.statistics().replies == MANY


async def test_it_gets_the_same_body(sqs: so.Connection, old: Old, url: str) -> None:
    requester = await old.requester()
    async with working(sqs, url, echo):
        for body in BODIES:
            assert await ask(requester, url, body) == body


@pytest.mark.parametrize("told", [True, False])
async def test_prefix_of_its_own_must_be_told_to_the_worker(
    sqs: so.Connection, old: Old, url: str, told: bool
) -> None:
    name = f"replies_of_{uuid.uuid4().hex[:8]}_"
    requester = await old.requester(name)
    prefixes = {"reply_queue_prefixes": ("sqs_orchestrator_reply_", name)} if told else {}
    async with working(sqs, url, echo, **prefixes) as poller:
        request_id = await asyncio.to_thread(requester.ask, url, "x")
        if told:
            assert await response(requester, request_id) == "x"
        while poller.statistics().rejected + told < 1:  # noqa: ASYNC110 - it says so nowhere else
            await asyncio.sleep(0.01)


async def test_its_attributes_arrive_as_plain_values(
    sqs: so.Connection, old: Old, url: str
) -> None:
    seen: list[so.Message] = []

    async def handle(message: so.Message) -> str:
        seen.append(message)
        message.reply_attributes["seen"] = "yes"
        return "done"

    requester = await old.requester()
    async with working(sqs, url, handle):
        # It reads no attribute of a reply but the id.
        assert await ask(requester, url, "x", attributes={**PRIORITY}) == "done"
    assert seen[0].attributes == {"Priority": "HIGH"}
    assert seen[0].time_remaining() == float("inf")
    assert seen[0].reply_to is not None
    assert seen[0].reply_to.correlation_id is None
    assert seen[0].correlation_id == seen[0].reply_to.request_message_id


async def test_its_request_that_has_timed_out_does_not_disturb_the_next(
    sqs: so.Connection, old: Old, url: str
) -> None:
    go_on = asyncio.Event()

    async def handle(message: so.Message) -> str:
        if message.body == "slow":
            await go_on.wait()
        return message.body

    requester = await old.requester()
    async with working(sqs, url, handle):
        late = await asyncio.to_thread(requester.ask, url, "slow")
        with pytest.raises(TimedOut):
            await response(requester, late, timeout=0.2)
        assert await ask(requester, url, "next") == "next"
        go_on.set()
        assert await response(requester, late) == "slow"
        assert await ask(requester, url, "the one after") == "the one after"


@pytest.mark.parametrize("refuse", [True, False])
async def test_it_takes_a_failure_for_the_answer(
    sqs: so.Connection, old: Old, url: str, refuse: bool
) -> None:
    async def handle(message: so.Message) -> None:
        if refuse:
            raise so.Reject("sold out", code="sold_out", details={"left": 0})
        raise KeyError("secret")

    requester = await old.requester()
    async with working(sqs, url, handle):
        body = json.loads(await ask(requester, url, "x"))
    if refuse:
        assert body == {
            "code": "sold_out",
            "type": "Reject",
            "message": "sold out",
            "details": {"left": 0},
        }
    else:
        assert body == {"code": "handler_error", "type": "KeyError", "message": "", "details": None}


async def test_reply_to_a_requester_that_has_ended_is_dropped(
    sqs: so.Connection, old: Old, url: str
) -> None:
    requester, other = await old.requester(), await old.requester()
    await asyncio.to_thread(requester.ask, url, "x")
    await asyncio.to_thread(requester.remove_queue)
    async with working(sqs, url, echo) as poller:
        assert await ask(other, url, "y") == "y"
    assert poller.statistics().replies_dropped == 1


# -------------------------------------- one-way messages with an address, by mistake


async def test_its_one_way_message_is_handled_and_takes_nothing_from_the_request_before(
    sqs: so.Connection, old: Old, url: str
) -> None:
    audit = await sqs.create_queue(f"audit-{uuid.uuid4().hex}")
    noted = asyncio.Event()
    wanted: list[bool] = []

    async def note(message: so.Message) -> None:
        wanted.append(message.reply_to is not None)
        noted.set()

    async def answer_after_that(message: so.Message) -> str:
        await noted.wait()
        return "the answer"

    requester = await old.requester()
    async with (
        working(sqs, url, answer_after_that),
        working(sqs, audit, note) as auditor,
    ):
        request_id = await asyncio.to_thread(requester.ask, url, "question")
        await asyncio.to_thread(requester.send, audit, "note")
        assert await response(requester, request_id) == "the answer"
    assert wanted == [True]
    assert requester.taken == {request_id: "the answer"}
    statistics = auditor.statistics()
    assert (statistics.handled, statistics.replies, statistics.replies_dropped) == (1, 0, 0)
    left = await sqs.client.get_queue_attributes(QueueUrl=audit, AttributeNames=["All"])
    assert left["Attributes"]["ApproximateNumberOfMessages"] == "0"
    assert left["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "0"


async def test_what_the_handler_of_such_a_message_returns_goes_to_the_request_before(
    sqs: so.Connection, old: Old, url: str
) -> None:
    requester = await old.requester()
    async with working(sqs, url, echo):
        first = await asyncio.to_thread(requester.ask, url, "first")
        assert await response(requester, first) == "first"
        await asyncio.to_thread(requester.send, url, "one-way")
        second = await asyncio.to_thread(requester.ask, url, "second")
        assert await response(requester, second) == "second"
        while requester.taken[first] != "one-way":  # noqa: ASYNC110 - a thread takes it
            await asyncio.sleep(0.01)
    assert requester.taken == {first: "one-way", second: "second"}


# ------------------------------------------------------- a requester here, it answers


@pytest.mark.parametrize("prefix", ["sqs_orchestrator_reply_", "reply_queue_"])
async def test_it_answers_hundreds_of_requests_at_once(
    sqs: so.Connection, old: Old, url: str, prefix: str
) -> None:
    await old.worker(url, echoing)
    async with (
        so.ReplyQueue(sqs, prefix=prefix, legacy=True) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        bodies = [f"request {number}" for number in range(MANY)]
        answers = await asyncio.gather(
            *(publisher.request(url, body, timeout=60) for body in bodies)
        )
        assert [answer.body for answer in answers] == bodies
        assert publisher.statistics().replies == MANY
        tags = await sqs.port.list_queue_tags(str(replies.url))
        assert tags["heartbeat"].isdigit()


async def test_it_answers_with_the_same_body(sqs: so.Connection, old: Old, url: str) -> None:
    await old.worker(url, echoing)
    async with (
        so.ReplyQueue(sqs, legacy=True) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        for body in BODIES:
            assert (await publisher.request(url, body, timeout=60)).body == body


async def test_it_does_not_answer_who_does_not_speak_its_dialect(
    sqs: so.Connection, old: Old, url: str
) -> None:
    handled = threading.Event()

    def process(body: str, attributes: Mapping[str, Any]) -> str:
        handled.set()
        return body

    await old.worker(url, process)
    async with so.Publisher(sqs) as publisher:
        with pytest.raises(so.ReplyTimeout):
            await publisher.request(url, "x", timeout=1.5)
    assert handled.is_set()


async def test_its_handler_sees_no_attributes_and_the_request_has_room_for_six(
    sqs: so.Connection, old: Old, url: str
) -> None:
    seen: list[Mapping[str, Any]] = []

    def process(body: str, attributes: Mapping[str, Any]) -> str:
        seen.append(attributes)
        return "done"

    await old.worker(url, process)
    async with (
        so.ReplyQueue(sqs, legacy=True) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        six = {f"a{number}": "x" for number in range(6)}
        assert (await publisher.request(url, "x", attributes=six, timeout=60)).body == "done"
        with pytest.raises(so.InvalidMessage, match="leaves 6 for yours"):
            await publisher.request(url, "x", attributes={**six, "a7": "x"}, timeout=60)
    assert seen[0].keys() == {"ReplyTo", "RequestMessageId"}


async def test_its_reply_that_is_too_late_is_dropped_and_disturbs_nobody(
    sqs: so.Connection, old: Old, url: str
) -> None:
    go_on = threading.Event()

    def process(body: str, attributes: Mapping[str, Any]) -> str:
        if body == "slow":
            go_on.wait(60)
        return body

    await old.worker(url, process)
    async with (
        so.ReplyQueue(sqs, legacy=True) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        with pytest.raises(so.ReplyTimeout):
            await publisher.request(url, "slow", timeout=1)
        go_on.set()
        # It handles one after the other, so the late reply comes first.
        assert (await publisher.request(url, "next", timeout=60)).body == "next"
        assert replies.statistics().unmatched == 1


@pytest.mark.parametrize("failure", ["none", "empty", "raises"])
async def test_it_sends_no_reply_for_nothing_nor_for_a_failure(
    sqs: so.Connection, old: Old, url: str, failure: str
) -> None:
    tries: list[str] = []

    def process(body: str, attributes: Mapping[str, Any]) -> str | None:
        tries.append(body)
        if len(tries) == 1 and failure == "raises":
            raise KeyError(body)
        return {"none": None, "empty": ""}.get(failure, body)

    await old.worker(url, process, visibility=1)
    async with (
        so.ReplyQueue(sqs, legacy=True) as replies,
        so.Publisher(sqs, reply_queue=replies) as publisher,
    ):
        if failure == "raises":
            # It comes back, and its requester may still wait.
            assert (await publisher.request(url, "x", timeout=60)).body == "x"
            assert tries == ["x", "x"]
        else:
            with pytest.raises(so.ReplyTimeout):
                await publisher.request(url, "x", timeout=1.5)
            assert tries == ["x"]
