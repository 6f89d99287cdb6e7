from __future__ import annotations

import ast
import enum
import json
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import sqs_orchestrator
from sqs_orchestrator.core import limits, names, wire
from sqs_orchestrator.core.attributes import plain_attributes
from sqs_orchestrator.core.checks import checked, message_bytes
from sqs_orchestrator.core.wire import Malformed, ReplyTo
from sqs_orchestrator.errors import InvalidMessage
from tests.unit.strategies import any_text, number, sqs_text, string
from tests.vectors import VECTORS, unpacked, vectors

URL = VECTORS["reply_queue_url"]
JAVA_URL = "https://sqs.us-east-1.amazonaws.com/1/__RequesterClientQueues__0b1c-0"


queue_urls = st.from_regex(
    r"https?://[a-z0-9.:-]{1,40}/[0-9]{1,12}/[A-Za-z0-9_-]{1,80}", fullmatch=True
)
reply_tos = st.builds(
    ReplyTo, queue_urls, st.one_of(st.none(), sqs_text), st.one_of(st.none(), sqs_text)
)
# In the shape of the SQS API, and whatever else.
hostile_attributes = st.dictionaries(
    st.one_of(st.sampled_from(sorted(wire.RESERVED)), st.text(max_size=10)),
    st.one_of(
        st.builds(
            lambda kind, text: {"DataType": kind, "StringValue": text},
            st.sampled_from(["String", "Number", "Number.float", "String.x"]),
            st.one_of(any_text, st.just(URL), st.just(f"{URL}#id"), st.integers().map(str)),
        ),
        st.builds(lambda data: {"DataType": "Binary", "BinaryValue": data}, st.binary()),
        st.just({"DataType": "String"}),
    ),
    max_size=10,
)


# -------------------------------------------------------------- the vectors


@vectors("requests")
def test_parser_reads_request(vector: Any) -> None:
    request = wire.parse_request(unpacked(vector["attributes"]))
    reply_to = request.reply_to
    assert vector["means"] == {
        "reply_queue_url": reply_to and reply_to.queue_url,
        "correlation_id": reply_to and reply_to.id,
        "time_to_live": request.time_to_live,
        "message_type": request.message_type,
        "content_type": request.content_type,
    }


@vectors("requests")
def test_responder_writes_reply_attributes(vector: Any) -> None:
    reply_to = wire.parse_request(unpacked(vector["attributes"])).reply_to
    attributes = None if reply_to is None else wire.reply_attributes(reply_to)
    assert attributes == vector["reply_attributes"]


@vectors("requests")
def test_reply_address_survives_a_trip_as_text(vector: Any) -> None:
    reply_to = wire.parse_request(unpacked(vector["attributes"])).reply_to
    if reply_to is not None:
        assert ReplyTo.parse(str(reply_to)) == reply_to


@vectors("malformed_requests")
def test_parser_refuses_malformed_request(vector: Any) -> None:
    with pytest.raises(Malformed) as caught:
        wire.parse_request(unpacked(vector["attributes"]))
    reply_to = caught.value.reply_to
    assert (reply_to and str(reply_to)) == vector["answer_to"]


@vectors("replies")
def test_requester_reads_reply(vector: Any) -> None:
    message = vector["message"]
    head = wire.parse_reply(unpacked(message["MessageAttributes"]))
    error = None
    if head.error_code is not None:
        facts = wire.parse_error(message["Body"], head.error_code)
        error = dict(zip(("code", "type", "message", "details"), facts, strict=True))
    assert vector["means"] == {
        "correlation_id": head.correlation_id,
        "content_type": head.content_type,
        "error": error,
    }


@vectors("reply_queues")
def test_requester_writes_tags_of_a_heartbeat(vector: Any) -> None:
    owner = vector["owner"]
    tags = wire.heartbeat_tags(
        now=owner["now_ms"] / 1000 + 60,
        retention=owner["idle_retention"],
        legacy=owner["legacy"],
    )
    assert tags == vector["heartbeat"]


def test_names_that_are_reserved_are_those_of_the_vectors() -> None:
    assert sorted(wire.RESERVED) == VECTORS["reserved_names"]


