"""Drafts, and how they are sealed: what SQS would take of them, and what it would not."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from typing import Any

import pytest

from sqs_orchestrator import Draft, InvalidMessage, JSONCodec, MessageTooLarge, Reject, ReplyTo
from sqs_orchestrator.core import wire
from sqs_orchestrator.drafts import Sealed, seal

REPLY_QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/sqs_orchestrator_reply_1"
REPLY_TO = ReplyTo(REPLY_QUEUE, "an id")


def a_send(**fields: Any) -> Draft:
    return Draft(**{"kind": "send", "queue": "orders", "body": "a", **fields})


def a_request(**fields: Any) -> Draft:
    more = {"kind": "request", "timeout": 5.0, "correlation_id": "an id", **fields}
    return a_send(**more)


def a_reply(**fields: Any) -> Draft:
    return a_send(**{"kind": "reply", "queue": REPLY_QUEUE, "correlation_id": "an id", **fields})


def sealed(draft: Draft, **more: Any) -> Sealed:
    if draft.kind == "request":
        more = {"reply_queue_url": REPLY_QUEUE, **more}
    elif draft.kind == "reply":
        more = {"reply_to": REPLY_TO, **more}
    return seal(draft, JSONCodec(), **more)


def texts(message: Sealed) -> dict[str, Any]:
    return {name: value["StringValue"] for name, value in message.attributes.items()}


# ----------------------------------------------------------------------------- drafts


def test_draft_is_frozen_and_replace_makes_another() -> None:
    draft = a_send(attributes={"tenant": "a"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        draft.queue = "other"  # type: ignore[misc]
    other = draft.replace(queue="other", body={"id": 1})
    assert (other.queue, other.body, other.attributes) == ("other", {"id": 1}, {"tenant": "a"})
    assert (draft.queue, draft.body) == ("orders", "a")
    assert copy.deepcopy(draft) == draft
    assert other.replace(attributes=None).attributes == {}
    assert "queue='orders'" in repr(draft)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kind": "request"}, "'kind' cannot be changed"),
        ({"correlation_id": "b"}, "'correlation_id' cannot be changed"),
        ({"boddy": "b"}, "'boddy' is none of"),
    ],
)
def test_what_no_draft_has_and_what_stays_as_it_is_cannot_be_replaced(
    changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        a_send().replace(**changes)


def test_reply_goes_where_its_request_wants_it() -> None:
    assert a_reply().replace(queue=REPLY_QUEUE, body="b").body == "b"
    with pytest.raises(ValueError, match="a reply goes to the queue of its request"):
        a_reply().replace(queue="elsewhere")


# ---------------------------------------------------------------------------- sealing


def test_send_is_sealed_with_route_and_attributes() -> None:
    message = sealed(a_send(body={"id": 1}, attributes={"n": 1}, message_type="new", delay=3))
    assert json.loads(message.body) == {"id": 1}
    assert texts(message) == {"n": "1", "MessageType": "new"}
    assert message.delay == 3
    assert sealed(a_send()).delay is None
    assert sealed(a_send()).size == 1


def test_request_is_sealed_with_its_address_and_room_for_the_time_to_live() -> None:
    message = sealed(a_request())
    assert texts(message) == {"ResponseQueueUrl": f"{REPLY_QUEUE}#an id"}
    endless = sealed(a_request(timeout=math.inf))
    assert message.size == endless.size + wire.TIME_TO_LIVE_BYTES
    legacy = sealed(a_request(message_type="new"), legacy=True)
    assert texts(legacy).keys() >= {"ReplyTo", "RequestMessageId", "MessageType"}


def test_reply_is_sealed_with_its_correlation_id_and_the_callers_attributes() -> None:
    message = sealed(a_reply(body={"done": 1}, attributes={"tenant": "a"}))
    assert json.loads(message.body) == {"done": 1}
    assert wire.parse_reply(message.attributes).correlation_id == "an id"
    assert texts(message)["tenant"] == "a"


def test_reject_is_sealed_as_an_error_reply() -> None:
    body = Reject("none left", code="sold_out", details={"left": 0})
    message = sealed(a_reply(body=body, attributes={"tenant": "a"}))
    head = wire.parse_reply(message.attributes)
    assert (head.correlation_id, head.error_code) == ("an id", "sold_out")
    error = wire.parse_error(message.body, "sold_out")
    assert error == ("sold_out", "Reject", "none left", {"left": 0})
    assert texts(message)["tenant"] == "a"


def test_reject_is_the_body_of_no_other_draft() -> None:
    with pytest.raises(InvalidMessage, match="Reject"):
        sealed(a_send(body=Reject("no")))


@pytest.mark.parametrize("make", [a_send, a_request])
@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"body": ""}, "the body is empty"),
        ({"body": "nul\0"}, r"the body has U\+0000 at position 3"),
        ({"body": "\ud800"}, r"the body has U\+D800"),
        ({"attributes": {"": "b"}}, "empty"),
        ({"attributes": {"ResponseQueueUrl": "b"}}, "library's own"),
        ({"attributes": {str(n): "b" for n in range(11)}}, "SQS takes 10"),
        ({"attributes": "b"}, "attributes are a dict"),
        ({"attributes": ""}, "attributes are a dict"),
        ({"message_type": ""}, "empty"),
        ({"group_id": "g" * 129}, "128"),
        ({"deduplication_id": "d"}, "for FIFO queues"),
        ({"queue": "a.fifo"}, "needs a group_id"),
        ({"queue": "a.fifo", "group_id": ""}, "group_id is ''"),
        ({"queue": "a.fifo", "group_id": "g", "deduplication_id": " "}, "deduplication_id is ' '"),
        ({"queue": "a.fifo", "group_id": "g", "delay": 1}, "takes no delay"),
        ({"delay": 901}, "delay"),
        ({"delay": "1"}, "delay"),
    ],
)
def test_what_sqs_would_refuse_is_not_sealed(make: Any, fields: Any, match: str) -> None:
    draft = make(**fields)
    with pytest.raises(InvalidMessage, match=match) as caught:
        sealed(draft)
    assert caught.value.queue == draft.queue


@pytest.mark.parametrize("make", [a_send, a_request, a_reply])
def test_what_is_larger_than_sqs_takes_is_not_sealed(make: Any) -> None:
    room = 1_048_576 - (sealed(make()).size - 1)
    assert sealed(make(body="x" * room)).size == 1_048_576
    with pytest.raises(MessageTooLarge) as caught:
        sealed(make(body="é" + "x" * (room - 1)))
    assert (caught.value.size, caught.value.limit) == (1_048_577, 1_048_576)
    assert caught.value.queue == make().queue
    with pytest.raises(MessageTooLarge):
        sealed(make(body="x" * room, attributes={"a": "b"}))


@pytest.mark.parametrize("queue", [None, 5, ["orders"]])
@pytest.mark.parametrize("make", [a_send, a_request])
def test_queue_that_is_no_text_is_no_queue(make: Any, queue: Any) -> None:
    with pytest.raises(ValueError, match="by its name or URL"):
        sealed(make(queue=queue))


def test_media_type_that_sqs_would_refuse_is_not_sealed() -> None:
    class Codec(JSONCodec):
        def encode(self, value: Any) -> tuple[str, str | None]:
            return "{}", "text/\0"

    for draft in (a_send(body=1), a_reply(body=1)):
        with pytest.raises(InvalidMessage, match="content type"):
            seal(draft, Codec(), reply_to=REPLY_TO)
