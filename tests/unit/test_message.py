from __future__ import annotations

import asyncio
import copy
import math
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from sqs_orchestrator.core import wire
from sqs_orchestrator.core.attributes import to_attributes
from sqs_orchestrator.message import Message, Reply, ReplyTo
from sqs_orchestrator.sqs.clock import Clock
from sqs_orchestrator.sqs.port import Received

REPLY_TO = ReplyTo("https://sqs.eu-west-1.amazonaws.com/1/replies", "c1")
SENT = 1_700_000_000.0


def received(body: str = '{"id": 1}', **system: str) -> Received:
    attributes = {
        **wire.request_attributes(
            reply_queue_url=REPLY_TO.queue_url, correlation_id="c1", message_type="price"
        ),
        **to_attributes({"tenant": "a", "priority": 5}, wire.RESERVED),
    }
    return Received("m1", "handle", body, wire.with_time_to_live(attributes, 5), system)


def message_from(got: Received, clock: Clock | None = None) -> Message:
    return Message.received(got, wire.parse_request(got.attributes), clock or Clock())


def test_message_tells_what_sqs_handed_out() -> None:
    message = message_from(
        received(SentTimestamp="1700000000123", ApproximateReceiveCount="3", MessageGroupId="group")
    )
    assert message.body == '{"id": 1}'
    assert message.json() == {"id": 1}
    assert message.attributes == {"tenant": "a", "priority": 5}
    assert message.message_id == "m1"
    assert message.message_type == "price"
    assert message.receive_count == 3
    assert message.sent_at == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    assert message.group_id == "group"
    assert message.correlation_id == "c1"
    assert message.reply_to == REPLY_TO
    assert message.content_type is None


def test_message_without_system_attributes_tells_what_it_can() -> None:
    message = Message.received(Received("m1", "handle", "x"), wire.Request(), Clock())
    assert message.receive_count == 1
    assert message.sent_at is None
    assert message.group_id is None
    assert message.correlation_id is None
    assert message.time_remaining() == math.inf


@pytest.mark.parametrize("text", ["", "soon", "-1", "9" * 400])
def test_message_survives_unreadable_system_attributes(text: str) -> None:
    message = message_from(received(SentTimestamp=text))
    assert message.sent_at is None


async def test_message_counts_its_time_by_the_clock_of_sqs() -> None:
    clock = Clock()
    clock.observe_epoch(SENT + 2)
    message = message_from(received(SentTimestamp=str(int(SENT * 1000))), clock)
    assert message.time_remaining() == pytest.approx(3, abs=0.5)


async def test_message_of_a_requester_that_gave_up_has_less_than_no_time() -> None:
    clock = Clock()
    clock.observe_epoch(SENT + 60)
    message = message_from(received(SentTimestamp=str(int(SENT * 1000))), clock)
    assert message.time_remaining() == pytest.approx(-55, abs=0.5)


async def test_message_never_expires_early_where_the_time_is_not_known() -> None:
    known = Clock()
    known.observe_epoch(SENT - 3600)
    for clock, system in (
        (Clock(), {"SentTimestamp": "1700000000000"}),
        (known, {}),
        (known, {"SentTimestamp": "1700000000000"}),  # sent in the future
    ):
        message = message_from(received(**system), clock)
        assert message.time_remaining() == pytest.approx(5, abs=0.5)


async def test_handler_may_ask_for_the_time_in_a_thread() -> None:
    message = message_from(received())
    remaining = await asyncio.to_thread(message.time_remaining)
    assert remaining == pytest.approx(5, abs=0.5)


def test_time_remaining_of_a_message_made_by_a_test_runs_down() -> None:
    message = Message("x", time_remaining=5)
    first = message.time_remaining()
    assert first <= 5
    assert message.time_remaining() <= first
    assert Message("x").time_remaining() == math.inf
    assert Message("x").receive_count == 1


def test_test_makes_its_own_message() -> None:
    sent_at = datetime(2024, 2, 29, 1, 2, 3, 456_000, tzinfo=UTC)
    message = Message(
        "[1]",
        attributes={"tenant": "a"},
        message_id="m2",
        message_type="price",
        receive_count=2,
        sent_at=sent_at,
        group_id="g",
        reply_to=REPLY_TO,
        content_type="text/x",
    )
    assert message.json() == [1]
    assert message.attributes == {"tenant": "a"}
    assert (message.message_id, message.message_type) == ("m2", "price")
    assert (message.receive_count, message.sent_at) == (2, sent_at)
    assert (message.group_id, message.content_type) == ("g", "text/x")
    assert (message.reply_to, message.correlation_id) == (REPLY_TO, "c1")