# ---------------------------------------------------------------- requests


@given(
    url=queue_urls,
    correlation_id=sqs_text,
    seconds=st.floats(0.001, 1e6),
    message_type=st.none() | sqs_text,
    content_type=st.none() | sqs_text,
    legacy=st.booleans(),
)
def test_worker_reads_what_requester_writes(
    url: str,
    correlation_id: str,
    seconds: float,
    message_type: str | None,
    content_type: str | None,
    legacy: bool,
) -> None:
    attributes = wire.request_attributes(
        reply_queue_url=url,
        correlation_id=correlation_id,
        message_type=message_type,
        content_type=content_type,
        legacy=legacy,
    )
    request = wire.parse_request(wire.with_time_to_live(attributes, seconds))
    assert request.reply_to == ReplyTo(url, correlation_id, correlation_id if legacy else None)
    assert request.message_type == message_type
    assert request.content_type == content_type
    assert request.time_to_live is not None
    assert seconds - 0.001 <= request.time_to_live <= seconds + 1e-9


def test_correlation_ids_differ_and_have_no_mark() -> None:
    ids = {wire.new_correlation_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", text) for text in ids)


def test_plain_request_costs_two_attributes() -> None:
    attributes = wire.request_attributes(reply_queue_url=URL, correlation_id="a")
    assert len(wire.with_time_to_live(attributes, 1)) == 2


def test_time_to_live_leaves_the_attributes_it_is_given_alone() -> None:
    attributes = wire.request_attributes(reply_queue_url=URL, correlation_id="a")
    wire.with_time_to_live(attributes, 1)
    assert len(attributes) == 1


def test_time_to_live_of_forever_is_absent() -> None:
    assert wire.with_time_to_live({}, math.inf) == {}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_time_to_live_fits_its_reserve(seconds: float) -> None:
    attributes = wire.with_time_to_live({}, seconds)
    assert message_bytes("", attributes) <= wire.TIME_TO_LIVE_BYTES
    time_to_live = wire.parse_request(attributes).time_to_live
    assert time_to_live is not None
    assert 0 < time_to_live <= limits.RETENTION


@pytest.mark.parametrize("message_type", ["", "a\x00b", 5])
def test_requester_refuses_bad_message_type(message_type: Any) -> None:
    with pytest.raises(InvalidMessage, match="message_type"):
        wire.one_way_attributes(message_type)


def test_requester_writes_enum_member_as_its_value() -> None:
    class Route(enum.StrEnum):
        PRICE = "price"

    value = wire.one_way_attributes(Route.PRICE)["MessageType"]["StringValue"]
    assert type(value) is str
    assert value == "price"


@given(hostile_attributes)
def test_parser_raises_nothing_but_malformed(attributes: Any) -> None:
    reason = ""
    try:
        wire.parse_request(attributes)
    except Malformed as error:
        reason = error.reason
    assert reason.isascii()
    assert reason == "" or reason.isprintable()
    assert len(reason) < 1200


@pytest.mark.parametrize("text", ["", "1_000", "٣", "0x10", "nan", "inf", "1e999", " 5", "5\n"])
def test_parser_refuses_time_to_live(text: str) -> None:
    attributes = {"ResponseQueueUrl": string(f"{URL}#a"), "RequestTimeToLive": number(text)}
    with pytest.raises(Malformed) as caught:
        wire.parse_request(attributes)
    assert caught.value.reply_to == ReplyTo(URL, "a")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("5e3", 5), ("1500.5", 1.5005), ("+7", 0.007)]
)
def test_parser_takes_any_number_that_sqs_has_as_time_to_live(text: str, seconds: float) -> None:
    assert wire.parse_request({"RequestTimeToLive": number(text)}).time_to_live == seconds


def test_parser_splits_address_at_the_first_mark() -> None:
    request = wire.parse_request({"ResponseQueueUrl": string(f"{URL}#a#b")})
    assert request.reply_to == ReplyTo(URL, "a#b")


