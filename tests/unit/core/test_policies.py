"""Policies that mean the same, and policies that do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core.policies import meaning

QUEUE = "arn:aws:sqs:eu-west-1:123456789012:orders"


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Principal": {"AWS": ["123456789012", "210987654321"]},
        "Action": ["sqs:SendMessage", "sqs:ReceiveMessage"],
        "Resource": QUEUE,
        "Condition": {
            "NumericLessThan": {"aws:MultiFactorAuthAge": 300},
            "Bool": {"aws:SecureTransport": True},
            "StringEquals": {"aws:PrincipalTag/team": ["A", "B"]},
        },
        **changes,
    }


def policy(*statements: Any, **changes: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements), **changes}


AS_SQS_WRITES_IT = {
    "Statement": {
        "Resource": [QUEUE],
        "Action": ["SQS:ReceiveMessage", "SQS:SendMessage"],
        "Principal": {
            "AWS": ["arn:aws:iam::210987654321:root", "arn:aws:iam::123456789012:root"],
        },
        "Condition": {
            "StringEquals": {"aws:principaltag/team": ["B", "A"]},
            "NumericLessThan": {"aws:MultiFactorAuthAge": "300"},
            "Bool": {"aws:SecureTransport": ["true"]},
        },
        "Effect": "Allow",
    },
    "Version": "2012-10-17",
}


def test_access_policy_means_the_same_as_sqs_writes_it() -> None:
    assert meaning(json.dumps(policy(statement()))) == meaning(json.dumps(AS_SQS_WRITES_IT))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"Principal": "*"}, {"Principal": {"AWS": "*"}}),
        ({"Principal": {"AWS": "123456789012"}}, {"Principal": {"AWS": ["123456789012"]}}),
        (
            {"Principal": {"AWS": "123456789012"}},
            {"Principal": {"AWS": "arn:aws-us-gov:iam::123456789012:root"}},
        ),
        ({"NotPrincipal": "*"}, {"NotPrincipal": {"AWS": ["*"]}}),
        ({"Action": "sqs:*"}, {"Action": ["SQS:*"]}),
        ({"NotAction": ["SQS:Send*", "sqs:a"]}, {"NotAction": ["sqs:A", "sqs:Send*"]}),
        ({"Condition": {"Bool": {"a": "True"}}}, {"Condition": {"Bool": {"A": True}}}),
        ({"Condition": {"IpAddress": {"a": ["x"]}}}, {"Condition": {"IpAddress": {"a": "x"}}}),
        ({"Condition": {"NumericEquals": {"a": 5.0}}}, {"Condition": {"NumericEquals": {"a": 5}}}),
    ],
)
def test_statement_means_the_same_in_either_form(one: Any, other: Any) -> None:
    assert meaning(json.dumps(policy(statement(**one)))) == meaning(
        json.dumps(policy(statement(**other)))
    )


@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "Deny"},
        {"Principal": {"AWS": "123456789012"}},
        {"Principal": {"AWS": ["123456789012", "arn:aws:iam::210987654321:user/root"]}},
        {"Principal": {"Service": ["123456789012", "210987654321"]}},
        {"Principal": {"Service": "arn:aws:iam::123456789012:root"}},
        {"Principal": "*"},
        {"Action": "sqs:SendMessage"},
        {"Resource": QUEUE.upper()},
        {"Sid": "label"},
        {"Condition": {}},
        {"Condition": {"Bool": {"aws:SecureTransport": False}}},
        {"Condition": {"StringEquals": {"aws:PrincipalTag/team": ["a", "b"]}}},
    ],
)
def test_statement_that_means_something_else_is_told_apart(change: Any) -> None:
    assert meaning(json.dumps(policy(statement()))) != meaning(
        json.dumps(policy(statement(**change)))
    )


def test_statements_have_no_order_and_none_may_be_left_out() -> None:
    deny = statement(Effect="Deny")
    both = meaning(json.dumps(policy(statement(), deny)))
    assert both == meaning(json.dumps(policy(deny, statement())))
    assert both != meaning(json.dumps(policy(statement())))


def test_policy_without_version_has_the_older_one() -> None:
    bare = meaning(json.dumps({"Statement": [statement()]}))
    assert bare == meaning(json.dumps(policy(statement(), Version="2008-10-17")))
    assert bare != meaning(json.dumps(policy(statement())))


def test_policies_of_dead_letter_queues_mean_the_same_however_they_are_written() -> None:
    one = '{"deadLetterTargetArn":"a","maxReceiveCount":5}'
    assert meaning(one) == meaning('{"maxReceiveCount": "5", "deadLetterTargetArn": "a"}')
    assert meaning(one) != meaning('{"deadLetterTargetArn":"a","maxReceiveCount":6}')
    assert meaning(one) != meaning('{"deadLetterTargetArn":"b","maxReceiveCount":5}')
    allowing = '{"redrivePermission":"byQueue","sourceQueueArns":["a","b"]}'
    assert meaning(allowing) == meaning(allowing.replace('"a","b"', '"b","a"'))
    assert meaning(allowing) != meaning(allowing.replace('"a","b"', '"a"'))
    single = allowing.replace('["a","b"]', '"a"')
    assert meaning(single) == meaning(allowing.replace('"a","b"', '"a"'))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
several = st.text(max_size=5) | st.lists(st.text(max_size=5) | st.integers() | st.booleans())
statements = st.fixed_dictionaries(
    {},
    optional={
        "Effect": st.text(max_size=5),
        "Principal": st.text(max_size=5) | st.dictionaries(st.sampled_from(["AWS", "X"]), several),
        "Action": several,
        "Condition": st.dictionaries(
            st.sampled_from(["Bool", "X"]), st.dictionaries(st.text("a"), several)
        ),
    },
)


def reversed_throughout(value: Any) -> Any:
    """*value* with lists and keys the other way round, and no list of one."""
    if isinstance(value, dict):
        return {key: reversed_throughout(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        items = [reversed_throughout(item) for item in reversed(value)]
        return items[0] if len(items) == 1 and not isinstance(items[0], list) else items
    return value


@given(st.lists(statements) | json_values)
def test_any_json_may_be_read_and_means_the_same_the_other_way_round(value: Any) -> None:
    whole = {"Statement": value}
    assert meaning(json.dumps(whole)) == meaning(json.dumps(reversed_throughout(whole)))


@pytest.mark.parametrize("text", ["", "not JSON", "null", "7", "[" * 100_000, "9" * 5000, "[NaN]"])
def test_any_text_may_be_read(text: str) -> None:
    assert meaning(text) == meaning(text)
    assert meaning(text) != meaning("other")