def test_correlation_id_of_the_older_package_counts() -> None:
    assert Message("x", reply_to=ReplyTo(REPLY_TO.queue_url, None, "old")).correlation_id == "old"


def test_reply_tells_what_sqs_handed_out() -> None:
    got = received("null")
    reply = Reply.received(got, wire.ReplyHead(content_type="text/x"))
    assert reply.body == "null"
    assert reply.json() is None
    assert reply.attributes == {"tenant": "a", "priority": 5}
    assert reply.message_id == "m1"
    assert reply.content_type == "text/x"


def test_test_makes_its_own_reply() -> None:
    reply = Reply("[1]", attributes={"a": 1}, message_id="m2", content_type="text/x")
    assert (reply.json(), reply.attributes) == ([1], {"a": 1})
    assert (reply.message_id, reply.content_type) == ("m2", "text/x")


def test_attributes_are_worked_out_once() -> None:
    message = message_from(received())
    assert message.attributes is message.attributes


@pytest.mark.parametrize("body", ["", "{", "[" * 100_000, "1" * 5000], ids=range(4))
@pytest.mark.parametrize("kind", [Message, Reply])
def test_body_that_is_not_json_is_a_value_error(kind: Any, body: str) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        kind(body).json()


@pytest.mark.parametrize("kind", [Message, Reply])
@pytest.mark.parametrize("body", [{"id": 1}, b"x", None])
def test_body_that_is_no_text_is_refused(kind: Any, body: Any) -> None:
    with pytest.raises(ValueError, match=r"body is a str, as json.dumps\(\) makes one, not"):
        kind(body)


@pytest.mark.parametrize(
    ("name", "value"),
    [("attributes", "x"), ("reply_to", "https://x"), ("sent_at", 5), ("time_remaining", "x")],
)
def test_message_of_wrong_types_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is a|{name} is what ReplyTo.parse"):
        Message("x", **{name: value})


@pytest.mark.parametrize("value", [Message("x"), Reply("x")], ids=["Message", "Reply"])
@pytest.mark.parametrize("name", ["body", "_received", "colour"])
def test_value_is_frozen(value: Any, name: str) -> None:
    with pytest.raises(AttributeError, match="frozen"):
        setattr(value, name, "y")
    with pytest.raises(AttributeError, match="frozen"):
        delattr(value, name)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize(
    "value",
    [
        Message(
            "x",
            attributes={"a": b"b"},
            message_id="m",
            message_type="t",
            receive_count=7,
            sent_at=datetime(2024, 1, 1, tzinfo=UTC),
            group_id="g",
            reply_to=REPLY_TO,
            content_type="c",
        ),
        message_from(received(ApproximateReceiveCount="2", SentTimestamp="1700000000000")),
        Reply("x", attributes={"a": 1}, message_id="m", content_type="c"),
        Reply.received(received(), wire.ReplyHead("c1", content_type="c")),
    ],
    ids=["Message", "received Message", "Reply", "received Reply"],
)
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
)
def test_value_survives_copies_and_processes(value: Any, duplicate: Any) -> None:
    twin = duplicate(value)
    assert twin is not value
    assert twin == value
    assert hash(twin) == hash(value)


def test_time_remaining_survives_the_trip_to_another_process() -> None:
    message = pickle.loads(pickle.dumps(Message("x", time_remaining=50)))
    assert message.time_remaining() == pytest.approx(50, abs=5)


def test_values_that_differ_are_not_equal() -> None:
    assert Message("x") != Message("y")
    assert Message("x", attributes={"a": 1}) != Message("x")
    assert Reply("x") != Reply("x", message_id="m")
    assert Message("x") != Reply("x")
    assert Message("x") != "x"


def test_repr_tells_the_facts_and_cuts_the_body_short() -> None:
    message = Message("x" * 1000, message_id="m1", message_type="price", reply_to=REPLY_TO)
    shown = repr(message)
    assert shown.startswith("Message(body='xxx")
    assert "(1000 characters)" in shown
    assert "message_id='m1'" in shown
    assert "message_type='price'" in shown
    assert REPLY_TO.queue_url in shown
    assert "group_id" not in shown
    assert len(shown) < 400
    assert repr(Reply("short", message_id="m")) == "Reply(body='short', message_id='m')"