def test_plain_address_wins_over_legacy_one() -> None:
    request = wire.parse_request(
        {
            "ResponseQueueUrl": string(f"{URL}#new"),
            "ReplyTo": string(JAVA_URL),
            "RequestMessageId": string("old"),
        }
    )
    assert request.reply_to == ReplyTo(URL, "new", "old")


def test_request_message_id_alone_wants_no_reply() -> None:
    assert wire.parse_request({"RequestMessageId": string("a")}).reply_to is None


@pytest.mark.parametrize("name", ["MessageType", "ContentType", "RequestMessageId"])
def test_malformed_request_tells_where_to_say_so(name: str) -> None:
    attributes: dict[str, Any] = {
        "ResponseQueueUrl": string(f"{URL}#a"),
        name: {"DataType": "Binary", "BinaryValue": b"x"},
    }
    with pytest.raises(Malformed, match=name) as caught:
        wire.parse_request(attributes)
    assert caught.value.reply_to is not None
    assert caught.value.reply_to.correlation_id == "a"


def test_malformed_reason_is_safe_to_log() -> None:
    attack = "no URL\nERROR root: forged line \u2028\x1b[31m" + "x" * 100_000
    with pytest.raises(Malformed) as caught:
        wire.parse_request({"ResponseQueueUrl": string(attack)})
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) < 1000


def test_parser_refuses_id_that_no_reply_can_carry() -> None:
    for wrong in ("\x00", "a\ud800", "\ufffe"):
        with pytest.raises(Malformed, match="SQS refuses") as caught:
            wire.parse_request({"ResponseQueueUrl": string(f"{URL}#{wrong}")})
        assert caught.value.reply_to is None
        with pytest.raises(Malformed, match="SQS refuses") as caught:
            wire.parse_request(
                {"ResponseQueueUrl": string(URL + "#a"), "RequestMessageId": string(wrong)}
            )
        assert caught.value.reply_to == ReplyTo(URL, "a")
        with pytest.raises(Malformed, match="SQS refuses"):
            wire.parse_request({"ReplyTo": string(URL), "RequestMessageId": string(wrong)})


@pytest.mark.parametrize("address", ["reply please", URL + "#a", "", "ftp://host/1/q"])
def test_parser_refuses_legacy_address(address: str) -> None:
    with pytest.raises(Malformed):
        wire.parse_request({"ReplyTo": string(address), "RequestMessageId": string("a")})


# ----------------------------------------------------------- reply addresses


@given(reply_tos)
def test_every_reply_address_survives_a_trip_as_text(reply_to: ReplyTo) -> None:
    assert ReplyTo.parse(str(reply_to)) == reply_to


def test_plain_reply_address_reads_as_on_the_wire() -> None:
    assert str(ReplyTo(URL, "abc")) == f"{URL}#abc"


@given(st.one_of(any_text, st.none(), st.integers(), st.binary()))
def test_parse_raises_nothing_but_value_error(text: Any) -> None:
    said = ""
    try:
        ReplyTo.parse(text)
    except ValueError as error:
        said = str(error)
    assert said.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#a",
        f"{URL}#",
        f"{URL}#\x00",
        f"{URL}#\ud800",
        "{",
        "{}",
        "[]",
        "{" * 100_000,
        '{"ResponseQueueUrl":5}',
        '{"ResponseQueueUrl":null}',
        '{"RequestMessageId":"a"}',
        '{"a":' * 100_000,
        json.dumps({"ResponseQueueUrl": URL, "RequestMessageId": "\x00"}),
    ],
    ids=range(14),
)
def test_parse_refuses_text_that_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="not a reply address"):
        ReplyTo.parse(text)


# ------------------------------------------------------------------- replies


@given(
    reply_to=reply_tos,
    content_type=st.none() | sqs_text,
    error_code=st.none() | st.text("abc_", min_size=1),
)
def test_requester_reads_what_responder_writes(reply_to: ReplyTo, **facts: Any) -> None:
    head = wire.parse_reply(wire.reply_attributes(reply_to, **facts))
    assert head == wire.ReplyHead(reply_to.id, **facts)


