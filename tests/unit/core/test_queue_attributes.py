"""The attributes of queues, as SQS writes them."""

from __future__ import annotations

import enum
import json
import math
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from sqs_orchestrator.core.queue_attributes import queue_attributes, same_attribute


class Seconds(enum.IntEnum):
    MINUTE = 60


class Scope(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    GROUP = "messageGroup"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (60, "60"),
        (60.0, "60"),
        (0, "0"),
        (-0.0, "0"),
        (Decimal("60.00"), "60"),
        (Decimal("1E+2"), "100"),
        (Seconds.MINUTE, "60"),
        (Scope.GROUP, "messageGroup"),
        (True, "true"),
        (False, "false"),
        ("", ""),
        ("60.0", "60.0"),
        ({"maxReceiveCount": 5}, '{"maxReceiveCount":5}'),
        (MappingProxyType({"a": MappingProxyType({"b": 1})}), '{"a":{"b":1}}'),
    ],
)
def test_value_is_written_as_sqs_does(value: Any, text: str) -> None:
    assert queue_attributes({"Name": value}) == {"Name": text}
    assert type(queue_attributes({"Name": value})["Name"]) is str


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        -1,
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("0.5"),
        Decimal("1E+999999"),
        10**400,
        pytest.param(10**10_000, id="huge"),
        None,
        [60],
        b"60",
        {"a": {1}},
        {"a": math.nan},
        {("a", 1): 1},
    ],
)
def test_value_for_which_sqs_has_no_form_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(ValueError, match="the attribute 'VisibilityTimeout'") as caught:
        queue_attributes({"VisibilityTimeout": value})
    assert type(caught.value) is ValueError
    assert len(str(caught.value)) < 300


def test_circle_is_refused() -> None:
    policy: dict[str, Any] = {}
    policy["a"] = policy
    with pytest.raises(ValueError, match="the attribute 'Policy' cannot be written as JSON"):
        queue_attributes({"Policy": policy})


def test_attributes_may_be_left_out() -> None:
    assert queue_attributes(None) == {}


@pytest.mark.parametrize(
    ("name", "wanted", "found", "same"),
    [
        ("VisibilityTimeout", "60", "60", True),
        ("VisibilityTimeout", "060", "60", True),
        ("VisibilityTimeout", "0", "00", True),
        ("VisibilityTimeout", "60", "61", False),
        ("VisibilityTimeout", "60", None, False),
        ("FifoQueue", "false", None, True),
        ("FifoQueue", "True", "true", True),
        ("FifoQueue", "true", None, False),
        ("Policy", "", None, True),
        ("Policy", '{"a":1}', '{"a": ["1"]}', True),
        ("Policy", '{"a":1}', "", False),
        ("RedriveAllowPolicy", '{"redrivePermission":"allowAll"}', None, True),
        ("RedriveAllowPolicy", '{"redrivePermission":"denyAll"}', None, False),
    ],
)
def test_attributes_are_compared_by_what_they_mean(
    name: str, wanted: str, found: str | None, same: bool
) -> None:
    assert same_attribute(name, wanted, found) is same


def test_redrive_policy_written_as_a_dict_is_the_one_that_sqs_shows() -> None:
    policy = {"deadLetterTargetArn": "arn", "maxReceiveCount": 5}
    wanted = queue_attributes({"RedrivePolicy": policy})["RedrivePolicy"]
    assert same_attribute("RedrivePolicy", wanted, json.dumps({**policy, "maxReceiveCount": "5"}))
