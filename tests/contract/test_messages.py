"""The port's message operations, on whatever stands behind it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from sqs_orchestrator.errors import QueueError
from sqs_orchestrator.sqs.port import SQS, Attributes, Failure, Received, SendEntry

from .conftest import MakeQueue


async def send(sqs: SQS, url: str, *bodies: str) -> list[str | Failure]:
    return await sqs.send(url, [SendEntry(body) for body in bodies])


async def receive_all(sqs: SQS, url: str, count: int, **options: Any) -> list[Received]:
    """Receive until there are *count*: one receive may bring fewer."""
    received: list[Received] = []
    async with asyncio.timeout(20):
        while len(received) < count:
            received += await sqs.receive(url, wait_time=2, **options)
    return received


# --------------------------------------------------------------------- send, receive


async def test_send_returns_the_id_that_the_receiver_sees(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    [message_id] = await send(sqs, url, "hello")
    [message] = await receive_all(sqs, url, 1)
    assert message.message_id == message_id
    assert message.body == "hello"
    assert message.receipt_handle


@pytest.mark.parametrize("body", ['{"id": 1}', " spaces \t\n", "<&>\"'\\", "ünï€", "line\r\nline"])
async def test_body_arrives_as_it_was(sqs: SQS, make_queue: MakeQueue, body: str) -> None:
    url = await make_queue()
    await send(sqs, url, body)
    [message] = await receive_all(sqs, url, 1)
    assert message.body == body


@pytest.mark.deviates("fauxqs", reason="refuses characters beyond U+FFFF, which SQS takes")
async def test_emoji_arrives_as_it_was(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    [sent] = await send(sqs, url, "\U0001f600")
    assert isinstance(sent, str)
    [message] = await receive_all(sqs, url, 1)
    assert message.body == "\U0001f600"


async def test_attributes_arrive_in_the_shape_of_the_api(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    attributes: Attributes = {
        "MessageType": {"DataType": "String", "StringValue": "orders.new"},
        "__Dunder.Name": {"DataType": "String", "StringValue": "ünï"},
        "Number": {"DataType": "Number", "StringValue": "4.50"},
        "Custom": {"DataType": "Number.float", "StringValue": "1"},
        "Bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    [sent] = await sqs.send(url, [SendEntry("x", attributes)])
    assert isinstance(sent, str)
    [message] = await receive_all(sqs, url, 1)
    plain = {
        name: {key: value[key] for key in value if key in ("DataType", *_VALUES)}
        for name, value in message.attributes.items()
    }
    assert plain == attributes


_VALUES = ("StringValue", "BinaryValue")


async def test_message_without_attributes_has_none(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1)
    assert message.attributes == {}


async def test_message_tells_when_it_was_sent(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1)
    now = sqs.clock.now()
    assert now is not None
    assert abs(int(message.system["SentTimestamp"]) / 1000 - now) < 10


async def test_receive_count_rises(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await send(sqs, url, "x")
    [first] = await receive_all(sqs, url, 1, visibility_timeout=0)
    [second] = await receive_all(sqs, url, 1)
    counts = [message.system["ApproximateReceiveCount"] for message in (first, second)]
    assert counts == ["1", "2"]


async def test_ten_messages_go_in_one_call(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    bodies = [f"message {number}" for number in range(10)]
    ids = await send(sqs, url, *bodies)
    assert all(isinstance(message_id, str) for message_id in ids)
    assert len(set(ids)) == 10
    received = await receive_all(sqs, url, 10)
    assert {message.message_id: message.body for message in received} == dict(
        zip(ids, bodies, strict=True)
    )


async def test_receive_takes_no_more_than_asked_for(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await send(sqs, url, "a", "b", "c")
    assert len(await sqs.receive(url, max_messages=2, wait_time=1)) <= 2


async def test_receive_from_an_empty_queue_brings_nothing(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    assert await sqs.receive(url, wait_time=0) == []
    assert await sqs.receive(url, wait_time=1) == []


async def test_long_poll_wakes_for_a_message(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    async with asyncio.timeout(15), asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(sqs.receive(url, wait_time=20))
        await sqs.list_queue_tags(url)  # one round trip, so that the poll is there first
        await send(sqs, url, "late")
        assert [message.body for message in await poll] == ["late"]


async def test_delayed_message_comes_after_its_delay(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await sqs.send(url, [SendEntry("later", delay=2), SendEntry("now", delay=0)])
    first = await receive_all(sqs, url, 1)
    assert [message.body for message in first] == ["now"]
    [later] = await receive_all(sqs, url, 1)
    assert later.body == "later"


async def test_queue_delays_what_names_no_delay(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("slow", {"DelaySeconds": "900"})
    await sqs.send(url, [SendEntry("later"), SendEntry("now", delay=0)])
    assert [message.body for message in await receive_all(sqs, url, 1)] == ["now"]
    assert await sqs.receive(url, wait_time=0) == []


# ------------------------------------------------------------------------ visibility


async def test_received_message_is_hidden_and_comes_back(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("hiding", {"VisibilityTimeout": "2"})
    await send(sqs, url, "x")
    [first] = await receive_all(sqs, url, 1)
    assert await sqs.receive(url, wait_time=0) == []
    [again] = await receive_all(sqs, url, 1)
    assert again.message_id == first.message_id
    assert again.receipt_handle != first.receipt_handle


async def test_receive_sets_its_own_visibility(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("hiding", {"VisibilityTimeout": "0"})
    await send(sqs, url, "x")
    await receive_all(sqs, url, 1, visibility_timeout=60)
    assert await sqs.receive(url, wait_time=0) == []


async def test_released_message_comes_back_at_once(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("hiding", {"VisibilityTimeout": "600"})
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1)
    assert await sqs.change_visibility(url, [(message.receipt_handle, 0)]) == [None]
    [again] = await receive_all(sqs, url, 1)
    assert again.message_id == message.message_id


async def test_extended_message_stays_hidden(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("hiding", {"VisibilityTimeout": "1"})
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1)
    assert await sqs.change_visibility(url, [(message.receipt_handle, 60)]) == [None]
    assert await sqs.receive(url, wait_time=3) == []


@pytest.mark.deviates("elasticmq", "localstack", "ministack", reason="hides a message for any time")
async def test_visibility_beyond_twelve_hours_fails_its_entry(
    sqs: SQS, make_queue: MakeQueue
) -> None:
    url = await make_queue()
    await send(sqs, url, "a", "b")
    one, two = (message.receipt_handle for message in await receive_all(sqs, url, 2))
    refused, done = await sqs.change_visibility(url, [(one, 43_201), (two, 60)])
    assert isinstance(refused, Failure)
    assert refused.sender_fault
    assert done is None


# ---------------------------------------------------------------------------- delete


async def test_deleted_message_is_gone(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("hiding", {"VisibilityTimeout": "1"})
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1)
    assert await sqs.delete(url, [message.receipt_handle]) == [None]
    assert await sqs.receive(url, wait_time=3) == []


async def test_late_delete_still_deletes(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1, visibility_timeout=0)
    assert await sqs.delete(url, [message.receipt_handle]) == [None]
    assert await sqs.receive(url, wait_time=1) == []


@pytest.mark.deviates("elasticmq", "ministack", reason="forgets the handles of what was deleted")
async def test_delete_twice_is_no_failure(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1)
    assert await sqs.delete(url, [message.receipt_handle]) == [None]
    assert await sqs.delete(url, [message.receipt_handle]) == [None]


@pytest.mark.deviates("fauxqs", reason="takes any receipt handle")
@pytest.mark.deviates("localstack", reason="says that it is not the sender's fault")
async def test_bad_receipt_handle_fails_its_entry_only(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1)
    bad, good = await sqs.delete(url, ["no-such-handle", message.receipt_handle])
    assert isinstance(bad, Failure)
    assert bad.code == "ReceiptHandleIsInvalid"
    assert bad.sender_fault
    assert good is None


async def test_bad_receipt_handle_cannot_change_visibility(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1)
    good, bad = await sqs.change_visibility(url, [(message.receipt_handle, 9), ("no-such", 9)])
    assert good is None
    assert isinstance(bad, Failure)


async def test_deleted_message_cannot_be_hidden(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    await send(sqs, url, "x")
    [message] = await receive_all(sqs, url, 1)
    await sqs.delete(url, [message.receipt_handle])
    [failure] = await sqs.change_visibility(url, [(message.receipt_handle, 60)])
    assert isinstance(failure, Failure)


# -------------------------------------------------------------------------- refusals


TEXT = {"DataType": "String", "StringValue": "v"}


def bad_attributes(name: str, attributes: Attributes, **deviations: str) -> ParameterSet:
    """A case; *deviations*: how other servers deviate, by their names."""
    marks = [pytest.mark.deviates("fauxqs", "ministack", reason="does not look at attributes")]
    marks += [pytest.mark.deviates(each, reason=how) for each, how in deviations.items()]
    return pytest.param(SendEntry("x", attributes), id=name, marks=marks)


@pytest.mark.deviates("moto", reason="takes them, or refuses the whole batch")
@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(
            SendEntry("\x00"),
            id="character",
            marks=pytest.mark.deviates(
                "localstack", reason="a bad character is not the sender's fault"
            ),
        ),
        bad_attributes(
            "number",
            {"n": {"DataType": "Number", "StringValue": "no number"}},
            localstack="takes numbers that are none",
        ),
        bad_attributes(
            "count",
            {f"a{number}": TEXT for number in range(11)},
            localstack="takes more than ten attributes",
        ),
        bad_attributes("name", {"AWS.x": TEXT}, elasticmq="takes names that are AWS's own"),
        bad_attributes(
            "type",
            {"a": {"DataType": "Strange", "StringValue": "v"}},
            elasticmq="refuses the whole batch for a bad type",
        ),
        bad_attributes("empty value", {"a": {"DataType": "String", "StringValue": ""}}),
    ],
)
async def test_refused_entry_leaves_the_others_alone(
    sqs: SQS, make_queue: MakeQueue, bad: SendEntry
) -> None:
    url = await make_queue()
    first, refused, last = await sqs.send(url, [SendEntry("a"), bad, SendEntry("b")])
    assert isinstance(first, str)
    assert isinstance(refused, Failure)
    assert refused.sender_fault
    assert isinstance(last, str)


@pytest.mark.deviates("moto", reason="refuses the whole batch")
@pytest.mark.deviates("elasticmq", reason="queues have no limit of their own")
@pytest.mark.deviates("localstack", reason="it is an InvalidParameterValueException there")
async def test_message_beyond_the_queues_limit_fails_its_entry(
    sqs: SQS, make_queue: MakeQueue
) -> None:
    url = await make_queue("small", {"MaximumMessageSize": "1024"})
    refused, sent = await sqs.send(url, [SendEntry("x" * 1025), SendEntry("x" * 1024)])
    assert isinstance(refused, Failure)
    assert refused.code == "InvalidParameterValue"
    assert isinstance(sent, str)


@pytest.mark.deviates("elasticmq", reason="it is an InvalidAttributeValue there")
async def test_batch_beyond_one_mebibyte_is_refused(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    half = "x" * (512 * 1024)
    with pytest.raises(QueueError) as caught:
        await send(sqs, url, half, half + "x")
    assert caught.value.code == "BatchRequestTooLong"
    assert not caught.value.transient
    assert not caught.value.maybe_done


@pytest.mark.deviates("elasticmq", reason="takes 256 KiB at most, as SQS once did")
async def test_mebibyte_is_taken(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    [message_id] = await send(sqs, url, "x" * (1024 * 1024))
    assert isinstance(message_id, str)


@pytest.mark.deviates("elasticmq", reason="takes an empty batch")
async def test_empty_batch_is_refused(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    with pytest.raises(QueueError) as caught:
        await sqs.send(url, [])
    assert caught.value.code == "EmptyBatchRequest"


# ------------------------------------------------------------------------------ FIFO


async def test_fifo_keeps_order_and_holds_back_a_group_in_flight(
    sqs: SQS, make_queue: MakeQueue
) -> None:
    url = await make_queue("a.fifo", {"ContentBasedDeduplication": "true"})
    for body, group in [("1", "x"), ("2", "x"), ("3", "x"), ("4", "y")]:
        [sent] = await sqs.send(url, [SendEntry(body, group_id=group)])
        assert isinstance(sent, str)
    [first] = await sqs.receive(url, max_messages=1, wait_time=2)
    assert (first.body, first.system["MessageGroupId"]) == ("1", "x")
    [other] = await sqs.receive(url, wait_time=2)
    assert (other.body, other.system["MessageGroupId"]) == ("4", "y")
    assert await sqs.receive(url, wait_time=0) == []
    assert await sqs.delete(url, [first.receipt_handle]) == [None]
    assert await drain(sqs, url, 2) == ["2", "3"]


async def drain(sqs: SQS, url: str, count: int) -> list[str]:
    """Receive and delete *count* messages; their bodies in order."""
    bodies: list[str] = []
    async with asyncio.timeout(20):
        while len(bodies) < count:
            received = await sqs.receive(url, wait_time=2)
            bodies += [message.body for message in received]
            if received:
                await sqs.delete(url, [message.receipt_handle for message in received])
    return bodies


async def test_fifo_group_comes_back_in_order(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("a.fifo", {"ContentBasedDeduplication": "true"})
    await sqs.send(url, [SendEntry(body, group_id="x") for body in "123"])
    taken = await receive_all(sqs, url, 1)
    for message in reversed(taken):
        assert await sqs.change_visibility(url, [(message.receipt_handle, 0)]) == [None]
    assert await drain(sqs, url, 3) == ["1", "2", "3"]


@pytest.mark.deviates("fauxqs", reason="hands out one message of a group at a time")
async def test_fifo_hands_out_several_of_a_group_at_once(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("a.fifo", {"ContentBasedDeduplication": "true"})
    await sqs.send(url, [SendEntry(body, group_id="x") for body in "123"])
    received = await sqs.receive(url, wait_time=2)
    assert [message.body for message in received] == ["1", "2", "3"]


async def test_fifo_takes_a_deduplication_id_once(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("a.fifo")
    entry = SendEntry("x", group_id="g", deduplication_id="d")
    for _ in range(2):
        [sent] = await sqs.send(url, [entry])
        assert isinstance(sent, str)
    assert len(await drain(sqs, url, 1)) == 1
    assert await sqs.receive(url, wait_time=1) == []


@pytest.mark.deviates("moto", reason="forgets the id with the message")
async def test_fifo_remembers_the_id_of_a_deleted_message(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("a.fifo")
    entry = SendEntry("x", group_id="g", deduplication_id="d")
    await sqs.send(url, [entry])
    assert await drain(sqs, url, 1) == ["x"]
    await sqs.send(url, [entry])
    assert await sqs.receive(url, wait_time=1) == []


@pytest.mark.deviates("moto", reason="makes up an id for the message that it drops")
async def test_fifo_gives_a_duplicate_the_id_of_the_first(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("a.fifo")
    entry = SendEntry("x", group_id="g", deduplication_id="d")
    assert await sqs.send(url, [entry]) == await sqs.send(url, [entry])


async def test_fifo_deduplicates_by_content_without_attributes(
    sqs: SQS, make_queue: MakeQueue
) -> None:
    url = await make_queue("a.fifo", {"ContentBasedDeduplication": "true"})
    for value in ("1", "2"):
        attributes = {"a": {"DataType": "String", "StringValue": value}}
        await sqs.send(url, [SendEntry("same", attributes, group_id="g")])
    assert len(await sqs.receive(url, wait_time=1)) == 1


async def test_fifo_wants_a_deduplication_id(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("a.fifo")
    try:
        [result] = await sqs.send(url, [SendEntry("x", group_id="g")])
    except QueueError as error:
        result = Failure(error.code or "")
    assert isinstance(result, Failure)
    assert result.code == "InvalidParameterValue"


@pytest.mark.deviates("localstack", reason="it is an InvalidParameterValue there")
async def test_fifo_wants_a_group_id(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("a.fifo", {"ContentBasedDeduplication": "true"})
    try:
        [result] = await sqs.send(url, [SendEntry("x")])
    except QueueError as error:
        result = Failure(error.code or "")
    assert isinstance(result, Failure)
    assert result.code == "MissingParameter"


@pytest.mark.deviates("localstack", reason="it is an InvalidParameterValueException there")
async def test_fifo_refuses_a_delay(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue("a.fifo", {"ContentBasedDeduplication": "true"})
    try:
        [result] = await sqs.send(url, [SendEntry("x", group_id="g", delay=1)])
    except QueueError as error:
        result = Failure(error.code or "")
    assert isinstance(result, Failure)
    assert result.code == "InvalidParameterValue"


# ----------------------------------------------------------------- dead-letter queue


async def test_message_received_too_often_moves_to_the_dead_letter_queue(
    sqs: SQS, make_queue: MakeQueue
) -> None:
    dead = await make_queue("dead")
    arn = (await sqs.get_queue_attributes(dead, ["QueueArn"]))["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    url = await make_queue("queue", {"RedrivePolicy": policy})
    [message_id] = await send(sqs, url, "poison")
    for _ in range(2):
        [message] = await receive_all(sqs, url, 1)
        await sqs.change_visibility(url, [(message.receipt_handle, 0)])
    assert await sqs.receive(url, wait_time=1) == []
    [buried] = await receive_all(sqs, dead, 1)
    assert (buried.message_id, buried.body) == (message_id, "poison")


# ---------------------------------------------------------------------- cancellation


async def test_cancelled_poll_leaves_the_client_usable(sqs: SQS, make_queue: MakeQueue) -> None:
    url = await make_queue()
    poll = asyncio.ensure_future(sqs.receive(url, wait_time=1))
    await sqs.list_queue_tags(url)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert isinstance((await send(sqs, url, "x"))[0], str)
