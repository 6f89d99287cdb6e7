"""Redrive policies, as SQS and its imitations write them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqs_orchestrator.core.redrive import dead_letter_queue, redrive_policy

ARN = "arn:aws:sqs:eu-west-1:123456789012:orders_dlq"


def test_policy_names_its_queue() -> None:
    policy = redrive_policy(ARN, 5)
    assert json.loads(policy) == {"deadLetterTargetArn": ARN, "maxReceiveCount": 5}
    found = dead_letter_queue(policy)
    assert found is not None
    assert (found.account, found.name) == ("123456789012", "orders_dlq")


@pytest.mark.parametrize(
    "policy",
    [
        None,
        "",
        "null",
        "[]",
        "7",
        "{}",
        "not JSON",
        '{"deadLetterTargetArn": ""}',
        '{"deadLetterTargetArn": null}',
        '{"deadLetterTargetArn": "orders_dlq"}',
        '{"deadLetterTargetArn": ["arn"]}',
    ],
)
def test_whatever_names_no_queue_means_none(policy: str | None) -> None:
    assert dead_letter_queue(policy) is None


@given(st.text(max_size=200))
def test_any_text_may_be_read(text: str) -> None:
    dead_letter_queue(text)