@given(hostile_attributes | st.dictionaries(st.text(), st.none() | st.integers()))
def test_reading_reply_never_raises(attributes: Any) -> None:
    wire.parse_reply(attributes)
    plain_attributes(attributes, wire.RESERVED)


def test_requester_reads_the_plain_reply() -> None:
    head = wire.parse_reply(wire.reply_attributes(ReplyTo(URL, "c1")))
    assert head == wire.ReplyHead("c1")


def test_requester_prefers_the_plain_id() -> None:
    attributes = {
        "RequestMessageId": string("old"),
        "__AmazonSQSVirtualQueuesClient.QueueName": string("new"),
    }
    assert wire.parse_reply(attributes).correlation_id == "new"


def test_requester_falls_back_to_the_legacy_id() -> None:
    attributes: dict[str, Any] = {
        "RequestMessageId": string("old"),
        "__AmazonSQSVirtualQueuesClient.QueueName": {"DataType": "Binary", "BinaryValue": b"x"},
    }
    assert wire.parse_reply(attributes).correlation_id == "old"


def test_unreadable_error_code_is_still_a_failure() -> None:
    attributes = {"ReplyError": {"DataType": "Binary", "BinaryValue": b"x"}}
    assert wire.parse_reply(attributes).error_code == "handler_error"


@given(st.text(st.characters(exclude_categories=[])))
def test_error_code_becomes_what_sqs_takes(code: str) -> None:
    attributes = wire.reply_attributes(ReplyTo(URL, "a"), error_code=code)
    written = attributes["ReplyError"]["StringValue"]
    checked(written, "body")
    assert len(written) <= 256


class Awkward:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def circle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def nested(depth: int) -> list[Any]:
    items: list[Any] = []
    for _ in range(depth):
        items = [items]
    return items


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    code=sqs_text.map(lambda text: text[:256]),
    kind=st.none() | sqs_text,
    message=any_text,
    details=json_values,
)
def test_error_survives_its_trip(code: str, kind: str | None, message: str, details: Any) -> None:
    body = wire.error_body(code, kind, message, details)
    checked(body, "body")
    assert wire.parse_error(body, code) == (code, kind, message, details)


@pytest.mark.parametrize(
    "details",
    [
        object(),
        math.nan,
        {"a": math.inf},
        {1: {2}},
        b"bytes",
        Awkward(),
        circle(),
        nested(100_000),
        "x" * 2_000_000,
        "\U0001f600" * 500_000,
        {(1, 2): 3},
        Decimal(1),
    ],
    ids=range(12),
)
def test_error_body_is_what_sqs_takes_whatever_the_details(details: Any) -> None:
    body = wire.error_body("code", "Error", "message", details)
    checked(body, "body")
    assert len(body) <= limits.MESSAGE_BYTES - 8_192  # room for the attributes
    code, kind, message, _ = wire.parse_error(body, "code")
    assert (code, kind, message) == ("code", "Error", "message")


def test_details_that_are_not_json_travel_as_their_repr() -> None:
    body = wire.error_body("code", None, "", {"a": b"x"})
    assert wire.parse_error(body, "code")[3] == "{'a': b'x'}"


@given(any_text, any_text, any_text)
@example("\U0001f600", "\U0001f600", "\U0001f600" * 20)
@example("x", "x", "x" * 20)
def test_error_body_fits_a_small_queue(code: str, kind: str, message: str) -> None:
    body = wire.error_body(code * 100, kind * 100, message * 1000, nested(10), limit=10_000)
    assert len(body) <= 10_000


def test_details_that_do_not_fit_leave_the_message_whole() -> None:
    body = wire.error_body("code", None, "x" * 5_000, "y" * 10_000, limit=10_000)
    assert wire.parse_error(body, "code") == ("code", None, "x" * 5_000, None)


def test_error_body_takes_a_message_whose_str_fails() -> None:
    assert "Awkward" in wire.error_body("code", None, Awkward())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    ["", "boom", "[1]", "null", "[" * 200_000, '{"a":' * 200_000, "1" * 5000, '{"type":5}'],
    ids=range(8),
)
def test_any_body_reads_as_an_error(body: str) -> None:
    code, kind, message, details = wire.parse_error(body, "code")
    assert (code, kind, details) == ("code", None, None)
    assert message == "" or body.startswith(message[:4000])


