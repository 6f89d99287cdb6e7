from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core.attributes import to_attributes
from sqs_orchestrator.core.checks import (
    check_deduplication_id,
    check_delay,
    check_flag,
    check_group_id,
    check_text,
    check_type,
    checked,
    checked_tags,
    message_bytes,
)
from sqs_orchestrator.core.wire import RESERVED
from sqs_orchestrator.errors import InvalidMessage
from tests.unit.strategies import attribute_names, plain_values, sqs_text


def sqs_takes(character: str) -> bool:
    code = ord(character)
    return (
        code in (0x9, 0xA, 0xD)
        or 0x20 <= code <= 0xD7FF
        or 0xE000 <= code <= 0xFFFD
        or 0x10000 <= code <= 0x10FFFF
    )


def test_every_character_is_judged_as_sqs_does() -> None:
    wrong = []
    for code in range(0x110000):
        try:
            checked(chr(code), "body")
            taken = True
        except InvalidMessage:
            taken = False
        if taken != sqs_takes(chr(code)):
            wrong.append(code)
    assert wrong == []


@given(st.text(st.characters(exclude_categories=[]), min_size=1))
def test_body_is_judged_by_its_characters(body: str) -> None:
    bad = next((i for i, character in enumerate(body) if not sqs_takes(character)), None)
    if bad is None:
        checked(body, "body")
    else:
        with pytest.raises(InvalidMessage, match=f"U\\+{ord(body[bad]):04X} at position {bad},"):
            checked(body, "body")


def test_empty_body_is_invalid() -> None:
    with pytest.raises(InvalidMessage, match="empty"):
        checked("", "body")


@given(sqs_text, st.dictionaries(attribute_names, plain_values))
def test_size_counts_bytes_of_body_names_types_and_values(body: str, values: Any) -> None:
    attributes = to_attributes(values, RESERVED)
    size = len(body.encode())
    for name, value in attributes.items():
        size += len(name) + len(value["DataType"])
        size += len(value.get("BinaryValue", b"")) + len(value.get("StringValue", "").encode())
    assert message_bytes(body, attributes) == size


@pytest.mark.parametrize("check", [check_group_id, check_deduplication_id])
@pytest.mark.parametrize("value", ["", "a" * 129, "a b", "é", "a\n", 5, None])
def test_id_that_sqs_refuses_is_invalid(check: Any, value: Any) -> None:
    with pytest.raises(InvalidMessage):
        check(value)


@pytest.mark.parametrize("check", [check_group_id, check_deduplication_id])
def test_id_of_all_that_sqs_takes_is_taken(check: Any) -> None:
    check("".join(map(chr, range(0x21, 0x7F))))
    check("a" * 128)
    check("a")


@pytest.mark.parametrize(("delay", "seconds"), [(0, 0), (7.0, 7), (900, 900)])
def test_delay_of_whole_seconds_is_taken(delay: float, seconds: int) -> None:
    assert check_delay(delay) == seconds


@pytest.mark.parametrize("delay", [-1, 0.5, 899.9, 901, math.nan, math.inf, True, "5", None])
def test_delay_that_sqs_refuses_is_invalid(delay: Any) -> None:
    with pytest.raises(InvalidMessage):
        check_delay(delay)


@pytest.mark.parametrize("value", ["no", 0, None])
def test_flag_that_is_no_bool_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=f"legacy is True or False, not {value!r} of type"):
        check_flag("legacy", value)
    check_flag("legacy", False)


@pytest.mark.parametrize("value", ["", 5, b"x"])
def test_text_that_is_none_is_refused_with_an_example(value: Any) -> None:
    with pytest.raises(ValueError, match=r"region_name is .* such as 'eu-west-1'"):
        check_text("region_name", value, "eu-west-1")
    check_text("region_name", "x", "eu-west-1")


def test_setting_of_a_wrong_type_is_shown_cut_short() -> None:
    with pytest.raises(ValueError, match=r"^x is a dict, not '\\xe9y{75}\.\.\. of type str$"):
        check_type("x", "é" + "y" * 100, dict, "a dict")


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ("x", "tags is a dict"),
        (["a"], "tags is a dict"),
        (0, "tags is a dict"),
        ({1: "a"}, "the name of a queue's tag is a str, not 1"),
        ({"a": 1}, "the tag 'a' is a str, not 1"),
        ({"a": None}, "the tag 'a' is a str, not None"),
    ],
)
def test_tags_that_are_no_text_are_refused(tags: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        checked_tags(tags)


def test_tags_may_be_left_out() -> None:
    assert checked_tags(None) == {}
    assert checked_tags({"team": "a"}) == {"team": "a"}
