from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core import wire
from sqs_orchestrator.core.attributes import (
    check_count,
    labelled,
    plain_attributes,
    to_attributes,
)
from sqs_orchestrator.core.wire import RESERVED, ReplyTo
from sqs_orchestrator.errors import InvalidMessage
from tests.unit.strategies import attribute_names, decimals, number, plain_values, string

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/sqs_orchestrator_reply_1"


@given(st.dictionaries(attribute_names, plain_values))
def test_attributes_survive_their_trip(values: dict[str, Any]) -> None:
    attributes = to_attributes(values, RESERVED)
    assert plain_attributes(attributes, RESERVED) == values
    assert to_attributes(attributes, RESERVED) == attributes


@given(decimals)
def test_decimal_is_read_back_equal_to_its_last_digit(value: Decimal) -> None:
    plain = plain_attributes(to_attributes({"a": value}, RESERVED), RESERVED)["a"]
    assert isinstance(plain, (int, float, Decimal))
    # Decimal(0.1) is not what anybody means by 0.1.
    assert Decimal(repr(plain) if isinstance(plain, float) else plain) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12345678901234567890.5", Decimal("12345678901234567890.5")),
        ("0.1", 0.1),
        ("0.10", 0.1),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("0.30000000000000004", 0.30000000000000004),
        (
            "0.3000000000000000400000000000000000001",
            Decimal("0.3000000000000000400000000000000000001"),
        ),
        ("0.1000000000000000055511151231257827021181583404541015625",) * 2,
        ("1E-128", 1e-128),
        ("1.0000000000000000001", Decimal("1.0000000000000000001")),
        ("12345678901234567890", 12345678901234567890),
        ("1e-400", Decimal("1e-400")),
    ],
)
def test_number_is_read_as_the_plainest_type_that_holds_it(text: str, value: Any) -> None:
    value = Decimal(value) if isinstance(value, str) else value
    plain = plain_attributes({"a": number(text)}, RESERVED)["a"]
    assert plain == value
    assert type(plain) is type(value)


def test_zero_has_no_exponent_out_of_range() -> None:
    for zero in ("0E-999999", "0E+999999", "-0.00"):
        assert to_attributes({"a": Decimal(zero)}, RESERVED) == {"a": number("0")}


def test_whole_number_stays_whole() -> None:
    plain = plain_attributes(to_attributes({"a": 10**30, "b": 1.0}, RESERVED), RESERVED)
    assert type(plain["a"]) is int
    assert type(plain["b"]) is float


@pytest.mark.parametrize("value", [10**37, -(10**38) + 1, 10**120, 10**126, 1.7e-308 * 1e200])
def test_number_in_range_is_taken(value: Any) -> None:
    assert plain_attributes(to_attributes({"a": value}, RESERVED), RESERVED) == {"a": value}


@pytest.mark.parametrize("text", ["1.10", "1E-128", "-1E+126", "0", "1." + "1" * 37])
def test_decimal_is_a_number(text: str) -> None:
    assert to_attributes({"a": Decimal(text)}, RESERVED) == {"a": number(text)}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "empty"),
        (b"", "empty"),
        ("a\x00b", "U\\+0000 at position 1"),
        ("\ud800", "U\\+D800"),
        (True, "bool"),
        (None, "omit"),
        (math.nan, "NaN"),
        (-math.inf, "Infinity"),
        (Decimal("sNaN"), "NaN"),
        (10**126 + 10**120, "range"),
        pytest.param(10**100_000, "range", id="huge"),
        (1e-200, "range"),
        (10**38 + 1, "39 digits"),
        (Decimal("0." + "1" * 39), "39 digits"),
        ([1], "list"),
        (object(), "object"),
        ({}, "DataType"),
        ({"DataType": "Boolean", "StringValue": "x"}, "DataType"),
        ({"DataType": ["x"], "StringValue": "x"}, "DataType"),
        ({"DataType": "String." + "x" * 250, "StringValue": "x"}, "DataType"),
        ({"DataType": "String", "BinaryValue": b"x"}, "StringValue"),
        ({"DataType": "String", "StringValue": "x", "StringListValues": ["x"]}, "StringValue"),
        ({"DataType": "String", "StringValue": ""}, "empty"),
        ({"DataType": "String", "StringValue": 5}, "int"),
        ({"DataType": "Binary", "BinaryValue": "x"}, "not bytes"),
        ({"DataType": "Number", "StringValue": "five"}, "no number"),
        ({"DataType": "Number", "StringValue": "1e300"}, "range"),
    ],
)
def test_value_that_sqs_refuses_is_invalid(value: Any, says: str) -> None:
    with pytest.raises(InvalidMessage, match=says) as caught:
        to_attributes({"colour": value}, RESERVED)
    assert "colour" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "empty"),
        ("a" * 257, "256"),
        ("a b", "characters"),
        ("é", "characters"),
        ("a\n", "characters"),
        (".a", "period"),
        ("a.", "period"),
        ("a..b", "period"),
        ("AWS.x", "prefix"),
        ("aMaZoN.x", "prefix"),
        (5, "not a str"),
        ("MessageType", "message_type="),
        ("ResponseQueueUrl", "library"),
        ("__AmazonSQSVirtualQueuesClient.QueueName", "library"),
    ],
)
def test_name_that_sqs_refuses_is_invalid(name: Any, says: str) -> None:
    with pytest.raises(InvalidMessage, match=says):
        to_attributes({name: "x"}, RESERVED)