def test_error_of_a_hand_written_responder_is_read_whole() -> None:
    assert wire.parse_error("boom\n" * 100_000, "code")[2] == "boom\n" * 100_000


@given(any_text)
def test_reading_error_never_raises(body: str) -> None:
    wire.parse_error(body, "code")


# ----------------------------------------------------------------------- tags

HEARTBEAT_TAG = "__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp"
RETENTION_TAG = "__IdleQueueRetentionPeriodSeconds"


@given(now=st.floats(1e9, 4e9), retention=st.floats(1, 1e6), legacy=st.booleans())
def test_sweeper_reads_what_requester_writes_never_less(
    now: float, retention: float, legacy: bool
) -> None:
    tags = wire.reply_queue_tags(now=now, retention=retention, sweeping=True, legacy=legacy)
    lifetime = wire.parse_lifetime(tags)
    assert lifetime is not None
    assert lifetime.heartbeat_ms is not None
    assert 0 <= lifetime.retention - retention < 1
    assert 0 <= lifetime.heartbeat_ms - now * 1000 < 1


def test_tags_are_those_of_the_java_client() -> None:
    tags = wire.reply_queue_tags(now=1.7e9, retention=300.0, sweeping=True)
    assert tags == {
        "sqs_orchestrator.sweeping": "1",
        RETENTION_TAG: "300",
        HEARTBEAT_TAG: "1700000000000",
    }


def test_legacy_queue_bears_the_older_packages_heartbeat_too() -> None:
    assert wire.heartbeat_tags(now=1.7e9, retention=1, legacy=True)["heartbeat"] == "1700000000"


def test_heartbeat_never_brings_back_the_sweeping_tag() -> None:
    assert not wire.is_sweeping(wire.heartbeat_tags(now=1.7e9, retention=300))
    assert wire.is_sweeping(wire.reply_queue_tags(now=1.7e9, retention=300, sweeping=True))
    assert not wire.is_sweeping(wire.reply_queue_tags(now=1.7e9, retention=300, sweeping=False))


@pytest.mark.parametrize("text", ["", "-5", "+5", "5.0", " 5", "٣", "1_0", "9" * 19])
@pytest.mark.parametrize("tag", [RETENTION_TAG, HEARTBEAT_TAG])
def test_tag_that_is_no_whole_number_makes_the_lifetime_unreadable(tag: str, text: str) -> None:
    tags = wire.heartbeat_tags(now=1.0, retention=1)
    assert wire.parse_lifetime(tags) == (1, 1000)
    assert wire.parse_lifetime({**tags, tag: text}) is None


def test_queue_without_a_heartbeat_has_a_lifetime_and_one_without_a_retention_has_none() -> None:
    assert wire.parse_lifetime({RETENTION_TAG: "300"}) == (300, None)
    assert wire.parse_lifetime({HEARTBEAT_TAG: "1700000000000"}) is None


# ----------------------------------------------------------------- one place


def test_nothing_else_in_the_package_spells_the_names_of_the_wire() -> None:
    package = Path(sqs_orchestrator.__path__[0])
    attributes_and_tags = {name for name in wire.RESERVED if name not in ("ReplyTo", "MessageType")}
    attributes_and_tags |= {"__IdleQueueRetentionPeriodSeconds", "sqs_orchestrator.sweeping"}
    attributes_and_tags |= {"__AmazonSQSIdleQueueDeletingClient.LastHeartbeatTimestamp"}
    queues = {names.DEFAULT_PREFIX, names.JAVA_PREFIX, names.LEGACY_PREFIX, "-Failover", "_DLQ"}
    places = {Path(wire.__file__): attributes_and_tags, Path(names.__file__): queues}
    for source in package.rglob("*.py"):
        tree = ast.parse(source.read_text(encoding="utf-8"))
        spelled = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        own = places.get(source, set())
        assert own <= spelled
        assert not ((attributes_and_tags | queues) - own) & spelled, source