def test_message_knows_its_queue() -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"
    message = Message.received(Received("m1", "handle", "x"), wire.Request(), Clock(), url)
    assert message.queue_url == url
    assert message.replace(body="y").queue_url == url
    assert pickle.loads(pickle.dumps(message)).queue_url == url
    assert message == Message("x", message_id="m1", queue_url=url)
    assert Message("x").queue_url is None
    with pytest.raises(ValueError, match="queue_url is a str or None"):
        Message("x", queue_url=5)  # type: ignore[arg-type]


def test_message_knows_its_topic() -> None:
    topic = "arn:aws:sns:eu-west-1:123456789012:orders"
    message = Message("x", message_id="m1", topic_arn=topic)
    assert message.topic_arn == topic
    assert message.replace(body="y").topic_arn == topic
    assert pickle.loads(pickle.dumps(message)) == message
    assert message != Message("x", message_id="m1")
    assert Message("x").topic_arn is None


def test_repr_is_short_whatever_the_attributes_are() -> None:
    value = {"DataType": "String", "StringValue": "\x1b" + "x" * 600_000}
    received = Received("id", "handle", "body", {"long": value})
    text = repr(Reply.received(received, wire.ReplyHead("id")))
    assert text.isprintable()
    assert len(text) < 5_000


def test_reply_is_replaced_in_part() -> None:
    reply = Reply("a", attributes={"n": 1}, message_id="id", content_type="text/x")
    assert reply.replace(body="b") == Reply(
        "b", attributes={"n": 1}, message_id="id", content_type="text/x"
    )
    assert reply.replace(attributes={}).attributes == {}
    assert reply.replace() == reply
    assert reply.body == "a"
    with pytest.raises(ValueError, match="body is a str"):
        reply.replace(body={})  # type: ignore[arg-type]


# ----------------------------------------------------------------- replacing


def test_replaced_message_is_the_same_but_for_what_was_replaced() -> None:
    system = {"ApproximateReceiveCount": "3", "SentTimestamp": "1000", "MessageGroupId": "g"}
    attributes = {"n": {"DataType": "Number", "StringValue": "1"}}
    to = wire.ReplyTo("https://sqs.eu-west-1.amazonaws.com/123456789012/q", "id")
    request = wire.Request(to, 60.0, "route", "text/x")
    message = Message.received(
        Received("m1", "handle", "secret", attributes, system), request, Clock(), "url"
    )
    other = message.replace(body="plain")
    assert other.body == "plain"
    assert other == Message(
        "plain",
        attributes={"n": 1},
        message_id="m1",
        message_type="route",
        receive_count=3,
        sent_at=message.sent_at,
        group_id="g",
        reply_to=to,
        content_type="text/x",
        queue_url="url",
    )
    assert other.time_remaining() == pytest.approx(message.time_remaining(), abs=5)
    assert message.body == "secret"
    assert message.replace(attributes={"a": "b"}).attributes == {"a": "b"}
    assert message.replace(attributes={"a": "b"}).body == "secret"


def test_replaced_message_shares_what_its_reply_will_carry() -> None:
    message = Message("a")
    other = message.replace(body="b").replace(body="c")
    other.reply_attributes["x"] = 1
    assert message.reply_attributes == {"x": 1}
    assert Message("a").reply_attributes == {}


@pytest.mark.parametrize("change", [{"body": 1}, {"body": b"x"}, {"attributes": ["x"]}])
def test_message_is_replaced_by_what_can_be_one(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Message("a").replace(**change)


def test_labels_are_those_of_the_attributes_that_came() -> None:
    given = {
        "id": {"DataType": "String.uuid", "StringValue": "5f2b"},
        "n": {"DataType": "Number", "StringValue": "7"},
    }
    came = Received("m1", "handle", "x", given)
    message = Message.received(came, wire.Request(), Clock())
    reply = Reply.received(came, wire.ReplyHead())
    for value in (message, reply, message.replace(body="y"), reply.replace(body="y")):
        assert value.attribute_labels == {"id": "uuid"}
    for value in (message, reply):
        changed = value.replace(attributes={"id": "5f2c", "n": 7})
        assert changed.attribute_labels == {}
    assert Message("x", attributes={"id": "5f2b"}).attribute_labels == {}