def test_attributes_of_the_older_package_are_taken_as_they_are() -> None:
    given = {"Priority": {"StringValue": "HIGH", "DataType": "String.level"}}
    assert to_attributes(given, RESERVED) == given


def test_trace_context_is_the_callers_to_write_and_read() -> None:
    values = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    assert plain_attributes(to_attributes(values, RESERVED), RESERVED) == values


def test_received_attributes_come_without_the_librarys_own() -> None:
    attributes = wire.request_attributes(
        reply_queue_url=URL, correlation_id="a", message_type="t", content_type="c", legacy=True
    )
    attributes.update(wire.reply_attributes(ReplyTo(URL, "a"), error_code="x"))
    attributes.update(ReplyStream=string("s"), ReplySequence=number("0"), ReplyEnd=string("true"))
    attributes["mine"] = string("x")
    assert plain_attributes(wire.with_time_to_live(attributes, 1), RESERVED) == {"mine": "x"}


@pytest.mark.parametrize("text", ["five", "", "1e999", "nan", "Infinity", "1_0", "٣", "9" * 5000])
def test_unreadable_number_stays_text(text: str) -> None:
    assert plain_attributes({"a": number(text)}, RESERVED) == {"a": text}


def test_too_many_attributes_are_invalid_and_the_error_counts_both_sides() -> None:
    attributes = to_attributes({f"a{i}": "x" for i in range(9)}, RESERVED)
    attributes.update(wire.request_attributes(reply_queue_url=URL, correlation_id="a"))
    check_count(attributes, RESERVED)
    with pytest.raises(InvalidMessage, match=r"has 11 .* takes 10: .* uses 2, .* leaves 8"):
        check_count(attributes, RESERVED, time_to_live=True)


# ------------------------------------------------------------------------- labels

LABELLED: dict[str, Any] = {
    "text": {"DataType": "String.uuid", "StringValue": "5f2b"},
    "int": {"DataType": "Number.int", "StringValue": "7"},
    "float": {"DataType": "Number.float", "StringValue": "0.50"},
    "decimal": {"DataType": "Number.a.b", "StringValue": "12345678901234567890.5"},
    "bytes": {"DataType": "Binary.png", "BinaryValue": b"\x89"},
}


def test_label_stays_where_the_value_does() -> None:
    plain = plain_attributes(LABELLED, RESERVED)
    assert labelled(plain, LABELLED) == LABELLED
    assert to_attributes(labelled(plain, LABELLED), RESERVED) == LABELLED
    assert labelled({"text": "5f2b"}, LABELLED) == {"text": LABELLED["text"]}


@pytest.mark.parametrize(
    "values",
    [
        {"text": "5f2c", "int": 8, "float": 0.25, "decimal": Decimal(1), "bytes": b""},
        {"text": b"5f2b", "int": 7.0, "float": Decimal("0.5"), "decimal": 1, "bytes": "\x89"},
        {"int": True, "text": None, "float": object()},
        {"other": "5f2b"},
        {},
    ],
)
def test_label_goes_where_the_value_is_another(values: dict[str, Any]) -> None:
    assert labelled(values, LABELLED) == {}


@pytest.mark.parametrize(
    "attribute",
    [
        {"DataType": "String", "StringValue": "x"},
        {"DataType": "Number.int", "StringValue": "x"},
        {"DataType": "Binary.png", "StringValue": "x"},
        {"DataType": "Text.uuid", "StringValue": "x"},
        {"DataType": "String.", "StringValue": "x"},
        {"DataType": 5, "StringValue": "x"},
        {"DataType": "String.uuid"},
        "x",
    ],
)
def test_type_without_a_label_that_sqs_would_take_has_none(attribute: Any) -> None:
    assert labelled({"a": "x"}, {"a": attribute}) == {}
